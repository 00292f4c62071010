//! Audio as the speech models read it: one channel of 16,000 samples a second, from a WAV, FLAC or MP3
//! file, or made up.

mod resample;
mod speech;

use std::fs::File;
use std::path::{Path, PathBuf};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

pub use resample::resample;
pub use speech::speech;

/// Samples a second.
pub const RATE: u32 = 16_000;

/// The longest file that is read, in seconds: as 16 kHz samples it takes 1.4 GB.
const LONGEST: f64 = 6.0 * 3600.0;

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
        "{} is damaged behind {seconds:.1} s ({reason}); encode it again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far it could be read.
        seconds: f64,
        /// What the reader said.
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
        let file = File::open(path).map_err(read)?;
        let empty = || AudioError::Empty { path: path.to_owned() };
        if file.metadata().map_err(read)?.len() == 0 {
            return Err(empty());
        }
        let mut sound = Sound::default();
        decode(path, file, &mut sound)?;
        if sound.mono.is_empty() {
            return Err(empty());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Sound { mono, rate, channels } = sound;
        Ok(Self { name, samples: resample(mono, rate, RATE), rate, channels })
    }

    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(RATE)
    }
}

/// One channel at the file's own rate.
#[derive(Default)]
struct Sound {
    mono: Vec<f32>,
    rate: u32,
    channels: usize,
}

impl Sound {
    fn seconds(&self) -> f64 {
        self.mono.len() as f64 / f64::from(self.rate.max(1))
    }

    /// Adds a packet's samples, averaged over its channels; false where the stream has changed its rate.
    fn push(&mut self, buffer: &GenericAudioBufferRef<'_>, interleaved: &mut Vec<f32>) -> bool {
        let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
        if self.rate != 0 && self.rate != rate {
            return false;
        }
        (self.rate, self.channels) = (rate, channels);
        interleaved.resize(buffer.samples_interleaved(), 0.0);
        buffer.copy_to_slice_interleaved(&mut *interleaved);
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels.max(1) as f32;
        self.mono.extend(interleaved.chunks_exact(channels.max(1)).map(mean));
        true
    }
}

fn decode(path: &Path, file: File, sound: &mut Sound) -> Result<(), AudioError> {
    let not_audio = |reason: String| AudioError::NotAudio { path: path.to_owned(), reason };
    let stream = MediaSourceStream::new(Box::new(file), MediaSourceStreamOptions::default());
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, format, metadata)
        .map_err(|error| not_audio(error.to_string()))?;
    let track = format.default_track(TrackType::Audio);
    let track = track.ok_or_else(|| not_audio("it has no track of audio".to_owned()))?;
    let codec = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let codec = codec.ok_or_else(|| not_audio("its codec is not said".to_owned()))?;
    let mut codec = symphonia::default::get_codecs()
        .make_audio_decoder(codec, &AudioDecoderOptions::default())
        .map_err(|error| not_audio(error.to_string()))?;
    let track = track.id;
    let mut interleaved = Vec::new();
    loop {
        let damaged = |reason: String, sound: &Sound| AudioError::Damaged {
            path: path.to_owned(),
            seconds: sound.seconds(),
            reason,
        };
        let packet = match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == track => packet,
            Ok(Some(_)) => continue,
            Ok(None) => return Ok(()),
            Err(error) => return Err(damaged(error.to_string(), sound)),
        };
        match codec.decode(&packet) {
            Ok(buffer) if sound.push(&buffer, &mut interleaved) => {}
            Ok(_) => return Err(damaged("its sampling rate changes".to_owned(), sound)),
            // An MP3's first frame may refer to those before it, which are not there.
            Err(Error::DecodeError(_)) if sound.mono.is_empty() => {}
            Err(error) => return Err(damaged(error.to_string(), sound)),
        }
        if sound.seconds() > LONGEST {
            return Err(AudioError::TooLong { path: path.to_owned() });
        }
    }
}

#[cfg(test)]
#[path = "audio_tests.rs"]
mod tests;
