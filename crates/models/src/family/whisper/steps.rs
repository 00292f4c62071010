//! The spectrogram, the encoder and single steps of the decoder, on our own net.

use std::rc::Rc;

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;

use super::cases::Case;
use super::check::{Clip, Compared, against, allowed, mel_comparison};
use super::parts::Parts;
use super::work::DISTINCT;
use crate::bench::{Comparison, FixedPass, Notes, Program, sampled};
use crate::engine::workload_error;
use crate::family::text::{self, WINDOW};
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::whisper::Dialect;
use warpmark_nets::whisper::{Cache, Cross, Whisper, argmax};

/// Decode steps that a check follows.
const CHECKED_STEPS: usize = 3;

/// From samples to the spectrogram on the device: one iteration takes every clip of the batch.
pub(super) struct Mel<'a> {
    parts: Parts<'a>,
    clips: Rc<Vec<Vec<f32>>>,
}

impl<'a> Mel<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Result<Self, NetError> {
        let make = || Ok(parts.clips().into_iter().map(|(_, clip)| clip).collect());
        Ok(Self { clips: parts.bench.fed(make)?, parts })
    }
}

impl Program for Mel<'_> {
    fn notes(&self) -> Notes {
        let whole = self.parts.info.transcription(self.parts.case, 0);
        let seconds = self.parts.info.window() / warpmark_nets::whisper::mel::RATE;
        self.parts.notes(whole, &format!("; each followed by silence up to {seconds} s"))
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let mut batches = self.clips.chunks(self.parts.case.batch);
        batches.try_for_each(|clips| self.parts.mels(clips).map(drop)).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let Some(clip) = self.clips.first() else {
            return Err(WorkloadError::Failed("there is no audio".to_owned()));
        };
        let info = self.parts.info;
        let found = info.mel.of(clip, info.window());
        Ok(mel_comparison(info.mel.mels(), clip, &found))
    }
}

/// Encoding: one iteration reads the spectrograms of the batch.
pub(super) struct Encode<'a> {
    net: &'a Whisper,
    parts: Parts<'a>,
    input: Rc<EncoderInput>,
}

/// Clips and their spectrograms.
struct EncoderInput {
    clips: Vec<Clip>,
    mels: Tensor,
}

impl EncoderInput {
    fn of(parts: &Parts<'_>) -> Result<Self, NetError> {
        let (clips, samples): (Vec<_>, Vec<_>) = parts.clips().into_iter().unzip();
        Ok(Self { clips, mels: parts.mels(&samples)? })
    }
}

impl<'a> Encode<'a> {
    pub(super) fn new(net: &'a Whisper, parts: Parts<'a>) -> Result<Self, NetError> {
        let input = parts.bench.fed(|| EncoderInput::of(&parts))?;
        Ok(Self { net, parts, input })
    }
}

impl Program for Encode<'_> {
    fn notes(&self) -> Notes {
        let whole = self.parts.info.transcription(self.parts.case, 0);
        self.parts.notes(whole, "; its spectrogram is on the device already")
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.net.encode(&self.input.mels).map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        self.judge(&self.pass().map_err(workload_error)?)
    }
}

impl FixedPass for Encode<'_> {
    fn pass(&self) -> Result<Tensor, NetError> {
        self.net.encode(&self.input.mels)
    }

    fn judge(&self, answer: &Tensor) -> Result<Comparison, WorkloadError> {
        let EncoderInput { clips, mels } = &*self.input;
        check_encoded(&self.parts, Dialect::Published, clips, mels, answer)
    }

    fn input(&self) -> &Tensor {
        &self.input.mels
    }
}

/// Holds encoded clips against the reference.
pub(super) fn check_encoded(
    parts: &Parts<'_>,
    dialect: Dialect,
    clips: &[Clip],
    mels: &Tensor,
    found: &Tensor,
) -> Result<Comparison, WorkloadError> {
    let format = parts.bench.context.format;
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let row = |clip: usize| -> Result<_, NetError> {
        let mut reference = parts.reference.borrow_mut();
        let mels = mels.get(clip)?;
        let mut of = |rounding| -> Result<_, NetError> {
            Ok(flat(&reference.encoded((dialect, rounding), clips[clip], &mels)?)?)
        };
        let expected = of(Rounding::Exact)?;
        let rounded = allowed(format).rounding().map(&mut of).transpose()?;
        Ok(Compared { found: flat(&found.get(clip)?)?, expected, rounded })
    };
    let rows: Result<Vec<_>, _> = sampled(clips.len()).into_iter().map(row).collect();
    let rows = rows.map_err(workload_error)?;
    let what = format!(
        "encodings of {} of {} clips, against plain ops in f32, one clip and head at a time",
        rows.len(),
        clips.len()
    );
    against(&what, format, found, &rows)
}

/// Writing: one iteration is one token of every clip's text, chosen on the device from the logits and fed
/// to the next iteration.
pub(super) struct Decode<'a> {
    net: &'a Whisper,
    parts: Parts<'a>,
    state: Rc<DecodeState>,
    cache: Cache,
    /// Those to be fed next.
    tokens: Tensor,
}

/// Texts that were begun for clips.
struct DecodeState {
    input: EncoderInput,
    cross: Cross,
    cache: Cache,
    /// The texts of the distinct clips, and the tokens that follow the texts.
    texts: Vec<Vec<u32>>,
    first: Tensor,
}

impl DecodeState {
    fn of(net: &Whisper, parts: &Parts<'_>) -> Result<Self, NetError> {
        let case = parts.case;
        let made = case.batch.min(DISTINCT);
        let input = EncoderInput::of(&Parts { case: Case { batch: made, ..case }, ..*parts })?;
        let part = net.cross(&net.encode(&input.mels)?)?;
        let texts: Vec<Vec<u32>> = (0..made).map(|clip| parts.text(clip, case.context)).collect();
        let capacity = case.context + WINDOW;
        let mut cache = net.cache(made, capacity)?;
        let read = Tensor::from_vec(texts.concat(), (made, case.context), net.device())?;
        let mut first = argmax(&net.read(&read, &mut cache, &part)?)?;
        let mut cross = part;
        if made < case.batch {
            let rows: Vec<u32> = (0..case.batch).map(|row| (row % made) as u32).collect();
            let rows = Tensor::new(rows, net.device())?;
            let mut wide = net.cache(case.batch, capacity)?;
            wide.take(&cache, &rows)?;
            (cache, cross) = (wide, cross.select(&rows)?);
            first = first.index_select(&rows, 0)?;
        }
        Ok(Self { input, cross, cache, texts, first })
    }
}

impl<'a> Decode<'a> {
    pub(super) fn new(net: &'a Whisper, parts: Parts<'a>) -> Result<Self, NetError> {
        let state = parts.bench.fed(|| DecodeState::of(net, &parts))?;
        let (cache, tokens) = (state.cache.handle(), state.first.clone());
        Ok(Self { net, parts, state, cache, tokens })
    }

    fn go_back(&mut self) {
        self.cache.truncate(self.parts.case.context);
        self.tokens = self.state.first.clone();
    }

    /// One step; returns its logits and leaves the chosen tokens for the next.
    fn step(&mut self) -> Result<Tensor, NetError> {
        let context = self.parts.case.context;
        if self.cache.len() == context + WINDOW {
            self.cache.truncate(context);
        }
        let logits =
            self.net.read(&self.tokens.unsqueeze(1)?, &mut self.cache, &self.state.cross)?;
        self.tokens = argmax(&logits)?;
        Ok(logits)
    }

    /// Follows a few steps from the context on: their logits, and the tokens fed to each.
    fn trace(&mut self) -> Result<(Vec<Tensor>, Vec<Vec<u32>>), NetError> {
        self.go_back();
        let (mut logits, mut fed) = (Vec::new(), Vec::new());
        for _ in 0..CHECKED_STEPS {
            fed.push(self.tokens.to_vec1()?);
            logits.push(self.step()?.to_dtype(DType::F32)?);
        }
        self.go_back();
        Ok((logits, fed))
    }
}

impl Program for Decode<'_> {
    fn notes(&self) -> Notes {
        let from = self.parts.case.context;
        let whole = self.parts.info.transcription(self.parts.case, 0);
        let repeated = match self.state.input.clips.len() {
            made if made < self.parts.case.batch => format!("; rows repeat after {made}"),
            _ => String::new(),
        };
        self.parts.notes(
            whole,
            &format!(
                "; a text of tokens drawn evenly from the vocabulary, then its own most likely ones, at \
                 positions {from} to {}{repeated}",
                from + WINDOW - 1
            ),
        )
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.go_back();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.step().map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let (steps, fed) = self.trace().map_err(workload_error)?;
        let DecodeState { input: EncoderInput { clips, mels }, texts, .. } = &*self.state;
        let text = |row: usize| {
            let made = row % texts.len();
            let mut text = texts[made].clone();
            text.extend(fed.iter().map(|step| step[row]));
            text
        };
        check_steps(&self.parts, Dialect::Published, (clips, mels), &steps, text)
    }
}

/// Holds the logits of some steps, `[rows, vocabulary]` each, against the whole texts read anew. `text`
/// gives that of a row up to and including the last token fed; rows repeat the clips.
pub(super) fn check_steps(
    parts: &Parts<'_>,
    dialect: Dialect,
    (clips, mels): (&[Clip], &Tensor),
    steps: &[Tensor],
    text: impl Fn(usize) -> Vec<u32>,
) -> Result<Comparison, WorkloadError> {
    let (batch, format) = (parts.case.batch, parts.bench.context.format);
    let compare = || -> Result<_, NetError> {
        let mut reference = parts.reference.borrow_mut();
        let mut rows = Vec::new();
        for row in sampled(batch) {
            let clip = row % clips.len();
            let (text, mels) = (text(row), mels.get(clip)?);
            let mut of = |rounding| -> Result<_, NetError> {
                let encoded = reference.encoded((dialect, rounding), clips[clip], &mels)?;
                reference.logits((dialect, rounding), &encoded, &text, steps.len())
            };
            let expected = of(Rounding::Exact)?;
            let rounded = allowed(format).rounding().map(&mut of).transpose()?;
            for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
                let rounded = rounded.as_ref().map(|rounded| rounded[index].clone());
                rows.push(Compared { found: step.get(row)?.to_vec1()?, expected, rounded });
            }
        }
        Ok((Tensor::cat(steps, 0)?, rows))
    };
    let (all, rows) = compare().map_err(workload_error)?;
    let what = format!(
        "logits of {} of {batch} rows over {} steps, against whole texts and their clips recomputed in \
         f32 without a cache",
        sampled(batch).len(),
        steps.len()
    );
    against(&what, format, &all, &rows)
}

impl Parts<'_> {
    /// The text of one clip that is read before single steps are measured: the prompt, then tokens drawn
    /// evenly from the vocabulary.
    pub(super) fn text(&self, clip: usize, length: usize) -> Vec<u32> {
        let drawn =
            text::prompt(self.bench.context.seed, clip, length, self.info.architecture.vocabulary);
        self.info.inputs.prompt.iter().copied().chain(drawn).take(length).collect()
    }
}
