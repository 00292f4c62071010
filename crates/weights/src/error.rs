//! Why weights could not be had.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::HubError;
use crate::{Dtype, Quantisation};

/// Why weights could not be found, made, fetched or loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor was asked for that was not loaded.
    #[error("no tensor {name:?} was loaded; the family must list it among its tensors")]
    NotLoaded {
        /// Its name.
        name: String,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing says where the cache should be.
    #[error(
        "no folder for cached weights: HOME and XDG_CACHE_HOME are not set; \
         set WARPMARK_CACHE to a folder that can be written"
    )]
    NoCacheFolder,
    /// The cache folder cannot be written.
    #[error(
        "the weights cache {} cannot be written: {source}; \
         set WARPMARK_CACHE to a folder that can", path.display()
    )]
    CacheUnwritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "the disk under {} is full: {} are needed and {} are free; \
         free some, or set {variable} to a folder on another disk",
        path.display(), needed.binary(), free.map_or("an unknown number of bytes".to_owned(), Bytes::binary)
    )]
    DiskFull {
        /// The file that did not fit.
        path: PathBuf,
        /// Its size.
        needed: Bytes,
        /// What the file system has left.
        free: Option<Bytes>,
        /// The environment variable that names the folder it was to stand in.
        variable: &'static str,
    },
    /// The weights folder is not there, is no folder, or holds no weights.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The path given.
        path: PathBuf,
        /// What is wrong, with the next step.
        problem: String,
    },
    /// The file is shorter than it says.
    #[error(
        "{} is truncated: its header promises {expected} bytes and it has {found}; \
         remove it and fetch it again", path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length according to its header.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// The header is wrong.
    #[error("{} is a malformed safetensors file: {problem}; remove it and fetch it again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A quantised file that is damaged, or another model's.
    #[error("{}: {problem}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the next step.
        problem: String,
    },
    /// Tensors that the model needs are not there.
    #[error(
        "{count} of the model's tensors are not in {place}: {}{}; is this the checkpoint of another model?",
        names.join(", "), if *count > names.len() { ", ..." } else { "" }
    )]
    Missing {
        /// How many.
        count: usize,
        /// The first few.
        names: Vec<String>,
        /// The file or files looked into.
        place: String,
    },
    /// Tensors that the model has no use for.
    #[error(
        "{count} tensors in {place} belong to no part of the model: {}{}; \
         is this the checkpoint of another model?",
        names.join(", "), if *count > names.len() { ", ..." } else { "" }
    )]
    Unexpected {
        /// How many.
        count: usize,
        /// The first few.
        names: Vec<String>,
        /// The file or files looked into.
        place: String,
    },
    /// A tensor in whose place another is computed with, and which is no copy of that one.
    #[error(
        "{name:?} in {} differs from {of:?}, with which the head is computed: {advice}", path.display()
    )]
    NoCopy {
        /// Its name.
        name: String,
        /// What is computed with.
        of: &'static str,
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A tensor that shows a net of the family that is not computed.
    #[error(
        "{name:?} in {}: {what}, which is not computed here; measured without it, the model would be \
         another one", path.display()
    )]
    NotComputed {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is not computed.
        what: &'static str,
    },
    /// A pointer of git-lfs.
    #[error(
        "{} is a git-lfs pointer and not the file itself: run `git lfs pull` in its folder", path.display()
    )]
    GitLfs {
        /// The file.
        path: PathBuf,
    },
    /// One tensor in two files.
    #[error("the tensor {name:?} is in both {} and {}; remove one of them", first.display(), second.display())]
    Duplicate {
        /// Its name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A tensor of another shape.
    #[error(
        "{name:?} in {} has shape {found:?} where the model needs {expected:?}; \
         is this the checkpoint of another size?", path.display()
    )]
    Shape {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the model needs.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
    },
    /// A tensor in a format that cannot be loaded.
    #[error(
        "{name:?} in {} is stored as {dtype}; f32, f16 and bf16 can be loaded: convert the checkpoint",
        path.display()
    )]
    Dtype {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is there.
        dtype: String,
    },
    /// A dtype that no model is loaded as.
    #[error("weights cannot be loaded as {0}; ask for f32, f16 or bf16")]
    Target(String),
    /// A NaN or an infinity among the weights.
    #[error(
        "{name:?} in {} holds {value} at element {index}: the checkpoint is damaged; \
         remove it and fetch it again", path.display()
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Which element, counted from 0 in row-major order.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A weight that the dtype asked for cannot hold.
    #[error(
        "{name:?} in {} holds {value} at element {index}, which {dtype} cannot hold; \
         load the model as bf16 or f32", path.display()
    )]
    Overflow {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Which element, counted from 0 in row-major order.
        index: usize,
        /// Its value.
        value: f32,
        /// The dtype asked for.
        dtype: Dtype,
    },
    /// The device could not take a tensor.
    #[error("cannot put {name:?} ({}) on the device: {source}", bytes.binary())]
    Device {
        /// The tensor.
        name: String,
        /// Its size there.
        bytes: Bytes,
        /// What candle said.
        source: Box<candle_core::Error>,
    },
    /// The catalog does not say where files of this quantisation are.
    #[error(
        "{model} names no {quantisation} file on the hub; name repo, revision and file in [model.gguf] of \
         its entry, or give a folder with `--weights`"
    )]
    Unpublished {
        /// The model.
        model: String,
        /// The quantisation asked for.
        quantisation: Quantisation,
    },
    /// The clock failed.
    #[error(transparent)]
    Clock(#[from] warpmark_measure::ClockError),
    /// The hub, or the way to it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A cached file that is not what it must be, and cannot be removed.
    #[error(
        "{} is damaged: {problem}; it could not be removed ({reason}): remove it, or set WARPMARK_CACHE or \
         HF_HUB_CACHE to another folder", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        problem: String,
        /// What the system said to its removal.
        reason: String,
    },
    /// The time allowed is up.
    #[error("the budget was used up while {file} was written; `warpmark fetch` has no budget")]
    OutOfTime {
        /// The file.
        file: String,
    },
}

impl WeightsError {
    /// For `map_err` after a call into the file system.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The error of a write into `file`, which is to be `needed` bytes long and to stand at `path`,
    /// somewhere below the folder that `variable` names. A full disk is told apart.
    pub(crate) fn write(
        file: &File,
        path: &Path,
        needed: u64,
        variable: &'static str,
        source: io::Error,
    ) -> Self {
        let full =
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        if !full.contains(&source.kind()) {
            return Self::io("write", path)(source);
        }
        let free = rustix::fs::fstatvfs(file)
            .ok()
            .map(|system| Bytes(system.f_bavail as f64 * system.f_frsize as f64));
        Self::DiskFull { path: path.to_owned(), needed: Bytes(needed as f64), free, variable }
    }
}

impl From<WeightsError> for WorkloadError {
    fn from(error: WeightsError) -> Self {
        match &error {
            // candle hands the driver's error on as text.
            WeightsError::Device { name, bytes, source }
                if source.to_string().contains("OUT_OF_MEMORY") =>
            {
                Self::OutOfMemory { what: format!("the weights, at {name}"), needed: Some(*bytes) }
            }
            WeightsError::OutOfTime { .. } | WeightsError::Hub(HubError::OutOfTime { .. }) => {
                Self::OutOfTime(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_with_the_variable_that_leads_to_another() {
        let mut file = File::options().write(true).open("/dev/full").unwrap();
        let source = file.write_all(b"weights").unwrap_err();
        let error = WeightsError::write(&file, Path::new("w"), 1 << 30, "HF_HUB_CACHE", source);
        assert!(matches!(error, WeightsError::DiskFull { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("1.00 GiB are needed") && text.contains("HF_HUB_CACHE"), "{text}");

        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = WeightsError::write(&file, Path::new("w"), 1, "HF_HUB_CACHE", other);
        assert!(error.to_string().starts_with("cannot write w"), "{error}");
    }
}
