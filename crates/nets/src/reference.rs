//! Plain nets of single ops in f32, written from the formulas, that others are held against.

mod convolution;
pub mod decoder;
pub mod diffusion;
mod mask;
pub mod resnet;
mod rounding;
pub mod whisper;

pub use rounding::Rounding;
