//! A folder of the user's own as a catalog of one model: its `config.json` says what an entry would.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use warpmark_catalog::configuration::decoder::{self, Section};
use warpmark_nets::decoder::{Architecture, Variant};

use crate::catalog::CatalogError;
use crate::configuration::{Configuration, ConfigurationError, Unsupported};
use crate::shipped::Catalog;

/// Why a folder cannot be measured as a model of its own.
#[derive(Debug, thiserror::Error)]
pub enum OwnModelError {
    /// Nothing that says what it is.
    #[error(
        "{} has no config.json, which says what net its weights are; give a folder that transformers' \
         save_pretrained wrote, or write an entry and give it with --models", path.display()
    )]
    NoConfiguration {
        /// The folder.
        path: PathBuf,
    },
    /// No folder.
    #[error("--model {}: no such folder; a repository is fetched into one first", path.display())]
    NoFolder {
        /// What was given.
        path: PathBuf,
    },
    /// Changes to a model instead of one.
    #[error(
        "{} holds a LoRA adapter (adapter_config.json), which changes a model and is none: merge it into \
         its base (peft's merge_and_unload) and give the folder of that", path.display()
    )]
    Adapter {
        /// The folder.
        path: PathBuf,
    },
    /// A net that no family computes.
    #[error(
        "{}: model_type = {value}: no family computes it{}; known: {known}. A new one is a variant of \
         crates/nets/src/decoder (docs/ADDING.md)", path.display(),
        nearest.map_or(String::new(), |nearest| format!(" (the nearest is {nearest})"))
    )]
    UnknownType {
        /// The configuration.
        path: PathBuf,
        /// The value.
        value: String,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
        /// All of them.
        known: String,
    },
    /// A setting that its family does not compute.
    #[error(
        "{}: `{}` is `{}`: not computed here; what is computed is {}", path.display(), unsupported.key,
        unsupported.value, unsupported.computed
    )]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The setting.
        unsupported: Unsupported,
    },
    /// The configuration could not be read.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// Its numbers make no entry.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The catalog of the one model in a folder, as `save_pretrained` of transformers writes it.
///
/// # Errors
/// Where the folder has no configuration, or one of a net that is not computed.
pub fn catalog(folder: &Path) -> Result<Catalog, OwnModelError> {
    if !folder.is_dir() {
        return Err(OwnModelError::NoFolder { path: folder.to_owned() });
    }
    let path = folder.join("config.json");
    if !path.is_file() {
        let path = folder.to_owned();
        return Err(if folder.join("adapter_config.json").is_file() {
            OwnModelError::Adapter { path }
        } else {
            OwnModelError::NoConfiguration { path }
        });
    }
    let configuration = Configuration::read(&path)?;
    let described = decoder::section(&configuration).and_then(|(variant, section)| {
        let architecture = section.architecture(variant).map_err(|invalid| Unsupported {
            key: invalid.field.to_owned(),
            value: invalid.value,
            computed: invalid.advice,
        })?;
        Ok((variant, section, architecture))
    });
    let (variant, section, architecture) =
        described.map_err(|unsupported| refused(path.clone(), unsupported))?;
    let text = entry(&name(folder), stored_as(&configuration), (variant, &section, &architecture));
    Ok(Catalog::parse(&text, &path.display().to_string())?)
}

fn refused(path: PathBuf, unsupported: Unsupported) -> OwnModelError {
    if unsupported.key != "model_type" {
        return OwnModelError::Unsupported { path, unsupported };
    }
    let value = unsupported.value.trim_matches('"').to_owned();
    let likeness = |known: &&'static str| (strsim::jaro_winkler(known, &value) * 1e6) as u64;
    let known: Vec<&'static str> = decoder::known_types().collect();
    // Of names that share nothing none is near.
    let nearest =
        known.iter().copied().max_by_key(likeness).filter(|known| likeness(known) > 600_000);
    OwnModelError::UnknownType { path, value, nearest, known: known.join(", ") }
}

/// The folder's name as it may stand in ids.
fn name(folder: &Path) -> String {
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._+=-".contains(c) { c } else { '-' };
    let name: String = name.chars().take(80).map(kept).collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

/// The type that the configuration says that weights have.
fn stored_as(configuration: &Configuration) -> &'static str {
    match configuration.text("dtype").or_else(|| configuration.text("torch_dtype")) {
        Some("float16") => "f16",
        Some("bfloat16") => "bf16",
        _ => "f32",
    }
}

/// Tokens of a prompt and in the cache, as entries of the catalog have them.
const LENGTHS: [usize; 2] = [128, 512];

/// Tokens that are written after a prompt.
const WRITTEN: usize = 32;

fn entry(
    name: &str,
    checkpoint: &str,
    (variant, section, architecture): (Variant, &Section, &Architecture),
) -> String {
    // Decoding goes on for a window after the context.
    let fits = |length: &&usize| **length + WRITTEN <= architecture.context;
    let mut lengths: Vec<usize> = LENGTHS.iter().filter(fits).copied().collect();
    if lengths.is_empty() {
        lengths.push((architecture.context / 2).max(1));
    }
    let written = WRITTEN.min(architecture.context / 2).max(1);
    let formats = match checkpoint {
        "bf16" => r#"["bf16", "f16"]"#,
        _ => r#"["f16", "bf16"]"#,
    };
    let quick = if checkpoint == "bf16" { "bf16" } else { "f16" };
    let mut text = format!(
        "[[model]]\nid = {name:?}\nfamily = {:?}\ntitle = {name:?}\nrepo = {:?}\n\
         checkpoint = {checkpoint:?}\nphases = [\"load\", \"prefill\", \"decode\", \"generate\"]\n\
         batches = [1, 2, 4, 8, 16, 32, 64, 128]\n\n[model.inputs]\nprompts = {lengths:?}\n\
         contexts = {lengths:?}\ngenerations = [[{}, {written}]]\n\n\
         [model.suites.quick]\ncpu = [\"f32\"]\ncuda = [{quick:?}]\n\n\
         [model.suites.full]\ncpu = [\"f32\", \"bf16\", \"f16\"]\ncuda = {formats}\n\n\
         [model.architecture]\n",
        variant.name(),
        format!("local/{name}"),
        lengths[0],
    );
    for (key, value) in section.table() {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
