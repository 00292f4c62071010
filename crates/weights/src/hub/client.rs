//! The hub's client, with the two things it lacks: going on where a transfer broke, and holding what
//! came against what was listed.
//!
//! hf-hub 1.0 streams a file in one request, starts from the first byte when the connection breaks, and
//! takes whatever length arrives (it does not look at the status of that request either). So files are
//! asked for in parts, which it retries; the parts are kept in the `.incomplete` file that the hub's own
//! tools use, and the whole is checked before it gets its name in the hub's cache.

mod blobs;
mod explain;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::{RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync};
use warpmark_record::Bytes;

use blobs::CachedFile;
use explain::{chain, passing};

use super::{HubError, HubOptions};
use crate::Checkpoint;
use crate::{Progress, WeightsError};

/// Bytes asked for at a time, unless the options say otherwise.
const PART: u64 = 64 << 20;

/// The least part that is asked for after failures: on a bad line a large one would never arrive.
const LEAST_PART: u64 = 1 << 20;

/// How often a part is asked for again, unless the options say otherwise.
const RETRIES: usize = 5;

/// The first wait before a part is asked for again; it doubles each time.
const PATIENCE: Duration = Duration::from_millis(200);

/// Fetches files of one model's pinned revision.
pub(super) struct Client<'a> {
    repo: HFRepositorySync<RepoTypeModel>,
    model: &'a Checkpoint,
    revision: &'a str,
    options: &'a HubOptions,
    endpoint: String,
    cache: PathBuf,
}

/// A file as the hub lists it.
struct Listed<'a> {
    file: &'a str,
    size: u64,
    /// The name of its blob in the cache, where it is known before the file has been read.
    blob: Option<String>,
    /// The digest it must have.
    sha256: Option<String>,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        model: &'a Checkpoint,
        options: &'a HubOptions,
    ) -> Result<Self, WeightsError> {
        let Some(revision) = model.revision.as_deref() else {
            let (model, repo) = (model.id.clone(), model.repo.clone());
            return Err(HubError::Unpinned { model, repo }.into());
        };
        let failed = |error: HFError| HubError::Other {
            repo: model.repo.clone(),
            file: "anything".to_owned(),
            reason: error.to_string(),
        };
        let mut builder =
            HFClient::builder().retry_max_attempts(options.retries.unwrap_or(RETRIES));
        if let Some(endpoint) = &options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache) = &options.cache_dir {
            builder = builder.cache_dir(cache);
        }
        if let Some(token) = &options.token {
            builder = builder.token(token);
        }
        let client = builder.build().map_err(failed)?;
        let (endpoint, cache) = (client.endpoint().to_owned(), client.cache_dir().to_owned());
        let (owner, name) = hf_hub::split_id(&model.repo);
        let repo = HFClientSync::from_inner(client).map_err(failed)?.model(owner, name);
        Ok(Self { repo, model, revision, options, endpoint, cache })
    }

    /// The commit it fetches.
    pub(super) fn revision(&self) -> &str {
        self.revision
    }

    /// The path of a file of the pinned revision, fetched where the cache does not hold it.
    pub(super) fn fetch(
        &self,
        file: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        match self.cached(file) {
            Ok(path) => return Ok(path),
            Err(HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. }) => {}
            Err(error) => return Err(self.explain(file, error).into()),
        }
        if self.options.offline {
            return Err(HubError::Offline {
                repo: self.model.repo.clone(),
                revision: self.revision.to_owned(),
                file: file.to_owned(),
                cache: self.cache.clone(),
            }
            .into());
        }
        let listed = self.list(file)?;
        let place = CachedFile::new(&self.cache, &self.model.repo, self.revision, file);
        let _lock = place.lock()?;
        self.transfer(&listed, &place.incomplete(), progress)?;
        place.publish(&listed)?;
        progress.finish(file);
        self.cached(file).map_err(|error| self.explain(file, error).into())
    }

    fn cached(&self, file: &str) -> Result<PathBuf, HFError> {
        self.repo
            .download_file()
            .filename(file)
            .revision(self.revision)
            .local_files_only(true)
            .send()
    }

    fn list<'f>(&self, file: &'f str) -> Result<Listed<'f>, HubError> {
        let entries = self
            .repo
            .get_paths_info()
            .paths(vec![file.to_owned()])
            .revision(self.revision)
            .send()
            .map_err(|error| self.explain(file, error))?;
        let found = entries.into_iter().find_map(|entry| match entry {
            RepoTreeEntry::File { oid, size, path, lfs, .. } if path == file => {
                Some((oid, size, lfs))
            }
            _ => None,
        });
        let (oid, size, lfs) = found.ok_or_else(|| self.not_found(file))?;
        let at = self.model.files.iter().position(|name| name == file);
        let pinned = at.and_then(|at| self.model.sha256.get(at)).cloned();
        // A large file's blob is called by its digest, a small one's by its git object.
        let large = lfs.is_some();
        let sha256 = pinned.or_else(|| lfs?.sha256);
        let blob = if large { sha256.clone() } else { Some(oid) };
        let safe = |name: &String| name.bytes().all(|c| c.is_ascii_alphanumeric());
        if !blob.iter().all(safe) {
            let reason = format!("the hub calls it {blob:?}, which is no digest");
            return Err(self.other(file, reason));
        }
        Ok(Listed { file, size, blob, sha256 })
    }

    /// Fetches what is missing of the file at `path`, part by part.
    fn transfer(
        &self,
        listed: &Listed<'_>,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), WeightsError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(WeightsError::io("open", path))?;
        let length = file.metadata().map_err(WeightsError::io("look at", path))?.len();
        let mut done = if length > listed.size { 0 } else { length };
        file.set_len(done).map_err(WeightsError::io("shorten", path))?;
        progress.begin(listed.file, Some(Bytes(listed.size as f64)));
        progress.advance(listed.file, Bytes(done as f64));

        let mut part = self.options.part.unwrap_or(PART).max(1);
        let mut failures = 0;
        while done < listed.size {
            let range = done..listed.size.min(done.saturating_add(part));
            match self.part(listed, range.clone(), progress) {
                Ok(bytes) => {
                    self.write(&file, path, &bytes, &range, listed)?;
                    done = range.end;
                    failures = 0;
                }
                Err(error)
                    if passing(&error) && failures < self.options.retries.unwrap_or(RETRIES) =>
                {
                    std::thread::sleep(PATIENCE * (1 << failures.min(6)));
                    failures += 1;
                    part = (part / 2).max(LEAST_PART.min(part));
                }
                Err(error) if passing(&error) => {
                    return Err(HubError::Broken {
                        repo: self.model.repo.clone(),
                        file: listed.file.to_owned(),
                        done,
                        total: listed.size,
                        reason: chain(&error),
                    }
                    .into());
                }
                Err(error) => return Err(self.explain(listed.file, error).into()),
            }
        }
        file.sync_all().map_err(WeightsError::io("sync", path))
    }

    /// Asks for one part and passes its progress on while it comes.
    fn part(
        &self,
        listed: &Listed<'_>,
        range: Range<u64>,
        progress: &dyn Progress,
    ) -> Result<impl AsRef<[u8]> + use<>, HFError> {
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let start = range.start;
            let transfer = scope.spawn(move || {
                self.repo
                    .download_file_to_bytes()
                    .filename(listed.file)
                    .revision(self.revision)
                    .range(range)
                    .progress(Relay(sender))
                    .send()
            });
            // Ends when the transfer drops its sender.
            for bytes in receiver {
                progress.advance(listed.file, Bytes((start + bytes) as f64));
            }
            transfer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn write(
        &self,
        file: &File,
        path: &Path,
        bytes: &impl AsRef<[u8]>,
        range: &Range<u64>,
        listed: &Listed<'_>,
    ) -> Result<(), WeightsError> {
        let bytes = bytes.as_ref();
        let (expected, found) = (range.end - range.start, bytes.len() as u64);
        if found != expected {
            let (repo, file) = (self.model.repo.clone(), listed.file.to_owned());
            return Err(HubError::Size { repo, file, expected, found }.into());
        }
        file.write_all_at(bytes, range.start)
            .map_err(|source| WeightsError::write(file, path, listed.size, "HF_HUB_CACHE", source))
    }
}

/// Passes the client's progress on to the thread that asked.
struct Relay(mpsc::Sender<u64>);

impl ProgressHandler for Relay {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(DownloadEvent::Progress { files }) = event {
            for file in files {
                // Nobody listens any more once the transfer has failed.
                let _ = self.0.send(file.bytes_completed);
            }
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
