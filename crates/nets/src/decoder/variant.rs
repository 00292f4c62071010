//! The published decoders: what each has without saying so, and the numbers in which an entry's differ.

use serde::Deserialize;

use super::architecture::{Activation, Architecture, Biases, Experts, Norm};
use super::rope::{Rope, RopeScaling};

/// A published decoder, after whose tensors and defaults a net is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// GPT-2 (Radford et al. 2019).
    Gpt2,
    /// OPT (Zhang et al. 2022).
    Opt,
    /// Llama 1, 2 and 3 (Touvron et al. 2023, Dubey et al. 2024) and what has its architecture.
    Llama,
    /// Mistral 7B (Jiang et al. 2023).
    Mistral,
    /// Qwen2 and 2.5 (Yang et al. 2024).
    Qwen2,
    /// Qwen3 (Yang et al. 2025).
    Qwen3,
    /// Gemma 2 (Gemma Team 2024).
    Gemma2,
    /// Gemma 3, its text part (Gemma Team 2025).
    Gemma3,
    /// Phi-3 and Phi-4 (Abdin et al. 2024).
    Phi3,
    /// Granite 3 (Granite Team 2024).
    Granite,
    /// Mixtral (Jiang et al. 2024).
    Mixtral,
    /// Qwen3 with experts (Yang et al. 2025).
    Qwen3Moe,
}

/// The numbers of a decoder, as an entry of `models.toml` gives them. What is left out is the variant's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Rows of the table of embeddings.
    pub vocabulary: usize,
    /// The longest sequence that it was trained for.
    pub context: usize,
    /// The width of the residual stream.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// The width of a feed-forward layer, or of one expert's.
    pub hidden: Option<usize>,
    /// Heads of keys and values.
    pub key_value_heads: Option<usize>,
    /// The width of a head, where it is not that of the net over their number.
    pub head_width: Option<usize>,
    /// Added to the variance or the mean square in every norm.
    pub norm_epsilon: Option<f32>,
    /// Of a feed-forward layer.
    pub activation: Option<Activation>,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: Option<bool>,
    /// Whether what attention gives has one.
    pub output_bias: Option<bool>,
    /// Whether feed-forward layers have them.
    pub mlp_bias: Option<bool>,
    /// Whether the queries and keys of each head are normalised.
    pub qk_norm: Option<bool>,
    /// The base of the rotary frequencies.
    pub rope_theta: Option<f64>,
    /// Which part of a head turns.
    pub rope_fraction: Option<f64>,
    /// How the rotary frequencies were stretched.
    pub rope_scaling: Option<RopeScaling>,
    /// The base of those of layers with a window.
    pub local_rope_theta: Option<f64>,
    /// Positions that a layer with a window attends to.
    pub window: Option<usize>,
    /// The layers without one, where others have it.
    #[serde(default)]
    pub full_layers: Vec<usize>,
    /// What scores are multiplied by.
    pub attention_scale: Option<f64>,
    /// What scores are capped at.
    pub attention_cap: Option<f64>,
    /// What logits are capped at.
    pub logit_cap: Option<f64>,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f64>,
    /// What is multiplied before it is added to the residuals.
    pub residual_scale: Option<f64>,
    /// What logits are divided by.
    pub logit_divisor: Option<f64>,
    /// Whether the head is the table of embeddings.
    pub tied: Option<bool>,
    /// Where each token passes a few of many feed-forward layers.
    pub experts: Option<Experts>,
}

/// A number of an entry that describes no net.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Its key.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What would be right.
    pub advice: String,
}

/// What a variant has without saying so.
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of published nets")]
struct Usual {
    norm: Norm,
    activation: Activation,
    gated: bool,
    biases: Biases,
    qk_norm: bool,
    norms_after: bool,
    pub tied: Option<bool>,
    has_experts: bool,
}

const NO_BIASES: Biases = Biases { qkv: false, output: false, mlp: false };
const BIASES: Biases = Biases { qkv: true, output: true, mlp: true };

const LLAMA: Usual = Usual {
    norm: Norm::Rms,
    activation: Activation::Silu,
    gated: true,
    biases: NO_BIASES,
    qk_norm: false,
    norms_after: false,
    tied: None,
    has_experts: false,
};

const GPT2: Usual = Usual {
    norm: Norm::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    biases: BIASES,
    tied: Some(true),
    ..LLAMA
};

const GEMMA2: Usual = Usual {
    norm: Norm::RmsOne,
    activation: Activation::GeluTanh,
    norms_after: true,
    tied: Some(true),
    ..LLAMA
};

impl Variant {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::Gpt2,
        Self::Opt,
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
        Self::Granite,
        Self::Mixtral,
        Self::Qwen3Moe,
    ];

    /// Its name in entries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Opt => "opt",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
            Self::Granite => "granite",
            Self::Mixtral => "mixtral",
            Self::Qwen3Moe => "qwen3_moe",
        }
    }

    /// The variant of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Whether positions are learned.
    pub fn learns_positions(self) -> bool {
        matches!(self, Self::Gpt2 | Self::Opt)
    }

    fn usual(self) -> Usual {
        match self {
            Self::Gpt2 => GPT2,
            Self::Opt => Usual { activation: Activation::Relu, ..GPT2 },
            Self::Llama | Self::Mistral | Self::Phi3 | Self::Granite => LLAMA,
            Self::Qwen2 => Usual { biases: Biases { qkv: true, ..NO_BIASES }, ..LLAMA },
            Self::Qwen3 => Usual { qk_norm: true, ..LLAMA },
            Self::Gemma2 => GEMMA2,
            Self::Gemma3 => Usual { qk_norm: true, ..GEMMA2 },
            Self::Mixtral => Usual { has_experts: true, ..LLAMA },
            Self::Qwen3Moe => Usual { qk_norm: true, has_experts: true, ..LLAMA },
        }
    }

    /// The net that an entry's numbers describe.
    ///
    /// # Errors
    /// Where they describe none.
    pub fn architecture(self, numbers: &Numbers) -> Result<Architecture, Invalid> {
        let n = numbers;
        let usual = self.usual();
        check_counts(n)?;
        let learned = self.learns_positions();
        let rope = if learned { no_rope(n)? } else { Some(rope(n)?) };
        if usual.has_experts != n.experts.is_some() {
            let value = if usual.has_experts { "(absent)" } else { "(given)" };
            let advice = if usual.has_experts { "say how many there are" } else { "it has none" };
            return Err(invalid("experts", value, advice));
        }
        let head_width = n.head_width();
        let width = n.width as f64;
        let gemma = usual.norm == Norm::RmsOne;
        let architecture = Architecture {
            variant: self,
            vocabulary: n.vocabulary,
            context: n.context,
            width: n.width,
            hidden: match n.hidden {
                Some(hidden) => hidden,
                None if learned => 4 * n.width,
                None => return Err(absent("hidden")),
            },
            layers: n.layers,
            heads: n.heads,
            key_value_heads: match n.key_value_heads {
                Some(heads) => heads,
                None if learned => n.heads,
                None => return Err(absent("key_value_heads")),
            },
            head_width,
            norm: usual.norm,
            norm_epsilon: match n.norm_epsilon {
                Some(epsilon) => epsilon,
                None if learned => 1e-5,
                None => return Err(absent("norm_epsilon")),
            },
            norms_after: usual.norms_after,
            qk_norm: n.qk_norm.unwrap_or(usual.qk_norm),
            activation: n.activation.unwrap_or(usual.activation),
            gated: usual.gated,
            biases: Biases {
                qkv: n.qkv_bias.unwrap_or(usual.biases.qkv),
                output: n.output_bias.unwrap_or(usual.biases.output),
                mlp: n.mlp_bias.unwrap_or(usual.biases.mlp),
            },
            rope,
            local_theta: n.local_rope_theta,
            window: n.window,
            full_layers: n.full_layers.clone(),
            attention_scale: n.attention_scale.unwrap_or(1.0 / (head_width as f64).sqrt()),
            attention_cap: n.attention_cap,
            logit_cap: n.logit_cap,
            embedding_scale: n.embedding_scale.unwrap_or(if gemma { width.sqrt() } else { 1.0 }),
            residual_scale: n.residual_scale.unwrap_or(1.0),
            logit_divisor: n.logit_divisor.unwrap_or(1.0),
            tied: n.tied.or(usual.tied).ok_or_else(|| absent("tied"))?,
            experts: n.experts,
        };
        check(&architecture)?;
        Ok(architecture)
    }
}

impl Numbers {
    fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads.max(1))
    }
}

fn invalid(
    field: &'static str,
    value: impl std::fmt::Display,
    advice: impl Into<String>,
) -> Invalid {
    Invalid { field, value: value.to_string(), advice: advice.into() }
}

fn absent(field: &'static str) -> Invalid {
    invalid(field, "(absent)", format!("missing field `{field}`"))
}

/// Refuses counts that are nothing, or more than any net has.
fn check_counts(n: &Numbers) -> Result<(), Invalid> {
    let experts = n.experts.map(|experts| experts.count);
    for (field, value, most) in [
        ("layers", Some(n.layers), 1_000),
        ("heads", Some(n.heads), 1_000),
        ("key_value_heads", n.key_value_heads, 1_000),
        ("head_width", n.head_width, 10_000),
        ("width", Some(n.width), 100_000),
        ("hidden", n.hidden, 1_000_000),
        ("context", Some(n.context), 10_000_000),
        ("vocabulary", Some(n.vocabulary), 10_000_000),
        ("window", n.window, 10_000_000),
        ("experts", experts, 1_000),
    ] {
        if let Some(value) = value.filter(|value| *value == 0 || *value > most) {
            return Err(invalid(field, value, format!("a decoder has between 1 and {most}")));
        }
    }
    Ok(())
}

/// Refuses rotary numbers of a net that learns its positions.
fn no_rope(n: &Numbers) -> Result<Option<Rope>, Invalid> {
    let given = [
        ("rope_theta", n.rope_theta.is_some()),
        ("rope_fraction", n.rope_fraction.is_some()),
        ("rope_scaling", n.rope_scaling.is_some()),
        ("local_rope_theta", n.local_rope_theta.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(invalid(field, "(given)", "it learns its positions")),
        None => Ok(None),
    }
}

fn rope(n: &Numbers) -> Result<Rope, Invalid> {
    let theta = n.rope_theta.ok_or_else(|| absent("rope_theta"))?;
    let turned = n.head_width() as f64 * n.rope_fraction.unwrap_or(1.0);
    let turned = if turned.is_finite() && turned >= 0.0 { turned as usize } else { 0 };
    Ok(Rope { theta, turned, scaling: n.rope_scaling })
}

fn check(a: &Architecture) -> Result<(), Invalid> {
    if a.head_width * a.heads != a.width && a.head_width == a.width / a.heads {
        return Err(invalid(
            "width",
            a.width,
            format!("must be a multiple of heads = {}", a.heads),
        ));
    }
    if !a.heads.is_multiple_of(a.key_value_heads) {
        let advice = format!("must be a multiple of key_value_heads = {}", a.key_value_heads);
        return Err(invalid("heads", a.heads, advice));
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    for (field, value) in [
        ("norm_epsilon", Some(f64::from(a.norm_epsilon))),
        ("local_rope_theta", a.local_theta),
        ("attention_scale", Some(a.attention_scale)),
        ("attention_cap", a.attention_cap),
        ("logit_cap", a.logit_cap),
        ("embedding_scale", Some(a.embedding_scale)),
        ("residual_scale", Some(a.residual_scale)),
        ("logit_divisor", Some(a.logit_divisor)),
    ] {
        if let Some(value) = value.filter(|value| !positive(*value)) {
            return Err(invalid(field, value, "must be a positive number"));
        }
    }
    if a.full_layers.iter().any(|layer| *layer >= a.layers) {
        let advice = format!("layers are numbered from 0 to {}", a.layers - 1);
        return Err(invalid("full_layers", format!("{:?}", a.full_layers), advice));
    }
    if let Some(experts) = a.experts
        && !(1..=experts.count).contains(&experts.per_token)
    {
        let advice = format!("a token passes from 1 to {} of them", experts.count);
        return Err(invalid("experts.per_token", experts.per_token, advice));
    }
    a.rope.map_or(Ok(()), |rope| check_rope(&rope, a.head_width))
}

fn check_rope(rope: &Rope, head_width: usize) -> Result<(), Invalid> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if rope.turned == head_width && !head_width.is_multiple_of(2) {
        let advice = "a head must have an even width: its halves are rotated against each other";
        return Err(invalid("width", head_width, advice));
    }
    if rope.turned == 0 || rope.turned > head_width || !rope.turned.is_multiple_of(2) {
        let advice = "an even number of each head must turn, and no more than there are";
        return Err(invalid("rope_fraction", rope.turned, advice));
    }
    if !positive(rope.theta) {
        return Err(invalid("rope_theta", rope.theta, "must be a positive number"));
    }
    let (factor, sound) = match rope.scaling {
        None => return Ok(()),
        Some(RopeScaling::Linear { factor }) => (factor, true),
        Some(RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: high,
            original_context,
        }) => (factor, positive(low) && high > low && original_context > 0),
        Some(RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast,
            beta_slow,
            attention_factor,
            ..
        }) => {
            let turns = positive(beta_slow) && beta_fast.is_finite() && beta_fast > beta_slow;
            let base = rope.theta > 1.0;
            (factor, turns && base && original_context > 0 && positive(attention_factor))
        }
    };
    if positive(factor) && sound {
        return Ok(());
    }
    let advice =
        "the factors are positive, and high_frequency_factor and beta_fast the larger ones";
    Err(invalid("rope_scaling", factor, advice))
}
