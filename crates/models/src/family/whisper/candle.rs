//! candle-transformers' Whisper as published, in f32, the only type it works in.
//!
//! What is known of it and left as it is: it keeps no keys and values of the text, so that every step
//! reads all tokens before it again; its GELU is the tanh approximation and its positions of the audio are
//! recomputed, so that its answers are held against a reference with the same; and the cache of the
//! audio's keys and values must be flushed with the first step of each clip.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use candle_core::{D, DType, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::whisper::Config;
use candle_transformers::models::whisper::model::Whisper;
use warpmark_measure::{Stopwatch, WorkloadError};
use warpmark_record::Bytes;

use super::cases::{Case, Phase};
use super::check::Clip;
use super::parts::{Parts, Shared};
use super::steps::{check_encoded, check_steps};
use super::transcribe::check_transcripts;
use crate::bench::{BenchContext, Comparison, Engine, Notes, Program};
use crate::engine::workload_error;
use crate::family::text::WINDOW;
use warpmark_nets::NetError;
use warpmark_nets::reference::whisper::Dialect;
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::beam::Transcript;

/// What every row of it says.
const CAVEAT: &str =
    "candle-transformers keeps no cache of the text: every step reads all of it again";

/// Decode steps that a check follows.
const CHECKED_STEPS: usize = 3;

/// candle's net and what it shares with ours.
pub(super) struct PeerEngine {
    net: Whisper,
    shared: Rc<Shared>,
}

impl PeerEngine {
    /// On our tensors, which are shared.
    pub(super) fn new(
        tensors: &HashMap<String, Tensor>,
        shared: Rc<Shared>,
    ) -> Result<Self, WorkloadError> {
        let net = net(&shared.info.architecture, tensors);
        Ok(Self { net: net.map_err(|error| workload_error(error.into()))?, shared })
    }
}

fn net(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor>,
) -> candle_core::Result<Whisper> {
    let config = Config {
        num_mel_bins: architecture.mels,
        max_source_positions: architecture.audio_positions,
        d_model: architecture.width,
        encoder_attention_heads: architecture.heads,
        encoder_layers: architecture.encoder_layers,
        vocab_size: architecture.vocabulary,
        max_target_positions: architecture.text_positions,
        decoder_attention_heads: architecture.heads,
        decoder_layers: architecture.decoder_layers,
        suppress_tokens: Vec::new(),
    };
    let device = tensors.values().next().map_or(&candle_core::Device::Cpu, Tensor::device);
    Whisper::load(&VarBuilder::from_tensors(tensors.clone(), DType::F32, device), config)
}

impl Engine for PeerEngine {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        self.shared.memory(case)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let Self { net, shared } = self;
        let parts = shared.parts(case, bench)?;
        let clips = parts.clips();
        let samples: Vec<Vec<f32>> = clips.iter().map(|(_, samples)| samples.clone()).collect();
        let mels = parts.mels(&samples).map_err(workload_error)?;
        net.reset_kv_cache();
        let mut peer =
            Peer { net, parts, clips, mels, encoded: None, text: None, times: BTreeMap::new() };
        if case.phase == Phase::Decode {
            peer.encoded = Some(peer.encode().map_err(workload_error)?);
            peer.go_back().map_err(workload_error)?;
        }
        Ok(Box::new(peer))
    }
}

/// candle's net at work on one case.
struct Peer<'a> {
    net: &'a mut Whisper,
    parts: Parts<'a>,
    clips: Vec<(Clip, Vec<f32>)>,
    mels: Tensor,
    encoded: Option<Tensor>,
    /// The whole text so far, `[batch, tokens]`, and whether the audio's keys and values are those of
    /// this clip.
    text: Option<(Tensor, bool)>,
    times: BTreeMap<String, Vec<f64>>,
}

impl Peer<'_> {
    fn encode(&mut self) -> Result<Tensor, NetError> {
        Ok(self.net.encoder.forward(&self.mels, true)?)
    }

    /// The text before the first step.
    fn go_back(&mut self) -> Result<(), NetError> {
        let (batch, context) = (self.parts.case.batch, self.parts.case.context);
        let rows = (0..batch).flat_map(|clip| self.parts.text(clip, context + 1));
        let text = Tensor::from_vec(
            rows.collect(),
            (batch, context + 1),
            &self.parts.bench.context.device,
        )?;
        self.text = Some((text, false));
        Ok(())
    }

    /// The logits after a text; `flush` with the first step of a clip.
    fn read(&mut self, text: &Tensor, encoded: &Tensor, flush: bool) -> Result<Tensor, NetError> {
        let decoder = &mut self.net.decoder;
        let hidden = decoder.forward(text, encoded, flush)?;
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.contiguous()?;
        Ok(decoder.final_linear(&last)?.squeeze(1)?)
    }

    /// One step of [`Phase::Decode`].
    fn step(&mut self) -> Result<Tensor, NetError> {
        if self.text.as_ref().is_none_or(|(text, _)| {
            text.dims().last().is_none_or(|length| *length > self.parts.case.context + WINDOW)
        }) {
            self.go_back()?;
        }
        let (Some((text, seen)), Some(encoded)) = (self.text.take(), self.encoded.clone()) else {
            return Err(NetError::Candle(candle_core::Error::Msg("nothing to read".to_owned())));
        };
        let logits = self.read(&text, &encoded, !seen)?;
        let next = logits.argmax(D::Minus1)?.unsqueeze(1)?;
        self.text = Some((Tensor::cat(&[&text, &next], 1)?, true));
        Ok(logits)
    }

    /// Greedy transcripts of all clips.
    fn transcribe(&mut self) -> Result<Vec<Transcript>, NetError> {
        let plan = self.parts.info.plan(self.parts.case);
        let prompt = self.parts.info.inputs.prompt.clone();
        let mut transcripts = Vec::new();
        for index in 0..self.clips.len() {
            let mut watch = Stopwatch::start();
            let samples = std::slice::from_ref(&self.clips[index].1);
            let encoded = self.net.encoder.forward(&self.parts.mels(samples)?, true)?;
            let mut tokens = prompt.clone();
            let (mut log_probability, mut ended) = (0.0, false);
            for step in 0..plan.tokens {
                let text = Tensor::new(tokens.as_slice(), &self.parts.bench.context.device)?
                    .unsqueeze(0)?;
                let logits = self.read(&text, &encoded, step == 0)?.squeeze(0)?.to_vec1::<f32>()?;
                let (token, top) = highest(&logits);
                let name =
                    if step == 0 { "time_to_first_token_s" } else { "time_between_tokens_s" };
                self.times.entry(name.to_owned()).or_default().push(watch.elapsed().0);
                watch = Stopwatch::start();
                let powers = logits.iter().map(|logit| f64::from(*logit - top).exp());
                log_probability -= powers.sum::<f64>().ln();
                ended = Some(token) == plan.end;
                if ended {
                    break;
                }
                tokens.push(token);
            }
            let tokens = tokens.split_off(prompt.len());
            transcripts.push(Transcript { tokens, ended, log_probability });
        }
        Ok(transcripts)
    }

    fn trace(&mut self) -> Result<(Vec<Tensor>, Vec<Vec<u32>>), NetError> {
        self.go_back()?;
        let steps: Vec<Tensor> =
            (0..CHECKED_STEPS).map(|_| self.step()).collect::<Result<_, _>>()?;
        let (text, _) = self.text.take().unwrap_or((self.mels.clone(), false));
        self.go_back()?;
        // The last token was chosen and not read.
        Ok((steps, text.narrow(1, 0, text.dim(1)? - 1)?.to_vec2()?))
    }
}

fn highest(logits: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (token as u32, *logit);
        }
    }
    best
}

impl Program for Peer<'_> {
    fn notes(&self) -> Notes {
        let tokens = self.parts.info.plan(self.parts.case).tokens;
        let whole = self.parts.info.transcription(self.parts.case, tokens);
        let mut notes = self.parts.notes(whole, "");
        if self.parts.case.phase != Phase::Encode {
            notes.caveats.push(CAVEAT.to_owned());
        }
        if self.parts.case.phase == Phase::Transcribe {
            let written = whole.windows * tokens;
            notes.fields.push(("tokens", written.into()));
            if !self.parts.info.is_real {
                notes.caveats.push(format!(
                    "random weights never end a text: {tokens} tokens were written for each window of \
                     audio"
                ));
            }
        }
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.times.clear();
        match self.parts.case.phase {
            Phase::Decode => self.go_back().map_err(workload_error),
            _ => Ok(()),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let done = match self.parts.case.phase {
            Phase::Encode | Phase::Mel => self.encode().map(drop),
            Phase::Decode => self.step().map(drop),
            Phase::Transcribe => self.transcribe().map(drop),
        };
        done.map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let clips: Vec<Clip> = self.clips.iter().map(|(clip, _)| *clip).collect();
        match self.parts.case.phase {
            Phase::Encode | Phase::Mel => {
                let found = self.encode().map_err(workload_error)?;
                check_encoded(&self.parts, Dialect::Candle, &clips, &self.mels, &found)
            }
            Phase::Decode => {
                let (steps, texts) = self.trace().map_err(workload_error)?;
                let text = |row: usize| texts[row].clone();
                check_steps(&self.parts, Dialect::Candle, (&clips, &self.mels), &steps, text)
            }
            Phase::Transcribe => {
                let transcripts = self.transcribe().map_err(workload_error)?;
                check_transcripts(&self.parts, Dialect::Candle, &self.clips, &transcripts)
            }
        }
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        self.times.clone()
    }
}
