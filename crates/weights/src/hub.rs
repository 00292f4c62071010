//! Weights from the hub: the pinned revision, checked, resumed where a transfer broke.

#[cfg(feature = "hub")]
mod bypass;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod endpoint;
mod environment;
mod error;
#[cfg(feature = "hub")]
mod secrets;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use warpmark_record::Bytes;

use super::{Progress, WeightFiles, WeightsError};
use crate::Checkpoint;

pub use environment::cache_folder;
pub use error::HubError;

/// How the hub is asked.
#[derive(Clone, Default)]
pub struct HubOptions {
    /// Only what the hub's local cache holds already; no network. `HF_HUB_OFFLINE` and
    /// `TRANSFORMERS_OFFLINE` say the same.
    pub offline: bool,
    /// Another server than `HF_ENDPOINT` or the public one.
    pub endpoint: Option<String>,
    /// Another cache than [`cache_folder`].
    pub cache_dir: Option<PathBuf>,
    /// Another token than `HF_TOKEN`, or the one that the hub's own command has saved.
    pub token: Option<String>,
    /// How often a request that failed for a passing reason is repeated; `None` for 5 times.
    pub retries: Option<usize>,
    /// Bytes asked for at a time; `None` for 64 MiB.
    pub part: Option<u64>,
    /// How long a server may say nothing; `None` for 15 s.
    pub silence: Option<Duration>,
}

impl fmt::Debug for HubOptions {
    /// Without the token, and without an endpoint that may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("offline", &self.offline)
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "hub")]
pub(super) fn locate(
    model: &Checkpoint,
    tensors: Bytes,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let client = client::Client::new(model, options)?;
    let paths = client.weights(tensors, progress)?;
    let stamp = warpmark_record::WeightsStamp::Hub {
        repo: model.repo.clone(),
        revision: client.revision().to_owned(),
    };
    Ok(WeightFiles::of_repo(paths, &model.files, stamp))
}

/// Fetches one small file of a model's repo, such as its tokenizer.
#[cfg(feature = "hub")]
pub(super) fn file(
    model: &Checkpoint,
    file: &str,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<PathBuf, WeightsError> {
    client::Client::new(model, options)?.small_file(file, progress)
}

/// Examines the files of the model that the cache holds, and removes those that are not what their digest
/// says. Nothing is asked for.
#[cfg(feature = "hub")]
pub(super) fn examine(
    model: &Checkpoint,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<Vec<String>, WeightsError> {
    if model.revision.is_none() {
        return Ok(Vec::new());
    }
    client::Client::new(model, options)?.examine(progress)
}

#[cfg(not(feature = "hub"))]
#[expect(clippy::unnecessary_wraps, reason = "the signature is that of the hub's client")]
pub(super) fn examine(
    _model: &Checkpoint,
    _options: &HubOptions,
    _progress: &dyn Progress,
) -> Result<Vec<String>, WeightsError> {
    Ok(Vec::new())
}

#[cfg(not(feature = "hub"))]
pub(super) fn locate(
    _model: &Checkpoint,
    _tensors: Bytes,
    _options: &HubOptions,
    _progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    Err(HubError::NoClient.into())
}

#[cfg(not(feature = "hub"))]
pub(super) fn file(
    _model: &Checkpoint,
    _file: &str,
    _options: &HubOptions,
    _progress: &dyn Progress,
) -> Result<PathBuf, WeightsError> {
    Err(HubError::NoClient.into())
}
