//! The nets, on candle's ops: those that candle lacks, or has in a form that is not worth measuring; and
//! beside each a plain reference that its answers are held against.

pub mod causal;
pub mod decoder;
pub mod diffusion;
mod error;
pub mod kv_cache;
mod matrix;
mod ops;
pub mod reference;
pub mod resnet;
mod weights;
pub mod whisper;

pub use error::NetError;
pub use ops::launches_note;
pub use weights::Weights;
