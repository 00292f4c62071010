//! A loaded Whisper in one dtype, from which its workloads are made.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;
use candle_transformers::models::whisper::model::Whisper as CandleWhisper;
use warpmark_device::Device;
use warpmark_measure::{Description, Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Memory, WeightsStamp};

use super::candle;
use super::cases::{Case, Engine, Inputs, Length, Phase};
use super::check::{Clip, Known};
use super::transcribe::Transcribe;
use super::work::{self, Transcription};
use super::workloads::{Decode, Encode, Mel};
use crate::audio::speech;
use crate::catalog::{Dtype, Model};
use crate::configuration;
use crate::engine::{aftermath, candle_device, check_host_memory};
use crate::family::workload_error;
use crate::marks::Marks;
use crate::request::{Request, Spoken};
use crate::service::kept::Kept;
use crate::tokenizer::Tokenizer;
use crate::weights::{self, TensorSpec};
use warpmark_nets::NetError;
use warpmark_nets::whisper::beam::Plan;
use warpmark_nets::whisper::mel::{HOP, MelSpectrogram, RATE};
use warpmark_nets::whisper::{Architecture, Whisper};

/// Everything needed to load a model once the device is open.
pub(super) struct Recipe {
    pub(super) architecture: Architecture,
    pub(super) inputs: Inputs,
    pub(super) dtype: Dtype,
    pub(super) model: Model,
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
    pub(super) request: Request,
}

/// A loaded model.
pub(super) struct WhisperSession {
    net: Whisper,
    /// candle's net on the same weights, made by the first case that asks for it.
    candle: Option<CandleWhisper>,
    tensors: HashMap<String, Tensor>,
    pub(super) about: About,
    known: Known,
    marks: Marks,
    kept: Kept,
    cases: Vec<(BenchmarkId, Case)>,
}

/// What rows say of the model, and what its workloads are fed.
pub(super) struct About {
    pub(super) architecture: Architecture,
    pub(super) inputs: Inputs,
    pub(super) mel: MelSpectrogram,
    pub(super) model: String,
    pub(super) dtype: Dtype,
    pub(super) seed: u64,
    pub(super) stamp: WeightsStamp,
    pub(super) weight_bytes: Bytes,
    pub(super) spoken: Option<Arc<Spoken>>,
    /// Where transcripts can be read.
    pub(super) tokenizer: Option<Tokenizer>,
}

/// What every workload has beside its net.
pub(super) struct Bench<'a> {
    pub(super) about: &'a About,
    pub(super) known: &'a mut Known,
    pub(super) marks: &'a mut Marks,
    pub(super) kept: &'a Kept,
    pub(super) device: candle_core::Device,
    pub(super) id: BenchmarkId,
    pub(super) case: Case,
}

impl Recipe {
    /// Finds the weights, loads them and builds the net.
    pub(super) fn open(self, device: &Device) -> Result<WhisperSession, WorkloadError> {
        let weight_bytes = work::weight_bytes(&self.architecture, self.dtype);
        if matches!(device, Device::Cpu(_)) {
            check_host_memory("the weights", weight_bytes)?;
        }
        let candle = candle_device(device)?;
        let Request { source, cache, progress, seed, audio, .. } = &self.request;
        configuration::check(&self.model, source, progress.as_ref())?;
        let checkpoint = self.model.checkpoint_in(self.dtype).map_err(WorkloadError::failed)?;
        let files = weights::locate(&checkpoint, &self.tensors, source, cache, progress.as_ref())?;
        let loaded = files.load(&self.tensors, self.dtype.candle(), &candle)?;
        let net = Whisper::new(self.architecture, &loaded.tensors).map_err(workload_error)?;
        let tokenizer = match audio.as_ref().and_then(|spoken| spoken.text.as_ref()) {
            Some(_) => weights::locate_tokenizer(&checkpoint, source, progress.as_ref())?
                .map(|path| Tokenizer::of(&self.model, &path))
                .transpose()
                .map_err(WorkloadError::failed)?,
            None => None,
        };
        Ok(WhisperSession {
            net,
            candle: None,
            about: About {
                architecture: self.architecture,
                mel: MelSpectrogram::new(self.architecture.mels),
                inputs: self.inputs,
                model: self.model.id.clone(),
                dtype: self.dtype,
                seed: *seed,
                stamp: files.stamp(),
                weight_bytes,
                spoken: audio.clone(),
                tokenizer,
            },
            known: Known::new(self.architecture, loaded.tensors.clone()),
            tensors: loaded.tensors,
            marks: Marks::of(device),
            kept: Kept::default(),
            cases: self.cases,
        })
    }
}

impl Session for WhisperSession {
    fn aftermath(&mut self) -> Result<(), WorkloadError> {
        aftermath(self.net.device())
    }

    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let case = self.cases.iter().find(|(id, _)| *id == entry.id).map(|(_, case)| *case);
        let case = case.ok_or_else(|| {
            let model = &self.about.model;
            WorkloadError::Failed(format!("{} is not a benchmark of {model}", entry.id))
        })?;
        if let (Length::File, Some(spoken)) = (case.length, &self.about.spoken) {
            spoken.audio.as_ref().map_err(WorkloadError::failed)?;
        }
        if self.net.device().is_cpu() {
            let tokens = self.about.capacity(case);
            let needed =
                work::memory(&self.about.architecture, self.about.dtype, case, tokens, false);
            check_host_memory(&format!("the caches and activations of {}", entry.id), needed)?;
        }
        if case.engine == Engine::Candle && self.candle.is_none() {
            self.candle = Some(
                candle::net(&self.about.architecture, &self.tensors)
                    .map_err(|error| workload_error(error.into()))?,
            );
        }
        let Self { net, candle, about, known, marks, kept, .. } = self;
        let device = net.device().clone();
        let bench = Bench { about, known, marks, kept, device, id: entry.id.clone(), case };
        match (case.engine, candle) {
            (Engine::Candle, Some(net)) => candle::workload(net, bench),
            (Engine::Candle, None) => Err(WorkloadError::Failed("candle's net is gone".to_owned())),
            (Engine::Own, _) => Ok(match case.phase {
                Phase::Mel => Box::new(Mel::new(bench).map_err(workload_error)?),
                Phase::Encode => Box::new(Encode::new(net, bench).map_err(workload_error)?),
                Phase::Decode => Box::new(Decode::new(net, bench).map_err(workload_error)?),
                Phase::Transcribe => Box::new(Transcribe::new(net, bench)?),
            }),
        }
    }

    fn keep_inputs(&mut self) {
        self.kept.begin();
    }
}

impl About {
    /// Whether transcripts end by themselves: random weights never mean to.
    pub(super) fn is_real(&self) -> bool {
        !matches!(self.stamp, WeightsStamp::Synthetic { .. })
    }

    /// Samples of a window.
    pub(super) fn window(&self) -> usize {
        self.architecture.frames() * HOP
    }

    /// The clips of a case with their samples, in order.
    pub(super) fn clips(&self, case: Case) -> Vec<(Clip, Vec<f32>)> {
        let windows: Vec<Vec<f32>> = match (case.length, &self.spoken) {
            (Length::File, Some(spoken)) => {
                spoken.samples().chunks(self.window()).map(<[f32]>::to_vec).collect()
            }
            (Length::File, None) => Vec::new(),
            (Length::Seconds(seconds), _) => {
                (0..case.batch).map(|clip| speech(self.seed, clip, seconds as f64)).collect()
            }
        };
        let numbered = windows.into_iter().enumerate();
        numbered.map(|(number, samples)| ((case.length, number), samples)).collect()
    }

    /// How a transcript is written.
    pub(super) fn plan(&self, case: Case) -> Plan {
        let real = self.is_real();
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
    pub(super) fn audio(&self, case: Case) -> String {
        match (self.spoken.as_ref().map(|spoken| &spoken.audio), case.length) {
            (Some(Ok(audio)), Length::File) => format!(
                "{}, {:.1} s, {} Hz in {} channels, in windows of {} s",
                audio.name,
                audio.seconds(),
                audio.rate,
                audio.channels,
                self.window() / RATE
            ),
            _ => format!(
                "another made-up clip like speech for each of the batch, seed {}",
                self.seed
            ),
        }
    }
}

impl Bench<'_> {
    /// What the benchmark is fed: what was kept for it, or what is made now.
    pub(super) fn fed<T: 'static>(
        &self,
        make: impl FnOnce(&Self) -> Result<T, NetError>,
    ) -> Result<Rc<T>, NetError> {
        self.kept.or_make(&self.id, || make(self))
    }

    /// The row's description; `more` follows what the audio is.
    pub(super) fn describe(&self, whole: Transcription, more: &str) -> Description {
        let (about, case) = (self.about, self.case);
        let mut caveats = Vec::new();
        if self.device.is_cpu() && about.dtype != Dtype::F32 && case.phase != Phase::Mel {
            caveats
                .push(format!("on this CPU, {} is widened to f32 to be multiplied", about.dtype));
        }
        if case.phase == Phase::Mel {
            caveats.push("computed on the host's processor, and copied to the device".to_owned());
        }
        if case.length == Length::File {
            let audio = about.spoken.as_ref().and_then(|spoken| spoken.audio.as_ref().ok());
            caveats.extend(audio.and_then(|audio| audio.doubt.clone()));
        }
        Description {
            id: self.id.clone(),
            parameters: case.parameters(&about.model, about.dtype),
            work: work::work(&about.architecture, about.dtype, case, whole),
            data: Some(format!("{}{more}", about.audio(case))),
            weights: Some(about.stamp.clone()),
            caveats,
        }
    }

    pub(super) fn wait(&self) -> Result<(), WorkloadError> {
        self.device.synchronize().map_err(|error| workload_error(error.into()))
    }

    pub(super) fn memory(&self) -> Memory {
        self.marks.read(self.about.weight_bytes)
    }

    /// The mels of some clips, `[clips, mels, frames]`.
    pub(super) fn mels(&self, clips: &[Vec<f32>]) -> Result<Tensor, NetError> {
        let frames = self.about.architecture.frames();
        super::check::spectrograms(&self.about.mel, clips, frames, &self.device)
    }
}

#[cfg(test)]
impl WhisperSession {
    /// Other audio, with a text that can be read.
    pub(super) fn hear(&mut self, spoken: Arc<Spoken>, tokenizer: Tokenizer) {
        self.about.spoken = Some(spoken);
        self.about.tokenizer = Some(tokenizer);
    }

    /// A session on given weights, with a net built from `net_tensors` and checked against `tensors`.
    pub(super) fn on(
        about: About,
        net_tensors: &HashMap<String, Tensor>,
        tensors: HashMap<String, Tensor>,
        cases: Vec<(BenchmarkId, Case)>,
    ) -> Result<Self, NetError> {
        Ok(Self {
            net: Whisper::new(about.architecture, net_tensors)?,
            candle: None,
            tensors: net_tensors.clone(),
            known: Known::new(about.architecture, tensors),
            about,
            marks: Marks::host(),
            kept: Kept::default(),
            cases,
        })
    }
}
