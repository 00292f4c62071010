//! Which benchmarks a Whisper has: phases, engines, batches, lengths, and how their rows are called.

use serde::Deserialize;

use crate::bench::Parameters;
use crate::catalog::{CatalogError, Dtype, Model};
use crate::engine::{CANDLE, GRAPH, OWN, compiled_kernels};
use crate::family::text::WINDOW;
use crate::options::RunOptions;
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::mel::{HOP, RATE};

/// A part of transcribing, or the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// From samples to the mel spectrogram on the device.
    Mel,
    /// From there through the encoder.
    Encode,
    /// One token of every transcript.
    Decode,
    /// From samples to tokens.
    Transcribe,
}

impl Phase {
    pub(super) const NAMES: [&'static str; 4] = ["mel", "encode", "decode", "transcribe"];
}

impl Phase {
    /// Its name in entries and ids.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Whose net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Engine {
    /// Ours.
    Own,
    /// Ours, its pass captured once and replayed.
    Graph,
    /// candle-transformers' as published.
    Candle,
}

/// How much audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Length {
    /// A made-up clip of so many seconds for each of the batch.
    Seconds(usize),
    /// The user's file, as many of its windows at a time as the batch says.
    File,
}

impl Length {
    fn add_to(self, parameters: Parameters) -> Parameters {
        match self {
            Self::Seconds(seconds) => {
                parameters.with(format!("{seconds}s"), [("seconds", seconds.into())])
            }
            Self::File => parameters.with("file", []),
        }
    }
}

/// One benchmark of a model in one dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Case {
    pub(super) phase: Phase,
    pub(super) engine: Engine,
    /// Clips side by side.
    pub(super) batch: usize,
    /// Audio of each; a whole window for [`Phase::Encode`] and [`Phase::Decode`].
    pub(super) length: Length,
    /// Tokens in the cache, for [`Phase::Decode`].
    pub(super) context: usize,
    /// Beams of each clip, for [`Phase::Transcribe`].
    pub(super) beams: usize,
}

impl Case {
    /// `speech/<model>/transcribe/<dtype>/b<batch>/<seconds>s/greedy@warpmark`
    pub(super) fn parameters(&self, dtype: Dtype) -> Parameters {
        let engine = match self.engine {
            Engine::Own => OWN,
            Engine::Graph => GRAPH,
            Engine::Candle => CANDLE,
        };
        let format = (self.phase != Phase::Mel).then_some(dtype.into());
        let parameters = Parameters::new(("speech", self.phase.name()), format, engine, self.batch);
        match self.phase {
            Phase::Encode => parameters,
            Phase::Decode => {
                parameters.with(format!("c{}", self.context), [("context", self.context.into())])
            }
            Phase::Mel => self.length.add_to(parameters),
            Phase::Transcribe => {
                let search = match self.beams {
                    1 => "greedy".to_owned(),
                    beams => format!("beam{beams}"),
                };
                self.length.add_to(parameters).with(search, [("beams", self.beams.into())])
            }
        }
    }
}

/// `[model.inputs]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    /// Lengths of made-up clips.
    pub(super) seconds: Vec<usize>,
    /// Tokens written for a second of a made-up clip.
    pub(super) tokens_per_second: usize,
    /// The tokens that begin every transcript.
    pub(super) prompt: Vec<u32>,
    /// The token that ends one.
    pub(super) end: u32,
    /// Tokens in the cache when single steps are measured.
    pub(super) contexts: Vec<usize>,
    /// Beams; 1 is greedy decoding.
    pub(super) beams: Vec<usize>,
}

impl Inputs {
    /// The entry's inputs, refused where the model has not the positions or the tokens for them.
    pub(super) fn of(model: &Model, architecture: &Architecture) -> Result<Self, CatalogError> {
        let inputs: Self = model.section("inputs")?;
        let positions = architecture.text_positions;
        let longest = window_seconds(architecture);
        let most = positions.saturating_sub(inputs.prompt.len());
        for seconds in &inputs.seconds {
            if !(1..=longest).contains(seconds) {
                let advice = format!("must be from 1 to {longest}, the model's window of audio");
                return Err(model.invalid("inputs.seconds", seconds, advice));
            }
            if !(1..=most).contains(&(seconds * inputs.tokens_per_second)) {
                let advice = format!("{seconds} s must make from 1 to {most} tokens");
                let value = inputs.tokens_per_second;
                return Err(model.invalid("inputs.tokens_per_second", value, advice));
            }
        }
        let outside = |id: &u32| *id as usize >= architecture.vocabulary;
        let mut tokens = inputs.prompt.iter().copied().chain([inputs.end]);
        if let Some(token) = tokens.find(outside) {
            let advice = format!("the vocabulary ends at {}", architecture.vocabulary);
            return Err(model.invalid("inputs.prompt", token, advice));
        }
        if inputs.prompt.is_empty() {
            return Err(model.invalid("inputs.prompt", "[]", "name the tokens that begin a text"));
        }
        let most = positions.saturating_sub(WINDOW);
        if let Some(context) = inputs.contexts.iter().find(|c| !(1..=most).contains(*c)) {
            let advice =
                format!("must be from 1 to {most}, for the model has {positions} positions");
            return Err(model.invalid("inputs.contexts", context, advice));
        }
        if let Some(beams) = inputs.beams.iter().find(|beams| !(1..=64).contains(*beams)) {
            return Err(model.invalid("inputs.beams", beams, "must be from 1 to 64"));
        }
        Ok(inputs)
    }

    /// Tokens that are written for one window of audio; `None` with weights that end by themselves.
    pub(super) fn tokens(&self, architecture: &Architecture, length: Length, real: bool) -> usize {
        match length {
            Length::Seconds(seconds) if !real => seconds * self.tokens_per_second,
            // OpenAI's own limit: half of the positions.
            _ => architecture.text_positions / 2,
        }
    }
}

/// The seconds of audio that the encoder reads at once.
pub(super) fn window_seconds(architecture: &Architecture) -> usize {
    architecture.frames() * HOP / RATE
}

/// Batches whose decode the quick suite measures on a CPU.
const QUICK_CPU_DECODE: [usize; 2] = [1, 8];

/// The benchmarks of a model that suit the options: mel, encode, decode and transcribe, batches rising,
/// and in the full suite candle's own where the dtype is the one it can do. Audio of the user's takes the
/// place of made-up clips.
pub(super) fn cases(
    model: &Model,
    inputs: &Inputs,
    window: usize,
    options: &RunOptions,
    (dtype, first): (Dtype, bool),
) -> Vec<Case> {
    let chooser = Chooser { model, inputs, window, options };
    let mut cases = Vec::new();
    if first {
        cases.extend(chooser.mel());
    }
    cases.extend(chooser.encode());
    if options.spec.gpu.is_some() && compiled_kernels().is_some() {
        let replayed = |case| Case { engine: Engine::Graph, ..case };
        cases.extend(chooser.encode().into_iter().map(replayed));
    }
    cases.extend(chooser.decode());
    cases.extend(chooser.transcribe());
    if options.full && dtype == Dtype::F32 {
        cases.extend(chooser.candle());
    }
    cases.retain(|case| model.has_phase(case.phase.name()));
    cases
}

struct Chooser<'a> {
    model: &'a Model,
    inputs: &'a Inputs,
    window: usize,
    options: &'a RunOptions,
}

impl Chooser<'_> {
    /// A whole window of each clip through our net.
    fn case(&self, phase: Phase, batch: usize) -> Case {
        let length = Length::Seconds(self.window);
        Case { phase, engine: Engine::Own, batch, length, context: 0, beams: 1 }
    }

    fn quick_on_a_cpu(&self) -> bool {
        !self.options.full && self.options.spec.gpu.is_none()
    }

    /// Lengths of audio, the longest last.
    fn lengths(&self) -> Vec<Length> {
        if self.options.audio.is_some() {
            return vec![Length::File];
        }
        self.inputs.seconds.iter().map(|seconds| Length::Seconds(*seconds)).collect()
    }

    fn mel(&self) -> Vec<Case> {
        let lengths = self.lengths();
        let skipped = if self.options.full { 0 } else { lengths.len().saturating_sub(1) };
        let case = |length| Case { length, ..self.case(Phase::Mel, 1) };
        lengths.into_iter().skip(skipped).map(case).collect()
    }

    fn encode(&self) -> Vec<Case> {
        let batches = self.model.batches.iter();
        let wanted = if self.quick_on_a_cpu() { 1 } else { usize::MAX };
        batches.take(wanted).map(|batch| self.case(Phase::Encode, *batch)).collect()
    }

    fn decode(&self) -> Vec<Case> {
        let wanted = if self.options.full { usize::MAX } else { 1 };
        let quick = self.quick_on_a_cpu();
        let mut cases = Vec::new();
        for &context in self.inputs.contexts.iter().take(wanted) {
            for &batch in &self.model.batches {
                if !quick || QUICK_CPU_DECODE.contains(&batch) {
                    cases.push(Case { context, ..self.case(Phase::Decode, batch) });
                }
            }
        }
        cases
    }

    fn transcribe(&self) -> Vec<Case> {
        let lengths = self.lengths();
        let longest = lengths.len().saturating_sub(1);
        let quick = self.quick_on_a_cpu();
        let mut cases = Vec::new();
        for (at, length) in lengths.into_iter().enumerate() {
            for &beams in &self.inputs.beams {
                let only_longest = at == longest && beams == 1;
                for &batch in &self.model.batches {
                    // Quick: each length and search once, and the batches of the longest, greedily. On a
                    // CPU the first length alone: a whole window takes a quarter of a minute.
                    let wanted = self.options.full
                        || (batch == self.model.batches[0] && !(quick && at > 0))
                        || (only_longest && !quick);
                    if wanted {
                        let case = self.case(Phase::Transcribe, batch);
                        cases.push(Case { length, beams, ..case });
                    }
                }
            }
        }
        cases
    }

    /// candle's net at the smallest batch.
    fn candle(&self) -> Vec<Case> {
        let batch = self.model.batches[0];
        let case = |phase| Case { engine: Engine::Candle, ..self.case(phase, batch) };
        let mut cases = vec![case(Phase::Encode)];
        let context = self.inputs.contexts.first();
        cases.extend(context.map(|&context| Case { context, ..case(Phase::Decode) }));
        if self.inputs.beams.contains(&1) {
            let lengths = self.lengths().into_iter();
            cases.extend(lengths.map(|length| Case { length, ..case(Phase::Transcribe) }));
        }
        cases
    }
}
