//! The benchmarks of a diffusion model.

use std::collections::BTreeMap;

use warpmark_record::{BenchmarkId, IdError, Value};

use crate::catalog::Dtype;
use crate::engine::{CANDLE, OWN};
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
    /// Its name in stanzas and ids.
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
    pub(super) fn id(self, model: &str, dtype: Dtype) -> Result<BenchmarkId, IdError> {
        let mut segments = vec!["image".to_owned(), model.to_owned()];
        segments.extend([self.phase.name().to_owned(), dtype.to_string()]);
        segments.push(format!("b{}", self.batch));
        segments.extend(self.phase.size().map(|size| format!("s{size}")));
        if let Phase::Generate { steps, scheduler, .. } = self.phase {
            segments.extend([format!("n{steps}"), scheduler.name().to_owned()]);
        }
        BenchmarkId::new(segments, self.engine())
    }

    fn engine(self) -> &'static str {
        match self.engine {
            Engine::Own => OWN,
            Engine::Candle => CANDLE,
        }
    }

    /// The entries that run short of memory together.
    pub(super) fn sweep(self, model: &str, dtype: Dtype) -> String {
        let (phase, size, engine) =
            (self.phase.name(), self.phase.size().unwrap_or(0), self.engine());
        format!("image/{model}/{phase}/{dtype}/{size}@{engine}")
    }

    /// Its parameters as data.
    pub(super) fn parameters(self, model: &str, dtype: Dtype) -> BTreeMap<String, Value> {
        let mut parameters = BTreeMap::from([
            ("model".to_owned(), model.into()),
            ("dtype".to_owned(), dtype.to_string().as_str().into()),
            ("batch".to_owned(), self.batch.into()),
        ]);
        if let Some(size) = self.phase.size() {
            parameters.insert("size".to_owned(), size.into());
        }
        if let Phase::Generate { steps, scheduler, .. } = self.phase {
            parameters.insert("steps".to_owned(), steps.into());
            parameters.insert("scheduler".to_owned(), scheduler.name().into());
        }
        parameters
    }
}
