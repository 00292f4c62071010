//! Plain nets of single ops in f32, written from the formulas, that others are held against.

mod convolution;
pub mod diffusion;
pub mod gpt2;
pub mod llama;
mod mask;
pub mod resnet;
mod rounding;
pub mod whisper;

pub use rounding::Rounding;
