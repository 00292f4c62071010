//! The whole, from samples to text, on our own net.

use std::collections::BTreeMap;
use std::rc::Rc;

use warpmark_measure::{Stopwatch, WorkloadError};

use super::check::{Clip, allowed, transcript_error, written};
use super::parts::Parts;
use crate::audio::words::{TextErrors, text_errors};
use crate::bench::{Comparison, Notes, Program, sampled};
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::whisper::Dialect;
use warpmark_nets::whisper::Whisper;
use warpmark_nets::whisper::beam::{Transcript, transcribe};
use warpmark_record::agreement::{max_error, relative_error};

/// From samples to the tokens of every window of the audio, each token on the host as soon as
/// it is chosen.
pub(super) struct Transcribe<'a> {
    net: &'a Whisper,
    parts: Parts<'a>,
    clips: Rc<Vec<(Clip, Vec<f32>)>>,
    /// Seconds to the first token and between two, since the last `prepare`.
    times: BTreeMap<String, Vec<f64>>,
    written: Rc<Written>,
}

/// What is known of the texts.
struct Written {
    /// Tokens written in one iteration, for each pass over a batch of windows.
    tokens: usize,
    errors: Option<TextErrors>,
}

impl<'a> Transcribe<'a> {
    pub(super) fn new(net: &'a Whisper, parts: Parts<'a>) -> Result<Self, WorkloadError> {
        let clips = parts.bench.fed(|| Ok(parts.clips())).map_err(workload_error)?;
        let tokens = parts.info.plan(parts.case).tokens;
        let written = Rc::new(Written { tokens, errors: None });
        let mut program = Self { net, parts, clips, times: BTreeMap::new(), written };
        if parts.info.is_real {
            program.written = parts.bench.or_make(|| program.listen())?;
        }
        Ok(program)
    }

    /// Transcribes once, to know how long the texts are that these weights write, and how right.
    fn listen(&mut self) -> Result<Written, WorkloadError> {
        let transcripts = self.pass().map_err(workload_error)?;
        let written = |part: &[Transcript]| {
            part.iter().map(|text| text.tokens.len() + usize::from(text.ended)).max().unwrap_or(0)
        };
        let passes = transcripts.chunks(self.parts.case.batch);
        let tokens = passes.clone().map(written).sum::<usize>() / passes.len().max(1);
        let mut errors = None;
        let info = self.parts.info;
        let text = info.spoken.as_ref().and_then(|spoken| spoken.text.as_ref());
        if let (Some(expected), Some(tokenizer)) = (text, &info.tokenizer) {
            let texts: Vec<u32> = transcripts.into_iter().flat_map(|text| text.tokens).collect();
            let found = tokenizer.decode(&texts).map_err(WorkloadError::failed)?;
            errors = Some(text_errors(expected, &found));
        }
        Ok(Written { tokens, errors })
    }

    /// One iteration.
    fn pass(&mut self) -> Result<Vec<Transcript>, NetError> {
        let Self { net, parts, clips, times, .. } = self;
        let plan = parts.info.plan(parts.case);
        let mut transcripts = Vec::with_capacity(clips.len());
        for clips in clips.chunks(parts.case.batch) {
            let mut watch = Stopwatch::start();
            let samples: Vec<Vec<f32>> = clips.iter().map(|(_, samples)| samples.clone()).collect();
            let cross = net.cross(&net.encode(&parts.mels(&samples)?)?)?;
            let mut name = "time_to_first_token_s";
            let mut written = || {
                times.entry(name.to_owned()).or_default().push(watch.elapsed().0);
                name = "time_between_tokens_s";
                watch = Stopwatch::start();
            };
            let prompt = &parts.info.inputs.prompt;
            transcripts.extend(transcribe(net, &cross, prompt, plan, &mut written)?);
        }
        Ok(transcripts)
    }
}

impl Program for Transcribe<'_> {
    fn notes(&self) -> Notes {
        let Parts { info, case, .. } = self.parts;
        let whole = info.transcription(case, self.written.tokens);
        let mut notes = self.parts.notes(whole, "");
        let tokens = whole.tokens * case.batch.min(whole.windows.max(1));
        notes.fields.push(("tokens", tokens.into()));
        if !info.is_real {
            notes.caveats.push(format!(
                "random weights never end a text: {} tokens were written for each window of audio",
                self.written.tokens
            ));
        }
        let has_text = info.spoken.as_ref().is_some_and(|spoken| spoken.text.is_some());
        notes.caveats.extend(match &self.written.errors {
            Some(errors) => Some(errors.to_string()),
            None if !has_text => None,
            None if info.is_real => Some(
                "no error rate of the text: the weights have no tokenizer beside them".to_owned(),
            ),
            None => Some("no error rate of the text: random weights understand nothing".to_owned()),
        });
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.times.clear();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.pass().map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let transcripts = self.pass().map_err(workload_error)?;
        check_transcripts(&self.parts, Dialect::Published, &self.clips, &transcripts)
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        self.times.clone()
    }
}

/// Holds what transcripts say of themselves against the reference.
pub(super) fn check_transcripts(
    parts: &Parts<'_>,
    dialect: Dialect,
    clips: &[(Clip, Vec<f32>)],
    transcripts: &[Transcript],
) -> Result<Comparison, WorkloadError> {
    if clips.is_empty() || clips.len() != transcripts.len() {
        let reason = format!("{} transcripts of {} clips", transcripts.len(), clips.len());
        return Err(WorkloadError::Failed(reason));
    }
    let (inputs, format) = (&parts.info.inputs, parts.bench.context.format);
    let (allowed, greedy) = (allowed(format), parts.case.beams == 1);
    // How far a transcript is off, and how far rounding moves the logits that it is held against.
    let error = |index: usize| -> Result<(f64, Option<f64>), NetError> {
        let (clip, samples) = &clips[index];
        let written = written(&transcripts[index], inputs.end);
        if written.is_empty() {
            return Ok((f64::NAN, None));
        }
        let tokens = [&inputs.prompt, &written[..written.len() - 1]].concat();
        let mels = parts.mels(std::slice::from_ref(samples))?.squeeze(0)?;
        let mut reference = parts.reference.borrow_mut();
        let mut of = |rounding| -> Result<_, NetError> {
            let encoded = reference.encoded((dialect, rounding), *clip, &mels)?;
            reference.logits((dialect, rounding), &encoded, &tokens, written.len())
        };
        let logits = of(Rounding::Exact)?;
        let plain = allowed.rounding().map(&mut of).transpose()?.map(|rounded| {
            let pairs = rounded.iter().zip(&logits);
            max_error(pairs.map(|(rounded, exact)| relative_error(rounded, exact)))
        });
        let said = transcripts[index].log_probability;
        Ok((transcript_error(&logits, &written, said, greedy), plain))
    };
    let found: Result<Vec<_>, _> = sampled(clips.len()).into_iter().map(error).collect();
    let (errors, plain): (Vec<f64>, Vec<Option<f64>>) =
        found.map_err(workload_error)?.into_iter().unzip();
    let what = format!(
        "log-probabilities{} of {} of {} transcripts, against their clips and texts recomputed in f32 \
         without a cache{}",
        if greedy { " and choices" } else { "" },
        sampled(clips.len()).len(),
        clips.len(),
        allowed.words(format)
    );
    let tolerance = allowed.tolerance(plain.into_iter().flatten());
    Ok(Comparison { what, errors, tolerance })
}
