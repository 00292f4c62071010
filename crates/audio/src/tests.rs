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

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
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

/// A second of a tone and silence after it: a tone of hours would take the test as long to make.
fn mostly_silent(rate: u32, seconds: u32) -> Vec<u8> {
    let mut file = wav(rate, 1, 8, rate as usize);
    let size = seconds * rate;
    file[40..44].copy_from_slice(&size.to_le_bytes());
    file[4..8].copy_from_slice(&(36 + size).to_le_bytes());
    file.resize(44 + size as usize, 128);
    file
}

#[test]
fn a_quarter_of_an_hour_is_read_whole_and_half_a_day_is_refused() {
    let audio = read("a.wav", &mostly_silent(16_000, 900)).unwrap();
    assert!((audio.seconds() - 900.0).abs() < 1e-3);
    let error = read("a.wav", &mostly_silent(1_000, 12 * 3600)).unwrap_err();
    assert!(matches!(error, AudioError::TooLong { .. }), "{error}");
}

/// Two fifths of a second of the same tone at 22.05 kHz, made by `flac` 1.4 and `lame` 3.100.
#[test]
fn flac_and_mp3_are_read() {
    let flac = Audio::read(&fixtures().join("tone.flac")).unwrap();
    assert_eq!((flac.samples.len(), flac.rate), (6_400, 22_050));
    assert!(off(&flac.samples, 0.5) < 1e-3);
    let mp3 = Audio::read(&fixtures().join("tone.mp3")).unwrap();
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

/// Half a second of a 440 Hz tone with other sizes of the RIFF and the data chunk.
fn sized(riff: u32, data: u32) -> Vec<u8> {
    let mut file = wav(16_000, 1, 16, 8_000);
    file[4..8].copy_from_slice(&riff.to_le_bytes());
    file[40..44].copy_from_slice(&data.to_le_bytes());
    file
}

#[test]
fn a_wav_whose_writer_could_not_know_its_size_is_read_to_its_end() {
    for (riff, data) in [
        (u32::MAX, u32::MAX),
        (0x7fff_ffff, 0x7fff_ffdb),
        (0x8000_0024, 0x8000_0000),
        (0x7fff_f024, 0x7fff_f000),
        (u32::MAX, u32::MAX - 36),
        (0, 0),
        (36, 0),
        // The samples fit the file, if not the size around them.
        (36 + 16_000 - 8, 16_000),
        (0, 16_000),
    ] {
        let audio = read("a.wav", &sized(riff, data)).unwrap();
        assert_eq!(audio.samples.len(), 8_000, "{riff:#x} {data:#x}");
        assert!(off(&audio.samples, 0.5) < 1e-4);
        assert_eq!(audio.warning, None, "{riff:#x} {data:#x}");
    }
}

#[test]
fn a_wav_that_was_cut_off_is_read_with_a_warning() {
    let audio = read("a.wav", &sized(36 + 32_000, 32_000)).unwrap();
    assert_eq!(audio.samples.len(), 8_000);
    let warning = audio.warning.unwrap();
    assert!(warning.contains("a.wav, its header says 1.00 s and it holds 0.50 s"), "{warning}");
}

#[test]
fn chunks_around_the_samples_are_passed_over_and_what_is_no_chunk_is_said() {
    let plain = wav(16_000, 1, 16, 8_000);
    let list = b"LIST\x05\0\0\0INFO!\0";
    let mut file = plain[..36].to_vec();
    file.extend(list);
    file.extend(&plain[36..]);
    file.extend(list);
    let audio = read("a.wav", &file).unwrap();
    assert_eq!((audio.samples.len(), audio.warning), (8_000, None));
    file.extend([0; 1000]);
    let audio = read("a.wav", &file).unwrap();
    assert_eq!(audio.samples.len(), 8_000);
    assert!(audio.warning.unwrap().contains("1000 bytes after its samples"));
    // A data chunk of nothing before another chunk holds nothing.
    let mut file = wav(16_000, 1, 16, 0);
    file.extend(list);
    assert!(matches!(read("a.wav", &file).unwrap_err(), AudioError::Empty { .. }));
}

#[test]
fn a_wav_with_another_behind_it_is_refused() {
    let error = read("a.wav", &wav(16_000, 1, 16, 8_000).repeat(2)).unwrap_err();
    assert!(error.to_string().contains("another WAV file follows"), "{error}");
}

/// EBU Tech 3306: sizes of 64 bits in a chunk of their own.
#[test]
fn rf64_and_bw64_are_read() {
    let plain = sized(u32::MAX, u32::MAX);
    for (name, samples, warning) in [
        (b"RF64", 16_000u64, false),
        (b"BW64", 16_000, false),
        (b"RF64", 0, false),
        (b"RF64", u64::MAX, false),
        (b"RF64", 1 << 40, true),
    ] {
        let mut file = name.to_vec();
        file.extend(&plain[4..12]);
        file.extend(b"ds64");
        file.extend(28u32.to_le_bytes());
        file.extend((samples.saturating_add(72)).to_le_bytes());
        file.extend(samples.to_le_bytes());
        file.extend(8_000u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        file.extend(&plain[12..]);
        let audio = read("a.wav", &file).unwrap();
        assert_eq!(audio.samples.len(), 8_000, "{samples}");
        assert_eq!(audio.warning.is_some(), warning, "{:?}", audio.warning);
    }
}

#[test]
fn a_rate_that_no_recording_has_is_refused() {
    for rate in [0, 1, 3, 999, 768_001, 1_000_003, 10_000_019, u32::MAX - 4] {
        let mut file = wav(16_000, 1, 16, 1_600);
        file[24..28].copy_from_slice(&rate.to_le_bytes());
        let error = read("a.wav", &file).unwrap_err();
        assert!(matches!(error, AudioError::Rate { rate: r, .. } if r == rate), "{rate}: {error}");
        assert!(error.to_string().contains("1000 to 768000 Hz"), "{error}");
    }
    for rate in [1_000, 44_101, 768_000] {
        let audio = read("a.wav", &wav(rate, 1, 16, 1_600)).unwrap();
        let due = (1_600u64 * 16_000).div_ceil(u64::from(rate));
        assert_eq!(audio.samples.len() as u64, due, "{rate} Hz");
    }
}

/// A WAV file of 4,000 silent samples that are 32-bit floats.
fn floats(rate: u32) -> Vec<u8> {
    let mut file = wav(rate, 1, 16, 8_000);
    file[20..22].copy_from_slice(&3u16.to_le_bytes());
    file[32..34].copy_from_slice(&4u16.to_le_bytes());
    file[34..36].copy_from_slice(&32u16.to_le_bytes());
    file[44..].fill(0);
    file
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    let mut file = floats(16_000);
    assert_eq!(read("a.wav", &file).unwrap().samples.len(), 4_000);
    file[5_000..5_004].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = read("a.wav", &file).unwrap_err();
    assert!(error.to_string().contains("a sample is not a number"), "{error}");
}

#[test]
fn samples_whose_sums_leave_the_range_of_floats_are_refused_and_loud_ones_are_not() {
    // Brought to another rate, by sums over many samples.
    let mut file = floats(44_100);
    let mut with = |sample: f32| {
        for at in [5_000, 5_400, 5_800] {
            file[at..at + 4].copy_from_slice(&sample.to_le_bytes());
        }
        read("a.wav", &file)
    };
    for sample in [f32::MAX, f32::MIN, 1e30] {
        let error = with(sample).unwrap_err();
        assert!(error.to_string().contains("a sample is beyond any loudness"), "{error}");
    }
    // Integers of 32 bits that were written as floats.
    assert!(with(2_147_483_648.0).unwrap().samples.iter().all(|sample| sample.is_finite()));
}

#[test]
fn a_folder_or_a_pipe_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.wav");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in [folder.path(), &pipe] {
        let error = Audio::read(path).unwrap_err();
        assert!(matches!(error, AudioError::NotFile { .. }), "{error}");
    }
}

/// The frames of an MP3 without the first, which is its tag.
fn untagged(mp3: &[u8]) -> Vec<u8> {
    let sync = &mp3[..2];
    let next = mp3.windows(2).skip(100).position(|bytes| bytes == sync).unwrap() + 100;
    mp3[next..].to_vec()
}

/// What each frame of `tone.mp3` is: 576 samples of 22,050 a second.
fn frames(audio: &Audio) -> f64 {
    audio.seconds() * 22_050.0 / 576.0
}

#[test]
fn an_mp3_is_read_whole_with_a_wrong_tag_or_none_and_several_in_a_row() {
    let tagged = fixture("tone.mp3");
    let plain = read("a.mp3", &tagged).unwrap();
    assert!((plain.seconds() - 0.4).abs() < 1e-3, "{}", plain.seconds());
    // Without a tag nobody knows what is delay and padding.
    let whole = read("a.mp3", &untagged(&tagged)).unwrap();
    assert!((17.0..20.0).contains(&frames(&whole)), "{}", frames(&whole));
    assert_eq!(whole.warning, None);
    // Of three in a row, the first one's delay is left out.
    let three = read("a.mp3", &tagged.repeat(3)).unwrap();
    assert!((frames(&three) - 3.0 * frames(&whole)).abs() < 2.5, "{}", frames(&three));
    // A tag that counts a third of the frames, or none of them.
    let at = tagged.windows(4).position(|name| name == b"Info" || name == b"Xing").unwrap() + 8;
    for count in [0u32, 6] {
        let mut wrong = tagged.clone();
        wrong[at..at + 4].copy_from_slice(&count.to_be_bytes());
        let audio = read("a.mp3", &wrong).unwrap();
        assert!(audio.seconds() >= plain.seconds(), "{count}: {}", audio.seconds());
    }
}

/// Loud noise and then silence in variable bit rate: as many bytes a second as the first frames have would
/// make it half as long. By `scripts/fixtures/audio`.
#[test]
fn an_mp3_without_a_tag_is_not_held_to_its_first_bit_rate() {
    let audio = read("a.mp3", &fixture("untagged.mp3")).unwrap();
    assert!((audio.seconds() - 3.1).abs() < 0.1, "{}", audio.seconds());
}

#[test]
fn an_mp3_or_flac_that_was_cut_off_is_not_taken_for_whole() {
    let mp3 = fixture("tone.mp3");
    let audio = read("a.mp3", &mp3[..mp3.len() / 2]).unwrap();
    assert!(audio.warning.as_ref().unwrap().contains("it holds 0.2"), "{:?}", audio.warning);
    let flac = fixture("tone.flac");
    let error = read("a.flac", &flac[..flac.len() * 3 / 4]).unwrap_err();
    assert!(matches!(error, AudioError::Damaged { .. }), "{error}");
}

#[test]
fn a_flac_is_read_whole_with_a_wrong_length_or_none_and_several_in_a_row_are_refused() {
    let plain = fixture("tone.flac");
    // The last 36 bits of STREAMINFO before its digest are the number of frames.
    for count in [0u8, 1] {
        let mut wrong = plain.clone();
        wrong[21] &= 0xf0;
        wrong[22..26].copy_from_slice(&[0, 0, count, 0]);
        let audio = read("a.flac", &wrong).unwrap();
        assert_eq!((audio.samples.len(), audio.warning), (6_400, None), "{count}");
    }
    let error = read("a.flac", &plain.repeat(2)).unwrap_err();
    assert!(
        error.to_string().contains("damaged after 0.4 s (what follows is of another"),
        "{error}"
    );
}
