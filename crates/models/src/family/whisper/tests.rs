use std::collections::HashMap;

use candle_core::{DType, Tensor};
use warpmark_measure::{Entry, Session};
use warpmark_record::{ItemUnit, WeightsStamp};

use super::check::ReferenceCache;
use super::parts::ModelInfo;
use super::*;
use crate::audio::{Audio, AudioError};
use crate::bench::fixture;
use crate::entry::ModelEntry;
use crate::fixture::{normal, options};
use crate::options::InputAudio;
use crate::tokenizer::Tokenizer;
use warpmark_harness::ModelSession;
use warpmark_nets::whisper::mel::MelSpectrogram;

const TINY: Architecture = Architecture {
    mels: 12,
    audio_positions: 50,
    text_positions: 64,
    width: 32,
    heads: 4,
    encoder_layers: 2,
    decoder_layers: 2,
    vocabulary: 101,
};

const CASE: Case = Case {
    phase: Phase::Encode,
    engine: Engine::Own,
    batch: 3,
    length: Length::Seconds(1),
    context: 20,
    beams: 1,
};

fn inputs() -> Inputs {
    Inputs {
        seconds: vec![1],
        tokens_per_second: 12,
        prompt: vec![90, 3, 17],
        end: 100,
        contexts: vec![20],
        beams: vec![1, 5],
    }
}

/// Every phase of both engines.
fn all() -> Vec<Case> {
    let phase = |phase| Case { phase, ..CASE };
    let candle = |phase| Case { engine: Engine::Candle, batch: 1, phase, ..CASE };
    vec![
        phase(Phase::Mel),
        phase(Phase::Encode),
        phase(Phase::Decode),
        Case { batch: 11, ..phase(Phase::Decode) },
        phase(Phase::Transcribe),
        Case { beams: 5, ..phase(Phase::Transcribe) },
        Case { length: Length::File, batch: 2, ..phase(Phase::Transcribe) },
        candle(Phase::Encode),
        candle(Phase::Decode),
        candle(Phase::Transcribe),
    ]
}

fn tensors(dtype: DType) -> HashMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<usize>)| {
        let std = match init(&name, &TINY) {
            // Wider than the real one, so that every part of the net shows in the answers.
            Init::Normal { .. } => 0.2,
            Init::Ones | Init::Zeros => 0.05,
        };
        let mean = if init(&name, &TINY) == Init::Ones { 1.0f32 } else { 0.0 };
        let tensor = normal(&name, (mean, std), shape);
        (name, tensor.to_dtype(dtype).unwrap())
    };
    TINY.tensors().into_iter().map(fill).collect()
}

/// Three and a half windows.
fn spoken() -> InputAudio {
    let samples = crate::audio::speech(3, 0, 3.5);
    let audio =
        Audio { name: "talk.flac".to_owned(), samples, rate: 44_100, channels: 2, warning: None };
    InputAudio { audio: Ok(audio), text: None }
}

fn session(dtype: Dtype, damage: impl FnOnce(&mut HashMap<String, Tensor>)) -> ModelSession<Case> {
    session_on(dtype, damage, WeightsStamp::Synthetic { seed: 7 }, (spoken(), None))
}

fn session_on(
    dtype: Dtype,
    damage: impl FnOnce(&mut HashMap<String, Tensor>),
    stamp: WeightsStamp,
    (spoken, tokenizer): (InputAudio, Option<Tokenizer>),
) -> ModelSession<Case> {
    let right = tensors(dtype.candle());
    let mut wrong = right.clone();
    damage(&mut wrong);
    let context = fixture::context("tiny", dtype.into(), stamp);
    let info = ModelInfo {
        architecture: TINY,
        inputs: inputs(),
        mel: MelSpectrogram::new(TINY.mels),
        dtype,
        is_real: context.is_real(),
        spoken: Some(spoken.into()),
        tokenizer,
    };
    let reference = ReferenceCache::new(TINY, right).into();
    let engines = engines(wrong, Rc::new(Shared { info, reference })).unwrap();
    let cases = all().into_iter().map(|case| (case.parameters(dtype), case));
    fixture::on_cpu(engines, context, cases)
}

fn entry(case: Case, dtype: Dtype) -> Entry {
    fixture::entry(case.parameters(dtype).id("tiny").unwrap())
}

/// Negates one bias of the decoder's second block, or of the encoder's.
fn negate(side: &'static str) -> impl FnOnce(&mut HashMap<String, Tensor>) {
    move |tensors| {
        let name = format!("model.{side}.layers.1.self_attn.out_proj.weight");
        let weight = tensors.get_mut(&name).unwrap();
        *weight = weight.affine(-1.0, 0.0).unwrap();
    }
}

#[test]
fn a_sound_net_passes_its_checks_in_every_phase_before_and_after_launches() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut session = session(dtype, |_| ());
        for case in all() {
            if case.engine == Engine::Candle && dtype != Dtype::F32 {
                continue;
            }
            let mut workload = session.workload(&entry(case, dtype)).unwrap();
            workload.verify().unwrap();
            // Past the window of positions that steps cycle through, or once.
            let launches = if case.phase == Phase::Decode { 20 } else { 1 };
            workload.prepare(launches).unwrap();
            for _ in 0..launches {
                workload.launch().unwrap();
            }
            workload.wait().unwrap();
            let check = workload.verify().unwrap_or_else(|error| panic!("{case:?}: {error}"));
            assert!(check.worst_error > 0.0, "two ways of computing never agree to the last bit");
        }
    }
}

#[test]
fn a_wrong_encoder_fails_the_encoding_and_a_wrong_decoder_what_is_written() {
    let wrong = |result: Result<_, WorkloadError>| match result {
        Err(WorkloadError::WrongAnswer { .. }) => (),
        Err(error) => panic!("{error}"),
        Ok(check) => {
            let check: warpmark_record::Check = check;
            panic!("passed with {:e}", check.worst_error)
        }
    };
    for (side, phases) in [
        ("encoder", vec![Phase::Encode, Phase::Decode, Phase::Transcribe]),
        ("decoder", vec![Phase::Decode, Phase::Transcribe]),
    ] {
        let mut session = session(Dtype::F32, negate(side));
        for case in all().into_iter().filter(|case| phases.contains(&case.phase)) {
            wrong(session.workload(&entry(case, Dtype::F32)).unwrap().verify());
        }
    }
}

#[test]
fn passes_of_a_service_find_their_audio_heard() {
    for case in all().into_iter().filter(|case| case.engine == Engine::Own) {
        let entry = entry(case, Dtype::F32);
        for keeps in [true, false] {
            let mut session = session(Dtype::F32, |_| ());
            if keeps {
                session.keep_inputs();
            }
            session.workload(&entry).unwrap().verify().unwrap();
            // Audio that is made up from here on is other than the check knows.
            session.context.seed += 1;
            let again = session.workload(&entry).unwrap().verify();
            let made_up = case.phase != Phase::Mel && case.length != Length::File;
            let same = keeps || !made_up;
            assert_eq!(again.is_ok(), same, "{case:?}: {again:?}");
        }
    }
}

#[test]
fn tokens_have_their_times_and_a_row_says_that_random_weights_never_end() {
    let mut session = session(Dtype::F32, |_| ());
    let case = Case { phase: Phase::Transcribe, ..CASE };
    let mut workload = session.workload(&entry(case, Dtype::F32)).unwrap();
    workload.prepare(2).unwrap();
    workload.launch().unwrap();
    workload.launch().unwrap();
    let times = workload.distributions();
    assert_eq!(times["time_to_first_token_s"].len(), 2);
    assert_eq!(times["time_between_tokens_s"].len(), 2 * 11);
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "speech/tiny/transcribe/f32/b3/1s/greedy@warpmark");
    assert_eq!(row.parameters["tokens"], 36usize.into());
    let items = row.work.items.unwrap();
    assert!((items.count - 3.0).abs() < 1e-12 && items.unit == ItemUnit::AudioSecond);
    assert!(row.caveats[0].contains("12 tokens"), "{:?}", row.caveats);
    workload.prepare(1).unwrap();
    assert!(workload.distributions().is_empty());
}

#[test]
fn a_file_is_transcribed_window_by_window_and_only_its_own_seconds_count() {
    let mut session = session(Dtype::F32, |_| ());
    let case = Case { phase: Phase::Transcribe, length: Length::File, batch: 2, ..CASE };
    let mut workload = session.workload(&entry(case, Dtype::F32)).unwrap();
    workload.prepare(1).unwrap();
    workload.launch().unwrap();
    // Four windows, two at a time.
    assert_eq!(workload.distributions()["time_to_first_token_s"].len(), 2);
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "speech/tiny/transcribe/f32/b2/file/greedy@warpmark");
    assert!((row.work.items.unwrap().count - 3.5).abs() < 1e-12);
    let data = row.data.unwrap();
    assert!(data.contains("talk.flac") && data.contains("44100 Hz in 2 channels"), "{data}");
}

#[test]
fn weights_that_mean_something_may_end_a_text() {
    let folder = WeightsStamp::Folder { name: "mine".to_owned() };
    let mut session = session_on(Dtype::F32, |_| (), folder, (spoken(), None));
    let case = Case { phase: Phase::Transcribe, beams: 5, ..CASE };
    let mut workload = session.workload(&entry(case, Dtype::F32)).unwrap();
    workload.verify().unwrap();
    let row = workload.describe();
    assert!(row.caveats.is_empty(), "{:?}", row.caveats);
}

/// A tokenizer whose token `n` is the word `wn`.
fn tokenizer() -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let words: Vec<String> = (0..TINY.vocabulary).map(|n| format!("\"w{n}\": {n}")).collect();
    let text = format!(
        "{{\"version\": \"1.0\", \"added_tokens\": [], \"pre_tokenizer\": {{\"type\": \"Whitespace\"}}, \
         \"model\": {{\"type\": \"WordLevel\", \"unk_token\": \"w0\", \"vocab\": {{{}}}}}}}",
        words.join(", ")
    );
    std::fs::write(&path, text).unwrap();
    Tokenizer::open(&path, TINY.vocabulary).unwrap()
}

#[test]
fn with_weights_that_mean_something_and_a_text_a_row_has_its_word_error_rate() {
    let case = Case { phase: Phase::Transcribe, length: Length::File, batch: 2, ..CASE };
    let rate = |text: &str| {
        let stamp = WeightsStamp::Folder { name: "mine".to_owned() };
        let spoken = InputAudio { text: Some(text.to_owned()), ..spoken() };
        let heard = (spoken, Some(tokenizer()));
        let mut session = session_on(Dtype::F32, |_| (), stamp, heard);
        let caveats = session.workload(&entry(case, Dtype::F32)).unwrap().describe().caveats;
        caveats.into_iter().find(|caveat| caveat.contains("error rate")).unwrap()
    };
    // No token is such a word, so that each of these is wrong, and what is written beside them too many.
    let text = rate("Silence, and nothing else.");
    assert!(text.contains("beside 4 words of the reference text"), "{text}");
    assert!(text.starts_with("word error rate"), "{text}");
    assert!(!text.starts_with("word error rate 0.0 %"), "{text}");
    // Written without spaces, a text is rated by characters.
    let text = rate("一片寂静，别无其他。");
    assert!(text.starts_with("character error rate"), "{text}");
    assert!(text.contains("beside 8 characters of the reference text"), "{text}");
}

#[test]
fn a_doubt_of_the_audio_stands_on_the_rows_that_hear_it_alone() {
    let mut heard = spoken();
    heard.audio.as_mut().unwrap().warning = Some("it was cut off".to_owned());
    let made_up = WeightsStamp::Synthetic { seed: 7 };
    let mut session = session_on(Dtype::F32, |_| (), made_up, (heard, None));
    let mut warned = |case: Case| {
        let caveats = session.workload(&entry(case, Dtype::F32)).unwrap().describe().caveats;
        caveats.iter().any(|caveat| caveat == "it was cut off")
    };
    assert!(warned(Case { phase: Phase::Transcribe, length: Length::File, batch: 2, ..CASE }));
    assert!(!warned(Case { phase: Phase::Transcribe, ..CASE }));
}

#[test]
fn candles_rows_carry_its_name_and_what_it_does_not_do() {
    let mut session = session(Dtype::F32, |_| ());
    let case = Case { engine: Engine::Candle, phase: Phase::Decode, batch: 1, ..CASE };
    let workload = session.workload(&entry(case, Dtype::F32)).unwrap();
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "speech/tiny/decode/f32/b1/c20@candle");
    assert!(row.caveats.iter().any(|caveat| caveat.contains("no cache")));
}

/// The entry of a tiny model, with an architecture and inputs.
fn model(architecture: &str, inputs: &str) -> Result<Model, CatalogError> {
    let entry = ModelEntry::of("whisper")
        .with("phases", r#"["mel", "encode", "decode", "transcribe"]"#)
        .with("batches", "[1, 4, 8]")
        .table("architecture", architecture)
        .table("inputs", inputs)
        .table("suites.quick", r#"cpu = ["f32"]"#)
        .table("suites.full", r#"cpu = ["bf16", "f32"]"#);
    crate::Catalog::parse(&entry.to_string(), "test.toml")?.model("tiny").cloned()
}

const NUMBERS: &str = "mels = 12\naudio_positions = 50\ntext_positions = 64\nwidth = 32\nheads = 4\n\
                       encoder_layers = 2\ndecoder_layers = 2\nvocabulary = 101";
const INPUTS: &str = "seconds = [1]\ntokens_per_second = 12\nprompt = [90, 3]\nend = 100\n\
                      contexts = [20]\nbeams = [1, 5]";

fn ids(options: &RunOptions) -> Vec<String> {
    ids_of(&model(NUMBERS, INPUTS).unwrap(), options)
}

fn ids_of(model: &Model, options: &RunOptions) -> Vec<String> {
    let groups = WhisperFamily.groups(model, options).unwrap();
    let entries = groups.iter().flat_map(|planned| &planned.group.entries);
    entries.map(|entry| entry.id.to_string().replace("speech/tiny/", "")).collect()
}

#[test]
fn the_quick_suite_has_every_phase_once() {
    let found = ids(&options(false));
    let expected = [
        "mel/b1/1s@warpmark",
        "encode/f32/b1@warpmark",
        "decode/f32/b1/c20@warpmark",
        "decode/f32/b8/c20@warpmark",
        "transcribe/f32/b1/1s/greedy@warpmark",
        "transcribe/f32/b1/1s/beam5@warpmark",
    ];
    assert_eq!(found, expected);
}

#[test]
fn on_a_cpu_the_quick_suite_transcribes_the_first_clip_alone() {
    let two_seconds = NUMBERS.replace("audio_positions = 50", "audio_positions = 100");
    let model = model(&two_seconds, &INPUTS.replace("seconds = [1]", "seconds = [1, 2]")).unwrap();
    let count = |options, part: &str| {
        ids_of(&model, &options).iter().filter(|id| id.contains(part)).count()
    };
    assert_eq!(count(options(false), "/1s/"), 2, "greedily and with beams");
    assert_eq!(count(options(false), "/2s/"), 0);
    assert_eq!(count(options(true), "/2s/"), 13, "3 batches, 2 searches, 2 dtypes, and candle's");
}

#[test]
fn audio_that_cannot_be_used_fails_what_needs_it_and_nothing_else() {
    let error = AudioError::Empty { path: "talk.wav".into() };
    let broken = InputAudio { audio: Err(error), text: None };
    let made_up = WeightsStamp::Synthetic { seed: 7 };
    let mut session = session_on(Dtype::F32, |_| (), made_up, (broken, Some(tokenizer())));
    let mut outcome = |case| session.workload(&entry(case, Dtype::F32)).map(drop);
    let case = Case { phase: Phase::Transcribe, length: Length::File, batch: 2, ..CASE };
    let error = outcome(case).unwrap_err().to_string();
    assert!(error.contains("talk.wav holds no audio"), "{error}");
    outcome(Case { phase: Phase::Encode, ..CASE }).unwrap();
}

#[test]
fn the_full_suite_has_every_batch_and_dtype_and_the_spectrogram_once() {
    let found = ids(&options(true));
    let count = |part: &str| found.iter().filter(|id| id.contains(part)).count();
    assert_eq!(count("mel/"), 1, "it has no dtype");
    assert_eq!(count("transcribe/bf16"), 2 * 3);
    assert_eq!(count("encode/f32"), 3 + 1);
    assert_eq!(count("@candle"), 3, "in f32 alone");
}

#[test]
fn audio_of_the_users_takes_the_place_of_made_up_clips() {
    let found = ids(&RunOptions { audio: Some(spoken().into()), ..options(false) });
    assert!(found.contains(&"mel/b1/file@warpmark".to_owned()), "{found:?}");
    assert!(found.contains(&"transcribe/f32/b1/file/greedy@warpmark".to_owned()), "{found:?}");
    assert!(!found.iter().any(|id| id.contains("1s")), "{found:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_value() {
    let numbers =
        |from: &str, to: &str| model(&NUMBERS.replace(from, to), INPUTS).unwrap_err().to_string();
    assert!(numbers("heads = 4", "heads = 5").contains("architecture.width = 32"));
    assert!(numbers("audio_positions = 50", "audio_positions = 51").contains("whole seconds"));
    assert!(numbers("vocabulary = 101", "vocabulary = 0").contains("architecture.vocabulary = 0"));
    let inputs =
        |from: &str, to: &str| model(NUMBERS, &INPUTS.replace(from, to)).unwrap_err().to_string();
    assert!(inputs("seconds = [1]", "seconds = [31]").contains("inputs.seconds = 31"));
    assert!(inputs("second = 12", "second = 63").contains("from 1 to 62 tokens"));
    assert!(inputs("end = 100", "end = 101").contains("the vocabulary ends at 101"));
    assert!(inputs("contexts = [20]", "contexts = [49]").contains("from 1 to 48"));
    assert!(inputs("beams = [1, 5]", "beams = [0]").contains("inputs.beams = 0"));
}
