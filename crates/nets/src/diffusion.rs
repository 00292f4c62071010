//! Latent diffusion of the Stable Diffusion kind on candle's ops: text encoders, `UNet`, decoder and
//! schedules, equal to diffusers' and transformers' numbers.
//!
//! Nothing here copies to the host or waits for the device. In f16 and bf16 the activations are kept in
//! that type; norms take their statistics in f32, softmax and sums run in f32.

mod architecture;
mod auto_encoder;
mod blocks;
mod layers;
mod schedule;
mod text_encoder;
mod unet;

use candle_core::{DType, Device, Tensor};

pub use architecture::{
    Activation, AddedNumbers, Architecture, LEVELS, PIXELS_OF_A_LATENT, Prediction,
    SchedulerNumbers, Spacing, TEXT_FOLDERS, TextNumbers, TextOutput, UnetNumbers, VaeNumbers,
};
pub use auto_encoder::AutoEncoder;
pub use schedule::{BETAS, Schedule, Scheduler, Step, TRAINED};
pub use text_encoder::{EncodedText, TextEncoder};
pub use unet::{Condition, Unet};

use super::NetError;

/// Cosines and sines of each value at `width / 2` frequencies from 1 down to 1/10000 (Vaswani et al.
/// 2017, section 3.5, with the cosines first), `[values, width]`.
fn sinusoids(
    values: &[f64],
    width: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor, NetError> {
    let half = width / 2;
    let angles = |value: f64| {
        (0..half).map(move |index| {
            // In f32 as the reference has it, where a large timestep keeps only some digits.
            let exponent = -(10_000f32.ln()) * index as f32 / half as f32;
            value as f32 * exponent.exp()
        })
    };
    let row = |value: f64| {
        angles(value).map(f32::cos).chain(angles(value).map(f32::sin)).collect::<Vec<f32>>()
    };
    let rows: Vec<f32> = values.iter().flat_map(|value| row(*value)).collect();
    Ok(Tensor::from_vec(rows, (values.len(), 2 * half), device)?.to_dtype(dtype)?)
}
