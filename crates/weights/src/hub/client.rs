//! The hub's client: a pinned revision's files, in parts, each held against what was listed.
//!
//! hf-hub streams a file in one request, starts from the first byte when the connection breaks, takes
//! whatever length arrives and waits for ever. So files are asked for in parts with time-outs; what comes
//! is kept in an `.incomplete` file like that of the hub's own tools, and the whole is checked before it
//! gets its name in the hub's cache. Names, cache layout and the requests' ureq are hf-hub's.

mod blobs;
mod explain;
mod http;
mod list;
mod transfer;

use std::path::PathBuf;

use warpmark_record::Bytes;

use blobs::CachedFile;
use http::Http;
use list::Listed;

use super::bypass::Bypass;
use super::endpoint::{self, Endpoint};
use super::environment::{Environment, Token};
use super::secrets::Secrets;
use super::{HubError, HubOptions};
use crate::Checkpoint;
use crate::{Progress, WeightsError};

/// How often a request that failed for a passing reason is repeated, unless the options say otherwise.
const RETRIES: usize = 5;

/// The largest small file that is believed: tokenizers of a quarter of a million tokens take 35 MB.
const SMALL: Bytes = Bytes(268_435_456.0);

/// What a checkpoint may hold beside its tensors, in bytes: masks, copies of embeddings, headers. As much
/// again as the tensors themselves is granted on top.
const BESIDE: Bytes = Bytes(67_108_864.0);

/// Fetches files of one model's pinned revision.
pub(super) struct Client<'a> {
    repo: hf_hub::Repo,
    cache: hf_hub::Cache,
    model: &'a Checkpoint,
    revision: &'a str,
    options: &'a HubOptions,
    offline: bool,
    http: Http,
    /// Where the token came from.
    token: String,
    secrets: Secrets,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        model: &'a Checkpoint,
        options: &'a HubOptions,
    ) -> Result<Self, WeightsError> {
        Ok(Self::in_environment(model, options, &Environment::of_process())?)
    }

    fn in_environment(
        model: &'a Checkpoint,
        options: &'a HubOptions,
        environment: &Environment<'_>,
    ) -> Result<Self, HubError> {
        let Some(revision) = model.revision.as_deref() else {
            let (model, repo) = (model.id.clone(), model.repo.clone());
            return Err(HubError::Unpinned { model, repo });
        };
        let mut secrets = Secrets::default();
        let address = options.endpoint.clone().or_else(|| environment.endpoint());
        let endpoint = Endpoint::read(address.as_deref(), &mut secrets)?;
        let token = match &options.token {
            Some(token) => Token::read(token, "the options")?,
            None => environment.token()?,
        };
        if let Some(token) = &token {
            secrets.add(&token.text);
        }
        let proxy = endpoint::proxy(endpoint.is_encrypted(), environment, &mut secrets)?;
        let cache = options.cache_dir.clone().or_else(|| environment.cache_folder());
        Ok(Self {
            repo: hf_hub::Repo::with_revision(
                model.repo.clone(),
                hf_hub::RepoType::Model,
                revision.to_owned(),
            ),
            cache: hf_hub::Cache::new(cache.ok_or(HubError::NoCacheFolder)?),
            model,
            revision,
            options,
            offline: options.offline || environment.is_offline(),
            token: token
                .as_ref()
                .map_or("no token is set".to_owned(), |token| format!("the one in {}", token.from)),
            http: Http::new(endpoint, token.map(|token| token.text), proxy, options.silence),
            secrets,
        })
    }

    /// The commit it fetches.
    pub(super) fn revision(&self) -> &str {
        self.revision
    }

    /// The paths of the model's files, whose tensors take `tensors`.
    pub(super) fn weights(
        &self,
        tensors: Bytes,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, WeightsError> {
        let most = Bytes(tensors.get() * 2.0) + BESIDE;
        self.fetch(&self.model.files, most, progress).map_err(|error| self.without_secrets(error))
    }

    /// The path of a file that is no weights.
    pub(super) fn small_file(
        &self,
        file: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        let found = self.fetch(&[file.to_owned()], SMALL, progress);
        let mut found = found.map_err(|error| self.without_secrets(error))?;
        found.pop().ok_or_else(|| self.not_found(file).into())
    }

    /// The paths of files of the pinned revision, fetched where the cache does not hold them. Those to be
    /// fetched may take `most` together.
    fn fetch(
        &self,
        files: &[String],
        most: Bytes,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, WeightsError> {
        let missing: Vec<&str> =
            files.iter().map(String::as_str).filter(|file| !self.place(file).is_there()).collect();
        if let Some(file) = missing.first() {
            if self.offline {
                return Err(HubError::Offline {
                    repo: self.model.repo.clone(),
                    revision: self.revision.to_owned(),
                    file: (*file).to_owned(),
                    cache: self.cache.path().clone(),
                }
                .into());
            }
            let listed = self.list(&missing, progress)?;
            self.hold_against(&listed, most)?;
            for listed in &listed {
                self.bring(listed, progress)?;
            }
        }
        Ok(files.iter().map(|file| self.place(file).path()).collect())
    }

    /// Holds each of the model's files in the cache against its digest, where that is known, and says which
    /// were damaged and are removed.
    pub(super) fn examine(&self, progress: &dyn Progress) -> Result<Vec<String>, WeightsError> {
        let mut damaged = Vec::new();
        for (at, file) in self.model.files.iter().enumerate() {
            let pinned = self.model.sha256.get(at).map(String::as_str);
            damaged.extend(self.place(file).examine(pinned, progress)?);
        }
        Ok(damaged)
    }

    /// Refuses files that are larger than what they are said to be.
    fn hold_against(&self, listed: &[Listed<'_>], most: Bytes) -> Result<(), HubError> {
        let total = Bytes(listed.iter().map(|listed| listed.size as f64).sum());
        if total <= most {
            return Ok(());
        }
        let what = match listed {
            [one] => one.file.to_owned(),
            several => format!("{} files", several.len()),
        };
        let (repo, model) = (self.model.repo.clone(), self.model.id.clone());
        Err(HubError::Large { repo, model, what, listed: total, most })
    }

    /// Fetches one file, checks it and gives it its names in the cache.
    fn bring(&self, listed: &Listed<'_>, progress: &dyn Progress) -> Result<(), WeightsError> {
        let place = self.place(listed.file);
        let _lock = place.lock()?;
        // Whoever held the lock before may have brought it.
        if !place.is_there() {
            self.transfer(listed, &place.incomplete(), progress)?;
            place.publish(listed)?;
        }
        progress.finish(listed.file);
        Ok(())
    }

    fn place<'b>(&'b self, file: &'b str) -> CachedFile<'b> {
        CachedFile::new(&self.cache, &self.repo, file)
    }

    /// The error as it is, or its text without the secrets that a server or a path has put into it.
    fn without_secrets(&self, error: WeightsError) -> WeightsError {
        let text = error.to_string();
        if self.secrets.are_in(&text) {
            return HubError::Hidden(self.secrets.hide(&text)).into();
        }
        error
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
