//! What decoded samples go through: averaged over channels, cut where the file says that an encoder has
//! filled up, and brought to the models' rate as they come, so that no file's own rate decides how much is
//! kept.

use std::path::Path;

use symphonia::core::audio::GenericAudioBufferRef;

use crate::resample::Resampler;
use crate::{Audio, AudioError, LONGEST, RATE, RATES};

/// No sample is larger: full scale is 1, and files of integers that were written as floats go up to
/// 2³¹. Sums of much larger ones leave the range of f32.
const LOUDEST: f32 = 1e12;

/// What a file says of its length, in its own frames.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stated {
    /// All frames, those of delay and padding included.
    pub(super) frames: Option<u64>,
    /// How many fewer there may be without a word.
    pub(super) rounding: u64,
    /// Frames before the first that was recorded.
    pub(super) delay: u64,
    /// Frames after the last that was recorded.
    pub(super) padding: u64,
}

/// Audio on its way in.
pub(super) struct Intake<'a> {
    path: &'a Path,
    rate: u32,
    channels: usize,
    stated: Stated,
    /// Frames that were decoded.
    frames: u64,
    /// A packet's samples, all channels, and their average.
    interleaved: Vec<f32>,
    /// Frames that may turn out to be padding, and those that came with them.
    held: Vec<f32>,
    resampler: Option<Resampler>,
    samples: Vec<f32>,
    warning: Option<String>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self {
            path,
            rate: 0,
            channels: 0,
            stated: Stated::default(),
            frames: 0,
            interleaved: Vec::new(),
            held: Vec::new(),
            resampler: None,
            samples: Vec::new(),
            warning: None,
        }
    }

    /// Hears what the file says of itself before it is decoded; `held` are frames that it is known to hold.
    pub(super) fn announce(
        &mut self,
        rate: Option<u32>,
        stated: Stated,
        held: Option<u64>,
    ) -> Result<(), AudioError> {
        self.stated = stated;
        let Some(rate) = rate else { return Ok(()) };
        self.check(rate)?;
        match held {
            Some(frames) if frames as f64 / f64::from(rate) > LONGEST => Err(self.too_long()),
            _ => Ok(()),
        }
    }

    /// Has the rows say this of the file.
    pub(super) fn warning(&mut self, warning: String) {
        self.warning.get_or_insert(warning);
    }

    /// Whether nothing was decoded yet.
    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Adds a packet's samples.
    pub(super) fn push(&mut self, buffer: &GenericAudioBufferRef<'_>) -> Result<(), AudioError> {
        let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count().max(1));
        if self.resampler.is_none() {
            self.check(rate)?;
            (self.rate, self.channels) = (rate, channels);
            let resampler = Resampler::new(rate, RATE).map_err(|reason| self.unfit(reason))?;
            self.resampler = Some(resampler);
        }
        if (self.rate, self.channels) != (rate, channels) {
            return Err(self.damaged(format!(
                "{} Hz in {} channels become {rate} Hz in {channels}",
                self.rate, self.channels
            )));
        }
        self.interleaved.resize(buffer.samples_interleaved(), 0.0);
        buffer.copy_to_slice_interleaved(&mut self.interleaved);
        let is_sound = |sample: &f32| sample.abs() <= LOUDEST;
        if let Some(sample) = self.interleaved.iter().find(|sample| !is_sound(sample)) {
            let what = if sample.is_finite() { "beyond any loudness" } else { "not a number" };
            return Err(self.damaged(format!("a sample is {what}")));
        }
        let frames = self.interleaved.len() / channels;
        let early = self.stated.delay.saturating_sub(self.frames).min(frames as u64) as usize;
        self.frames += frames as u64;
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        self.held.extend(self.interleaved.chunks_exact(channels).skip(early).map(mean));
        let sure = self.held.len().saturating_sub(self.stated.padding as usize);
        self.resample(sure)?;
        if self.seconds() > LONGEST {
            return Err(self.too_long());
        }
        Ok(())
    }

    /// The audio, when all of it is decoded.
    pub(super) fn finish(mut self) -> Result<Audio, AudioError> {
        // Padding is where the file says so only if it is as long as it says: of several files in a row, or
        // with a wrong tag, everything counts.
        let padded = self.stated.frames == Some(self.frames);
        let padding = if padded { self.stated.padding as usize } else { 0 };
        self.resample(self.held.len().saturating_sub(padding))?;
        let (rate, path) = (self.rate, self.path);
        if let Some(resampler) = self.resampler.take() {
            resampler.finish(&mut self.samples).map_err(|reason| self.unfit(reason))?;
        }
        if self.samples.is_empty() {
            return Err(self.empty());
        }
        if let Some(stated) = self.stated.frames
            && stated > self.frames + self.stated.rounding
        {
            let (stated, held) = (stated as f64 / f64::from(rate), self.seconds());
            self.warning(format!(
                "its header says {stated:.2} s and it holds {held:.2} s: it was cut off, or its header is wrong"
            ));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Self { samples, channels, warning, .. } = self;
        let warning = warning.map(|warning| format!("of the audio {name}, {warning}"));
        Ok(Audio { name, samples, rate, channels, warning })
    }

    pub(super) fn damaged(&self, reason: String) -> AudioError {
        AudioError::Damaged { path: self.path.to_owned(), seconds: self.seconds(), reason }
    }

    pub(super) fn empty(&self) -> AudioError {
        AudioError::Empty { path: self.path.to_owned() }
    }

    fn too_long(&self) -> AudioError {
        AudioError::TooLong { path: self.path.to_owned() }
    }

    fn unfit(&self, reason: String) -> AudioError {
        AudioError::Resample { path: self.path.to_owned(), rate: self.rate, reason }
    }

    fn check(&self, rate: u32) -> Result<(), AudioError> {
        if RATES.contains(&rate) {
            Ok(())
        } else {
            Err(AudioError::Rate { path: self.path.to_owned(), rate })
        }
    }

    /// Passes the first of the held frames on.
    fn resample(&mut self, count: usize) -> Result<(), AudioError> {
        let Self { resampler: Some(resampler), held, samples, .. } = self else { return Ok(()) };
        let pushed = resampler.push(&held[..count], samples);
        held.drain(..count);
        pushed.map_err(|reason| self.unfit(reason))
    }

    /// What was decoded, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.rate.max(1))
    }
}
