//! Looking for NVIDIA's libraries before cudarc touches them.
//!
//! cudarc opens a library at the first call into it and panics when the library, or a function in it,
//! is missing. So everything the project calls is looked for here first, under the same names and in
//! the same order, and cudarc is called only where all of it was found and the driver serves it.

use std::ffi::{OsString, c_int};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use libloading::Library;
use serde::Serialize;
use warpmark_record::Field;

use crate::code::CudaError;
use crate::loader::{LibraryInfo, LoadError, already_linked, load, mapped_file, require};
use crate::matching::{Found, Kind};
use crate::symbols;

/// NVIDIA's libraries as this process finds them. Absent carries what was tried, or what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Libraries {
    /// The CUDA driver: `libcuda`. Known as soon as it loads and has every function; whether it works
    /// is for [`crate::open`] to say.
    pub driver: Field<LibraryInfo>,
    /// The run-time compiler. Ask for this before calling `cudarc::nvrtc`, which panics without it.
    pub nvrtc: Field<LibraryInfo>,
    /// Matrix products. Ask for this before calling `cudarc::cublaslt`, which panics without it.
    pub cublaslt: Field<LibraryInfo>,
    /// Sensors and settings.
    pub nvml: Field<LibraryInfo>,
}

/// Looks for all of NVIDIA's libraries. Opens no device and never panics; the libraries stay loaded.
pub fn libraries() -> Libraries {
    Libraries {
        driver: driver().map(Driver::info).into(),
        nvrtc: info(&NVRTC, &NVRTC_FOUND),
        cublaslt: info(&CUBLASLT, &CUBLASLT_FOUND),
        nvml: crate::nvml::library(),
    }
}

static DRIVER: OnceLock<Result<Driver, LoadError>> = OnceLock::new();
static NVRTC_FOUND: OnceLock<Result<Found, String>> = OnceLock::new();
static CUBLASLT_FOUND: OnceLock<Result<Found, String>> = OnceLock::new();

fn info(kind: &Kind, found: &'static OnceLock<Result<Found, String>>) -> Field<LibraryInfo> {
    matching(kind, found).as_ref().map(|found| found.info.clone()).map_err(Clone::clone).into()
}

/// The loaded driver library. Never unloaded: libcuda keeps threads of its own.
pub(crate) struct Driver {
    library: Library,
    name: String,
}

/// The driver library, loaded once for the life of the process.
pub(crate) fn driver() -> Result<&'static Driver, LoadError> {
    let loaded = DRIVER.get_or_init(|| {
        let (library, name) = match already_linked("cuInit") {
            Some(library) => (library, "libcuda (linked)".to_owned()),
            None => load("libcuda", &["cuda", "nvcuda"])?,
        };
        require(&library, &name, symbols::DRIVER)?;
        Ok(Driver { library, name })
    });
    loaded.as_ref().map_err(Clone::clone)
}

/// The version of a driver that lacks functions, if it at least tells that.
pub(crate) fn version_of_incomplete_driver(error: &LoadError) -> Option<u32> {
    let LoadError::Incomplete { name, .. } = error else {
        return None;
    };
    // SAFETY: this library has just been loaded and put away again; see `load`.
    let library = unsafe { Library::new(name) }.ok()?;
    let version = Driver { library, name: name.clone() }.version().ok();
    version.filter(|version| *version > 0)
}

impl Driver {
    /// Its name and file; the version only once it has been asked for.
    pub(crate) fn info(&self) -> LibraryInfo {
        let version = self.version().map(version_words).unwrap_or_default();
        LibraryInfo { path: mapped_file(&self.name), name: self.name.clone(), version }
    }

    /// Starts the driver. May take a second on a machine without persistence mode.
    pub(crate) fn init(&self) -> Result<(), CudaError> {
        type Init = unsafe extern "C" fn(u32) -> u32;
        // SAFETY: `cuInit` has had this signature since CUDA 2.0; the flags must be 0.
        let code = unsafe { self.function::<Init>("cuInit")?(0) };
        check("cuInit", code)
    }

    /// The CUDA version that the driver supports, as 12080 for 12.8. Works before [`Driver::init`].
    pub(crate) fn version(&self) -> Result<u32, CudaError> {
        self.integer("cuDriverGetVersion")
    }

    /// How many devices this process may see.
    pub(crate) fn device_count(&self) -> Result<u32, CudaError> {
        self.integer("cuDeviceGetCount")
    }

    /// The milliseconds between two events. The driver's functions for it: the second appeared with
    /// 12.8, and is the only one that cudarc's bindings for 13.0 know.
    pub(crate) fn elapsed(&self) -> Result<Elapsed, CudaError> {
        self.function("cuEventElapsedTime_v2").or_else(|_| self.function("cuEventElapsedTime"))
    }

    /// Whether this is the simulated driver of the project's own tests, which alone exports this name.
    pub(crate) fn is_simulated(&self) -> bool {
        // SAFETY: only asks whether the name is there; the function is not called.
        unsafe { self.library.get::<unsafe extern "C" fn()>("simgpuVersion") }.is_ok()
    }

    fn integer(&self, name: &'static str) -> Result<u32, CudaError> {
        type Integer = unsafe extern "C" fn(*mut c_int) -> u32;
        let mut value = 0;
        // SAFETY: both functions called through here write one int and keep no pointer to it.
        let code = unsafe { self.function::<Integer>(name)?(&raw mut value) };
        check(name, code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    fn function<F: Copy>(&self, name: &'static str) -> Result<F, CudaError> {
        // SAFETY: the callers name the signatures of cuda.h; the library is never unloaded.
        let found = unsafe { self.library.get::<F>(name) };
        // 500 is CUDA_ERROR_NOT_FOUND, "a named symbol was not found".
        found.map(|function| *function).map_err(|_| CudaError { call: name, code: 500 })
    }
}

/// `cuEventElapsedTime` in either version.
pub(crate) type Elapsed = unsafe extern "C" fn(
    *mut f32,
    cudarc::driver::sys::CUevent,
    cudarc::driver::sys::CUevent,
) -> u32;

/// Zero is success; everything else an error of `call`.
pub(crate) fn check(call: &'static str, code: u32) -> Result<(), CudaError> {
    if code == 0 { Ok(()) } else { Err(CudaError { call, code }) }
}

/// 12080 as `12.8`.
pub(crate) fn version_words(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

const NVRTC: Kind = Kind {
    shown: "libnvrtc",
    stem: "nvrtc",
    linked: "nvrtcVersion",
    symbols: symbols::NVRTC,
    version: nvrtc_version,
};

const CUBLASLT: Kind = Kind {
    shown: "libcublasLt",
    stem: "cublasLt",
    linked: "cublasLtGetVersion",
    symbols: symbols::CUBLASLT,
    version: cublaslt_version,
};

fn nvrtc_version(library: &Library) -> String {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: `nvrtcVersion` writes two ints and keeps no pointer.
    let answer = unsafe {
        library.get::<Version>("nvrtcVersion").map(|ask| ask(&raw mut major, &raw mut minor))
    };
    if matches!(answer, Ok(0)) { format!("{major}.{minor}") } else { String::new() }
}

fn cublaslt_version(library: &Library) -> String {
    type Version = unsafe extern "C" fn() -> usize;
    // SAFETY: `cublasLtGetVersion` takes nothing and returns a size_t.
    let answer = unsafe { library.get::<Version>("cublasLtGetVersion").map(|ask| ask()) };
    // Since CUDA 12 the number is major × 10000 + minor × 100 + patch; before, major × 1000.
    match answer {
        Ok(v) if v >= 100_000 => format!("{}.{}.{}", v / 10_000, v / 100 % 100, v % 100),
        Ok(v) => format!("{}.{}.{}", v / 1000, v / 100 % 10, v % 100),
        Err(_) => String::new(),
    }
}

/// A library in the version that this machine's driver serves, looked for once.
fn matching(
    kind: &Kind,
    found: &'static OnceLock<Result<Found, String>>,
) -> &'static Result<Found, String> {
    found.get_or_init(|| {
        let driver = driver().ok().and_then(|driver| driver.version().ok());
        kind.find(driver).map_err(|error| error.to_string())
    })
}

/// The loader's search path (`LD_LIBRARY_PATH`) with which a new process finds the libraries that
/// [`libraries`] tells of; `None` where it does so anyway. `links` is a folder for links to them.
///
/// # Errors
/// The links cannot be made.
pub fn search_path(links: &Path) -> io::Result<Option<OsString>> {
    let kinds = [(&NVRTC, &NVRTC_FOUND), (&CUBLASLT, &CUBLASLT_FOUND)];
    let unreached = kinds.into_iter().filter_map(|(kind, found)| {
        let file = matching(kind, found).as_ref().ok()?.unreached.clone()?;
        Some((kind.stem, file))
    });
    crate::matching::search_path(links, &unreached.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!(version_words(12_080), "12.8");
        assert_eq!(version_words(13_000), "13.0");
    }
}
