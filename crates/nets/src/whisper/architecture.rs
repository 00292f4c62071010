//! The numbers in which Whisper variants differ, and the tensors that follow from them.

use serde::Deserialize;

/// The numbers in which Whisper variants differ, as their entry in `models.toml` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Bins of the mel spectrogram.
    pub mels: usize,
    /// Positions that come out of the encoder, half as many as frames go in.
    pub audio_positions: usize,
    /// The longest transcript in tokens: the number of the decoder's learned positions.
    pub text_positions: usize,
    /// The width of both residual streams, a multiple of the heads.
    pub width: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Blocks of the encoder.
    pub encoder_layers: usize,
    /// Blocks of the decoder.
    pub decoder_layers: usize,
    /// The number of tokens.
    pub vocabulary: usize,
}

/// Taps of both convolutions.
pub(super) const KERNEL: usize = 3;

/// The second convolution's step.
pub(super) const STRIDE: usize = 2;

/// Products of one attention, by the name of their weights; keys have no bias.
const ATTENTION: [&str; 4] = ["q_proj", "k_proj", "v_proj", "out_proj"];

impl Architecture {
    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Frames of the mel spectrogram of one window of audio.
    pub fn frames(&self) -> usize {
        STRIDE * self.audio_positions
    }

    /// Every tensor of the net with its shape, under its published name. Weights of products are
    /// `[out, in]`; the head is the decoder's embedding and is not stored again.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let e = self.width;
        let mut tensors = vec![
            ("model.encoder.conv1.weight".to_owned(), vec![e, self.mels, KERNEL]),
            ("model.encoder.conv1.bias".to_owned(), vec![e]),
            ("model.encoder.conv2.weight".to_owned(), vec![e, e, KERNEL]),
            ("model.encoder.conv2.bias".to_owned(), vec![e]),
            ("model.encoder.embed_positions.weight".to_owned(), vec![self.audio_positions, e]),
            ("model.decoder.embed_tokens.weight".to_owned(), vec![self.vocabulary, e]),
            ("model.decoder.embed_positions.weight".to_owned(), vec![self.text_positions, e]),
        ];
        for (side, layers, attentions) in [
            ("encoder", self.encoder_layers, &["self_attn"][..]),
            ("decoder", self.decoder_layers, &["self_attn", "encoder_attn"][..]),
        ] {
            for layer in 0..layers {
                let name = |part: &str| format!("model.{side}.layers.{layer}.{part}");
                for attention in attentions {
                    self.attention(&name(attention), &mut tensors);
                }
                pair(&name("fc1"), &[4 * e, e], &mut tensors);
                pair(&name("fc2"), &[e, 4 * e], &mut tensors);
                pair(&name("final_layer_norm"), &[e], &mut tensors);
            }
            pair(&format!("model.{side}.layer_norm"), &[e], &mut tensors);
        }
        tensors
    }

    fn attention(&self, name: &str, tensors: &mut Vec<(String, Vec<usize>)>) {
        let e = self.width;
        for product in ATTENTION {
            tensors.push((format!("{name}.{product}.weight"), vec![e, e]));
            if product != "k_proj" {
                tensors.push((format!("{name}.{product}.bias"), vec![e]));
            }
        }
        pair(&format!("{name}_layer_norm"), &[e], tensors);
    }
}

/// A weight and its bias, one number for each of the weight's rows.
fn pair(name: &str, shape: &[usize], tensors: &mut Vec<(String, Vec<usize>)>) {
    tensors.push((format!("{name}.weight"), shape.to_vec()));
    tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
}
