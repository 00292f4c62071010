//! A file's packets, from the first to the last.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{
    MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource,
};
use symphonia::core::meta::MetadataOptions;

use crate::AudioError;
use crate::intake::{Intake, Stated};
use crate::wave::{self, Wave};

/// Frames by which an MP3 may be shorter than its tag says: two packets, which the decoder may pass over at
/// the beginning.
const MP3_ROUNDING: u64 = 2 * 1152;

/// Decodes a file of so many bytes.
pub(super) fn decode(
    path: &Path,
    file: File,
    length: u64,
    intake: &mut Intake<'_>,
) -> Result<(), AudioError> {
    let not_audio = |reason: String| AudioError::NotAudio { path: path.to_owned(), reason };
    let read = |source| AudioError::Read { path: path.to_owned(), source };
    let wave = match wave::find(&file, length).map_err(read)? {
        Some(Err(reason)) => return Err(not_audio(reason.to_owned())),
        Some(Ok(wave)) => Some(wave),
        None => None,
    };
    let source: Box<dyn MediaSource> = match &wave {
        Some(wave) => Box::new(ReadOnlySource::new(wave.stream(file).map_err(read)?)),
        None => Box::new(file),
    };
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let format = symphonia::default::get_probe()
        .probe(&hint, stream, format, metadata)
        .map_err(|error| not_audio(error.to_string()))?;
    if let Some(unread) = wave.as_ref().map(|wave| wave.unread).filter(|unread| *unread > 1) {
        intake.warning(format!(
            "{unread} bytes after its samples are nothing known and were not read"
        ));
    }
    packets(format, wave.as_ref(), &not_audio, intake)
}

fn packets(
    mut format: Box<dyn FormatReader + '_>,
    wave: Option<&Wave>,
    not_audio: &dyn Fn(String) -> AudioError,
    intake: &mut Intake<'_>,
) -> Result<(), AudioError> {
    let track = format.default_track(TrackType::Audio);
    let track = track.ok_or_else(|| not_audio("it has no track of audio".to_owned()))?;
    let codec = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let codec = codec.ok_or_else(|| not_audio("its codec is not said".to_owned()))?;
    let mp3 = codec.codec == CODEC_ID_MP3;
    let stated = stated(track, mp3, wave);
    // Of a WAV file, the decoder was given the true size.
    let held = wave.and(track.num_frames);
    intake.announce(codec.sample_rate, stated, held)?;
    // The decoder would cut at the length that the demuxer states, which for an MP3 without a tag is a
    // guess from its first frames, and for several in a row that of the first.
    let options = AudioDecoderOptions::default().gapless(false);
    let mut codec = symphonia::default::get_codecs()
        .make_audio_decoder(codec, &options)
        .map_err(|error| not_audio(error.to_string()))?;
    let track = track.id;
    let open_ended = wave.is_some_and(Wave::is_open_ended);
    let mut due = None;
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == track => packet,
            Ok(Some(_)) => continue,
            Ok(None) => return Ok(()),
            Err(Error::IoError(error))
                if open_ended && error.kind() == ErrorKind::UnexpectedEof =>
            {
                return Ok(());
            }
            Err(error) => return Err(intake.damaged(error.to_string())),
        };
        // FLAC's packets are numbered, and its reader passes over those that it cannot read.
        if !mp3 && due.is_some_and(|due| due != Some(packet.pts)) {
            return Err(intake.damaged("what follows is of another place or file".to_owned()));
        }
        due = Some(packet.pts.checked_add(packet.block_dur()));
        match codec.decode(&packet) {
            Ok(buffer) => intake.push(&buffer)?,
            // An MP3's first frame may refer to those before it, which are not there.
            Err(Error::DecodeError(_)) if intake.is_empty() => {}
            Err(error) => return Err(intake.damaged(error.to_string())),
        }
    }
}

/// What a track says of its length and can be believed to mean.
fn stated(track: &Track, mp3: bool, wave: Option<&Wave>) -> Stated {
    let (delay, padding) = (track.delay.unwrap_or(0), track.padding.unwrap_or(0));
    let (delay, padding) = (u64::from(delay), u64::from(padding));
    let frames = track.num_frames.filter(|frames| *frames > 0);
    let frames = match wave {
        Some(wave) => wave.promised.or(frames),
        // Only the tag that has a delay has a count; without one the length is a guess from the bit rate.
        None if mp3 => frames.filter(|_| track.delay.is_some()),
        None => frames,
    };
    let frames = frames.map(|frames| frames.saturating_add(delay).saturating_add(padding));
    let rounding = if mp3 { MP3_ROUNDING } else { 0 };
    Stated { frames, rounding, delay, padding }
}
