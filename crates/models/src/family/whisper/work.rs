//! What an iteration costs, counted from the architecture.
//!
//! With `E` the width, `T` the audio positions, `F = 2 T` frames of `M` mels, `V` the vocabulary, `Lₑ` and
//! `L` the layers of encoder and decoder and `s` bytes of an element:
//!
//! - encode, a clip: `2 · 3 M E F + 2 · 3 E² T + Lₑ (24 E² T + 4 E T²)` FLOPs: two convolutions of three
//!   kernel elements, and for each layer `12 E²` weights a position and all positions over all. Bytes:
//!   the encoder's weights once, mels read and positions written.
//! - cross, a clip: `4 E² T` for each of the decoder's layers: keys and values of the audio.
//! - decode, a row at `t` tokens: `2 (14 E² L + V E) + 4 L E (t + T)` FLOPs: `14 E²` weights a layer (those
//!   for the audio's keys and values are not used again). Bytes: the weights once, `2 L E s (t + 1)` of the
//!   text's cache a row, and `2 L E s T` of the audio's a clip.
//!
//! The spectrogram counts no FLOPs: how many a Fourier transform takes is the part of an implementation.
//! So are layer norms, GELU, softmax and the traffic of activations.

use warpmark_record::{Bytes, Flops, ItemUnit, Items, Work};

use super::cases::{Case, Phase};
use crate::catalog::Dtype;
use crate::family::text::WINDOW;
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::mel::RATE;

/// Clips that are encoded at a time for a decode cache; further ones repeat them.
pub(super) const DISTINCT: usize = 8;

/// Elements of the tensors whose names begin so.
fn parameters(architecture: &Architecture, prefix: &str) -> f64 {
    let count = |shape: &[usize]| shape.iter().map(|extent| *extent as f64).product::<f64>();
    let tensors = architecture.tensors().into_iter();
    tensors.filter(|(name, _)| name.starts_with(prefix)).map(|(_, shape)| count(&shape)).sum()
}

/// Bytes that the weights hold.
pub(super) fn weight_bytes(architecture: &Architecture, dtype: Dtype) -> Bytes {
    Bytes(parameters(architecture, "") * dtype.bytes() as f64)
}

/// What one transcription reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transcription {
    /// Windows of audio, padded ones included.
    pub(super) windows: usize,
    /// Seconds of audio, padding left out.
    pub(super) seconds: f64,
    /// Steps that write tokens, over all passes of a batch of windows.
    pub(super) tokens: usize,
    /// Passes of a batch of windows.
    pub(super) passes: usize,
}

/// The sizes as numbers.
struct Sizes {
    width: f64,
    audio: f64,
    layers: f64,
    size: f64,
    vocabulary: f64,
}

impl Sizes {
    fn new(architecture: &Architecture, dtype: Dtype) -> Self {
        Self {
            width: architecture.width as f64,
            audio: architecture.audio_positions as f64,
            layers: architecture.decoder_layers as f64,
            size: dtype.bytes() as f64,
            vocabulary: architecture.vocabulary as f64,
        }
    }

    /// FLOPs of one row at that many tokens, and the bytes of its cache and of its clip's.
    fn row(&self, attended: f64) -> (f64, f64, f64) {
        let Self { width, audio, layers, size, vocabulary } = *self;
        let products = 2.0 * (14.0 * width * width * layers + vocabulary * width);
        let attention = 4.0 * layers * width * (attended + audio);
        let position = 2.0 * layers * width * size;
        (products + attention, position * (attended + 1.0), position * audio)
    }

    fn cross(&self) -> f64 {
        4.0 * self.width * self.width * self.audio * self.layers
    }
}

fn encode_flops(architecture: &Architecture) -> f64 {
    let Architecture { mels, width, audio_positions, encoder_layers, .. } = *architecture;
    let [mels, e, t, layers] = [mels, width, audio_positions, encoder_layers].map(|x| x as f64);
    let frames = architecture.frames() as f64;
    let convolutions = 6.0 * e * (mels * frames + e * t);
    convolutions + layers * (24.0 * e * e * t + 4.0 * e * t * t)
}

/// The decoder's weights that a step reads: all but the positions and what makes the audio's keys and
/// values.
fn step_bytes(architecture: &Architecture, sizes: &Sizes) -> f64 {
    let unread = architecture.text_positions as f64 * sizes.width
        + 2.0 * sizes.layers * sizes.width * sizes.width;
    (parameters(architecture, "model.decoder.") - unread) * sizes.size
}

/// What one iteration does; `whole` says what a transcription consists of.
pub(super) fn work(
    architecture: &Architecture,
    dtype: Dtype,
    case: Case,
    whole: Transcription,
) -> Work {
    let sizes = Sizes::new(architecture, dtype);
    let batch = case.batch as f64;
    let items = |count: f64, unit| Some(Items { count, unit });
    let (window, spectrogram) = (
        (architecture.frames() * 160) as f64 / RATE as f64,
        (architecture.frames() * architecture.mels) as f64,
    );
    let encoder = parameters(architecture, "model.encoder.") * sizes.size;
    let output = sizes.audio * sizes.width * sizes.size;
    match case.phase {
        Phase::Mel => Work {
            flops: None,
            bytes: Some(Bytes(
                (whole.seconds * RATE as f64 + whole.windows as f64 * spectrogram) * 4.0,
            )),
            items: items(whole.seconds, ItemUnit::AudioSecond),
        },
        Phase::Encode => Work {
            flops: Some(Flops(batch * encode_flops(architecture))),
            bytes: Some(Bytes(encoder + batch * (4.0 * spectrogram + output))),
            items: items(batch * window, ItemUnit::AudioSecond),
        },
        Phase::Decode => {
            // The mean over the window: the first step attends to context + 1 tokens.
            let attended = case.context as f64 + f64::midpoint(1.0, WINDOW as f64);
            let (flops, own, audio) = sizes.row(attended);
            Work {
                flops: Some(Flops(batch * flops)),
                bytes: Some(Bytes(step_bytes(architecture, &sizes) + batch * (own + audio))),
                items: items(batch, ItemUnit::Token),
            }
        }
        Phase::Transcribe => {
            let (windows, steps) = (whole.windows as f64, whole.tokens as f64);
            let (rows, passes) = (batch * case.beams as f64, whole.passes as f64);
            // Steps of all passes at the mean length of a text.
            let (flops, own, audio) = sizes.row(steps / passes / 2.0);
            let through = encode_flops(architecture) + sizes.cross();
            let once = encoder + 2.0 * sizes.layers * sizes.width * sizes.width * sizes.size;
            let step = step_bytes(architecture, &sizes) + rows * own + batch * audio;
            Work {
                flops: Some(Flops(windows * through + steps * rows * flops)),
                bytes: Some(Bytes(passes * once + windows * 4.0 * spectrogram + steps * step)),
                items: items(whole.seconds, ItemUnit::AudioSecond),
            }
        }
    }
}

/// The most memory that a case holds beside the weights, its check included.
///
/// Activations of the encoder are about the residual stream, queries, keys and values twice and a hidden
/// layer of `4 E` twice (14 E an element); of the scores, on a GPU, two copies of as many clips as are
/// attended to at once. The reference of the check holds one head's scores thrice and the head in f32.
pub(super) fn memory(
    architecture: &Architecture,
    dtype: Dtype,
    case: Case,
    tokens: usize,
    gpu: bool,
) -> Bytes {
    let sizes = Sizes::new(architecture, dtype);
    let Sizes { width, audio, layers, size, vocabulary } = sizes;
    let batch = case.batch as f64;
    let mels = batch * (architecture.frames() * architecture.mels) as f64 * 4.0;
    let scores = |clips: f64| {
        let all = clips * architecture.heads as f64 * audio * audio;
        if gpu { 2.0 * size * all.min((1u64 << 28) as f64) } else { 0.0 }
    };
    let encoding = |clips: f64| clips * audio * width * 14.0 * size + scores(clips);
    let position = 2.0 * layers * width * size;
    let texts = |rows: f64, length: usize| {
        rows * (position * length as f64 + vocabulary * (size + 4.0) + 14.0 * width * size)
    };
    let checking = 12.0 * audio * audio + 14.0 * audio * width * 4.0 + vocabulary * width * 4.0;
    let running = match case.phase {
        Phase::Mel => 2.0 * mels,
        Phase::Encode => mels + encoding(batch),
        Phase::Decode => {
            let made = batch.min(DISTINCT as f64);
            batch * position * audio
                + texts(batch, case.context + WINDOW)
                + texts(made, case.context)
                + made * position * audio
                + encoding(made)
        }
        Phase::Transcribe => {
            let rows = batch * case.beams as f64;
            // A reordered cache is there twice, layer by layer.
            let twice = rows * position / layers * tokens as f64;
            mels + encoding(batch).max(batch * position * audio + texts(rows, tokens) + twice)
        }
    };
    Bytes(running + checking)
}

#[cfg(test)]
mod tests {
    use super::super::cases::{Engine, Length};
    use super::*;

    const TINY: Architecture = Architecture {
        mels: 80,
        audio_positions: 1500,
        text_positions: 448,
        width: 384,
        heads: 6,
        encoder_layers: 4,
        decoder_layers: 4,
        vocabulary: 51865,
    };

    fn case(phase: Phase, batch: usize) -> Case {
        let length = Length::Seconds(30);
        Case { phase, engine: Engine::Own, batch, length, context: 96, beams: 1 }
    }

    const ONE: Transcription = Transcription { windows: 1, seconds: 30.0, tokens: 90, passes: 1 };

    #[test]
    fn an_encoder_does_two_flops_a_weight_and_position_and_attends_to_all_positions() {
        let work = work(&TINY, Dtype::F32, case(Phase::Encode, 2), ONE);
        // 1.77 M weights in the products of a layer.
        let layer = 2.0 * 12.0 * 384.0 * 384.0 * 1500.0 + 4.0 * 384.0 * 1500.0 * 1500.0;
        let convolutions = 2.0 * 3.0 * 384.0 * (80.0 * 3000.0 + 384.0 * 1500.0);
        assert_eq!(work.flops, Some(Flops(2.0 * (convolutions + 4.0 * layer))));
        assert_eq!(work.items.map(|items| items.count), Some(60.0));
    }

    #[test]
    fn a_step_reads_the_weights_once_and_the_caches_of_every_row() {
        let bytes = |batch| work(&TINY, Dtype::F16, case(Phase::Decode, batch), ONE).bytes.unwrap();
        let row = 2.0 * 4.0 * 384.0 * 2.0 * (96.0 + 8.5 + 1.0 + 1500.0);
        assert!((bytes(3).0 - bytes(1).0 - 2.0 * row).abs() < 1.0);
        let weights = weight_bytes(&TINY, Dtype::F16).0;
        assert!(bytes(1).0 < weights, "the encoder is not read");
    }

    #[test]
    fn a_transcription_is_its_encoding_and_its_steps() {
        let part = |phase| work(&TINY, Dtype::F32, case(phase, 1), ONE).flops.unwrap().0;
        let whole = part(Phase::Transcribe);
        let cross = 4.0 * 384.0 * 384.0 * 1500.0 * 4.0;
        let steps = 90.0 * part(Phase::Decode);
        let off = (whole - part(Phase::Encode) - cross - steps).abs();
        // The mean length differs from the one of the decode row.
        assert!(off < 0.02 * steps, "{off:e} of {steps:e}");
    }

    #[test]
    fn many_beams_share_the_audio_and_hold_a_text_each() {
        let beams = |beams| {
            let case = Case { beams, ..case(Phase::Transcribe, 8) };
            memory(&TINY, Dtype::F32, case, 90, false).0
        };
        assert!(beams(50) > beams(1));
        let cross = 8.0 * 2.0 * 4.0 * 384.0 * 4.0 * 1500.0;
        assert!(beams(50) < beams(1) + 49.0 * cross / 4.0, "no copy of the audio for each beam");
    }
}
