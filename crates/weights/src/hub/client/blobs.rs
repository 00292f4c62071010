//! One file's place in the hub's cache, laid out as the hub's own tools do: where its parts are
//! gathered, the lock beside them, and the names the whole gets.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Listed;
use crate::WeightsError;
use crate::hub::HubError;

/// A file of a model's pinned revision in the hub's cache.
pub(super) struct CachedFile<'a> {
    repo: &'a str,
    revision: &'a str,
    file: &'a str,
    /// The repo's folder.
    folder: PathBuf,
}

impl<'a> CachedFile<'a> {
    pub(super) fn new(cache: &Path, repo: &'a str, revision: &'a str, file: &'a str) -> Self {
        let folder = cache.join(format!("models--{}", repo.replace('/', "--")));
        Self { repo, revision, file, folder }
    }

    /// Where the parts are gathered. The blob may not have a name yet, but the revision and the path
    /// tell it apart.
    pub(super) fn incomplete(&self) -> PathBuf {
        let name = format!("{}-{}.incomplete", self.revision, self.file.replace('/', "--"));
        self.folder.join("blobs").join(name)
    }

    /// Keeps other processes from fetching the same file, until it is dropped.
    pub(super) fn lock(&self) -> Result<File, WeightsError> {
        let path = self.incomplete().with_extension("lock");
        make_parent(&path)?;
        let lock = File::create(&path).map_err(WeightsError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(HubError::Locked {
                repo: self.repo.to_owned(),
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
        let found = digest(&incomplete)?;
        if let Some(expected) = listed.sha256.as_ref().filter(|expected| **expected != found) {
            std::fs::remove_file(&incomplete).map_err(WeightsError::io("remove", &incomplete))?;
            return Err(HubError::Checksum {
                repo: self.repo.to_owned(),
                file: self.file.to_owned(),
                kind: "SHA-256",
                expected: expected.clone(),
                found,
            }
            .into());
        }
        let name = listed.blob.as_ref().unwrap_or(&found);
        let blob = self.folder.join("blobs").join(name);
        std::fs::rename(&incomplete, &blob).map_err(WeightsError::io("move into place", &blob))?;
        let link = self.folder.join("snapshots").join(self.revision).join(self.file);
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

fn make_parent(path: &Path) -> Result<(), WeightsError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(WeightsError::io("create", parent))
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

fn digest(path: &Path) -> Result<String, WeightsError> {
    let mut file = File::open(path).map_err(WeightsError::io("open", path))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(WeightsError::io("read", path))? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(hex(&digest.finalize()))
}
