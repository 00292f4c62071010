//! Residual nets that classify images ("Deep Residual Learning for Image Recognition", He et al., 2015)
//! on candle's ops, with a bottleneck's stride in its 3 × 3 convolution as torchvision and timm have it
//! (v1.5), and with their names.
//!
//! Nothing here copies to the host or waits for the device. In f16 and bf16 the activations are kept in
//! that type; the mean over pixels is taken in f32.

use candle_core::{D, DType, Device, Tensor};
use serde::Deserialize;

use crate::ops::{self, After};
use crate::{NetError, Weights};

/// Added to a variance before its root is taken.
const EPSILON: f64 = 1e-5;

/// Channels of an image.
pub const COLORS: usize = 3;

/// What the numbers of a residual net say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Residual blocks of each stage.
    pub blocks: Vec<usize>,
    /// Whether a block is a bottleneck (1 × 1, 3 × 3 and 1 × 1, four times as wide at its end) and not two
    /// convolutions of 3 × 3.
    pub bottleneck: bool,
    /// Channels of the stem and of the first stage's 3 × 3 convolutions; each stage has twice as many.
    pub width: usize,
    /// Classes.
    pub classes: usize,
}

/// The shape of a convolution, whose kernel is square and padded by half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionShape {
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it writes.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Pixels from one place of the kernel to the next.
    pub stride: usize,
    /// By how much its output is smaller than the image, each way.
    pub reduction: usize,
}

/// A residual block: its convolutions in order, and the one beside them where the shape changes.
struct BlockShape {
    name: String,
    main: Vec<ConvolutionShape>,
    shortcut: Option<ConvolutionShape>,
}

impl Architecture {
    /// Channels that the classifier reads.
    pub fn features(&self) -> usize {
        self.width_of(self.blocks.len().saturating_sub(1)) * self.expansion()
    }

    /// Names and shapes of all tensors, the running statistics among them.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>, NetError> {
        let weights = Weights::listing();
        Resnet::new(self, &weights, Statistics::Separate)?;
        Ok(weights.listed())
    }

    /// All convolutions, in the order in which they run.
    pub fn convolutions(&self) -> Vec<ConvolutionShape> {
        let mut all = vec![self.stem()];
        all.extend(
            self.block_shapes()
                .into_iter()
                .flat_map(|block| block.main.into_iter().chain(block.shortcut)),
        );
        all
    }

    fn width_of(&self, stage: usize) -> usize {
        self.width << stage
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    fn stem(&self) -> ConvolutionShape {
        ConvolutionShape { inputs: COLORS, outputs: self.width, kernel: 7, stride: 2, reduction: 2 }
    }

    fn block_shapes(&self) -> Vec<BlockShape> {
        let mut blocks = Vec::new();
        // The stem and the pooling after it each halve the image.
        let (mut inputs, mut reduction) = (self.width, 4);
        for (stage, &count) in self.blocks.iter().enumerate() {
            let (width, outputs) = (self.width_of(stage), self.width_of(stage) * self.expansion());
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let before = reduction;
                reduction *= stride;
                let shape = |inputs, outputs, kernel, stride, reduction| ConvolutionShape {
                    inputs,
                    outputs,
                    kernel,
                    stride,
                    reduction,
                };
                let main = if self.bottleneck {
                    vec![
                        shape(inputs, width, 1, 1, before),
                        shape(width, width, 3, stride, reduction),
                        shape(width, outputs, 1, 1, reduction),
                    ]
                } else {
                    vec![
                        shape(inputs, width, 3, stride, reduction),
                        shape(width, outputs, 3, 1, reduction),
                    ]
                };
                let changes = stride != 1 || inputs != outputs;
                let shortcut = changes.then(|| shape(inputs, outputs, 1, stride, reduction));
                blocks.push(BlockShape {
                    name: format!("layer{}.{index}", stage + 1),
                    main,
                    shortcut,
                });
                inputs = outputs;
            }
        }
        blocks
    }
}

/// Where the running statistics of a batch normalisation go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// Into the weights of the convolution before it, in f32, once.
    Folded,
    /// Each convolution is followed by a product and a sum.
    Separate,
}

/// A residual net on loaded weights.
pub struct Resnet {
    stem: Layer,
    blocks: Vec<Block>,
    /// `[features, classes]`, a view of what is stored.
    head: Tensor,
    head_bias: Tensor,
}

impl Resnet {
    /// Builds the net. Folded weights are copies; separate ones are shared.
    pub fn new(
        architecture: &Architecture,
        weights: &Weights<'_>,
        statistics: Statistics,
    ) -> Result<Self, NetError> {
        let layer = |shape, weights: &Weights<'_>, convolution: &str, norm: &str| {
            Layer::new(shape, (&weights.at(convolution), &weights.at(norm)), statistics)
        };
        let stem = layer(architecture.stem(), weights, "conv1", "bn1")?;
        let block = |shape: BlockShape| -> Result<Block, NetError> {
            let own = weights.at(&shape.name);
            let main = shape.main.into_iter().enumerate().map(|(index, shape)| {
                layer(shape, &own, &format!("conv{}", index + 1), &format!("bn{}", index + 1))
            });
            let main = main.collect::<Result<_, _>>()?;
            let shortcut = shape
                .shortcut
                .map(|shape| layer(shape, &own, "downsample.0", "downsample.1"))
                .transpose()?;
            Ok(Block { main, shortcut })
        };
        let blocks =
            architecture.block_shapes().into_iter().map(block).collect::<Result<_, _>>()?;
        let (features, classes) = (architecture.features(), architecture.classes);
        let head = weights.at("fc");
        Ok(Self {
            stem,
            blocks,
            head: head.get("weight", &[classes, features])?.t()?,
            head_bias: head.get("bias", &[classes])?,
        })
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.head_bias.device()
    }

    /// What it computes in.
    pub fn dtype(&self) -> DType {
        self.head_bias.dtype()
    }

    /// `[batch, 3, height, width]`, normalised pixels, to logits `[batch, classes]`.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor, NetError> {
        let mut x = halve(&self.stem.apply(images, After::Relu)?)?;
        for block in &self.blocks {
            x = block.apply(&x)?;
        }
        let pooled =
            x.flatten_from(2)?.to_dtype(DType::F32)?.mean(D::Minus1)?.to_dtype(x.dtype())?;
        Ok(ops::add_bias(ops::linear(&pooled, &self.head)?, &self.head_bias)?)
    }
}

/// The largest of 3 × 3 pixels around every second one; what lies outside is zero, as no value is below it.
fn halve(x: &Tensor) -> candle_core::Result<Tensor> {
    x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)
}

struct Block {
    main: Vec<Layer>,
    shortcut: Option<Layer>,
}

impl Block {
    fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Some((last, first)) = self.main.split_last() else {
            candle_core::bail!("a block without layers")
        };
        let mut y = x.clone();
        for layer in first {
            y = layer.apply(&y, After::Relu)?;
        }
        let y = last.apply(&y, After::Nothing)?;
        match &self.shortcut {
            Some(shortcut) => ops::add(&shortcut.apply(x, After::Nothing)?, y),
            None => ops::add(x, y),
        }?
        .relu()
    }
}

/// A convolution, and what its batch normalisation does to its outputs.
struct Layer {
    weight: Tensor,
    /// Factors of the outputs, `[1, outputs]`, unless they are in the weight.
    scale: Option<Tensor>,
    /// Added to the outputs, `[1, outputs]`.
    shift: Tensor,
    stride: usize,
    padding: usize,
}

impl Layer {
    fn new(
        shape: ConvolutionShape,
        (convolution, norm): (&Weights<'_>, &Weights<'_>),
        statistics: Statistics,
    ) -> Result<Self, NetError> {
        let ConvolutionShape { inputs, outputs, kernel, stride, .. } = shape;
        let weight = convolution.get("weight", &[outputs, inputs, kernel, kernel])?;
        let dtype = weight.dtype();
        let vector =
            |name| norm.get(name, &[outputs])?.to_dtype(DType::F32).map_err(NetError::from);
        let (gain, bias) = (vector("weight")?, vector("bias")?);
        let (mean, variance) = (vector("running_mean")?, vector("running_var")?);
        let scale = (gain / (variance + EPSILON)?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?.unsqueeze(0)?.to_dtype(dtype)?;
        let (weight, scale) = match statistics {
            Statistics::Folded => {
                let wide = weight.to_dtype(DType::F32)?;
                (wide.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?.to_dtype(dtype)?, None)
            }
            Statistics::Separate => (weight, Some(scale.unsqueeze(0)?.to_dtype(dtype)?)),
        };
        Ok(Self { weight, scale, shift, stride, padding: kernel / 2 })
    }

    fn apply(&self, x: &Tensor, after: After) -> candle_core::Result<Tensor> {
        let geometry = (self.stride, self.padding);
        let Some(scale) = &self.scale else {
            return ops::conv2d(x, &self.weight, &self.shift, geometry, after);
        };
        let zero = self.shift.zeros_like()?;
        let y = ops::conv2d(x, &self.weight, &zero, geometry, After::Nothing)?;
        ops::scale_channels(&y, scale, &self.shift, after)
    }
}
