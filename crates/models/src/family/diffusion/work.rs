//! What an iteration costs, counted from the architecture.
//!
//! Two FLOPs for each weight of a convolution and each pixel that it gives, for each weight of a product and
//! each position, and `4 n t w` for attention of `n` positions over `t` others at a width of `w`. Norms,
//! activation functions, softmax and the sums of residual streams are left out. Bytes: every weight once a
//! pass, and what goes in and comes out; the traffic of activations is the part of an implementation, not
//! of the model.

use warpmark_record::{Bytes, Flops, ItemUnit, Items, Work};

use super::case::{Case, Engine, Phase};
use crate::catalog::{CatalogError, Dtype, Model};
use warpmark_nets::diffusion::{
    Architecture, PIXELS_OF_A_LATENT, TextNumbers, TextOutput, UnetNumbers, VaeNumbers,
};

/// What one pass over one image or text does.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    flops: f64,
    /// Weights that are read.
    weights: f64,
    /// Elements of what is kept for later layers.
    kept: f64,
    /// Elements that the largest layer holds beside them.
    largest: f64,
    /// Kernels that it launches.
    kernels: usize,
    /// Whether it is the decoder's.
    decodes: bool,
}

impl Pass {
    /// A convolution with a kernel of `k`, to `pixels` of `outputs` channels. Without cuDNN its input is
    /// im2col: every value under every element of the kernel.
    fn convolve(&mut self, channels: usize, outputs: usize, k: usize, pixels: usize) {
        let weights = (channels * outputs * k * k) as f64;
        self.flops += 2.0 * weights * pixels as f64;
        self.weights += weights + outputs as f64;
        let im2col = if k == 1 { 0 } else { channels * k * k };
        self.hold((channels + outputs + im2col) * pixels);
        self.kernels += 4;
    }

    /// A product of `rows` positions.
    fn multiply(&mut self, inputs: usize, outputs: usize, rows: usize) {
        self.flops += 2.0 * (inputs * outputs * rows) as f64;
        self.weights += (inputs * outputs) as f64;
        self.kernels += 3;
    }

    /// Attention of `rows` positions over `others`, its products apart.
    fn attend(&mut self, rows: usize, others: usize, width: usize) {
        self.flops += 4.0 * rows as f64 * others as f64 * width as f64;
        self.kernels += 8;
    }

    fn hold(&mut self, elements: usize) {
        self.largest = self.largest.max(elements as f64);
    }

    fn keep(&mut self, elements: usize) {
        self.kept += elements as f64;
    }

    /// A residual layer, with a time of that width where the net has one.
    fn residual(&mut self, channels: usize, outputs: usize, time: usize, pixels: usize) {
        self.convolve(channels, outputs, 3, pixels);
        self.convolve(outputs, outputs, 3, pixels);
        self.multiply(time, outputs, 1);
        if channels != outputs {
            self.convolve(channels, outputs, 1, pixels);
        }
        // Two group norms with their SiLU, ten kernels each where they are not fused, and two sums.
        self.kernels += 24;
    }

    fn transformer(&mut self, width: usize, blocks: usize, text: [usize; 2], pixels: usize) {
        let [tokens, text_width] = text;
        self.multiply(width, width, 2 * pixels);
        self.weights += (width * width) as f64;
        for _ in 0..blocks {
            // Queries, keys, values and output of the pixels; queries and output over the text.
            for _ in 0..6 {
                self.multiply(width, width, pixels);
            }
            self.attend(pixels, pixels, width);
            self.multiply(text_width, width, tokens);
            self.multiply(text_width, width, tokens);
            self.attend(pixels, tokens, width);
            self.multiply(width, 8 * width, pixels);
            self.multiply(4 * width, width, pixels);
            self.hold((8 + 4 + 2) * width * pixels);
            self.kernels += 12;
        }
        self.kernels += 16;
    }
}

/// One pass of the `UNet` over latents of that many pixels a side.
fn unet(numbers: &UnetNumbers, tokens: usize, side: usize) -> Pass {
    let mut pass = Pass::default();
    let depth = numbers.channels.len();
    let narrow = numbers.channels[0];
    let time = 4 * narrow;
    let text = [tokens, numbers.text_width];
    let pixels = |level: usize| (side >> level) * (side >> level);
    pass.multiply(narrow, time, 1);
    pass.multiply(time, time, 1);
    if let Some(added) = numbers.added {
        pass.multiply(added.width(), time, 1);
        pass.multiply(time, time, 1);
    }
    pass.convolve(numbers.latents, narrow, 3, pixels(0));
    // What the way down leaves to the way up.
    let mut skips = vec![narrow];
    pass.keep(narrow * pixels(0));
    let mut stream = narrow;
    for (level, &width) in numbers.channels.iter().enumerate() {
        for _ in 0..numbers.layers {
            pass.residual(stream, width, time, pixels(level));
            pass.transformer_if(width, numbers.transformers[level], text, pixels(level));
            stream = width;
            skips.push(width);
            pass.keep(width * pixels(level));
        }
        if level + 1 < depth {
            pass.convolve(width, width, 3, pixels(level + 1));
            skips.push(width);
            pass.keep(width * pixels(level + 1));
        }
    }
    if let Some(blocks) = numbers.middle_transformers {
        let lowest = pixels(depth - 1);
        pass.residual(stream, stream, time, lowest);
        pass.transformer_if(stream, blocks, text, lowest);
        pass.residual(stream, stream, time, lowest);
    }
    for level in (0..depth).rev() {
        let width = numbers.channels[level];
        for _ in 0..=numbers.layers {
            let skip = skips.pop().unwrap_or(0);
            pass.residual(stream + skip, width, time, pixels(level));
            pass.transformer_if(width, numbers.transformers[level], text, pixels(level));
            stream = width;
        }
        if level > 0 {
            pass.convolve(width, width, 3, pixels(level - 1));
        }
    }
    pass.convolve(narrow, numbers.latents, 3, pixels(0));
    pass
}

impl Pass {
    fn transformer_if(&mut self, width: usize, blocks: usize, text: [usize; 2], pixels: usize) {
        if blocks > 0 {
            self.transformer(width, blocks, text, pixels);
        }
    }
}

/// The decoder from latents of that many pixels a side.
fn vae(numbers: &VaeNumbers, latents: usize, side: usize) -> Pass {
    let mut pass = Pass { decodes: true, ..Pass::default() };
    let widest = numbers.channels.last().copied().unwrap_or(0);
    let mut pixels = side * side;
    pass.convolve(latents, latents, 1, pixels);
    pass.convolve(latents, widest, 3, pixels);
    pass.residual(widest, widest, 0, pixels);
    for _ in 0..4 {
        pass.multiply(widest, widest, pixels);
    }
    pass.attend(pixels, pixels, widest);
    pass.residual(widest, widest, 0, pixels);
    let mut stream = widest;
    for (index, &width) in numbers.channels.iter().rev().enumerate() {
        for _ in 0..=numbers.layers {
            pass.residual(stream, width, 0, pixels);
            stream = width;
        }
        if index + 1 < numbers.channels.len() {
            pixels *= 4;
            pass.convolve(width, width, 3, pixels);
        }
    }
    pass.convolve(stream, 3, 3, pixels);
    pass
}

/// A text encoder over one text.
fn text(numbers: &TextNumbers) -> Pass {
    let mut pass = Pass::default();
    let (tokens, width) = (numbers.positions, numbers.width);
    let unread = numbers.output == TextOutput::Penultimate && numbers.pooled_width.is_none();
    for _ in 0..numbers.layers - usize::from(unread) {
        for _ in 0..4 {
            pass.multiply(width, width, tokens);
        }
        pass.attend(tokens, tokens, width);
        pass.multiply(width, numbers.hidden, tokens);
        pass.multiply(numbers.hidden, width, tokens);
        pass.hold((2 * numbers.hidden + 2 * width) * tokens);
        pass.kernels += 8;
    }
    if let Some(pooled) = numbers.pooled_width {
        pass.multiply(width, pooled, 1);
    }
    pass
}

/// Tokens of every text.
fn tokens(architecture: &Architecture) -> usize {
    architecture.text.iter().map(|text| text.positions).max().unwrap_or(0)
}

/// The passes of a case with how often each is run and over how many rows.
fn passes(architecture: &Architecture, case: Case) -> Vec<(Pass, usize, usize)> {
    // Guidance: each image is looked at with its text and with none.
    let rows = 2 * case.batch;
    let of_texts = |rows| architecture.text.iter().map(move |numbers| (text(numbers), 1, rows));
    let of_unet = |size: usize, steps| {
        let side = size / PIXELS_OF_A_LATENT;
        (unet(&architecture.unet, tokens(architecture), side), steps, rows)
    };
    let of_vae = |size: usize| {
        let side = size / PIXELS_OF_A_LATENT;
        (vae(&architecture.vae, architecture.unet.latents, side), 1, case.batch)
    };
    match case.phase {
        Phase::Text => of_texts(case.batch).collect(),
        Phase::Unet { size } => vec![of_unet(size, 1)],
        Phase::Vae { size } => vec![of_vae(size)],
        Phase::Generate { size, steps, .. } => {
            of_texts(rows).chain([of_unet(size, steps), of_vae(size)]).collect()
        }
    }
}

/// What one iteration does.
pub(super) fn work(architecture: &Architecture, dtype: Dtype, case: Case) -> Work {
    let passes = passes(architecture, case);
    let flops = passes.iter().map(|(pass, times, rows)| pass.flops * (times * rows) as f64).sum();
    let read = |(pass, times, _): &(Pass, usize, usize)| {
        pass.weights * *times as f64 * size_of(architecture, dtype, pass.decodes)
    };
    let weights: f64 = passes.iter().map(read).sum();
    let (count, unit) = match case.phase {
        Phase::Text => (case.batch * tokens(architecture), ItemUnit::Token),
        Phase::Unet { .. } => (case.batch, ItemUnit::Step),
        Phase::Vae { .. } | Phase::Generate { .. } => (case.batch, ItemUnit::Image),
    };
    let pixels = case.phase.size().map_or(0, |size| 3 * size * size * case.batch);
    let image = if matches!(case.phase, Phase::Unet { .. }) { 0 } else { pixels };
    Work {
        flops: Some(Flops(flops)),
        bytes: Some(Bytes(weights + image as f64 * size_of(architecture, dtype, true))),
        items: Some(Items { count: count as f64, unit }),
    }
}

/// Bytes of an element of the decoder or of another part.
fn size_of(architecture: &Architecture, dtype: Dtype, decoder: bool) -> f64 {
    let wide = decoder && is_upcast(architecture, dtype);
    if wide { Dtype::F32.bytes() as f64 } else { dtype.bytes() as f64 }
}

/// Kernels that an iteration launches on a GPU.
pub(super) fn kernels(architecture: &Architecture, case: Case) -> usize {
    passes(architecture, case).iter().map(|(pass, times, _)| pass.kernels * times).sum()
}

/// Whether the decoder runs in another dtype than the rest.
pub(super) fn is_upcast(architecture: &Architecture, dtype: Dtype) -> bool {
    architecture.vae.upcast && dtype == Dtype::F16
}

/// Bytes that the weights hold.
pub(super) fn weight_bytes(
    model: &Model,
    architecture: &Architecture,
    dtype: Dtype,
) -> Result<Bytes, CatalogError> {
    let all = model.count_parameters()? as f64;
    let decoder = vae(&architecture.vae, architecture.unet.latents, 1).weights;
    // The decoder's weights stay in f16 beside what they were widened to: checks start from the former.
    let wide =
        if is_upcast(architecture, dtype) { decoder * Dtype::F32.bytes() as f64 } else { 0.0 };
    Ok(Bytes(all * dtype.bytes() as f64 + wide))
}

/// The largest activations alive at once: what is kept for later layers, the largest layer, and attention
/// scores with their softmax, in blocks by our nets and all at once by candle's.
pub(super) fn activations(architecture: &Architecture, dtype: Dtype, case: Case) -> Bytes {
    const BLOCKS: f64 = 2.0 * 256.0 * 1024.0 * 1024.0;
    let held = |(pass, _, rows): &(Pass, usize, usize)| {
        let elements = (pass.kept + pass.largest) * *rows as f64;
        elements * size_of(architecture, dtype, pass.decodes)
    };
    let largest = passes(architecture, case).iter().map(held).fold(0.0, f64::max);
    let scores = match (case.engine, case.phase) {
        (_, Phase::Text) => 0.0,
        (Engine::Own | Engine::Graph, _) => BLOCKS,
        (Engine::Candle, phase) => whole_scores(architecture, phase) * case.batch as f64,
    };
    Bytes(largest + scores)
}

/// Bytes of an image's attention scores, all heads at once in f32: in the `UNet` for two rows, before and
/// after the softmax; in the decoder, whose softmax is put together from other ops, four times over.
fn whole_scores(architecture: &Architecture, phase: Phase) -> f64 {
    let Some(size) = phase.size() else { return 0.0 };
    let numbers = &architecture.unet;
    let latents = size / PIXELS_OF_A_LATENT;
    let squared = |level: usize| ((latents >> level) as f64).powi(4);
    let elements = if matches!(phase, Phase::Vae { .. }) {
        4.0 * squared(0)
    } else {
        let levels = (0..numbers.channels.len()).filter(|&level| numbers.transformers[level] > 0);
        let rows_and_copies = 2.0 * 2.0;
        rows_and_copies
            * levels.map(|level| numbers.heads[level] as f64 * squared(level)).fold(0.0, f64::max)
    };
    elements * Dtype::F32.bytes() as f64
}

#[cfg(test)]
pub(super) fn unet_flops(architecture: &Architecture, size: usize) -> f64 {
    unet(&architecture.unet, tokens(architecture), size / PIXELS_OF_A_LATENT).flops
}
