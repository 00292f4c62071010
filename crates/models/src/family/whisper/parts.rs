//! What the cases of a Whisper share.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::Tensor;
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::cases::{Case, Inputs, Length, Phase};
use super::check::{Clip, ReferenceCache};
use super::work::{self, Transcription};
use crate::audio::speech;
use crate::bench::{BenchContext, Notes, Opened};
use crate::catalog::{Dtype, Model};
use crate::engine::CANDLE;
use crate::options::InputAudio;
use crate::tokenizer::Tokenizer;
use crate::weights::locate_tokenizer;
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::beam::Plan;
use warpmark_nets::whisper::mel::{HOP, MelSpectrogram, RATE};
use warpmark_nets::{NetError, launches_note};

/// What both engines share.
pub(super) struct Shared {
    pub(super) info: ModelInfo,
    pub(super) reference: RefCell<ReferenceCache>,
}

/// What is known of the model, and what its cases are fed.
pub(super) struct ModelInfo {
    pub(super) architecture: Architecture,
    pub(super) inputs: Inputs,
    pub(super) mel: MelSpectrogram,
    pub(super) dtype: Dtype,
    /// Whether transcripts end by themselves: random weights never mean to.
    pub(super) is_real: bool,
    pub(super) spoken: Option<Arc<InputAudio>>,
    /// Where transcripts can be read.
    pub(super) tokenizer: Option<Tokenizer>,
}

/// What every case has beside its net.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) info: &'a ModelInfo,
    pub(super) reference: &'a RefCell<ReferenceCache>,
    pub(super) bench: BenchContext<'a>,
    pub(super) case: Case,
}

impl Shared {
    /// What goes with loaded weights.
    pub(super) fn of(
        model: &Model,
        (architecture, inputs): (Architecture, Inputs),
        opened: &Opened,
    ) -> Result<Self, WorkloadError> {
        let Opened { loaded, context, checkpoint, options, .. } = opened;
        let has_text = options.audio.as_ref().is_some_and(|spoken| spoken.text.is_some());
        let tokenizer = if has_text {
            locate_tokenizer(checkpoint, &options.source, options.progress.as_ref())?
                .map(|path| Tokenizer::of(model, &path))
                .transpose()
                .map_err(WorkloadError::failed)?
        } else {
            None
        };
        let info = ModelInfo {
            architecture,
            mel: MelSpectrogram::new(architecture.mels),
            inputs,
            dtype: context.dtype(),
            is_real: context.is_real(),
            spoken: options.audio.clone(),
            tokenizer,
        };
        let reference = ReferenceCache::new(architecture, loaded.tensors.clone());
        Ok(Self { info, reference: RefCell::new(reference) })
    }

    /// Bytes that a case takes beside the weights.
    pub(super) fn memory(&self, case: Case) -> Bytes {
        let Self { info, .. } = self;
        work::memory(&info.architecture, info.dtype, case, info.capacity(case), false)
    }

    /// What a case has beside its net; audio of the user's that cannot be used fails what needs it.
    pub(super) fn parts<'a>(
        &'a self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Parts<'a>, WorkloadError> {
        if let (Length::File, Some(spoken)) = (case.length, &self.info.spoken) {
            spoken.audio.as_ref().map_err(WorkloadError::failed)?;
        }
        Ok(Parts { info: &self.info, reference: &self.reference, bench, case })
    }
}

impl ModelInfo {
    /// Samples of a window.
    pub(super) fn window(&self) -> usize {
        self.architecture.frames() * HOP
    }

    /// The clips of a case with their samples, in order.
    pub(super) fn clips(&self, case: Case, seed: u64) -> Vec<(Clip, Vec<f32>)> {
        let windows: Vec<Vec<f32>> = match (case.length, &self.spoken) {
            (Length::File, Some(spoken)) => {
                spoken.samples().chunks(self.window()).map(<[f32]>::to_vec).collect()
            }
            (Length::File, None) => Vec::new(),
            (Length::Seconds(seconds), _) => {
                (0..case.batch).map(|clip| speech(seed, clip, seconds as f64)).collect()
            }
        };
        let numbered = windows.into_iter().enumerate();
        numbered.map(|(number, samples)| ((case.length, number), samples)).collect()
    }

    /// How a transcript is written.
    pub(super) fn plan(&self, case: Case) -> Plan {
        let real = self.is_real;
        Plan {
            beams: case.beams,
            tokens: self.inputs.tokens(&self.architecture, case.length, real),
            end: real.then_some(self.inputs.end),
        }
    }

    /// Tokens that a text of a case may have.
    pub(super) fn capacity(&self, case: Case) -> usize {
        self.inputs.prompt.len() + self.plan(case).tokens
    }

    /// What one iteration of a case goes through, `tokens` of them written for each pass.
    pub(super) fn transcription(&self, case: Case, tokens: usize) -> Transcription {
        let (windows, samples) = match (case.length, &self.spoken) {
            (Length::File, Some(spoken)) => {
                let samples = spoken.samples().len();
                (samples.div_ceil(self.window()), samples)
            }
            (Length::File, None) => (0, 0),
            (Length::Seconds(seconds), _) => (case.batch, case.batch * seconds * RATE),
        };
        let passes = windows.div_ceil(case.batch).max(1);
        let seconds = samples as f64 / RATE as f64;
        Transcription { windows, seconds, tokens: passes * tokens, passes }
    }

    /// Where the audio comes from.
    pub(super) fn audio(&self, case: Case, seed: u64) -> String {
        match (self.spoken.as_ref().map(|spoken| &spoken.audio), case.length) {
            (Some(Ok(audio)), Length::File) => format!(
                "{}, {:.1} s, {} Hz in {} channels, in windows of {} s",
                audio.name,
                audio.seconds(),
                audio.rate,
                audio.channels,
                self.window() / RATE
            ),
            _ => format!("another made-up clip like speech for each of the batch, seed {seed}"),
        }
    }
}

impl Parts<'_> {
    /// The clips of the case with their samples, in order.
    pub(super) fn clips(&self) -> Vec<(Clip, Vec<f32>)> {
        self.info.clips(self.case, self.bench.context.seed)
    }

    /// What the row says; `more` follows what the audio is.
    pub(super) fn notes(&self, whole: Transcription, more: &str) -> Notes {
        let Self { info, case, .. } = *self;
        let context = self.bench.context;
        let mut caveats = Vec::new();
        if case.phase == Phase::Mel {
            caveats.push("computed on the host's processor, and copied to the device".to_owned());
        } else {
            caveats.extend(context.widened());
            if self.bench.id.engine() != CANDLE {
                let head_size = info.architecture.width / info.architecture.heads;
                caveats.extend(launches_note(&context.device, info.dtype.candle(), head_size));
            }
        }
        if case.length == Length::File {
            let audio = info.spoken.as_ref().and_then(|spoken| spoken.audio.as_ref().ok());
            caveats.extend(audio.and_then(|audio| audio.warning.clone()));
        }
        Notes {
            work: work::work(&info.architecture, info.dtype, case, whole),
            data: format!("{}{more}", info.audio(case, context.seed)),
            caveats,
            fields: Vec::new(),
        }
    }

    /// The mels of some clips, `[clips, mels, frames]`.
    pub(super) fn mels(&self, clips: &[Vec<f32>]) -> Result<Tensor, NetError> {
        let frames = self.info.architecture.frames();
        super::check::spectrograms(&self.info.mel, clips, frames, &self.bench.context.device)
    }
}
