//! Two-dimensional convolution.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::product::{Strided, add_product};
use super::{Element, by_dtype, contiguous};

/// `x * w + bias`: `x` is `[b, c, h, w]`, the weight `[o, c, k, k]` and the bias `[b or 1, o]`. Returns
/// `[b, o, h', w']`; with `relu`, zero in the place of what is below it.
///
/// The input is written out by im2col (every value under every element of the kernel) for a tile of
/// pixels and a few channels at a time, so that what is multiplied lies in the cache, and so do the
/// sums until they are whole; a tile may run on over the next image of the batch, or a small image
/// would leave each weight that is read too little to do.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    (stride, padding): (usize, usize),
    relu: bool,
) -> Result<Tensor> {
    let op = Convolution { stride, padding, relu };
    x.contiguous()?.apply_op3_no_bwd(&weight.contiguous()?, bias, &op)
}

struct Convolution {
    stride: usize,
    padding: usize,
    relu: bool,
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = Extents::new(self, x_layout, weight_layout)?;
        let out = (shape.batch, shape.outputs, shape.out_height, shape.out_width);
        let y = by_dtype!(
            x,
            convolve((x, x_layout), (weight, weight_layout), (bias, bias_layout), &shape)
        )?;
        Ok((y, Shape::from(out)))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

/// What is convolved, and how it is cut into tasks.
struct Extents {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    relu: bool,
    out_height: usize,
    out_width: usize,
}

/// Pixels of a tile at most.
const TILE: usize = 512;

/// Values of one im2col at most: half a MiB of them.
const IM2COL: usize = 1 << 17;

impl Extents {
    fn new(op: &Convolution, x: &Layout, weight: &Layout) -> Result<Self> {
        let (batch, channels, height, width) = x.shape().dims4()?;
        let (outputs, depth, kernel, across) = weight.shape().dims4()?;
        let padded = |extent: usize| (extent + 2 * op.padding).checked_sub(kernel);
        let (Some(rows), Some(columns)) = (padded(height), padded(width)) else {
            bail!("a kernel of {kernel} does not fit an image of {height} by {width}");
        };
        if depth != channels || across != kernel {
            bail!("cannot convolve {:?} with {:?}", x.shape(), weight.shape());
        }
        Ok(Self {
            batch,
            channels,
            height,
            width,
            outputs,
            kernel,
            stride: op.stride,
            padding: op.padding,
            relu: op.relu,
            out_height: rows / op.stride + 1,
            out_width: columns / op.stride + 1,
        })
    }

    fn kernel_elements(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Pixels of one image that comes out.
    fn pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Pixels of a tile, and output channels of a task.
    fn task(&self) -> (usize, usize) {
        let threads = rayon::current_num_threads();
        let all = self.batch * self.pixels();
        let tile = all.div_ceil(threads).clamp(1, TILE).max(128.min(all));
        let tiles = all.div_ceil(tile);
        // Channels are shared out only where there are too few tiles: each part takes im2col of anew.
        let parts = threads.div_ceil(tiles).min(self.outputs.div_ceil(16));
        (tile, self.outputs.div_ceil(parts).next_multiple_of(16).min(self.outputs))
    }

    /// Channels of one im2col.
    fn channels_at_once(&self, tile: usize) -> usize {
        (IM2COL / (tile * self.kernel_elements())).clamp(1, self.channels)
    }
}

fn convolve<T: Element>(
    x: Operand<'_>,
    weight: Operand<'_>,
    bias: Operand<'_>,
    shape: &Extents,
) -> Result<CpuStorage> {
    let x = contiguous::<T>(x.0, x.1)?;
    let weight = contiguous::<T>(weight.0, weight.1)?;
    let rows = if bias.1.dims() == [1, shape.outputs] { 1 } else { shape.batch };
    if bias.1.dims() != [rows, shape.outputs] {
        bail!("a bias of {:?} for {} images of {} channels", bias.1, shape.batch, shape.outputs);
    }
    let mut wide_bias = vec![0f32; rows * shape.outputs];
    T::widen(contiguous::<T>(bias.0, bias.1)?, &mut wide_bias);
    let bias = (wide_bias.as_slice(), rows);
    let mut y = vec![T::narrow(0.0); shape.outputs * shape.batch * shape.pixels()];
    let tasks = tasks(shape, &mut y);
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (range, outputs, lines)| {
        let task = Task { shape, x, weight, first: range.start, count: range.len(), outputs };
        task.run(scratch);
        task.finish(scratch, bias, lines);
    });
    Ok(T::storage(y))
}

/// What a task makes: pixels counted through the batch, output channels, and the stretches of the output
/// that they are, those of an image's channels one after the other.
type Made<'a, T> = (Range<usize>, Range<usize>, Vec<&'a mut [T]>);

/// Cuts the output, `[image][output][pixel]`, into what tasks make.
fn tasks<'a, T>(shape: &Extents, y: &'a mut [T]) -> Vec<Made<'a, T>> {
    let (tile, part) = shape.task();
    let (pixels, all) = (shape.pixels(), shape.batch * shape.pixels());
    let parts = shape.outputs.div_ceil(part);
    let mut tasks: Vec<Made<'a, T>> = (0..all.div_ceil(tile))
        .flat_map(|index| (0..parts).map(move |of| (index * tile, of * part)))
        .map(|(first, output)| {
            let outputs = output..shape.outputs.min(output + part);
            (first..all.min(first + tile), outputs, Vec::new())
        })
        .collect();
    for (row, mut line) in y.chunks_mut(pixels).enumerate() {
        let (mut at, output) = (row / shape.outputs * pixels, row % shape.outputs);
        while !line.is_empty() {
            let length = line.len().min(at / tile * tile + tile - at);
            let (own, rest) = std::mem::take(&mut line).split_at_mut(length);
            tasks[at / tile * parts + output / part].2.push(own);
            (line, at) = (rest, at + length);
        }
    }
    tasks
}

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    columns: Vec<f32>,
    weight: Vec<f32>,
    row: Vec<f32>,
    /// `[output][pixel]`
    sums: Vec<f32>,
}

/// Some output channels of a stretch of pixels, counted through the batch.
struct Task<'a, T> {
    shape: &'a Extents,
    x: &'a [T],
    weight: &'a [T],
    first: usize,
    count: usize,
    outputs: Range<usize>,
}

impl<T: Element> Task<'_, T> {
    fn run(&self, scratch: &mut Scratch) {
        let (shape, outputs) = (self.shape, self.outputs.len());
        scratch.sums.resize(outputs * self.count, 0.0);
        let depth = shape.channels * shape.kernel_elements();
        let step = shape.channels_at_once(self.count);
        for channel in (0..shape.channels).step_by(step) {
            let channels = step.min(shape.channels - channel);
            let part = channels * shape.kernel_elements();
            scratch.columns.resize(part * self.count, 0.0);
            self.im2col(channel, &mut scratch.columns, &mut scratch.row);
            let columns = Strided { elements: &scratch.columns, strides: (self.count, 1) };
            let start = self.outputs.start * depth + channel * shape.kernel_elements();
            let (rows, next_row) = if let Some(weight) = T::as_f32(self.weight) {
                (&weight[start..start + (outputs - 1) * depth + part], depth)
            } else {
                scratch.weight.resize(outputs * part, 0.0);
                for (index, row) in scratch.weight.chunks_mut(part).take(outputs).enumerate() {
                    let start = start + index * depth;
                    T::widen(&self.weight[start..start + part], row);
                }
                (scratch.weight.as_slice(), part)
            };
            let sums = &mut scratch.sums;
            add_product(sums, self.count, (rows, next_row), &columns, part, channel > 0);
        }
    }

    /// Adds the bias and writes each stretch where it belongs.
    fn finish(&self, scratch: &mut Scratch, (bias, rows): (&[f32], usize), lines: Vec<&mut [T]>) {
        let (shape, outputs) = (self.shape, self.outputs.len());
        let mut at = 0;
        for (index, line) in lines.into_iter().enumerate() {
            // Channels of one image, then of the next, whose pixels follow in each row of the sums.
            let (image, channel) = (index / outputs, index % outputs);
            let image = self.first / shape.pixels() + image;
            let bias = bias[image % rows * shape.outputs + self.outputs.start + channel];
            let start = channel * self.count + at;
            let sums = &mut scratch.sums[start..start + line.len()];
            for sum in &mut *sums {
                *sum += bias;
            }
            if shape.relu {
                // What is no number stays so.
                sums.iter_mut().filter(|sum| **sum < 0.0).for_each(|sum| *sum = 0.0);
            }
            T::narrow_all(sums, line);
            if channel + 1 == outputs {
                at += line.len();
            }
        }
    }

    /// Writes the values under each element of each channel, `[channel][element][pixel]`.
    fn im2col(&self, channel: usize, columns: &mut [f32], row: &mut Vec<f32>) {
        let shape = self.shape;
        let plane = shape.height * shape.width;
        row.resize(shape.width, 0.0);
        let elements = columns.chunks_mut(self.count).enumerate();
        for (index, target) in elements {
            let (c, element) =
                (channel + index / shape.kernel_elements(), index % shape.kernel_elements());
            let (down, across) = (element / shape.kernel, element % shape.kernel);
            let mut done = 0;
            while done < self.count {
                // One row of one image that comes out, or what of it is in the tile.
                let at = self.first + done;
                let (image, pixel) = (at / shape.pixels(), at % shape.pixels());
                let (line, column) = (pixel / shape.out_width, pixel % shape.out_width);
                let count = (shape.out_width - column).min(self.count - done);
                let target = &mut target[done..done + count];
                done += count;
                let line = (line * shape.stride + down).wrapping_sub(shape.padding);
                if line >= shape.height {
                    target.fill(0.0);
                    continue;
                }
                let start = (image * shape.channels + c) * plane + line * shape.width;
                let source = &self.x[start..start + shape.width];
                self.im2col_row(source, column, across, target, row);
            }
        }
    }

    /// The values under one element for neighbouring pixels of a row from `column` on.
    fn im2col_row(
        &self,
        source: &[T],
        column: usize,
        across: usize,
        target: &mut [f32],
        row: &mut [f32],
    ) {
        let shape = self.shape;
        if shape.stride == 1 {
            // The pixels whose element lies inside the row: `column + i + across - padding` in it.
            let from = shape.padding.saturating_sub(column + across).min(target.len());
            let inside = (column + from + across).saturating_sub(shape.padding);
            let to = (from + shape.width.saturating_sub(inside)).min(target.len());
            target[..from].fill(0.0);
            if to > from {
                T::widen(&source[inside..inside + to - from], &mut target[from..to]);
            }
            target[to.max(from)..].fill(0.0);
            return;
        }
        T::widen(source, row);
        for (index, target) in target.iter_mut().enumerate() {
            let at = ((column + index) * shape.stride + across).wrapping_sub(shape.padding);
            *target = row.get(at).copied().unwrap_or(0.0);
        }
    }
}

#[cfg(test)]
#[path = "convolution_tests.rs"]
mod tests;
