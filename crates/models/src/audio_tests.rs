use super::*;

/// A WAV file of a 440 Hz tone: so many channels and bits of integer samples.
fn wav(rate: u32, channels: u16, bits: u16, frames: usize) -> Vec<u8> {
    let bytes = u32::from(bits / 8);
    let size = frames as u32 * u32::from(channels) * bytes;
    let mut file = Vec::with_capacity(44 + size as usize);
    file.extend(b"RIFF");
    file.extend((36 + size).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * bytes).to_le_bytes());
    file.extend((channels * bits / 8).to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(size.to_le_bytes());
    for frame in 0..frames {
        let angle = std::f64::consts::TAU * 440.0 * frame as f64 / f64::from(rate);
        for channel in 0..channels {
            // The second channel is silent, so that an average halves the tone.
            let value = if channel == 0 { 0.5 * angle.sin() } else { 0.0 };
            match bits {
                8 => file.push((value * 128.0 + 128.0).round() as u8),
                _ => file.extend(((value * 32767.0) as i16).to_le_bytes()),
            }
        }
    }
    file
}

fn read(name: &str, bytes: &[u8]) -> Result<Audio, AudioError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Audio::read(&path)
}

/// How far samples are from a 440 Hz tone of that height, ends left out.
fn off(samples: &[f32], height: f64) -> f64 {
    let at = |n: usize| height * (std::f64::consts::TAU * 440.0 * n as f64 / 16_000.0).sin();
    let inner = 400..samples.len() - 400;
    inner.map(|n| (f64::from(samples[n]) - at(n)).abs()).fold(0.0, f64::max)
}

#[test]
fn sixteen_bits_in_one_channel_at_16_khz_come_as_they_are() {
    let audio = read("a.wav", &wav(16_000, 1, 16, 8_000)).unwrap();
    assert_eq!((audio.samples.len(), audio.rate, audio.channels), (8_000, 16_000, 1));
    assert!(off(&audio.samples, 0.5) < 1e-4);
}

#[test]
fn stereo_is_averaged() {
    let audio = read("a.wav", &wav(16_000, 2, 16, 8_000)).unwrap();
    assert_eq!((audio.samples.len(), audio.channels), (8_000, 2));
    assert!(off(&audio.samples, 0.25) < 1e-4);
}

#[test]
fn eight_bits_are_read_to_their_precision() {
    let audio = read("a.wav", &wav(16_000, 1, 8, 8_000)).unwrap();
    assert!(off(&audio.samples, 0.5) < 0.01);
}

#[test]
fn ninety_six_kilohertz_become_sixteen() {
    let audio = read("a.wav", &wav(96_000, 2, 16, 48_000)).unwrap();
    assert_eq!((audio.samples.len(), audio.rate), (8_000, 96_000));
    assert!((audio.seconds() - 0.5).abs() < 1e-9);
    assert!(off(&audio.samples, 0.25) < 1e-3);
}

#[test]
fn an_hour_is_read_whole_and_half_a_day_is_refused() {
    // Silence behind a second: a tone of an hour would take the test as long to make.
    let mut hour = wav(16_000, 1, 8, 16_000);
    let size = 3600 * 16_000u32;
    hour[40..44].copy_from_slice(&size.to_le_bytes());
    hour[4..8].copy_from_slice(&(36 + size).to_le_bytes());
    hour.resize(44 + size as usize, 128);
    let audio = read("a.wav", &hour).unwrap();
    assert!((audio.seconds() - 3600.0).abs() < 1e-3);
    let error = read("a.wav", &wav(100, 1, 8, 12 * 360_000)).unwrap_err();
    assert!(matches!(error, AudioError::TooLong { .. }), "{error}");
}

/// Two fifths of a second of the same tone at 22.05 kHz, made by `flac` 1.4 and `lame` 3.100.
#[test]
fn flac_and_mp3_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio");
    let flac = Audio::read(&folder.join("tone.flac")).unwrap();
    assert_eq!((flac.samples.len(), flac.rate), (6_400, 22_050));
    assert!(off(&flac.samples, 0.5) < 1e-3);
    let mp3 = Audio::read(&folder.join("tone.mp3")).unwrap();
    // Lossy; what it must have is the tone's strength at its frequency.
    let strength = |samples: &[f32], frequency: f64| {
        let angle = |n: usize| std::f64::consts::TAU * frequency * n as f64 / 16_000.0;
        let sum = |wave: fn(f64) -> f64| -> f64 {
            samples.iter().enumerate().map(|(n, s)| f64::from(*s) * wave(angle(n))).sum()
        };
        2.0 * sum(f64::sin).hypot(sum(f64::cos)) / samples.len() as f64
    };
    assert!(mp3.samples.len().abs_diff(6_400) < 2_000, "{}", mp3.samples.len());
    let middle = &mp3.samples[1_200..4_800];
    assert!((strength(middle, 440.0) - 0.5).abs() < 0.03, "{}", strength(middle, 440.0));
    assert!(strength(middle, 1000.0) < 0.02);
}

#[test]
fn what_is_not_audio_is_refused_with_what_would_be() {
    let error = read("a.wav", b"# a text file, for all its name says\n").unwrap_err();
    assert!(matches!(error, AudioError::NotAudio { .. }), "{error}");
    assert!(error.to_string().contains("give a WAV, FLAC or MP3"), "{error}");
    let random: Vec<u8> =
        (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(read("a.mp3", &random).is_err());
}

#[test]
fn an_empty_file_and_one_without_samples_are_called_empty() {
    assert!(matches!(read("a.wav", b"").unwrap_err(), AudioError::Empty { .. }));
    let error = read("a.wav", &wav(16_000, 1, 16, 0)).unwrap_err();
    assert!(error.to_string().contains("no samples"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Audio::read(Path::new("/nowhere/a.wav")).unwrap_err();
    assert!(
        matches!(error, AudioError::Read { .. }) && error.to_string().contains("/nowhere/a.wav")
    );
}
