//! The nets, on candle's ops: those that candle lacks, or has in a form that is not worth measuring.

pub mod causal;
mod cpu_ops;
mod dense;
pub mod diffusion;
pub mod diffusion_reference;
mod error;
pub mod gpt2;
pub mod gpt2_reference;
pub mod kv_cache;
pub mod llama;
pub mod llama_reference;
mod matrix;
mod plain;
pub mod whisper;
pub mod whisper_reference;

pub use error::NetError;
