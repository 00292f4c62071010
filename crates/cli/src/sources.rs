//! What a verb reads from: the catalog of models, their weights, the cache, prices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use warpmark_analyze::Prices;
use warpmark_analyze::cost::Tariffs;
use warpmark_analyze::prices::PriceFilter;
use warpmark_models::Catalog;
use warpmark_models::audio::{Audio, AudioError};
use warpmark_models::options::InputAudio;
use warpmark_models::weights::{Cache, HubOptions, Progress, Source};
use warpmark_record::source;

use crate::arguments::{AudioOption, CatalogOption, PriceOptions, Selection};

/// The longest reference text, in bytes: of the longest audio, in any language, spoken fast. Comparing takes
/// the square of its length.
const LONGEST_TEXT: u64 = 2 << 20;

/// The catalog that the options name.
pub(crate) fn catalog(option: &CatalogOption) -> anyhow::Result<Catalog> {
    Ok(match (&option.model, &option.models) {
        (Some(folder), _) => warpmark_models::own::catalog(folder)?,
        (None, Some(path)) => Catalog::read(path)?,
        (None, None) => Catalog::builtin()?,
    })
}

/// The source of weights that the options name.
pub(crate) fn weights(text: &str, seed: u64, offline: bool) -> anyhow::Result<Source> {
    match text {
        "synthetic" => Ok(Source::Synthetic { seed }),
        "hub" => Ok(Source::Hub(HubOptions { offline, ..HubOptions::default() })),
        path if PathBuf::from(path).is_dir() => Ok(Source::Folder(PathBuf::from(path))),
        path if PathBuf::from(path).is_file() => {
            let folder = PathBuf::from(path);
            let folder = folder.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.map_or(".".to_owned(), |folder| folder.display().to_string());
            bail!(
                "--weights {path:?} is a file: give the folder that holds it, --weights {folder}, and the \
                 model whose weights they are, --filter MODEL"
            )
        }
        other => {
            bail!("--weights {other:?} is neither `synthetic`, nor `hub`, nor a folder that exists")
        }
    }
}

/// The folder for what is written once and used again.
pub(crate) fn cache() -> anyhow::Result<Cache> {
    Ok(Cache::from_env()?)
}

/// The audio that the options name, read whole. A path that leads to nothing is refused; a file that is
/// there and is no audio is a fault of the rows that need it alone.
fn spoken(option: &AudioOption) -> anyhow::Result<Option<Arc<InputAudio>>> {
    let Some(path) = &option.audio else { return Ok(None) };
    let text = option.reference_text.as_deref().map(reference_text);
    let audio = match Audio::read(path) {
        Err(error @ AudioError::Read { .. }) => return Err(error.into()),
        audio => audio,
    };
    Ok(Some(Arc::new(InputAudio { audio, text: text.transpose()? })))
}

/// What is said in the audio, from a file.
fn reference_text(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read the reference text {}", path.display());
    let metadata = path.metadata().with_context(cannot)?;
    if !metadata.is_file() || metadata.len() > LONGEST_TEXT {
        bail!(
            "the reference text {} is no text of one recording: give a regular file of at most {} MiB",
            path.display(),
            LONGEST_TEXT >> 20
        );
    }
    std::fs::read_to_string(path).with_context(cannot)
}

/// What a run asks of the models.
pub(crate) fn request(
    selection: &Selection,
    spec: &warpmark_record::DeviceSpec,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<warpmark_models::RunOptions> {
    let options = &selection.weights;
    Ok(warpmark_models::RunOptions {
        full: selection.suite == crate::arguments::Suite::Full,
        seed: options.seed,
        source: Arc::new(match &selection.catalog.model {
            // Its weights lie beside what says what they are.
            Some(folder) => Source::Folder(folder.clone()),
            None => weights(&options.weights, options.seed, options.offline)?,
        }),
        cache: Arc::new(cache()?),
        progress,
        spec: spec.clone(),
        dtypes: None,
        audio: spoken(&selection.audio)?,
    })
}

/// Where prices come from.
pub(crate) fn tariffs(options: &PriceOptions) -> anyhow::Result<Tariffs> {
    let list = match &options.prices {
        Some(path) => Prices::parse(&text_of(path)?, &path.display().to_string())?,
        None => Prices::builtin()?,
    };
    let mut tariffs = Tariffs {
        list,
        wanted: PriceFilter {
            region: options.region.clone(),
            terms: options.terms.map(|terms| terms.name().to_owned()),
        },
        ..Tariffs::default()
    };
    for price in &options.usd_per_hour {
        match &price.card {
            Some(card) => drop(tariffs.own.insert(card.clone(), price.per_hour)),
            None => tariffs.every = Some(price.per_hour),
        }
    }
    Ok(tariffs)
}

/// The text of a file that the user named.
pub(crate) fn text_of(path: &Path) -> anyhow::Result<String> {
    source::text(path, source::LONGEST_TEXT)
        .with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_text_is_a_regular_file_of_bounded_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.txt");
        std::fs::write(&path, "said").unwrap();
        assert_eq!(reference_text(&path).unwrap(), "said");
        std::fs::File::create(&path).unwrap().set_len(LONGEST_TEXT + 1).unwrap();
        for unfit in [folder.path(), &path] {
            let error = reference_text(unfit).unwrap_err().to_string();
            assert!(error.contains("at most 2 MiB"), "{error}");
        }
        let error = reference_text(&folder.path().join("none.txt")).unwrap_err().to_string();
        assert!(error.contains("none.txt"), "{error}");
    }
}
