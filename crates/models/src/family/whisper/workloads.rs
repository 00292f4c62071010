//! The spectrogram, the encoder and single steps of the decoder, on our own net.

use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::{Description, Workload, WorkloadError};
use warpmark_record::{Check, Memory};

use super::cases::Case;
use super::check::{Clip, against, mel_check, sampled};
use super::session::Bench;
use super::work::DISTINCT;
use crate::family::text::{self, WINDOW};
use crate::family::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::reference::whisper::Dialect;
use warpmark_nets::whisper::{Cache, Cross, Whisper, argmax};

/// Decode steps that a check follows.
const CHECKED_STEPS: usize = 3;

/// From samples to the spectrogram on the device: one iteration takes every clip of the batch.
pub(super) struct Mel<'a> {
    bench: Bench<'a>,
    clips: Rc<Vec<Vec<f32>>>,
}

impl<'a> Mel<'a> {
    pub(super) fn new(bench: Bench<'a>) -> Result<Self, NetError> {
        let clips = bench.fed(|bench| {
            let clips = bench.about.clips(bench.case).into_iter();
            Ok(clips.map(|(_, clip)| clip).collect())
        })?;
        Ok(Self { bench, clips })
    }
}

impl Workload for Mel<'_> {
    fn describe(&self) -> Description {
        let whole = self.bench.about.transcription(self.bench.case, 0);
        let seconds = self.bench.about.window() / warpmark_nets::whisper::mel::RATE;
        self.bench.describe(whole, &format!("; each followed by silence up to {seconds} s"))
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let mut batches = self.clips.chunks(self.bench.case.batch);
        batches.try_for_each(|clips| self.bench.mels(clips).map(drop)).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let Some(clip) = self.clips.first() else {
            return Err(WorkloadError::Failed("there is no audio".to_owned()));
        };
        let about = self.bench.about;
        let found = about.mel.of(clip, about.window());
        mel_check(about.mel.mels(), clip, &found)
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

/// Encoding: one iteration reads the spectrograms of the batch.
pub(super) struct Encode<'a> {
    net: &'a Whisper,
    bench: Bench<'a>,
    heard: Rc<Heard>,
}

/// Clips and their spectrograms.
struct Heard {
    clips: Vec<Clip>,
    mels: Tensor,
}

impl Heard {
    fn of(bench: &Bench<'_>, case: Case) -> Result<Self, NetError> {
        let (clips, samples): (Vec<_>, Vec<_>) = bench.about.clips(case).into_iter().unzip();
        Ok(Self { clips, mels: bench.mels(&samples)? })
    }
}

impl<'a> Encode<'a> {
    pub(super) fn new(net: &'a Whisper, bench: Bench<'a>) -> Result<Self, NetError> {
        let heard = bench.fed(|bench| Heard::of(bench, bench.case))?;
        Ok(Self { net, bench, heard })
    }
}

impl Workload for Encode<'_> {
    fn describe(&self) -> Description {
        let whole = self.bench.about.transcription(self.bench.case, 0);
        self.bench.describe(whole, "; its spectrogram is on the device already")
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.net.encode(&self.heard.mels).map(drop).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let Heard { clips, mels } = &*self.heard;
        let found = self.net.encode(mels).map_err(workload_error)?;
        check_encoded(&mut self.bench, Dialect::Published, clips, mels, &found)
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

/// Holds encoded clips against the reference.
pub(super) fn check_encoded(
    bench: &mut Bench<'_>,
    dialect: Dialect,
    clips: &[Clip],
    mels: &Tensor,
    found: &Tensor,
) -> Result<Check, WorkloadError> {
    let mut pair = |clip: usize| -> Result<_, NetError> {
        let expected = bench.known.encoded(dialect, clips[clip], &mels.get(clip)?)?;
        let found = found.get(clip)?.to_dtype(candle_core::DType::F32)?;
        Ok((found.flatten_all()?.to_vec1()?, expected.flatten_all()?.to_vec1()?))
    };
    let pairs: Result<Vec<_>, _> = sampled(clips.len()).into_iter().map(&mut pair).collect();
    let pairs = pairs.map_err(workload_error)?;
    let what = format!(
        "encodings of {} of {} clips, against plain ops in f32, one clip and head at a time",
        pairs.len(),
        clips.len()
    );
    against(what, bench.about.dtype, found, &pairs)
}

/// Writing: one iteration is one token of every clip's text, chosen on the device from the logits and fed
/// to the next iteration.
pub(super) struct Decode<'a> {
    net: &'a Whisper,
    bench: Bench<'a>,
    begun: Rc<Begun>,
    cache: Cache,
    /// Those to be fed next.
    tokens: Tensor,
}

/// Texts that were begun for clips.
struct Begun {
    heard: Heard,
    cross: Cross,
    cache: Cache,
    /// The texts of the distinct clips, and the tokens that follow the texts.
    texts: Vec<Vec<u32>>,
    first: Tensor,
}

impl Begun {
    fn of(net: &Whisper, bench: &Bench<'_>) -> Result<Self, NetError> {
        let (about, case) = (bench.about, bench.case);
        let made = case.batch.min(DISTINCT);
        let heard = Heard::of(bench, Case { batch: made, ..case })?;
        let part = net.cross(&net.encode(&heard.mels)?)?;
        let texts: Vec<Vec<u32>> = (0..made).map(|clip| about.text(clip, case.context)).collect();
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
        Ok(Self { heard, cross, cache, texts, first })
    }
}

impl<'a> Decode<'a> {
    pub(super) fn new(net: &'a Whisper, bench: Bench<'a>) -> Result<Self, NetError> {
        let begun = bench.fed(|bench| Begun::of(net, bench))?;
        let (cache, tokens) = (begun.cache.handle(), begun.first.clone());
        Ok(Self { net, bench, begun, cache, tokens })
    }

    fn reset(&mut self) {
        self.cache.truncate(self.bench.case.context);
        self.tokens = self.begun.first.clone();
    }

    /// One step; returns its logits and leaves the chosen tokens for the next.
    fn step(&mut self) -> Result<Tensor, NetError> {
        let context = self.bench.case.context;
        if self.cache.len() == context + WINDOW {
            self.cache.truncate(context);
        }
        let logits =
            self.net.read(&self.tokens.unsqueeze(1)?, &mut self.cache, &self.begun.cross)?;
        self.tokens = argmax(&logits)?;
        Ok(logits)
    }

    /// Follows a few steps from the context on: their logits, and the tokens fed to each.
    fn trace(&mut self) -> Result<(Vec<Tensor>, Vec<Vec<u32>>), NetError> {
        self.reset();
        let (mut logits, mut fed) = (Vec::new(), Vec::new());
        for _ in 0..CHECKED_STEPS {
            fed.push(self.tokens.to_vec1()?);
            logits.push(self.step()?.to_dtype(candle_core::DType::F32)?);
        }
        self.reset();
        Ok((logits, fed))
    }
}

impl Workload for Decode<'_> {
    fn describe(&self) -> Description {
        let from = self.bench.case.context;
        let whole = self.bench.about.transcription(self.bench.case, 0);
        let repeated = match self.begun.heard.clips.len() {
            made if made < self.bench.case.batch => format!("; rows repeat after {made}"),
            _ => String::new(),
        };
        self.bench.describe(
            whole,
            &format!(
                "; a text of tokens drawn evenly from the vocabulary, then its own most likely ones, at \
                 positions {from} to {}{repeated}",
                from + WINDOW - 1
            ),
        )
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        self.reset();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.step().map(drop).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let (steps, fed) = self.trace().map_err(workload_error)?;
        let Begun { heard: Heard { clips, mels }, texts, .. } = &*self.begun;
        let text = |row: usize| {
            let made = row % texts.len();
            let mut text = texts[made].clone();
            text.extend(fed.iter().map(|step| step[row]));
            text
        };
        check_steps(&mut self.bench, Dialect::Published, (clips, mels), &steps, text)
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

/// Holds the logits of some steps, `[rows, vocabulary]` each, against the whole texts read anew. `text`
/// gives that of a row up to and including the last token fed; rows repeat the clips.
pub(super) fn check_steps(
    bench: &mut Bench<'_>,
    dialect: Dialect,
    (clips, mels): (&[Clip], &Tensor),
    steps: &[Tensor],
    text: impl Fn(usize) -> Vec<u32>,
) -> Result<Check, WorkloadError> {
    let batch = bench.case.batch;
    let mut compare = || -> Result<_, NetError> {
        let mut pairs = Vec::new();
        for row in sampled(batch) {
            let clip = row % clips.len();
            let encoded = bench.known.encoded(dialect, clips[clip], &mels.get(clip)?)?;
            let expected = bench.known.logits(dialect, &encoded, &text(row), steps.len())?;
            for (step, expected) in steps.iter().zip(expected) {
                pairs.push((step.get(row)?.to_vec1()?, expected));
            }
        }
        Ok((Tensor::cat(steps, 0)?, pairs))
    };
    let (all, pairs) = compare().map_err(workload_error)?;
    let what = format!(
        "logits of {} of {batch} rows over {} steps, against whole texts and their clips recomputed in \
         f32 without a cache",
        sampled(batch).len(),
        steps.len()
    );
    against(what, bench.about.dtype, &all, &pairs)
}

impl super::session::About {
    /// The text of one clip that is read before single steps are measured: the prompt, then tokens drawn
    /// evenly from the vocabulary.
    pub(super) fn text(&self, clip: usize, length: usize) -> Vec<u32> {
        let drawn = text::prompt(self.seed, clip, length, self.architecture.vocabulary);
        self.inputs.prompt.iter().copied().chain(drawn).take(length).collect()
    }
}
