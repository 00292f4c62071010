//! What a run asks of the models.

use std::sync::Arc;

use warpmark_record::DeviceSpec;

use crate::audio::{Audio, AudioError};
use crate::weights::{Cache, Progress, Source};
use warpmark_catalog::{Dtype, Format, Model};

/// What a run asks of the models.
#[derive(Clone)]
pub struct RunOptions {
    /// The full suite rather than the quick one.
    pub full: bool,
    /// The seed of inputs.
    pub seed: u64,
    /// Where weights come from.
    pub source: Arc<Source>,
    /// Where synthetic weights are kept.
    pub cache: Arc<Cache>,
    /// Hears how a download or a generation gets on.
    pub progress: Arc<dyn Progress>,
    /// The device that the plan is for.
    pub spec: DeviceSpec,
    /// Dtypes instead of those that the entries list; `None` leaves the choice to them.
    pub dtypes: Option<Vec<Dtype>>,
    /// Audio that speech models transcribe instead of made-up clips.
    pub audio: Option<Arc<InputAudio>>,
}

/// Audio of the user's.
#[derive(Debug)]
pub struct InputAudio {
    /// The audio, or why there is none: what needs it fails with that.
    pub audio: Result<Audio, AudioError>,
    /// What is said in it, if that is known.
    pub text: Option<String>,
}

impl InputAudio {
    /// The audio's samples; none where it cannot be used.
    pub fn samples(&self) -> &[f32] {
        self.audio.as_ref().map_or(&[], |audio| &audio.samples)
    }
}

impl RunOptions {
    /// The formats in which this run measures a model; empty where the suite leaves it out.
    pub fn formats(&self, model: &Model) -> Vec<Format> {
        let listed = model.formats(self.full, &self.spec);
        match &self.dtypes {
            Some(chosen) if !listed.is_empty() => {
                chosen.iter().copied().map(Format::Plain).collect()
            }
            _ => listed.to_vec(),
        }
    }

    /// The plain ones of [`RunOptions::formats`].
    pub fn dtypes(&self, model: &Model) -> Vec<Dtype> {
        self.formats(model).into_iter().filter_map(Format::plain).collect()
    }
}
