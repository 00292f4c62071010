//! Weights from the hub: the pinned revision, checked, resumed where a transfer broke.

#[cfg(feature = "hub")]
mod client;

use std::path::PathBuf;

use super::{Progress, WeightFiles, WeightsError};
use crate::Checkpoint;

/// How the hub is asked.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Only what the hub's local cache holds already; no network.
    pub offline: bool,
    /// Another server than `HF_ENDPOINT` or the public one.
    pub endpoint: Option<String>,
    /// Another cache than `HF_HUB_CACHE`, or `hub` below `HF_HOME`.
    pub cache_dir: Option<PathBuf>,
    /// Another token than `HF_TOKEN`, or the one that the hub's own command has saved.
    pub token: Option<String>,
    /// How often a request that failed for a passing reason is repeated; `None` for 5 times.
    pub retries: Option<usize>,
    /// Bytes asked for at a time; `None` for 64 MiB. A broken transfer loses at most this much.
    pub part: Option<u64>,
}

/// Why the hub did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The build has no client.
    #[error(
        "this build has no hub client: rebuild with --features hub, \
         or take synthetic weights or a folder"
    )]
    NoClient,
    /// The stanza pins no commit.
    #[error(
        "no revision of {repo} is pinned for {model}, and nothing else than a commit is fetched: \
         copy the stanza to a file of your own, add revision = \"<40 hex digits>\" from the history \
         of the repo's files, and pass the file with --models; where the repo is gated, accept its \
         terms on its page first and set HF_TOKEN to a token of that account"
    )]
    Unpinned {
        /// The model's id.
        model: String,
        /// `owner/name`.
        repo: String,
    },
    /// Not in the local cache, and the network is off.
    #[error(
        "{repo}@{revision}/{file} is not in the hub cache {} and the network is off; \
         fetch it once without --offline", cache.display()
    )]
    Offline {
        /// `owner/name`.
        repo: String,
        /// The commit.
        revision: String,
        /// The file in the repo.
        file: String,
        /// The cache looked into.
        cache: PathBuf,
    },
    /// No token, or not one that the hub accepts.
    #[error(
        "the hub wants to know who asks for {repo} (HTTP 401): it is gated, private or not there, \
         or the token is stale; open the repo's page on the hub, accept its terms if it has some, and \
         set HF_TOKEN to a token from that account's settings"
    )]
    Unauthorized {
        /// `owner/name`.
        repo: String,
    },
    /// The account may not see it.
    #[error(
        "the hub does not let this account have {repo} (HTTP 403): open the repo's page on the hub, \
         accept its terms, and set HF_TOKEN to a token of that account"
    )]
    Forbidden {
        /// `owner/name`.
        repo: String,
    },
    /// No such repo, revision or file.
    #[error(
        "the hub has no {file} in {repo} at {revision}; \
         check repo, revision and files in models.toml"
    )]
    NotFound {
        /// `owner/name`.
        repo: String,
        /// The commit.
        revision: String,
        /// The file in the repo.
        file: String,
    },
    /// Too many requests.
    #[error(
        "the hub is being asked too often (HTTP 429): try again {}; with HF_TOKEN set the limit is higher",
        retry_after_s.map_or("later".to_owned(), |seconds| format!("in {seconds} s"))
    )]
    RateLimited {
        /// The server's `Retry-After`, in seconds.
        retry_after_s: Option<u64>,
    },
    /// No server answered.
    #[error(
        "the hub at {endpoint} cannot be reached: {reason}; \
         check the network and HF_ENDPOINT, or take synthetic weights or a folder"
    )]
    Unreachable {
        /// The server.
        endpoint: String,
        /// What the client said.
        reason: String,
    },
    /// The connection broke, and went on breaking.
    #[error(
        "the transfer of {file} from {repo} broke after {done} of {total} bytes: {reason}; \
         run it again: it goes on where it stopped"
    )]
    Broken {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Bytes that are kept.
        done: u64,
        /// Bytes of the file.
        total: u64,
        /// What the client said.
        reason: String,
    },
    /// The server sent another number of bytes than asked for.
    #[error(
        "{repo} sent {found} bytes of {file} where {expected} were due: \
         a proxy or mirror in between may not support ranges; try without it (HF_ENDPOINT)"
    )]
    Size {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Bytes due.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The file is not the one that the hub lists.
    #[error(
        "{file} from {repo} arrived damaged: its {kind} is {found} and should be {expected}; \
         it was removed: run it again"
    )]
    Checksum {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Which checksum.
        kind: &'static str,
        /// What the hub lists.
        expected: String,
        /// What came.
        found: String,
    },
    /// Another process fetches the same file.
    #[error(
        "another process is fetching {file} from {repo}; wait for it, or remove {} if none is",
        lock.display()
    )]
    Locked {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// Anything else.
    #[error("cannot fetch {file} from {repo}: {reason}")]
    Other {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// What the client said.
        reason: String,
    },
}

#[cfg(feature = "hub")]
pub(super) fn locate(
    model: &Checkpoint,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let client = client::Client::new(model, options)?;
    let paths: Result<Vec<PathBuf>, WeightsError> =
        model.files.iter().map(|file| client.fetch(file, progress)).collect();
    let stamp = warpmark_record::WeightsStamp::Hub {
        repo: model.repo.clone(),
        revision: client.revision().to_owned(),
    };
    Ok(WeightFiles::of_repo(paths?, &model.files, stamp))
}

/// Fetches one file of a model's repo, such as its tokenizer.
#[cfg(feature = "hub")]
pub(super) fn file(
    model: &Checkpoint,
    file: &str,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<PathBuf, WeightsError> {
    client::Client::new(model, options)?.fetch(file, progress)
}

#[cfg(not(feature = "hub"))]
pub(super) fn locate(
    _model: &Checkpoint,
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
