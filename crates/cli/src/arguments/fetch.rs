//! The options of `warpmark fetch`.

use clap::Args;
use warpmark_models::Quantisation;

use super::CatalogOption;

/// `warpmark fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark fetch gpt2-124m                       its weights from the hub, into the hub's own cache
  HF_TOKEN=hf_... warpmark fetch llama-3-8b      a gated repository
  warpmark fetch gpt2-124m --weights synthetic   random weights, which a later run need not write
  warpmark fetch tinyllama-1.1b --quantised q4_k_m --weights synthetic")]
pub struct Fetch {
    /// Model names, as `warpmark models` lists them
    #[arg(required = true, value_name = "MODEL")]
    pub names: Vec<String>,
    /// Where models are described.
    #[command(flatten)]
    pub catalog: CatalogOption,
    /// `hub` or `synthetic`
    #[arg(long, value_name = "SOURCE", default_value = "hub")]
    pub weights: String,
    /// The quantised file instead of the plain ones: `q8_0`, `q4_k_m`
    #[arg(long, value_name = "FORMAT", value_parser = quantisation)]
    pub quantised: Option<Quantisation>,
    /// Never use the network: only say whether the weights are in the cache
    #[arg(long)]
    pub offline: bool,
    /// The seed of synthetic weights
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
}

fn quantisation(text: &str) -> Result<Quantisation, String> {
    let known = [Quantisation::Q8_0, Quantisation::Q4KM];
    let found = known.into_iter().find(|quantisation| quantisation.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is neither q8_0 nor q4_k_m"))
}
