//! Model families: how each kind of net is named, filled, run and measured.
//!
//! A new family is one file here and its line in [`FAMILIES`].

pub mod diffusion;
pub mod gpt2;
pub mod llama;
pub mod resnet;
mod text;
pub mod whisper;

pub use crate::model::Family;

/// Every family there is.
pub const FAMILIES: &[&dyn Family] = &[
    &gpt2::Gpt2Family,
    &llama::LlamaFamily,
    &diffusion::DiffusionFamily,
    &whisper::WhisperFamily,
    &resnet::ResnetFamily,
];
