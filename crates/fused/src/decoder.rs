//! A decode step of a loaded net for a number of sequences, as one graph.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpmark_cuda::{Buffer, Geometry, Graph, argument, launch, multiprocessors, wait};
use warpmark_device::CudaDevice;
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use crate::Dtype;
use crate::kernels::{AttentionCut, Cut, Kernels, VECTOR};
use crate::shape::{Activation, NormKind, Positions, Shape};
use crate::weights::{Checkpoint, Matrix, Norm, Weights};

/// A net whose weights are on a card.
pub struct Net {
    stream: Arc<CudaStream>,
    shape: Shape,
    dtype: Dtype,
    kernels: Kernels,
    weights: Weights,
    multiprocessors: usize,
}

/// A driver that knows `cuGraphInstantiateWithFlags`: CUDA 11.4's.
const GRAPHS: u32 = 11_040;

impl Net {
    /// Compiles the kernels for the card and brings the weights there. It has to be known that there is
    /// an NVRTC.
    ///
    /// # Errors
    /// What no kernel takes, a driver that has no graphs, a compiler's or driver's refusal, or memory
    /// that is not there.
    pub fn load(
        device: &CudaDevice,
        shape: Shape,
        dtype: Dtype,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Self, WorkloadError> {
        shape.check(1, 1)?;
        let driver = device.spec.gpu.as_ref().map_or(0, |gpu| gpu.cuda_driver_version);
        if driver < GRAPHS {
            return Err(WorkloadError::Unsupported(format!(
                "a decode step is one CUDA graph, which needs a driver of CUDA 11.4; this one is of {}.{}: \
                 install a newer driver",
                driver / 1000,
                driver % 1000 / 10
            )));
        }
        Ok(Self {
            kernels: Kernels::compile(device, dtype)?,
            weights: Weights::load(&device.stream, &shape, checkpoint)?,
            multiprocessors: multiprocessors(device)? as usize,
            stream: device.stream.clone(),
            shape,
            dtype,
        })
    }

    /// Its numbers.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What its kernels were compiled to: `sm_90 cubin`.
    pub fn code(&self) -> &str {
        &self.kernels.code
    }

    /// Waits until everything launched is done.
    ///
    /// # Errors
    /// What the device met meanwhile.
    pub fn wait(&self) -> Result<(), WorkloadError> {
        wait(&self.stream)
    }
}

impl Shape {
    /// Bytes that decoding takes beside the weights, for `batch` sequences of up to `capacity`
    /// positions on a card of so many multiprocessors.
    pub fn memory(
        &self,
        dtype: Dtype,
        (batch, capacity): (usize, usize),
        multiprocessors: usize,
    ) -> Bytes {
        let sizes = Sizes::of(self, (batch, capacity), multiprocessors);
        let cache = 2 * self.layers * sizes.cache_elements * dtype.bytes();
        let turns = match &self.positions {
            Positions::Learned(_) => 0,
            Positions::Rotary(frequencies) => 8 * capacity * frequencies.len(),
        };
        let floats = sizes.stream + sizes.qkv + sizes.mixed + sizes.hidden + sizes.logits;
        let parts = sizes.parts * (2 + self.head_padded());
        let words = 2 * sizes.best + batch * (2 + capacity);
        Bytes::from_count(cache + turns + 4 * (floats + parts + words))
    }
}

/// How products and attention are cut, and the elements of each buffer.
struct Sizes {
    attention: AttentionCut,
    head: Cut,
    /// Of keys or values of a layer.
    cache_elements: usize,
    stream: usize,
    qkv: usize,
    mixed: usize,
    hidden: usize,
    logits: usize,
    /// Parts of attention, over all heads and sequences.
    parts: usize,
    best: usize,
}

impl Sizes {
    fn of(shape: &Shape, (batch, capacity): (usize, usize), multiprocessors: usize) -> Self {
        let heads = [shape.heads, shape.key_value_heads];
        let attention =
            AttentionCut::of(heads, shape.head_width, (batch, capacity), multiprocessors);
        let head = Cut::of(shape.vocabulary, shape.width, batch, multiprocessors);
        let padded = |columns: usize| batch * columns.next_multiple_of(VECTOR);
        Self {
            cache_elements: batch * shape.key_value_heads * capacity * shape.head_padded(),
            stream: padded(shape.width),
            qkv: padded(shape.qkv()),
            mixed: padded(shape.mixed()),
            hidden: padded(shape.hidden),
            logits: batch * shape.vocabulary,
            parts: batch * shape.heads * attention.parts,
            best: batch * head.blocks(),
            attention,
            head,
        }
    }
}

/// What a decode step works on.
struct Buffers {
    keys: Vec<Buffer>,
    values: Vec<Buffer>,
    /// Cosine and sine of each position and pair, `[capacity, head width / 2]`; none without rotary
    /// positions.
    turns: Option<Buffer>,
    /// The residual stream, `[batch, width]` as all below, rows padded to whole vectors.
    x: Buffer,
    qkv: Buffer,
    mixed: Buffer,
    hidden: Buffer,
    logits: Buffer,
    sums: Buffer,
    mixtures: Buffer,
    best: Buffer,
    tokens: Buffer,
    positions: Buffer,
    /// The prompts, `[batch, capacity]`; -1 where a sequence goes on by itself.
    prompts: Buffer,
}

/// Sequences of a net, and the graph that writes one token of each.
pub struct Decoder<'a> {
    net: &'a Net,
    buffers: Buffers,
    sizes: Sizes,
    batch: usize,
    capacity: usize,
    /// Where writing begins, and after which position it begins again.
    window: (usize, usize),
    graph: Option<Graph>,
    /// The first token that each sequence writes.
    first: Vec<u32>,
}

impl<'a> Decoder<'a> {
    /// Reads the prompts, all of the same length, token by token, and is ready to write: up to `spare`
    /// tokens, after which it goes back to the end of the prompts.
    ///
    /// # Errors
    /// What no kernel takes, memory that is not there, a token that is none, or the driver's refusal.
    pub fn new(net: &'a Net, prompts: &[Vec<u32>], spare: usize) -> Result<Self, WorkloadError> {
        let context = prompts.first().map_or(0, Vec::len);
        let (batch, capacity) = (prompts.len(), context + spare);
        net.shape.check(batch, capacity)?;
        let vocabulary = net.shape.vocabulary;
        let wrong = prompts.iter().flatten().find(|token| **token as usize >= vocabulary);
        if let Some(token) = wrong {
            return Err(WorkloadError::Failed(format!("token {token} of {vocabulary}")));
        }
        if context == 0 || spare == 0 || prompts.iter().any(|prompt| prompt.len() != context) {
            let what = "prompts have one length, which is not 0, and room for a token after it";
            return Err(WorkloadError::Failed(what.to_owned()));
        }
        let sizes = Sizes::of(&net.shape, (batch, capacity), net.multiprocessors);
        let buffers = Buffers::new(net, &sizes, (batch, capacity))?;
        let window = (context, capacity);
        let mut decoder =
            Self { net, buffers, sizes, batch, capacity, window, graph: None, first: Vec::new() };
        decoder.read(prompts)?;
        Ok(decoder)
    }

    /// Reads prompts in the place of the ones before.
    ///
    /// # Errors
    /// As [`Decoder::new`]: of the same number and length.
    pub fn read(&mut self, prompts: &[Vec<u32>]) -> Result<(), WorkloadError> {
        let context = self.window.0;
        let mut words = vec![-1_i32; self.batch * self.capacity];
        for (prompt, to) in prompts.iter().zip(words.chunks_mut(self.capacity)) {
            for (token, to) in prompt.iter().zip(to) {
                *to = token.cast_signed();
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.buffers.prompts.write(&self.net.stream, &bytes)?;
        let first: Vec<u32> = prompts.iter().filter_map(|prompt| prompt.first().copied()).collect();
        self.go_to(0, &first)?;
        if self.graph.is_none() {
            // Once by itself: a kernel that is launched for the first time may be loaded then, which no
            // capture takes.
            self.enqueue()?;
            self.net.wait()?;
            let graph = Graph::capture(&self.net.stream, || self.enqueue())?;
            graph.upload()?;
            self.graph = Some(graph);
            self.go_to(0, &first)?;
        }
        (0..context).try_for_each(|_| self.step())?;
        self.first = self.tokens()?;
        Ok(())
    }

    /// Enqueues one step: the tokens that were chosen are read, and the next are chosen from the logits
    /// after them.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn step(&mut self) -> Result<(), WorkloadError> {
        match &self.graph {
            Some(graph) => graph.launch(),
            None => Err(WorkloadError::Failed("there is no graph".to_owned())),
        }
    }

    /// Kernels of a step: six a layer, five where attention is not cut into parts, and three beside.
    pub fn kernels(&self) -> usize {
        let of_a_layer = if self.sizes.attention.parts == 1 { 5 } else { 6 };
        3 + of_a_layer * self.net.shape.layers
    }

    /// Goes back to the end of the prompts.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn reset(&mut self) -> Result<(), WorkloadError> {
        let first = self.first.clone();
        self.go_to(self.window.0, &first)
    }

    /// The tokens that the next step reads.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn tokens(&self) -> Result<Vec<u32>, WorkloadError> {
        let mut bytes = vec![0; 4 * self.batch];
        self.buffers.tokens.read(&self.net.stream, 0, &mut bytes)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The logits of the last step, those of each sequence: `[batch][vocabulary]`.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>, WorkloadError> {
        let mut bytes = vec![0; self.buffers.logits.bytes()];
        self.buffers.logits.read(&self.net.stream, 0, &mut bytes)?;
        let words = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
        let all: Vec<f32> = words.collect();
        Ok(all.chunks(self.net.shape.vocabulary).map(<[f32]>::to_vec).collect())
    }

    fn go_to(&mut self, position: usize, tokens: &[u32]) -> Result<(), WorkloadError> {
        let stream = &self.net.stream;
        let bytes = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let positions = vec![position as u32; self.batch];
        self.buffers.positions.write(stream, &bytes(&positions))?;
        self.buffers.tokens.write(stream, &bytes(tokens))
    }

    /// Enqueues the kernels of a step one by one.
    fn enqueue(&self) -> Result<(), WorkloadError> {
        let Self { net, buffers, .. } = self;
        let Net { weights, shape, .. } = net;
        self.embed()?;
        let (first, second) = match shape.activation {
            Activation::Swiglu => (Action::Store, Action::Swiglu),
            Activation::GeluTanh => (Action::Store, Action::GeluTanh),
            Activation::GeluErf => (Action::Store, Action::GeluErf),
        };
        for (index, layer) in weights.layers.iter().enumerate() {
            let norm = Some(&layer.attention_norm);
            self.product(&layer.qkv, (&buffers.x, norm), (&buffers.qkv, first))?;
            self.attend(index)?;
            self.product(&layer.output, (&buffers.mixed, None), (&buffers.x, Action::Add))?;
            let norm = Some(&layer.feed_forward_norm);
            self.product(&layer.up, (&buffers.x, norm), (&buffers.hidden, second))?;
            self.product(&layer.down, (&buffers.hidden, None), (&buffers.x, Action::Add))?;
        }
        let norm = Some(&weights.last_norm);
        self.product(weights.head(), (&buffers.x, norm), (&buffers.logits, Action::Logits))?;
        self.pick()
    }

    fn embed(&self) -> Result<(), WorkloadError> {
        let Self { net, buffers, .. } = self;
        let fours = (net.shape.width.next_multiple_of(VECTOR) / 4) as u32;
        let places = net.weights.positions.as_ref().map_or(0, |places| places.weight.address);
        let mut arguments = [
            argument(&buffers.tokens.address),
            argument(&buffers.positions.address),
            argument(&net.weights.embedding.weight.address),
            argument(&places),
            argument(&buffers.x.address),
            argument(&fours),
        ];
        let grid = [fours.div_ceil(128), self.batch as u32, 1];
        self.launch(&net.kernels.embed, Geometry { grid, threads: 128, shared: 0 }, &mut arguments)
    }

    /// `y = matrix · norm(x)`, and what the action makes of it.
    fn product(
        &self,
        matrix: &Matrix,
        (x, norm): (&Buffer, Option<&Norm>),
        (y, action): (&Buffer, Action),
    ) -> Result<(), WorkloadError> {
        let Self { net, buffers, batch, .. } = self;
        let cut = Cut::of(matrix.rows, matrix.columns, *batch, net.multiprocessors);
        let address = |buffer: Option<&Buffer>| buffer.map_or(0_u64, |buffer| buffer.address);
        let bias = address(matrix.bias.as_ref());
        let norm_weight = address(norm.map(|norm| &norm.weight));
        let norm_bias = address(norm.and_then(|norm| norm.bias.as_ref()));
        let kind: u32 = match (norm, net.shape.norm) {
            (None, _) => 0,
            (Some(_), NormKind::Rms) => 1,
            (Some(_), NormKind::Layer) => 2,
        };
        let made = if action == Action::Swiglu { matrix.rows / 2 } else { matrix.rows };
        let stride = match action {
            Action::Logits => made,
            _ => made.next_multiple_of(VECTOR),
        };
        let [rows, columns, stride, batch, split, chunk] =
            [matrix.rows, matrix.columns, stride, *batch, cut.split, cut.chunk]
                .map(|number| number as u32);
        let action = action as u32;
        let mut arguments = [
            argument(&matrix.weight.address),
            argument(&bias),
            argument(&x.address),
            argument(&norm_weight),
            argument(&norm_bias),
            argument(&y.address),
            argument(&buffers.best.address),
            argument(&rows),
            argument(&columns),
            argument(&stride),
            argument(&batch),
            argument(&kind),
            argument(&action),
            argument(&split),
            argument(&chunk),
            argument(&net.shape.epsilon),
        ];
        self.launch(net.kernels.product(self.batch), cut.geometry, &mut arguments)
    }

    /// Attention of a layer, the new keys and values into its cache.
    fn attend(&self, layer: usize) -> Result<(), WorkloadError> {
        let Self { net, buffers, sizes, batch, capacity, .. } = self;
        let Shape { heads, key_value_heads, head_width, .. } = net.shape;
        let turns = buffers.turns.as_ref().map_or(0_u64, |turns| turns.address);
        let stride = net.shape.qkv().next_multiple_of(VECTOR) as u32;
        let out_stride = net.shape.mixed().next_multiple_of(VECTOR) as u32;
        let [all, shared, width, capacity] =
            [heads, key_value_heads, head_width, *capacity].map(|number| number as u32);
        // Powers of two are the faster ones: scores are logarithms to that base.
        let scale = std::f32::consts::LOG2_E / (head_width as f32).sqrt();
        let mut arguments = [
            argument(&buffers.qkv.address),
            argument(&buffers.keys[layer].address),
            argument(&buffers.values[layer].address),
            argument(&turns),
            argument(&buffers.positions.address),
            argument(&buffers.sums.address),
            argument(&buffers.mixtures.address),
            argument(&buffers.mixed.address),
            argument(&all),
            argument(&shared),
            argument(&width),
            argument(&capacity),
            argument(&stride),
            argument(&out_stride),
            argument(&scale),
        ];
        let kernel = net.kernels.attend(heads / key_value_heads);
        self.launch(kernel, sizes.attention.geometry, &mut arguments)?;
        let parts = sizes.attention.parts as u32;
        if parts == 1 {
            return Ok(());
        }
        let mut arguments = [
            argument(&buffers.sums.address),
            argument(&buffers.mixtures.address),
            argument(&buffers.mixed.address),
            argument(&parts),
            argument(&width),
            argument(&out_stride),
        ];
        let grid = [all, *batch as u32, 1];
        let geometry = Geometry { grid, threads: width.next_multiple_of(32), shared: 0 };
        self.launch(&net.kernels.join, geometry, &mut arguments)
    }

    fn pick(&self) -> Result<(), WorkloadError> {
        let Self { net, buffers, sizes, capacity, window, .. } = self;
        let [count, capacity, begin, end] =
            [sizes.head.blocks(), *capacity, window.0, window.1].map(|number| number as u32);
        let mut arguments = [
            argument(&buffers.best.address),
            argument(&buffers.prompts.address),
            argument(&buffers.tokens.address),
            argument(&buffers.positions.address),
            argument(&count),
            argument(&capacity),
            argument(&begin),
            argument(&end),
        ];
        self.launch(&net.kernels.pick, Geometry::line(self.batch as u32, 256), &mut arguments)
    }

    fn launch(
        &self,
        kernel: &cudarc::driver::CudaFunction,
        geometry: Geometry,
        arguments: &mut [*mut c_void],
    ) -> Result<(), WorkloadError> {
        // SAFETY: the arguments are those of the kernel, in order, and the buffers have the sizes that
        // `Sizes` and the shape give them.
        unsafe { launch(&self.net.stream, kernel, geometry, arguments) }
    }
}

/// What becomes of a row of a product, by its number in `kernels/decode.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Store = 0,
    Add = 1,
    GeluTanh = 2,
    GeluErf = 3,
    Swiglu = 4,
    Logits = 5,
}

impl Buffers {
    fn new(
        net: &Net,
        sizes: &Sizes,
        (batch, capacity): (usize, usize),
    ) -> Result<Self, WorkloadError> {
        let Net { stream, shape, dtype, .. } = net;
        let zeroed = |bytes: usize, what: &str| -> Result<Buffer, WorkloadError> {
            let mut buffer = Buffer::new(stream, bytes.max(4), what)?;
            buffer.set(stream, 0)?;
            Ok(buffer)
        };
        let cache = || -> Result<Vec<Buffer>, WorkloadError> {
            let bytes = sizes.cache_elements * dtype.bytes();
            (0..shape.layers).map(|_| zeroed(bytes, "the cache")).collect()
        };
        let floats = |count: usize| zeroed(4 * count, "the activations");
        Ok(Self {
            keys: cache()?,
            values: cache()?,
            turns: turns(net, capacity)?,
            // What pads a row is never written, and read.
            x: floats(sizes.stream)?,
            qkv: floats(sizes.qkv)?,
            mixed: floats(sizes.mixed)?,
            hidden: floats(sizes.hidden)?,
            logits: floats(sizes.logits)?,
            sums: floats(2 * sizes.parts)?,
            mixtures: floats(sizes.parts * shape.head_padded())?,
            best: floats(2 * sizes.best)?,
            tokens: floats(batch)?,
            positions: floats(batch)?,
            prompts: floats(batch * capacity)?,
        })
    }
}

/// Cosines and sines of so many positions.
fn turns(net: &Net, capacity: usize) -> Result<Option<Buffer>, WorkloadError> {
    let Positions::Rotary(frequencies) = &net.shape.positions else { return Ok(None) };
    let row = |position: usize| {
        frequencies.iter().flat_map(move |frequency| {
            // The angle in f32, as published nets have it.
            let angle = position as f32 * *frequency as f32;
            [angle.cos(), angle.sin()]
        })
    };
    let bytes: Vec<u8> = (0..capacity).flat_map(row).flat_map(f32::to_le_bytes).collect();
    let mut buffer = Buffer::new(&net.stream, bytes.len(), "the turns")?;
    buffer.write(&net.stream, &bytes)?;
    Ok(Some(buffer))
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
