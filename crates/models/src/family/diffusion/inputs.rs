//! What an entry of a diffusion model asks to be measured, and the benchmarks that follow.

use serde::Deserialize;

use super::candle;
use super::case::{Case, Engine, Phase};
use crate::catalog::{CatalogError, Model};
use warpmark_nets::diffusion::{Architecture, PIXELS_OF_A_LATENT, Scheduler};

/// `[model.inputs]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    /// Pixels of a side for one pass of the `UNet`.
    unet: Vec<usize>,
    /// Pixels of a side for the decoder.
    vae: Vec<usize>,
    /// Pixels of a side for whole images.
    generate: Vec<usize>,
    /// Denoising steps of a whole image.
    steps: Vec<usize>,
    /// Schedulers of a whole image.
    schedulers: Vec<Scheduler>,
    /// How much the prediction for the text is preferred to that for no text.
    guidance: f64,
}

/// Pixels of a side, at most.
const LARGEST: usize = 8192;

/// Timesteps that the models were trained with.
const MOST_STEPS: usize = 1000;

impl Inputs {
    /// The entry's inputs, refused where the model cannot make such an image.
    pub(super) fn of(model: &Model, architecture: &Architecture) -> Result<Self, CatalogError> {
        let inputs: Self = model.section("inputs")?;
        inputs.check_lists(model)?;
        let whole = architecture.granularity();
        for (key, sizes, multiple) in [
            ("unet", &inputs.unet, whole),
            ("vae", &inputs.vae, PIXELS_OF_A_LATENT),
            ("generate", &inputs.generate, whole),
        ] {
            let fits = |size: &usize| (1..=LARGEST).contains(size) && size.is_multiple_of(multiple);
            if let Some(size) = sizes.iter().find(|size| !fits(size)) {
                let advice = format!("must be a multiple of {multiple} pixels up to {LARGEST}");
                return Err(model.invalid(&format!("inputs.{key}"), size, advice));
            }
        }
        if let Some(steps) = inputs.steps.iter().find(|steps| !(1..=MOST_STEPS).contains(*steps)) {
            let advice = format!("must be from 1 to {MOST_STEPS}");
            return Err(model.invalid("inputs.steps", steps, advice));
        }
        if !(inputs.guidance.is_finite() && inputs.guidance >= 1.0) {
            let advice = "must be 1 or more";
            return Err(model.invalid("inputs.guidance", inputs.guidance, advice));
        }
        Ok(inputs)
    }

    /// A phase that the entry lists and gives nothing to measure would be left out without a word.
    fn check_lists(&self, model: &Model) -> Result<(), CatalogError> {
        for (phase, key, count) in [
            ("unet", "unet", self.unet.len()),
            ("vae", "vae", self.vae.len()),
            ("generate", "generate", self.generate.len()),
            ("generate", "steps", self.steps.len()),
            ("generate", "schedulers", self.schedulers.len()),
        ] {
            if count == 0 && model.has_phase(phase) {
                let advice = format!("list at least one, or leave {phase:?} out of the phases");
                return Err(model.invalid(&format!("inputs.{key}"), "[]", advice));
            }
        }
        Ok(())
    }

    /// How much the prediction for the text is preferred to that for no text.
    pub(super) fn guidance(&self) -> f64 {
        self.guidance
    }

    /// The benchmarks of a model, in the order in which they run. The quick suite takes the first size and
    /// the first schedule; whole images are made in batches with the first schedule only.
    pub(super) fn cases(&self, model: &Model, full: bool) -> Vec<Case> {
        let first = |sizes: &[usize]| sizes.len().min(if full { usize::MAX } else { 1 });
        let mut phases = vec![Phase::Text];
        phases.extend(self.unet[..first(&self.unet)].iter().map(|&size| Phase::Unet { size }));
        phases.extend(self.vae[..first(&self.vae)].iter().map(|&size| Phase::Vae { size }));
        let generate = first(&self.generate);
        let mut cases: Vec<Case> = Vec::new();
        for phase in phases.into_iter().filter(|phase| model.has_phase(phase.name())) {
            let batches = model.batches.iter().copied().enumerate();
            // The quick suite sweeps what an image spends its time on.
            let swept = full || matches!(phase, Phase::Unet { .. });
            let batches = batches.filter(|(index, _)| swept || *index == 0);
            cases.extend(batches.map(|(_, batch)| Case { phase, batch, engine: Engine::Own }));
        }
        if !model.has_phase("generate") {
            return cases;
        }
        for &size in &self.generate[..generate] {
            for (at, &scheduler) in self.schedulers.iter().enumerate() {
                for (nth, &steps) in self.steps.iter().enumerate() {
                    let phase = Phase::Generate { size, steps, scheduler };
                    let swept = full && at == 0 && nth == 0;
                    let wanted = if swept { model.batches.len() } else { 1 };
                    let batches = model.batches.iter().take(wanted);
                    if full || (at == 0 && nth == 0) {
                        let own = |&batch| Case { phase, batch, engine: Engine::Own };
                        cases.extend(batches.map(own));
                    }
                }
            }
        }
        cases
    }

    /// The benchmarks of candle's nets, at the first size. It holds the attention scores of a whole batch at
    /// once, so its batches end early. A whole image would be our loop around its nets, and has no row.
    pub(super) fn published(&self, model: &Model, architecture: &Architecture) -> Vec<Case> {
        const MOST: usize = 4;
        let mut phases = vec![Phase::Text];
        phases.extend(self.unet.first().map(|&size| Phase::Unet { size }));
        phases.extend(self.vae.first().map(|&size| Phase::Vae { size }));
        let mut cases = Vec::new();
        for phase in phases.into_iter().filter(|phase| model.has_phase(phase.name())) {
            let swept = matches!(phase, Phase::Unet { .. });
            let batches = model.batches.iter().enumerate();
            let batches = batches.filter(|(at, batch)| *at == 0 || (swept && **batch <= MOST));
            let offered = batches.filter(|(_, batch)| candle::offers(architecture, phase, **batch));
            let published = |(_, &batch)| Case { phase, batch, engine: Engine::Candle };
            cases.extend(offered.map(published));
        }
        cases
    }
}
