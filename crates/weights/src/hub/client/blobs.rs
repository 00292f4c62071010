//! One file's place in the hub's cache, laid out as the hub's own tools do: where its parts are
//! gathered, the lock beside them, and the names the whole gets.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo};
use sha2::{Digest, Sha256};
use warpmark_record::Bytes;

use super::Listed;
use crate::damaged::removed;
use crate::hub::HubError;
use crate::{Progress, WeightsError};

/// A file of a model's pinned revision in the hub's cache.
pub(super) struct CachedFile<'a> {
    cache: &'a Cache,
    repo: &'a Repo,
    file: &'a str,
}

impl<'a> CachedFile<'a> {
    pub(super) fn new(cache: &'a Cache, repo: &'a Repo, file: &'a str) -> Self {
        Self { cache, repo, file }
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(name)
    }

    fn repo_name(&self) -> String {
        self.repo.url()
    }

    /// Where the whole file stands, once it is there.
    pub(super) fn path(&self) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(self.repo.revision()).join(self.file)
    }

    /// Whether the whole file is there.
    pub(super) fn is_there(&self) -> bool {
        self.path().is_file()
    }

    /// Where the parts are gathered. The blob may not have a name yet, but the revision and the path
    /// tell it apart.
    pub(super) fn incomplete(&self) -> PathBuf {
        let file = self.file.replace('/', "--");
        self.blob(&format!("{}-{file}.incomplete", self.repo.revision()))
    }

    /// Keeps other processes from fetching the same file, until it is dropped.
    pub(super) fn lock(&self) -> Result<File, WeightsError> {
        let path = self.incomplete().with_extension("lock");
        make_parent(&path)?;
        let lock = File::create(&path).map_err(WeightsError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(HubError::Locked {
                repo: self.repo_name(),
                file: self.file.to_owned(),
                lock: path,
            }
            .into()),
            Err(TryLockError::Error(error)) => Err(WeightsError::io("lock", &path)(error)),
        }
    }

    /// Checks the whole file and gives it its names in the cache: the blob, and the link to it.
    pub(super) fn publish(&self, listed: &Listed<'_>) -> Result<(), WeightsError> {
        let incomplete = self.incomplete();
        let found = digest(&incomplete, self.file, None)?;
        if let Some(expected) = listed.sha256.as_ref().filter(|expected| **expected != found) {
            std::fs::remove_file(&incomplete).map_err(WeightsError::io("remove", &incomplete))?;
            return Err(HubError::Checksum {
                repo: self.repo_name(),
                file: self.file.to_owned(),
                kind: "SHA-256",
                expected: expected.clone(),
                found,
            }
            .into());
        }
        let name = listed.blob.as_ref().unwrap_or(&found);
        let blob = self.blob(name);
        std::fs::rename(&incomplete, &blob).map_err(WeightsError::io("move into place", &blob))?;
        let link = self.path();
        make_parent(&link)?;
        // Out of the file's own folders in the repo, the revision and `snapshots`.
        let up = "../".repeat(2 + self.file.matches('/').count());
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(WeightsError::io("replace", &link)(error));
            }
            _ => {}
        }
        symlink(format!("{up}blobs/{name}"), &link).map_err(WeightsError::io("link", &link))
    }
}

impl CachedFile<'_> {
    /// Holds the whole file, if it is there, against its digest: the one pinned, else the one that its blob
    /// is called by. One that differs is removed, and said.
    pub(super) fn examine(
        &self,
        pinned: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Option<String>, WeightsError> {
        let link = self.path();
        let Ok(blob) = link.canonicalize() else { return Ok(None) };
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(expected) = pinned.or(is_sha256.then_some(&*name)) else { return Ok(None) };
        let found = digest(&blob, self.file, Some(progress))?;
        if found == expected {
            return Ok(None);
        }
        let said = removed(&blob, &format!("its SHA-256 is {found} and should be {expected}"))?;
        // It led to nothing else.
        let _ = std::fs::remove_file(&link);
        Ok(Some(said))
    }
}

fn make_parent(path: &Path) -> Result<(), WeightsError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(WeightsError::io("create", parent))
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The SHA-256 of a file in hex; `progress` hears of it, and may end it.
fn digest(
    path: &Path,
    name: &str,
    progress: Option<&dyn Progress>,
) -> Result<String, WeightsError> {
    let mut file = File::open(path).map_err(WeightsError::io("open", path))?;
    let length = file.metadata().map_err(WeightsError::io("look at", path))?.len();
    let mut digest = Sha256::new();
    let mut done = 0;
    if let Some(progress) = progress {
        progress.begin(name, Some(Bytes(length as f64)));
    }
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(WeightsError::io("read", path))? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
        if let Some(progress) = progress {
            done += buffer.len().min(length as usize);
            progress.advance(name, Bytes((done as f64).min(length as f64)));
            if progress.time_left().is_some_and(|left| left.is_zero()) {
                return Err(WeightsError::OutOfTime { file: name.to_owned() });
            }
        }
    }
    if let Some(progress) = progress {
        progress.finish(name);
    }
    Ok(hex(&digest.finalize()))
}
