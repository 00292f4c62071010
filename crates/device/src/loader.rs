//! Loading a shared library under the names, and in the order, that cudarc uses.

use libloading::Library;
use serde::Serialize;

/// The CUDA version whose bindings cudarc was built with (`cuda-13000` in the workspace manifest).
const BINDINGS: (u32, u32) = (13, 0);

/// A library that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LibraryInfo {
    /// The name under which the loader found it, as `libnvrtc.so.12`.
    pub name: String,
    /// The file it was read from, where the kernel tells.
    pub path: Option<String>,
    /// Its version in its own words, as `12.8`; empty where it was asked and refused.
    pub version: String,
}

/// What a driver does with a library that is newer than itself.
pub(crate) const NEWER: &str = "which loads nothing of a newer major version";

/// Why a library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// No file of any candidate name could be loaded.
    #[error(
        "no library {stem} was found (tried {first} to {last} on the loader's path and in LD_LIBRARY_PATH)"
    )]
    Missing { stem: &'static str, first: String, last: String },
    /// A file is there, and is not a usable library.
    #[error("{name} is there but cannot be loaded: {reason}")]
    Unloadable { name: String, reason: String },
    /// It is of a newer CUDA than the driver.
    #[error(
        "{path} is of CUDA {version} and the driver is for CUDA {}.{}, {NEWER}",
        driver / 1000,
        driver % 1000 / 10
    )]
    Newer { path: String, version: String, driver: u32 },
    /// It lacks a function that the project calls.
    #[error("{name} lacks the function {symbol}")]
    Incomplete { name: String, symbol: &'static str },
}

/// The names that cudarc 0.19.10 tries for a library, in its order.
fn candidates(stem: &str) -> Vec<String> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let (major, minor) = BINDINGS;
    let bits = usize::BITS;
    let windows = [
        String::new(),
        format!("{bits}"),
        format!("{bits}_{major}"),
        format!("{bits}_{major}{minor}"),
        format!("{bits}_{major}{minor}_0"),
        format!("{bits}_{major}0_{minor}"),
        format!("{bits}_10"),
        format!("{bits}_11"),
        format!("{bits}_12"),
        format!("{bits}_{major}0_0"),
        format!("{bits}_9"),
    ];
    let unix = [major, 12, 11, 10, 9, 1];
    windows
        .into_iter()
        .map(|infix| format!("{DLL_PREFIX}{stem}{infix}{DLL_SUFFIX}"))
        .chain(unix.map(|version| format!("{DLL_PREFIX}{stem}{DLL_SUFFIX}.{version}")))
        .collect()
}

/// The names of a library's stems, in cudarc's order.
pub(crate) fn names(stems: &[&str]) -> Vec<String> {
    stems.iter().flat_map(|stem| candidates(stem)).collect()
}

/// Loads a library by name; `Err(None)` where there is none of this name.
pub(crate) fn load_name(name: &str) -> Result<Library, Option<LoadError>> {
    // SAFETY: loading runs the library's constructors; these are NVIDIA's own libraries, which cudarc would
    // load under the same name.
    unsafe { Library::new(name) }.map_err(|error| {
        let reason = full_reason(&error);
        // The loader says exactly this of a file that is not there, and names another file when a library
        // that this one needs is missing.
        let absent = format!("{name}: cannot open shared object file: No such file");
        let there = cfg!(target_os = "linux") && !reason.contains(&absent);
        there.then(|| LoadError::Unloadable { name: name.to_owned(), reason })
    })
}

/// Loads the first candidate that can be loaded, as cudarc does.
pub(crate) fn load(shown: &'static str, stems: &[&str]) -> Result<(Library, String), LoadError> {
    let names = names(stems);
    let mut unloadable = None;
    for name in &names {
        match load_name(name) {
            Ok(library) => return Ok((library, name.clone())),
            Err(error) => unloadable = unloadable.or(error),
        }
    }
    Err(unloadable.unwrap_or(LoadError::Missing {
        stem: shown,
        first: names.first().cloned().unwrap_or_default(),
        last: names.last().cloned().unwrap_or_default(),
    }))
}

/// An error with its causes.
pub(crate) fn full_reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    reason
}

/// The program itself, if it was linked with the library that has `symbol`: candle's `cuda` feature
/// does that, and then no other copy of the library may be asked.
#[cfg(unix)]
pub(crate) fn already_linked(symbol: &str) -> Option<Library> {
    let program = libloading::os::unix::Library::this();
    // SAFETY: only asks whether the name is there.
    unsafe { program.get::<unsafe extern "C" fn()>(symbol) }.ok()?;
    Some(program.into())
}

#[cfg(not(unix))]
pub(crate) fn already_linked(_symbol: &str) -> Option<Library> {
    None
}

/// Refuses a library that lacks one of the functions wanted.
pub(crate) fn require(
    library: &Library,
    name: &str,
    wanted: &[&'static str],
) -> Result<(), LoadError> {
    for symbol in wanted {
        // SAFETY: only asks whether the name is there; the function is not called.
        if unsafe { library.get::<unsafe extern "C" fn()>(*symbol) }.is_err() {
            return Err(LoadError::Incomplete { name: name.to_owned(), symbol });
        }
    }
    Ok(())
}

/// The file behind a loaded library, from the kernel's list of mappings.
pub(crate) fn mapped_file(name: &str) -> Option<String> {
    mapped_file_in(&std::fs::read_to_string("/proc/self/maps").ok()?, name)
}

fn mapped_file_in(maps: &str, name: &str) -> Option<String> {
    // `libcuda.so.1` is usually mapped under the name it links to, `libcuda.so.580.65.06`.
    let stem = format!("{}.so", name.split([' ', '.']).next()?);
    let named = |wanted: &str| {
        maps.lines().find_map(|line| {
            let path = line.get(line.find('/')?..)?;
            let rest = path.rsplit('/').next()?.strip_prefix(wanted)?;
            (rest.is_empty() || rest.starts_with('.')).then(|| path.to_owned())
        })
    };
    // Where two versions are mapped, the one that was asked for.
    named(name).or_else(|| named(&stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn names_are_tried_in_cudarcs_order() {
        let names = candidates("cuda");
        assert_eq!(names.first().map(String::as_str), Some("libcuda.so"));
        assert_eq!(names.last().map(String::as_str), Some("libcuda.so.1"));
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        assert!(place("libcuda.so.13") < place("libcuda.so.12"));
        assert_eq!(names.len(), 17);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_nowhere_is_missing_and_says_what_was_tried() {
        let error = load("libwarpmark-none", &["warpmark-none"]).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("libwarpmark-none.so to libwarpmark-none.so.1"), "{text}");
    }

    #[test]
    fn the_file_is_found_behind_its_versioned_name() {
        let maps = "7f0 r-xp 00000000 08:01 12 /usr/lib/libcudart.so.12\n\
                    7f1 r-xp 00000000 08:01 13 /usr/lib/x86_64/libcuda.so.580.65.06\n";
        let found = mapped_file_in(maps, "libcuda.so.1");
        assert_eq!(found.as_deref(), Some("/usr/lib/x86_64/libcuda.so.580.65.06"));
        assert_eq!(mapped_file_in(maps, "libnvrtc.so"), None);
        let two = "7f0 r-xp 00000000 08:01 12 /a/libnvrtc.so.13.0.48\n\
                   7f1 r-xp 00000000 08:01 13 /b/libnvrtc.so.12.9.86\n";
        let found = |name| mapped_file_in(two, name);
        assert_eq!(found("libnvrtc.so.12").as_deref(), Some("/b/libnvrtc.so.12.9.86"));
        assert_eq!(found("libnvrtc.so").as_deref(), Some("/a/libnvrtc.so.13.0.48"));
    }
}
