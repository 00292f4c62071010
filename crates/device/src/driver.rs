//! Starting the CUDA driver, and why it cannot be used.

use std::path::Path;

use crate::code::CudaError;
use crate::loader::LoadError;
use crate::probe::{self, version_words};

/// The oldest driver that is used: CUDA 12.0. Older ones lack `cuMemAllocAsync` pools on some cards,
/// `cuGraphInstantiateWithFlags`, and cannot load what a CUDA 12 NVRTC compiles.
pub const OLDEST_DRIVER: u32 = 12_000;

/// Why a device was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no driver library.
    #[error("{0}; install NVIDIA's driver, or measure the CPU with `--device cpu`")]
    NoDriver(String),
    /// The driver library is there but is damaged, foreign or lacks functions.
    #[error(
        "the CUDA driver cannot be used: {0}; reinstall NVIDIA's driver (CUDA 12.0 or newer), or \
         measure the CPU with `--device cpu`"
    )]
    BadLibrary(String),
    /// The driver is there and does not start.
    #[error(
        "the CUDA driver ({library}) does not work: {error}; or measure the CPU with `--device cpu`"
    )]
    Broken {
        /// The library's file or name.
        library: String,
        /// What it answered.
        error: CudaError,
    },
    /// The driver is older than the project supports.
    #[error(
        "the driver supports CUDA {}, and 12.0 is the oldest that can be used (memory pools, graphs and \
         kernels compiled by NVRTC 12 need it); update NVIDIA's driver to 525 or newer, or measure the \
         CPU with `--device cpu`",
        version_words(*found)
    )]
    TooOld {
        /// The version it reports, as 11080 for 11.8.
        found: u32,
    },
    /// The driver works and shows no device.
    #[error(
        "the CUDA driver works but sees no device; look at `nvidia-smi`, in a container start it with \
         access to the GPU (docker: `--gpus all`), or measure the CPU with `--device cpu`"
    )]
    NoDevice,
    /// The device files are there, and this process may not open them.
    #[error(
        "the CUDA driver sees no device, and {node} cannot be opened ({reason}); give this user (or this \
         container) access to /dev/nvidia*, or measure the CPU with `--device cpu`"
    )]
    NotPermitted {
        /// The device file.
        node: String,
        /// What the operating system said.
        reason: String,
    },
    /// `CUDA_VISIBLE_DEVICES` hides every device.
    #[error(
        "CUDA_VISIBLE_DEVICES is \"{value}\", which leaves no device visible; unset it, name a device \
         that `nvidia-smi -L` lists, or measure the CPU with `--device cpu`"
    )]
    Hidden {
        /// The variable's value.
        value: String,
    },
    /// There are devices, but not that many.
    #[error(
        "there is no device cuda:{index}; {}{}",
        available(*count),
        visible.as_ref().map(|value| format!(
            " (CUDA_VISIBLE_DEVICES is \"{value}\", and devices are counted among those it names)"
        )).unwrap_or_default()
    )]
    NoSuchDevice {
        /// The index that was asked for.
        index: u32,
        /// How many devices are visible.
        count: u32,
        /// `CUDA_VISIBLE_DEVICES`, where it is set.
        visible: Option<String>,
    },
    /// A call failed while the device was being opened.
    #[error("cuda:{index} cannot be opened: {error}; or measure the CPU with `--device cpu`")]
    Device {
        /// The device's index.
        index: u32,
        /// What the driver answered.
        error: CudaError,
    },
    /// All devices, where one is meant.
    #[error(
        "`all` is for `warpmark run` and `warpmark check`, which take one card after the other; name one \
         here, such as `--device cuda:0`"
    )]
    Several,
    /// No threads to work with.
    #[error(
        "a CPU measurement needs at least one thread; set RAYON_NUM_THREADS to 1 or more, or unset it"
    )]
    NoThreads,
}

impl OpenError {
    /// Whether this says that there is simply no GPU to use, which is no fault of the machine.
    pub(crate) fn is_plain_absence(&self) -> bool {
        matches!(self, Self::NoDriver(_) | Self::NoDevice | Self::Hidden { .. })
    }
}

fn available(count: u32) -> String {
    match count {
        1 => "the only one is cuda:0".to_owned(),
        _ => format!("there are cuda:0 to cuda:{}", count.saturating_sub(1)),
    }
}

/// Starts the driver and counts the devices. After this, cudarc may be called.
pub(crate) fn start_driver() -> Result<u32, OpenError> {
    let driver = probe::driver().map_err(|error| match error {
        LoadError::Missing { .. } => OpenError::NoDriver(error.to_string()),
        _ => too_old_or_bad(&error),
    })?;
    let broken = |error| OpenError::Broken { library: library_words(), error };
    match driver.init() {
        Ok(()) => {}
        Err(CudaError { code: 100, .. }) => return Err(no_device()),
        Err(error) => return Err(broken(error)),
    }
    let found = driver.version().map_err(broken)?;
    if found < OLDEST_DRIVER {
        return Err(OpenError::TooOld { found });
    }
    match driver.device_count().map_err(broken)? {
        0 => Err(no_device()),
        count => Ok(count),
    }
}

/// A driver that lacks functions is most often just old; then its version says more than a name.
fn too_old_or_bad(error: &LoadError) -> OpenError {
    match (error, probe::version_of_incomplete_driver(error)) {
        (LoadError::Incomplete { .. }, Some(found)) if found < OLDEST_DRIVER => {
            OpenError::TooOld { found }
        }
        _ => OpenError::BadLibrary(error.to_string()),
    }
}

fn library_words() -> String {
    probe::driver().map_or_else(
        |error| error.to_string(),
        |driver| {
            let info = driver.info();
            info.path.unwrap_or(info.name)
        },
    )
}

/// Why the driver shows no device: hidden, forbidden, or simply none.
fn no_device() -> OpenError {
    let visible = visible_devices();
    // Values that hide everything whatever is installed.
    let hides_all = |value: &String| matches!(value.trim(), "" | "-1" | "NoDevFiles");
    if let Some(value) = visible.clone().filter(hides_all) {
        return OpenError::Hidden { value };
    }
    match (forbidden_node(Path::new("/dev")), visible) {
        (Some((node, reason)), _) => OpenError::NotPermitted { node, reason },
        (None, Some(value)) => OpenError::Hidden { value },
        (None, None) => OpenError::NoDevice,
    }
}

pub(crate) fn visible_devices() -> Option<String> {
    std::env::var_os("CUDA_VISIBLE_DEVICES").map(|value| value.to_string_lossy().into_owned())
}

/// The first of NVIDIA's device files that exists and may not be opened, and the reason.
fn forbidden_node(dev: &Path) -> Option<(String, String)> {
    ["nvidiactl", "nvidia-uvm", "nvidia0"].into_iter().find_map(|name| {
        let node = dev.join(name);
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(&node);
        let error = opened.err().filter(|error| error.kind() != std::io::ErrorKind::NotFound)?;
        Some((node.display().to_string(), error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_value_and_the_next_step() {
        let error = OpenError::NoSuchDevice { index: 7, count: 2, visible: Some("0,1".to_owned()) };
        let text = error.to_string();
        assert!(text.contains("cuda:7") && text.contains("cuda:0 to cuda:1"), "{text}");
        assert!(text.contains("\"0,1\""), "{text}");
        let text = OpenError::TooOld { found: 11_080 }.to_string();
        assert!(text.contains("11.8") && text.contains("--device cpu"), "{text}");
    }

    #[test]
    #[cfg(unix)]
    fn a_device_file_that_may_not_be_opened_is_told_from_one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(forbidden_node(folder.path()), None);
        // A folder cannot be opened for writing by anybody, root included.
        std::fs::create_dir(folder.path().join("nvidia0")).unwrap();
        let (node, _) = forbidden_node(folder.path()).unwrap();
        assert!(node.ends_with("nvidia0"), "{node}");
    }
}
