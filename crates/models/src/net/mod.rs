//! The nets, on candle's ops: those that candle lacks, or has in a form that is not worth measuring.

mod cpu_ops;
pub mod diffusion;
pub mod diffusion_reference;
mod error;
pub mod gpt2;
pub mod gpt2_reference;

pub use error::NetError;
