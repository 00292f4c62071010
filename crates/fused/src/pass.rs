//! A pass over many rows: products by cuBLASLt, and `kernels/pass.cu` between them.

use std::ffi::c_void;

use cudarc::driver::CudaFunction;
use warpmark_cuda::{Buffer, Compiler, Geometry, argument, function, launch};
use warpmark_measure::WorkloadError;

use crate::Dtype;
use crate::kernels::VECTOR;
use crate::library::{Leaves, Product};
use crate::net::{Many, Net};
use crate::shape::{Activation, NormKind, Shape};
use crate::weights::{Layer, Matrix, Norm};

/// Fours of a row that a thread of `pass_norm` keeps: `KEPT` of `kernels/pass.cu`.
const KEPT: usize = 8;

/// The widest row that the threads of a block keep.
pub(crate) const WIDEST_ROW: usize = 4 * KEPT * 1024;

/// Logits of a block of `pass_best`.
const LOGITS: usize = 2048;

/// The kernels between the products of a pass.
pub(crate) struct PassKernels {
    pub(crate) embed: CudaFunction,
    norm: CudaFunction,
    pub(crate) turn: CudaFunction,
    activate: CudaFunction,
    best: CudaFunction,
}

/// The source for halves of this type.
fn source(dtype: Dtype) -> String {
    let define = match dtype {
        Dtype::F16 => "",
        Dtype::Bf16 => "#define BF16\n#line 1\n",
    };
    format!("{define}{}", include_str!("../../../kernels/pass.cu"))
}

impl PassKernels {
    pub(crate) fn compile(compiler: &Compiler, dtype: Dtype) -> Result<Self, WorkloadError> {
        let module = compiler.compile("pass.cu", &source(dtype))?.module;
        let typed = |name: &str| function(&module, &format!("pass_{name}_{}", dtype.name()));
        Ok(Self {
            embed: typed("embed")?,
            norm: typed("norm")?,
            turn: typed("turn")?,
            activate: typed("activate")?,
            best: function(&module, "pass_best")?,
        })
    }
}

/// Parts into which a sequence's logits are cut.
pub(crate) fn parts_of(vocabulary: usize) -> usize {
    vocabulary.div_ceil(LOGITS)
}

/// Where the rows of a pass lie, apart from what [`Rows`] has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// The residual stream, f32.
    pub(crate) x: u64,
    /// Queries, keys and values as the product leaves them.
    pub(crate) qkv: u64,
    /// What attention mixed, halves.
    pub(crate) mixed: u64,
}

/// A pass over so many rows: its products, and what they work on.
pub(crate) struct Rows {
    count: usize,
    /// What goes into a product.
    input: Buffer,
    up: Buffer,
    hidden: Buffer,
    qkv: Product,
    output: Product,
    first: Product,
    second: Product,
}

impl Shape {
    /// Bytes that [`Rows`] takes.
    pub(crate) fn bytes_of_rows(&self, rows: usize) -> usize {
        let padded = |columns: usize| columns.next_multiple_of(VECTOR);
        2 * rows * (padded(self.width) + padded(self.up()) + padded(self.hidden))
    }
}

impl Rows {
    /// Chooses the algorithm of each product by measuring; `qkv` says what that of queries, keys and values leaves.
    pub(crate) fn new(
        net: &Net,
        rows: usize,
        at: Streams,
        qkv: Leaves,
    ) -> Result<Self, WorkloadError> {
        let Many { library, .. } = net.many()?;
        let shape = &net.shape;
        let halves = |columns: usize| -> Result<Buffer, WorkloadError> {
            let bytes = 2 * rows * columns.next_multiple_of(VECTOR);
            let mut buffer = Buffer::new(&net.stream, bytes, "the activations")?;
            // What pads a row is never written, and read.
            buffer.set(&net.stream, 0)?;
            Ok(buffer)
        };
        let (input, up, hidden) =
            (halves(shape.width)?, halves(shape.up())?, halves(shape.hidden)?);
        let layers = &net.weights.layers;
        let all = |of: fn(&Layer) -> &Matrix| layers.iter().map(of).collect::<Vec<&Matrix>>();
        let product = |of: fn(&Layer) -> &Matrix, places: (u64, u64), leaves| {
            library.product(&all(of), rows, places, leaves)
        };
        Ok(Self {
            qkv: product(|layer| &layer.qkv, (input.address, at.qkv), qkv)?,
            output: product(|layer| &layer.output, (at.mixed, at.x), Leaves::Sums)?,
            first: product(|layer| &layer.up, (input.address, up.address), Leaves::Halves)?,
            second: product(|layer| &layer.down, (hidden.address, at.x), Leaves::Sums)?,
            count: rows,
            input,
            up,
            hidden,
        })
    }

    /// Enqueues what comes before the attention of a layer: its norm, and queries, keys and values without
    /// their bias. To the stream goes the bias that the layer before has left.
    pub(crate) fn begin(&self, net: &Net, layer: usize, at: Streams) -> Result<(), WorkloadError> {
        let layers = &net.weights.layers;
        let left = layer.checked_sub(1).and_then(|before| layers[before].down.bias.as_ref());
        let own = &layers[layer];
        let rows = (self.count, 0, 1);
        net.normalise((at.x, self.input.address), left, &own.attention_norm, rows)?;
        net.many()?.library.multiply(&self.qkv, &own.qkv, (self.input.address, at.qkv))
    }

    /// Enqueues what comes behind the attention of a layer.
    pub(crate) fn finish(&self, net: &Net, layer: usize, at: Streams) -> Result<(), WorkloadError> {
        let Many { library, .. } = net.many()?;
        let own = &net.weights.layers[layer];
        library.multiply(&self.output, &own.output, (at.mixed, at.x))?;
        let (norm, left) = (&own.feed_forward_norm, own.output.bias.as_ref());
        net.normalise((at.x, self.input.address), left, norm, (self.count, 0, 1))?;
        library.multiply(&self.first, &own.up, (self.input.address, self.up.address))?;
        self.activate(net, own)?;
        library.multiply(&self.second, &own.down, (self.hidden.address, at.x))
    }

    fn activate(&self, net: &Net, layer: &Layer) -> Result<(), WorkloadError> {
        let shape = &net.shape;
        let vectors = shape.hidden.div_ceil(VECTOR);
        let [rows, hidden, up, action] =
            [self.count, vectors, shape.up().div_ceil(VECTOR), action(shape.activation)]
                .map(|number| number as u32);
        let bias = layer.up.bias.as_ref().map_or(0, |bias| bias.address);
        let mut arguments = [
            argument(&self.up.address),
            argument(&bias),
            argument(&self.hidden.address),
            argument(&rows),
            argument(&hidden),
            argument(&up),
            argument(&action),
        ];
        // Of gates and values, eight become four.
        let each = if shape.activation == Activation::Swiglu { 2 * vectors } else { vectors };
        let geometry = Geometry::line((self.count * each).div_ceil(256) as u32, 256);
        net.launch(&net.many()?.kernels.activate, geometry, &mut arguments)
    }
}

/// What is between two products, by the numbers of `kernels/decode.cu`, which `kernels/pass.cu` shares.
fn action(activation: Activation) -> usize {
    match activation {
        Activation::GeluTanh => 2,
        Activation::GeluErf => 3,
        Activation::Swiglu => 4,
    }
}

impl Net {
    /// Enqueues `out = norm(x + bias)` of so many rows, the first and how far apart they lie in x.
    pub(crate) fn normalise(
        &self,
        (x, out): (u64, u64),
        bias: Option<&Buffer>,
        norm: &Norm,
        (rows, first, step): (usize, usize, usize),
    ) -> Result<(), WorkloadError> {
        let fours = self.shape.width.next_multiple_of(VECTOR) / 4;
        let kind: u32 = match self.shape.norm {
            NormKind::Rms => 1,
            NormKind::Layer => 2,
        };
        let [first, step, columns] = [first, step, self.shape.width].map(|number| number as u32);
        let address = |buffer: Option<&Buffer>| buffer.map_or(0_u64, |buffer| buffer.address);
        let (bias, norm_bias) = (address(bias), address(norm.bias.as_ref()));
        // Four of a row's fours for each thread, or as many as it takes with the most threads.
        let threads = fours.div_ceil(KEPT / 2).next_multiple_of(32).min(1024) as u32;
        let fours = fours as u32;
        let mut arguments = [
            argument(&x),
            argument(&bias),
            argument(&norm.weight.address),
            argument(&norm_bias),
            argument(&out),
            argument(&first),
            argument(&step),
            argument(&fours),
            argument(&columns),
            argument(&kind),
            argument(&self.shape.epsilon),
        ];
        self.launch(
            &self.many()?.kernels.norm,
            Geometry::line(rows as u32, threads),
            &mut arguments,
        )
    }

    /// Enqueues the search for the largest logit of each part of so many sequences.
    pub(crate) fn best(
        &self,
        (logits, best): (u64, u64),
        sequences: usize,
    ) -> Result<(), WorkloadError> {
        let parts = parts_of(self.shape.vocabulary);
        let stride = self.shape.vocabulary.next_multiple_of(VECTOR);
        let [vocabulary, stride, each] =
            [self.shape.vocabulary, stride, LOGITS].map(|number| number as u32);
        let mut arguments = [
            argument(&logits),
            argument(&best),
            argument(&vocabulary),
            argument(&stride),
            argument(&each),
        ];
        let grid = [parts as u32, sequences as u32, 1];
        let geometry = Geometry { grid, threads: 256, shared: 0 };
        self.launch(&self.many()?.kernels.best, geometry, &mut arguments)
    }

    /// Enqueues a kernel of a pass or a step.
    pub(crate) fn launch(
        &self,
        kernel: &CudaFunction,
        geometry: Geometry,
        arguments: &mut [*mut c_void],
    ) -> Result<(), WorkloadError> {
        // SAFETY: the arguments are those of the kernel, in order, and the buffers have the sizes that the shape,
        // the rows of a pass and `Sizes` give them.
        unsafe { launch(&self.stream, kernel, geometry, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = source(Dtype::F16);
        let named = [
            ("KEPT", KEPT),
            ("GELU_TANH", action(Activation::GeluTanh)),
            ("SWIGLU", action(Activation::Swiglu)),
            ("LAYER", 2),
        ];
        for (name, number) in named {
            assert!(source.contains(&format!("#define {name} {number}\n")), "{name}");
        }
    }
}
