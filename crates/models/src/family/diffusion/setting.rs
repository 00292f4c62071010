//! What the cases of a diffusion model share.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use candle_core::{DType, Tensor};

use super::case::{Case, Phase};
use super::nets::{Nets, Parts, Tokens};
use super::work;
use crate::bench::{BenchContext, Notes, noise};
use crate::catalog::Dtype;
use crate::engine::CANDLE;
use warpmark_nets::diffusion::{Architecture, PIXELS_OF_A_LATENT};
use warpmark_nets::{NetError, launches_note};

/// What is known of the model, and what its checks start from.
pub(super) struct ModelInfo {
    pub(super) architecture: Architecture,
    pub(super) guidance: f64,
    pub(super) dtype: Dtype,
    pub(super) tensors: HashMap<String, Tensor>,
    /// How far each part of a case's answer may be off, once that is known.
    pub(super) tolerances: RefCell<HashMap<(&'static str, Case), f64>>,
}

/// What a case has beside what it is fed.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) nets: &'a Nets,
    /// What is measured: our nets or another engine's on the same weights.
    pub(super) parts: &'a dyn Parts,
    pub(super) info: &'a ModelInfo,
    pub(super) bench: BenchContext<'a>,
    pub(super) case: Case,
}

impl Setting<'_> {
    /// The seed of texts and noise.
    pub(super) fn seed(&self) -> u64 {
        self.bench.context.seed
    }

    pub(super) fn tokens(&self) -> Result<Tokens, NetError> {
        let device = self.nets.unet.device();
        Tokens::new(&self.info.architecture, self.seed(), self.case.batch, device)
    }

    /// Noise of the batch in the dtype of the `UNet`.
    pub(super) fn noise(&self, size: usize) -> Result<Tensor, NetError> {
        let channels = self.info.architecture.unet.latents;
        let shape = [self.case.batch, channels, size / PIXELS_OF_A_LATENT];
        let noise = noise(self.seed(), shape, self.nets.unet.device())?;
        Ok(noise.to_dtype(self.nets.unet.dtype())?)
    }

    /// What the attention of the case's nets has to say, each once.
    fn attention_notes(&self) -> BTreeSet<String> {
        let Architecture { text: texts, unet, vae, .. } = &self.info.architecture;
        let (all, phase) = (matches!(self.case.phase, Phase::Generate { .. }), self.case.phase);
        let mut heads: Vec<(DType, usize)> = Vec::new();
        if all || phase == Phase::Text {
            let dtype = self.nets.unet.dtype();
            heads.extend(texts.iter().map(|text| (dtype, text.width / text.heads)));
        }
        if all || matches!(phase, Phase::Unet { .. }) {
            let levels = unet.channels.iter().zip(&unet.heads).zip(&unet.transformers);
            let levels = levels.filter(|(_, transformers)| **transformers > 0);
            let size = |((channels, heads), _): ((&usize, &usize), &usize)| channels / heads;
            heads.extend(levels.map(size).map(|size| (self.nets.unet.dtype(), size)));
        }
        if all || matches!(phase, Phase::Vae { .. }) {
            heads.extend(vae.channels.last().map(|width| (self.nets.vae.dtype(), *width)));
        }
        let device = self.nets.unet.device();
        heads.into_iter().filter_map(|(dtype, size)| launches_note(device, dtype, size)).collect()
    }

    /// What the row says.
    pub(super) fn notes(&self, data: &str) -> Notes {
        let ModelInfo { architecture, dtype, .. } = self.info;
        let mut caveats = Vec::new();
        caveats.extend(self.parts.caveat(self.case.phase).map(str::to_owned));
        caveats.extend(self.bench.context.widened());
        if self.bench.id.engine() != CANDLE {
            caveats.extend(self.attention_notes());
        }
        if work::is_upcast(architecture, *dtype) {
            caveats
                .push("the decoder runs in f32: its activations leave the range of f16".to_owned());
        }
        Notes {
            work: work::work(architecture, *dtype, self.case),
            data: format!("{data}, seed {}", self.seed()),
            caveats,
            fields: Vec::new(),
        }
    }
}
