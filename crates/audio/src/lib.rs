//! Audio as the speech models read it: one channel of 16,000 samples a second, from a WAV, FLAC or MP3
//! file, or made up.

mod decode;
mod intake;
mod resample;
mod speech;
mod wave;
pub mod words;

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use warpmark_measure::contained;

use intake::Intake;

pub use speech::speech;

/// Samples a second.
pub const RATE: u32 = 16_000;

/// The longest file that is read, in seconds: as 16 kHz samples it takes 1.4 GB.
const LONGEST: f64 = 6.0 * 3600.0;

/// Sampling rates that are read. The lowest is an eighth of a telephone's, below which nothing is speech;
/// the highest is that of the fastest converters. What is beyond is a damaged header.
const RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Audio of a file.
#[derive(Debug, Clone)]
pub struct Audio {
    /// The file's name, without the path to it.
    pub name: String,
    /// Its samples, -1 to 1, [`RATE`] a second; several channels are averaged.
    pub samples: Vec<f32>,
    /// Samples a second in the file.
    pub rate: u32,
    /// Channels in the file.
    pub channels: usize,
    /// Why it may not be all that was recorded, if there is a reason to think so.
    pub warning: Option<String>,
}

/// Why audio could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file cannot be opened or read.
    #[error("cannot read the audio {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device.
    #[error(
        "{} is no regular file, and audio is read more than once; write it into a file and give that", path.display()
    )]
    NotFile {
        /// The path.
        path: PathBuf,
    },
    /// No container or codec that is known.
    #[error(
        "{} is no audio that can be read ({reason}); give a WAV, FLAC or MP3 file", path.display()
    )]
    NotAudio {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The file begins as audio and is damaged.
    #[error(
        "{} is damaged after {seconds:.1} s ({reason}); encode it again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far it could be read.
        seconds: f64,
        /// What the reader said.
        reason: String,
    },
    /// A sampling rate that no recording has.
    #[error(
        "{} states a sampling rate of {rate} Hz, and {} to {} Hz can be read; its header is damaged, or it is no \
         recording", path.display(), RATES.start(), RATES.end()
    )]
    Rate {
        /// The file.
        path: PathBuf,
        /// The rate.
        rate: u32,
    },
    /// The file cannot be brought to the rate of the models.
    #[error("{} cannot be brought from {rate} Hz to {RATE} Hz: {reason}", path.display())]
    Resample {
        /// The file.
        path: PathBuf,
        /// The file's rate.
        rate: u32,
        /// What the resampler said.
        reason: String,
    },
    /// The file holds no samples.
    #[error("{} holds no audio: it has no samples", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Longer than can be kept in memory for a benchmark.
    #[error(
        "{} is longer than {:.0} hours; cut it into parts", path.display(), LONGEST / 3600.0
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Audio {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Self, AudioError> {
        let read = |source| AudioError::Read { path: path.to_owned(), source };
        // Before it is opened: opening a pipe waits for who writes to it.
        let metadata = path.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(AudioError::NotFile { path: path.to_owned() });
        }
        let mut intake = Intake::new(path);
        if metadata.len() == 0 {
            return Err(intake.empty());
        }
        let file = File::open(path).map_err(read)?;
        contained(|| decode::decode(path, file, metadata.len(), &mut intake))
            .unwrap_or_else(|panic| Err(intake.damaged(panic.to_string())))?;
        let seconds = intake.seconds();
        contained(|| intake.finish()).unwrap_or_else(|panic| {
            Err(AudioError::Damaged { path: path.to_owned(), seconds, reason: panic.to_string() })
        })
    }

    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(RATE)
    }
}

#[cfg(test)]
mod tests;
