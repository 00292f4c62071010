//! The benchmarks of a diffusion model.

use crate::bench::Parameters;
use crate::catalog::Dtype;
use crate::engine::{CANDLE, GRAPH, OWN};
use warpmark_nets::diffusion::Scheduler;

/// A part of making an image from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// The text encoders.
    Text,
    /// One pass of the `UNet`.
    Unet {
        /// Pixels of a side.
        size: usize,
    },
    /// From latents to pixels.
    Vae {
        /// Pixels of a side.
        size: usize,
    },
    /// All of it.
    Generate {
        /// Pixels of a side.
        size: usize,
        /// Denoising steps.
        steps: usize,
        /// How the noise is followed down.
        scheduler: Scheduler,
    },
}

impl Phase {
    /// Its name in entries and ids.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Unet { .. } => "unet",
            Self::Vae { .. } => "vae",
            Self::Generate { .. } => "generate",
        }
    }

    /// Pixels of a side, where it has to do with images.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::Text => None,
            Self::Unet { size } | Self::Vae { size } | Self::Generate { size, .. } => Some(size),
        }
    }
}

/// Whose nets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Engine {
    /// Ours.
    Own,
    /// Ours, their pass captured once and replayed.
    Graph,
    /// candle-transformers' as published.
    Candle,
}

/// One benchmark of a model in one dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Case {
    /// What is measured.
    pub(super) phase: Phase,
    /// Images side by side.
    pub(super) batch: usize,
    /// Whose nets.
    pub(super) engine: Engine,
}

impl Case {
    /// `image/<model>/unet/<dtype>/b<batch>/s<pixels>@<engine>`
    pub(super) fn parameters(self, dtype: Dtype) -> Parameters {
        let engine = match self.engine {
            Engine::Own => OWN,
            Engine::Graph => GRAPH,
            Engine::Candle => CANDLE,
        };
        let name = ("image", self.phase.name());
        let parameters = Parameters::new(name, Some(dtype.into()), engine, self.batch);
        let parameters = match self.phase.size() {
            Some(size) => parameters.with(format!("s{size}"), [("size", size.into())]),
            None => parameters,
        };
        match self.phase {
            Phase::Generate { steps, scheduler, .. } => parameters
                .with(format!("n{steps}"), [("steps", steps.into())])
                .with(scheduler.name(), [("scheduler", scheduler.name().into())]),
            Phase::Text | Phase::Unet { .. } | Phase::Vae { .. } => parameters,
        }
    }
}
