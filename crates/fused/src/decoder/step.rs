//! A decode step, by products of our own kernels or by a library's.

use warpmark_cuda::{Buffer, Geometry, argument};
use warpmark_measure::WorkloadError;

use super::Sequences;
use crate::kernels::{Cut, VECTOR};
use crate::library::{Leaves, Product};
use crate::pass::{Rows, Streams, parts_of};
use crate::shape::{Activation, NormKind, Shape};
use crate::weights::{Matrix, Norm};

/// What multiplies in a step.
pub(crate) enum Products {
    /// Kernels of our own, with what is done before and behind a product in them.
    Own,
    /// A library, with kernels of our own between its products.
    Library(Box<LibraryProducts>),
}

/// What a step by a library's products has beside what every step has.
pub(crate) struct LibraryProducts {
    rows: Rows,
    /// The rows that go into the head.
    last: Buffer,
    head: Product,
}

impl LibraryProducts {
    pub(crate) fn new(sequences: &Sequences<'_>) -> Result<Self, WorkloadError> {
        let Sequences { net, buffers, batch, .. } = sequences;
        let bytes = 2 * batch * net.shape.width.next_multiple_of(VECTOR);
        let mut last = Buffer::new(&net.stream, bytes, "the activations")?;
        last.set(&net.stream, 0)?;
        let places = (last.address, buffers.logits.address);
        let library = &net.many()?.library;
        Ok(Self {
            rows: Rows::new(net, *batch, sequences.streams(), Leaves::Floats)?,
            head: library.product(&[net.weights.head()], *batch, places, Leaves::Floats)?,
            last,
        })
    }
}

impl Products {
    /// Kernels of a layer, and those beside.
    pub(crate) fn kernels(&self, parts: usize) -> (usize, usize) {
        let joined = usize::from(parts > 1);
        match self {
            Self::Own => (5 + joined, 3),
            Self::Library(_) => (8 + joined, 5),
        }
    }
}

impl Sequences<'_> {
    fn streams(&self) -> Streams {
        let Self { buffers, .. } = self;
        Streams { x: buffers.x.address, qkv: buffers.qkv.address, mixed: buffers.mixed.address }
    }

    /// Enqueues the kernels of a step one by one.
    pub(crate) fn step(&self, products: &Products) -> Result<(), WorkloadError> {
        match products {
            Products::Own => self.step_by_own(),
            Products::Library(library) => self.step_by_library(library),
        }
    }

    fn step_by_library(&self, products: &LibraryProducts) -> Result<(), WorkloadError> {
        let Self { net, buffers, batch, window, .. } = self;
        let LibraryProducts { rows, last, head } = products;
        let streams = self.streams();
        self.embed()?;
        for layer in 0..net.shape.layers {
            rows.begin(net, layer, streams)?;
            self.attend(layer, true)?;
            rows.finish(net, layer, streams)?;
        }
        let left = net.weights.layers.last().and_then(|layer| layer.down.bias.as_ref());
        let at = (streams.x, last.address);
        net.normalise(at, left, &net.weights.last_norm, (*batch, 0, 1))?;
        let logits = buffers.logits.address;
        net.many()?.library.multiply(head, net.weights.head(), (last.address, logits))?;
        net.best((logits, buffers.best.address), *batch)?;
        self.pick(parts_of(net.shape.vocabulary), *window)
    }

    fn step_by_own(&self) -> Result<(), WorkloadError> {
        let Self { net, buffers, sizes, window, .. } = self;
        let (weights, shape) = (&net.weights, &net.shape);
        self.embed()?;
        let (first, second) = match shape.activation {
            Activation::Swiglu => (Action::Store, Action::Swiglu),
            Activation::GeluTanh => (Action::Store, Action::GeluTanh),
            Activation::GeluErf => (Action::Store, Action::GeluErf),
        };
        for (index, layer) in weights.layers.iter().enumerate() {
            let norm = Some(&layer.attention_norm);
            self.product(&layer.qkv, (&buffers.x, norm), (&buffers.qkv, first))?;
            self.attend(index, false)?;
            self.product(&layer.output, (&buffers.mixed, None), (&buffers.x, Action::Add))?;
            let norm = Some(&layer.feed_forward_norm);
            self.product(&layer.up, (&buffers.x, norm), (&buffers.hidden, second))?;
            self.product(&layer.down, (&buffers.hidden, None), (&buffers.x, Action::Add))?;
        }
        let norm = Some(&weights.last_norm);
        self.product(weights.head(), (&buffers.x, norm), (&buffers.logits, Action::Logits))?;
        self.pick(sizes.head.blocks(), *window)
    }

    pub(super) fn embed(&self) -> Result<(), WorkloadError> {
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
        net.launch(&net.kernels.embed, Geometry { grid, threads: 128, shared: 0 }, &mut arguments)
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
        let stride = made.next_multiple_of(VECTOR);
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
        net.launch(net.kernels.product(self.batch), cut.geometry, &mut arguments)
    }

    /// Attention of a layer, the new keys and values into its cache. Where a library multiplied, queries, keys and
    /// values lack their bias, and what is mixed leaves as halves.
    fn attend(&self, layer: usize, library: bool) -> Result<(), WorkloadError> {
        let Self { net, buffers, sizes, batch, capacity, .. } = self;
        let Shape { heads, key_value_heads, head_width, .. } = net.shape;
        let address = |buffer: Option<&Buffer>| buffer.map_or(0_u64, |buffer| buffer.address);
        let turns = address(buffers.turns.as_ref());
        let bias = net.weights.layers[layer].qkv.bias.as_ref().filter(|_| library);
        let (bias, narrow) = (address(bias), u32::from(library));
        let stride = net.shape.qkv().next_multiple_of(VECTOR) as u32;
        let out_stride = net.shape.mixed() as u32;
        let [all, shared, width, capacity] =
            [heads, key_value_heads, head_width, *capacity].map(|number| number as u32);
        // Powers of two are the faster ones: scores are logarithms to that base.
        let scale = std::f32::consts::LOG2_E / (head_width as f32).sqrt();
        let mut arguments = [
            argument(&buffers.qkv.address),
            argument(&bias),
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
            argument(&narrow),
            argument(&scale),
        ];
        let kernel = net.kernels.attend(heads / key_value_heads);
        net.launch(kernel, sizes.attention.geometry, &mut arguments)?;
        let parts = sizes.attention.parts as u32;
        if parts == 1 {
            return Ok(());
        }
        let padded = net.shape.head_padded() as u32;
        let mut arguments = [
            argument(&buffers.sums.address),
            argument(&buffers.mixtures.address),
            argument(&buffers.mixed.address),
            argument(&parts),
            argument(&padded),
            argument(&out_stride),
            argument(&narrow),
        ];
        let grid = [all, *batch as u32, 1];
        let geometry = Geometry { grid, threads: padded.next_multiple_of(32), shared: 0 };
        net.launch(&net.kernels.join, geometry, &mut arguments)
    }

    /// The next tokens: the best of so many parts of the logits of each sequence.
    pub(crate) fn pick(&self, parts: usize, window: (usize, usize)) -> Result<(), WorkloadError> {
        let Self { net, buffers, capacity, .. } = self;
        let [count, capacity, begin, end] =
            [parts, *capacity, window.0, window.1].map(|number| number as u32);
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
        net.launch(&net.kernels.pick, Geometry::line(self.batch as u32, 256), &mut arguments)
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
