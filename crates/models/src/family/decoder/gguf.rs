//! A Llama's tensors in a GGUF file: their names, and how llama.cpp stores each.

use candle_core::quantized::GgmlDType;

use crate::catalog::Quantisation;
use crate::weights::TensorSpec;
use crate::weights::gguf::StoredTensor;
use warpmark_nets::decoder::Architecture;

/// A tensor as llama.cpp's `convert` and `quantize` write it.
pub(super) fn stored(
    spec: TensorSpec,
    architecture: &Architecture,
    quantisation: Quantisation,
) -> StoredTensor {
    let path: Vec<&str> = spec.name.split('.').collect();
    let (name, layer, part) = match path[..] {
        ["model", "layers", layer, .., part, _] => {
            let part = part_name(part);
            (format!("blk.{layer}.{part}.weight"), layer.parse().unwrap_or(0), part)
        }
        ["model", "embed_tokens", _] => ("token_embd.weight".to_owned(), 0, "token_embd"),
        ["model", "norm", _] => ("output_norm.weight".to_owned(), 0, "output_norm"),
        _ => ("output.weight".to_owned(), 0, "output"),
    };
    let kind = kind(part, layer, architecture, quantisation);
    let kind = if spec.shape.len() == 1 { GgmlDType::F32 } else { fitting(kind, &spec.shape) };
    StoredTensor { spec, name, kind }
}

fn part_name(part: &str) -> &'static str {
    match part {
        "input_layernorm" => "attn_norm",
        "q_proj" => "attn_q",
        "k_proj" => "attn_k",
        "v_proj" => "attn_v",
        "o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "gate_proj" => "ffn_gate",
        "up_proj" => "ffn_up",
        _ => "ffn_down",
    }
}

/// The kind of a matrix, by llama.cpp's rules (`llama_tensor_get_type`): `Q4_K_M` gives six bits to the
/// head and to the values and down projections of some layers, where errors cost most. A net of 80 layers
/// whose heads share keys by eight gives its few values more bits instead.
fn kind(
    part: &str,
    layer: usize,
    architecture: &Architecture,
    quantisation: Quantisation,
) -> GgmlDType {
    match (quantisation, part) {
        (Quantisation::Q8_0, _) => GgmlDType::Q8_0,
        (Quantisation::Q4KM, "output") => GgmlDType::Q6K,
        (Quantisation::Q4KM, "token_embd") if architecture.tied => GgmlDType::Q6K,
        (Quantisation::Q4KM, "attn_v" | "ffn_down") if more_bits(layer, architecture.layers) => {
            GgmlDType::Q6K
        }
        (Quantisation::Q4KM, "attn_v") if architecture.layers == 80 => GgmlDType::Q5K,
        (Quantisation::Q4KM, _) => GgmlDType::Q4K,
    }
}

/// The first and the last eighth of the layers, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// What stands in for a kind whose blocks do not divide the rows.
fn fitting(kind: GgmlDType, shape: &[usize]) -> GgmlDType {
    let fits = |kind: GgmlDType| shape.last().is_some_and(|row| row % kind.block_size() == 0);
    let smaller = match kind {
        GgmlDType::Q4K => GgmlDType::Q5_0,
        GgmlDType::Q5K => GgmlDType::Q5_1,
        GgmlDType::Q6K => GgmlDType::Q8_0,
        other => other,
    };
    [kind, smaller].into_iter().find(|kind| fits(*kind)).unwrap_or(GgmlDType::F16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;
    use crate::catalog::Format;
    use crate::weights::WeightSpec;

    /// Bytes of a model's tensors as a GGUF file has them.
    fn bytes(model: &str, quantisation: Quantisation) -> u64 {
        let catalog = Catalog::builtin().unwrap();
        let model = catalog.model(model).unwrap();
        match model.weight_spec(Format::Quantised(quantisation)).unwrap() {
            WeightSpec::Quantised(tensors, _) => tensors.iter().map(StoredTensor::bytes).sum(),
            WeightSpec::Plain(..) => panic!("plain"),
        }
    }

    #[test]
    fn published_files_are_as_large_as_the_rules_say() {
        // llama.cpp's own listing of Llama-2-7B (README of its quantize example): 4.08 GB and 7.16 GB
        // with the header, which has the vocabulary; of Llama-2-70B 41.42 GB.
        let gib = |model, quantisation| bytes(model, quantisation) as f64 / f64::from(1 << 30);
        for (model, quantisation, published) in [
            ("llama-2-7b", Quantisation::Q4KM, 3.80),
            ("llama-2-7b", Quantisation::Q8_0, 6.67),
            ("llama-2-70b", Quantisation::Q4KM, 38.58),
            ("tinyllama-1.1b", Quantisation::Q4KM, 0.62),
        ] {
            let found = gib(model, quantisation);
            assert!((found / published - 1.0).abs() < 0.01, "{model} {quantisation}: {found}");
        }
    }

    #[test]
    fn rows_that_no_large_block_divides_are_stored_in_smaller_ones() {
        assert_eq!(fitting(GgmlDType::Q4K, &[3, 576]), GgmlDType::Q5_0);
        assert_eq!(fitting(GgmlDType::Q6K, &[3, 576]), GgmlDType::Q8_0);
        assert_eq!(fitting(GgmlDType::Q6K, &[3, 512]), GgmlDType::Q6K);
        assert_eq!(fitting(GgmlDType::Q8_0, &[3, 40]), GgmlDType::F16);
    }
}
