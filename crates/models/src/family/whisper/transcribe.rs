//! The whole, from samples to text, on our own net.

use std::collections::BTreeMap;
use std::rc::Rc;

use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Stopwatch, Workload, WorkloadError};
use warpmark_record::{Check, Memory};

use super::check::{Clip, sampled, tolerance, transcript_error};
use super::session::Bench;
use super::words::{TextErrors, text_errors};
use crate::family::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::reference::whisper::Dialect;
use warpmark_nets::whisper::Whisper;
use warpmark_nets::whisper::beam::{Transcript, transcribe};
use warpmark_record::agreement::worst;

/// From samples to the tokens of every window of the audio, each token on the host as soon as
/// it is chosen.
pub(super) struct Transcribe<'a> {
    net: &'a Whisper,
    bench: Bench<'a>,
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
    pub(super) fn new(net: &'a Whisper, bench: Bench<'a>) -> Result<Self, WorkloadError> {
        let clips = bench.fed(|bench| Ok(bench.about.clips(bench.case))).map_err(workload_error)?;
        let tokens = bench.about.plan(bench.case).tokens;
        let written = Rc::new(Written { tokens, errors: None });
        let mut workload = Self { net, bench, clips, times: BTreeMap::new(), written };
        if workload.bench.about.is_real() {
            let id = workload.bench.id.clone();
            workload.written = workload.bench.kept.or_make(&id, || workload.listen())?;
        }
        Ok(workload)
    }

    /// Transcribes once, to know how long the texts are that these weights write, and how right.
    fn listen(&mut self) -> Result<Written, WorkloadError> {
        let transcripts = self.pass().map_err(workload_error)?;
        let written = |part: &[Transcript]| {
            part.iter().map(|text| text.tokens.len() + usize::from(text.ended)).max().unwrap_or(0)
        };
        let passes = transcripts.chunks(self.bench.case.batch);
        let tokens = passes.clone().map(written).sum::<usize>() / passes.len().max(1);
        let mut errors = None;
        let about = self.bench.about;
        let text = about.spoken.as_ref().and_then(|spoken| spoken.text.as_ref());
        if let (Some(expected), Some(tokenizer)) = (text, &about.tokenizer) {
            let texts: Vec<u32> = transcripts.into_iter().flat_map(|text| text.tokens).collect();
            let found = tokenizer.decode(&texts).map_err(WorkloadError::failed)?;
            errors = Some(text_errors(expected, &found));
        }
        Ok(Written { tokens, errors })
    }

    /// One iteration.
    fn pass(&mut self) -> Result<Vec<Transcript>, NetError> {
        let Self { net, bench, clips, times, .. } = self;
        let plan = bench.about.plan(bench.case);
        let mut transcripts = Vec::with_capacity(clips.len());
        for clips in clips.chunks(bench.case.batch) {
            let mut watch = Stopwatch::start();
            let samples: Vec<Vec<f32>> = clips.iter().map(|(_, samples)| samples.clone()).collect();
            let cross = net.cross(&net.encode(&bench.mels(&samples)?)?)?;
            let mut name = "time_to_first_token_s";
            let mut written = || {
                times.entry(name.to_owned()).or_default().push(watch.elapsed().0);
                name = "time_between_tokens_s";
                watch = Stopwatch::start();
            };
            let prompt = &bench.about.inputs.prompt;
            transcripts.extend(transcribe(net, &cross, prompt, plan, &mut written)?);
        }
        Ok(transcripts)
    }
}

impl Workload for Transcribe<'_> {
    fn describe(&self) -> Description {
        let about = self.bench.about;
        let whole = about.transcription(self.bench.case, self.written.tokens);
        let mut description = self.bench.describe(whole, "");
        let tokens = whole.tokens * self.bench.case.batch.min(whole.windows.max(1));
        description.parameters.insert("tokens".to_owned(), tokens.into());
        if !about.is_real() {
            description.caveats.push(format!(
                "random weights never end a text: {} tokens were written for each window of audio",
                self.written.tokens
            ));
        }
        let has_text = about.spoken.as_ref().is_some_and(|spoken| spoken.text.is_some());
        description.caveats.extend(match &self.written.errors {
            Some(errors) => Some(errors.to_string()),
            None if !has_text => None,
            None if about.is_real() => Some(
                "no error rate of the text: the weights have no tokenizer beside them".to_owned(),
            ),
            None => Some("no error rate of the text: random weights understand nothing".to_owned()),
        });
        description
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        self.times.clear();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.pass().map(drop).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let transcripts = self.pass().map_err(workload_error)?;
        check_transcripts(&mut self.bench, Dialect::Published, &self.clips, &transcripts)
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        self.times.clone()
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

/// Holds what transcripts say of themselves against the reference.
pub(super) fn check_transcripts(
    bench: &mut Bench<'_>,
    dialect: Dialect,
    clips: &[(Clip, Vec<f32>)],
    transcripts: &[Transcript],
) -> Result<Check, WorkloadError> {
    if clips.is_empty() || clips.len() != transcripts.len() {
        let reason = format!("{} transcripts of {} clips", transcripts.len(), clips.len());
        return Err(WorkloadError::Failed(reason));
    }
    let inputs = &bench.about.inputs;
    let rule = (bench.case.beams == 1, inputs.end);
    let mut error = |index: usize| -> Result<f64, NetError> {
        let (clip, samples) = &clips[index];
        let mels = bench.mels(std::slice::from_ref(samples))?.squeeze(0)?;
        let encoded = bench.known.encoded(dialect, *clip, &mels)?;
        let transcript = &transcripts[index];
        transcript_error(bench.known, dialect, &encoded, &inputs.prompt, transcript, rule)
    };
    let errors: Result<Vec<f64>, _> = sampled(clips.len()).into_iter().map(&mut error).collect();
    let what = format!(
        "log-probabilities{} of {} of {} transcripts, against their clips and texts recomputed in f32 \
         without a cache",
        if rule.0 { " and choices" } else { "" },
        sampled(clips.len()).len(),
        clips.len()
    );
    checked(what, worst(errors.map_err(workload_error)?), tolerance(bench.about.dtype))
}
