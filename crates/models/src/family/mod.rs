//! Model families: how each kind of net is named, filled, run and measured.
//!
//! A new family is one file here and its line in [`FAMILIES`].

pub mod decoder;
pub mod diffusion;
pub mod resnet;
mod text;
pub mod whisper;

pub use crate::model::Family;

use decoder::DecoderFamily;
use warpmark_nets::decoder::Variant;

/// Every family there is.
pub const FAMILIES: &[&dyn Family] = &[
    &DecoderFamily(Variant::Gpt2),
    &DecoderFamily(Variant::Llama),
    &DecoderFamily(Variant::Opt),
    &DecoderFamily(Variant::Mistral),
    &DecoderFamily(Variant::Qwen2),
    &DecoderFamily(Variant::Qwen3),
    &DecoderFamily(Variant::Gemma2),
    &DecoderFamily(Variant::Gemma3),
    &DecoderFamily(Variant::Phi3),
    &DecoderFamily(Variant::Granite),
    &DecoderFamily(Variant::Mixtral),
    &DecoderFamily(Variant::Qwen3Moe),
    &diffusion::DiffusionFamily,
    &whisper::WhisperFamily,
    &resnet::ResnetFamily,
];
