//! Our Whisper against Hugging Face transformers' on a tiny committed model; `scripts/fixtures/whisper.py`
//! made the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use warpmark_models::Dtype;
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::whisper::{Dialect, ReferenceWhisper};
use warpmark_nets::whisper::beam::{Plan, transcribe};
use warpmark_nets::whisper::mel::MelSpectrogram;
use warpmark_nets::whisper::{Architecture, Whisper, argmax};

const TINY: Architecture = Architecture {
    mels: 12,
    audio_positions: 20,
    text_positions: 48,
    width: 32,
    heads: 4,
    encoder_layers: 2,
    decoder_layers: 2,
    vocabulary: 97,
};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

/// Steps whose logits the fixture holds (the first is that after the prompt), and all there are.
const KEPT: [usize; 4] = [0, 1, 10, 19];
const STEPS: usize = 20;

fn fixture(name: &str) -> HashMap<String, Tensor> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/whisper");
    candle_core::safetensors::load(folder.join(name), &Device::Cpu).unwrap()
}

fn weights(dtype: Dtype) -> HashMap<String, Tensor> {
    let stored = fixture("weights/model.safetensors").into_iter();
    stored.map(|(name, tensor)| (name, tensor.to_dtype(dtype.candle()).unwrap())).collect()
}

fn net(dtype: Dtype) -> Whisper {
    Whisper::new(TINY, &weights(dtype)).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference over the largest expected magnitude.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (values(found), values(expected));
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    assert!(found.iter().all(|value| value.is_finite()));
    let off = largest(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    f64::from(off / largest(&mut expected.iter().copied()))
}

/// Both sides round activations to `dtype` after each op, at places that differ, so each is off the exact
/// values by some unit roundoffs of it: transformers by 2.5 (f16) and 3 (bf16) on this fixture. Twice
/// that, with room. In f32 only the order of sums differs.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 5e-6,
        Dtype::F16 => 4e-3,
        Dtype::Bf16 => 3e-2,
    }
}

struct Run {
    encoded: Tensor,
    logits: Vec<Tensor>,
    /// By clip.
    ids: Vec<Vec<u32>>,
}

/// Encodes clips and writes greedy tokens after the fixture's prompt.
fn run(net: &Whisper, mels: &Tensor, prompt: &[u32]) -> Run {
    let clips = mels.dim(0).unwrap();
    let encoded = net.encode(mels).unwrap();
    let cross = net.cross(&encoded).unwrap();
    let mut cache = net.cache(clips, prompt.len() + STEPS).unwrap();
    let mut tokens =
        Tensor::from_vec(prompt.repeat(clips), (clips, prompt.len()), &Device::Cpu).unwrap();
    let (mut logits, mut ids) = (Vec::new(), vec![Vec::new(); clips]);
    for _ in 0..STEPS {
        let step = net.read(&tokens, &mut cache, &cross).unwrap();
        tokens = argmax(&step).unwrap().unsqueeze(1).unwrap();
        for (ids, token) in ids.iter_mut().zip(tokens.to_vec2::<u32>().unwrap()) {
            ids.push(token[0]);
        }
        logits.push(step);
    }
    Run { encoded, logits, ids }
}

fn prompt(expected: &HashMap<String, Tensor>) -> Vec<u32> {
    expected["prompt"].to_vec1().unwrap()
}

#[test]
fn the_encoder_the_logits_and_twenty_greedy_ids_of_a_batch_equal_those_of_transformers() {
    let expected = fixture("expected.safetensors");
    for dtype in DTYPES {
        let run = run(&net(dtype), &expected["mels"], &prompt(&expected));
        let key = |part: &str| &expected[&format!("{dtype}.{part}")];
        let encoded = error(&run.encoded, key("encoded"));
        assert!(encoded <= tolerance(dtype), "{dtype} encoder: {encoded:e}");
        for (at, step) in KEPT.into_iter().enumerate() {
            let off = error(&run.logits[step], &key("logits").get(at).unwrap());
            assert!(off <= tolerance(dtype), "{dtype} step {step}: {off:e}");
        }
        assert_eq!(run.ids, key("ids").to_vec2::<u32>().unwrap(), "{dtype}");
    }
}

#[test]
fn a_clip_alone_has_the_answers_that_transformers_gives_it_alone() {
    let expected = fixture("expected.safetensors");
    let first = expected["mels"].narrow(0, 0, 1).unwrap();
    for dtype in DTYPES {
        let run = run(&net(dtype), &first, &prompt(&expected));
        let encoded = error(&run.encoded, &expected["f32.encoded_alone"]);
        assert!(encoded <= tolerance(dtype), "{dtype} encoder: {encoded:e}");
        for (at, step) in KEPT.into_iter().enumerate() {
            let off = error(&run.logits[step], &expected["f32.logits_alone"].get(at).unwrap());
            assert!(off <= tolerance(dtype), "{dtype} step {step}: {off:e}");
        }
    }
}

#[test]
fn twenty_ids_of_a_search_with_five_beams_equal_those_of_transformers() {
    let expected = fixture("expected.safetensors");
    for dtype in DTYPES {
        let net = net(dtype);
        let cross = net.cross(&net.encode(&expected["mels"]).unwrap()).unwrap();
        let plan = Plan { beams: 5, tokens: STEPS, end: None };
        let mut steps = 0;
        let found = transcribe(&net, &cross, &prompt(&expected), plan, &mut || steps += 1).unwrap();
        let ids: Vec<Vec<u32>> = found.iter().map(|transcript| transcript.tokens.clone()).collect();
        let key = format!("{dtype}.beam_ids");
        assert_eq!(ids, expected[&key].to_vec2::<u32>().unwrap(), "{dtype}");
        assert_eq!(steps, STEPS);
        for (found, score) in found.iter().zip(values(&expected["f32.beam_scores"])) {
            let off = (found.log_probability / f64::from(score) - 1.0).abs();
            // Of a sum of 20 logarithms, each with the error of its logits.
            assert!(off <= 2.0 * tolerance(dtype), "{dtype}: {off:e}");
        }
    }
}

#[test]
fn one_beam_is_greedy_decoding_and_an_end_token_ends_each_clip_by_itself() {
    let expected = fixture("expected.safetensors");
    let net = net(Dtype::F32);
    let cross = net.cross(&net.encode(&expected["mels"]).unwrap()).unwrap();
    let prompt = prompt(&expected);
    let all = run(&net, &expected["mels"], &prompt).ids;
    let greedy = |end| {
        let plan = Plan { beams: 1, tokens: STEPS, end };
        transcribe(&net, &cross, &prompt, plan, &mut || ()).unwrap()
    };
    assert!(greedy(None).iter().zip(&all).all(|(found, ids)| found.tokens == *ids));
    let end = all[0][4];
    for (found, ids) in greedy(Some(end)).iter().zip(&all) {
        let until = ids.iter().position(|id| *id == end).unwrap_or(STEPS);
        assert_eq!(found.tokens, ids[..until]);
        assert_eq!(found.ended, until < STEPS);
    }
}

#[test]
fn decoding_over_the_cache_equals_recomputing_the_whole_transcript() {
    let expected = fixture("expected.safetensors");
    let prompt = prompt(&expected);
    for dtype in DTYPES {
        let weights = weights(dtype);
        let run = run(&Whisper::new(TINY, &weights).unwrap(), &expected["mels"], &prompt);
        let reference = ReferenceWhisper {
            architecture: &TINY,
            tensors: &weights,
            dialect: Dialect::Published,
            rounding: Rounding::Exact,
        };
        for clip in 0..3 {
            let encoded = reference.encode(&expected["mels"].get(clip).unwrap()).unwrap();
            let off = error(&run.encoded.get(clip).unwrap(), &encoded);
            assert!(off <= tolerance(dtype), "{dtype} encoder of clip {clip}: {off:e}");
            let tokens = [&prompt[..], &run.ids[clip][..STEPS - 1]].concat();
            let whole = reference.logits(&encoded, &tokens, STEPS).unwrap();
            for (step, logits) in run.logits.iter().enumerate() {
                let off = error(&logits.get(clip).unwrap(), &whole.get(step).unwrap());
                assert!(off <= tolerance(dtype), "{dtype} step {step}: {off:e}");
            }
        }
    }
}

#[test]
fn the_mel_spectrogram_is_that_of_the_feature_extractor_in_80_and_128_bins() {
    let expected = fixture("mel.safetensors");
    let bytes = expected["audio"].to_vec1::<u8>().unwrap();
    let audio: Vec<f32> = bytes
        .chunks(2)
        .map(|sample| f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32768.0)
        .collect();
    // Longer than the second that is looked at, and shorter.
    for (mels, clip) in [(80, &audio[..]), (128, &audio[..14_400])] {
        let found = MelSpectrogram::new(mels).of(clip, 16_000);
        let every_second = found.chunks(2).map(|pair| pair[1]);
        let expected = values(&expected[&format!("mel{mels}")]);
        assert_eq!(found.len(), 2 * expected.len());
        let off = every_second.zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        // transformers transforms in f32; its own way in f64 differs from it by 2.1e-5 on this audio.
        assert!(off <= 3e-5, "{mels} bins: {off:e}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let expected = fixture("expected.safetensors");
    let net = net(Dtype::F32);
    let short = expected["mels"].narrow(2, 0, 30).unwrap();
    let error = net.encode(&short).unwrap_err();
    assert!(matches!(error, NetError::Mels { found: (12, 30), expected: (12, 40) }), "{error}");
    assert!(matches!(net.cache(1, 49), Err(NetError::TooLong { limit: 48, .. })));
    let cross = net.cross(&net.encode(&expected["mels"]).unwrap()).unwrap();
    let mut cache = net.cache(3, 4).unwrap();
    let five = Tensor::zeros((3, 5), DType::U32, &Device::Cpu).unwrap();
    let error = net.read(&five, &mut cache, &cross).unwrap_err();
    assert!(matches!(error, NetError::TooLong { tokens: 5, length: 0, limit: 4, .. }), "{error}");
    assert!(cache.is_empty());
    let mut four = net.cache(4, 4).unwrap();
    let tokens = Tensor::zeros((4, 1), DType::U32, &Device::Cpu).unwrap();
    assert!(matches!(net.read(&tokens, &mut four, &cross), Err(NetError::Batch { .. })));
}

#[test]
fn weights_of_another_architecture_are_refused_by_name() {
    let mut weights = weights(Dtype::F32);
    let wide = Architecture { width: 64, ..TINY };
    let error = Whisper::new(wide, &weights).err().unwrap();
    assert!(
        matches!(&error, NetError::Shape { name, .. } if name == "model.encoder.conv1.weight"),
        "{error}"
    );
    weights.remove("model.decoder.layers.1.fc2.bias");
    let error = Whisper::new(TINY, &weights).err().unwrap();
    assert!(
        matches!(&error, NetError::Missing(name) if name == "model.decoder.layers.1.fc2.bias"),
        "{error}"
    );
}
