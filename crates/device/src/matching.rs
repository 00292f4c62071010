//! Which of the CUDA libraries on a machine its driver serves.
//!
//! A machine often has several: a toolkit of CUDA 12 beside one of 13, and those that Python packages bring.
//! A driver loads nothing that a library of a newer major version makes: CUDA 13 needs a driver of 580 on,
//! and any driver since 525 serves every CUDA 12. cudarc takes the first file that the loader finds under its
//! names, whatever its version. So each is asked for its version here, and where the first is not served,
//! the one that is gets a place in front of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use libloading::Library;

use crate::loader::{
    LibraryInfo, LoadError, already_linked, load_name, mapped_file, names, require,
};

/// Files and folders that are looked at before a search is given up.
const LOOKED_AT: usize = 50_000;

/// A library that comes in one version for each CUDA.
pub(crate) struct Kind {
    /// Its name in messages, as `libnvrtc`.
    pub(crate) shown: &'static str,
    /// As the loader's names have it: `nvrtc`.
    pub(crate) stem: &'static str,
    /// A function by which a program that is linked with it is known.
    pub(crate) linked: &'static str,
    /// What it must have.
    pub(crate) symbols: &'static [&'static str],
    /// Its version as `12.8`; empty where it does not tell.
    pub(crate) version: fn(&Library) -> String,
}

/// A library that the driver serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) info: LibraryInfo,
    /// Its file, where the loader by itself would take another one, or none.
    pub(crate) unreached: Option<PathBuf>,
}

/// The major version of `13.0`.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Whether a driver of this CUDA version (12080 for 12.8) serves a library of this version. What does not
/// tell its version is believed.
pub(crate) fn serves(driver: Option<u32>, library: &str) -> bool {
    match (driver.filter(|driver| *driver > 0), major(library)) {
        (Some(driver), Some(library)) => library <= driver / 1000,
        _ => true,
    }
}

impl Kind {
    /// The library that a driver of this CUDA version serves: the first under the loader's names, else the
    /// newest in the usual places. It stays loaded.
    ///
    /// # Errors
    /// None is there; or those that are there are too new, or unusable.
    pub(crate) fn find(&self, driver: Option<u32>) -> Result<Found, LoadError> {
        if let Some(library) = already_linked(self.linked) {
            let name = format!("{} (linked)", self.shown);
            require(&library, &name, self.symbols)?;
            let version = (self.version)(&library);
            return Ok(Found { info: keep(library, name, version, None), unreached: None });
        }
        let (mut first, mut refusal) = (true, None);
        for name in names(&[self.stem]) {
            let library = match load_name(&name) {
                Ok(library) => library,
                Err(error) => {
                    refusal = refusal.or(error);
                    continue;
                }
            };
            match self.accept(library, &name, driver) {
                Ok(info) => {
                    let file = info.path.as_ref().map(PathBuf::from).filter(|_| !first);
                    return Ok(Found { info, unreached: file });
                }
                Err(error) => refusal = Some(error),
            }
            first = false;
        }
        let missing = || self.missing();
        self.elsewhere(driver).ok_or_else(|| refusal.unwrap_or_else(missing))
    }

    fn missing(&self) -> LoadError {
        let names = names(&[self.stem]);
        LoadError::Missing {
            stem: self.shown,
            first: names.first().cloned().unwrap_or_default(),
            last: names.last().cloned().unwrap_or_default(),
        }
    }

    /// Keeps a library that was loaded, or says why not.
    fn accept(
        &self,
        library: Library,
        name: &str,
        driver: Option<u32>,
    ) -> Result<LibraryInfo, LoadError> {
        require(&library, name, self.symbols)?;
        let version = (self.version)(&library);
        if !serves(driver, &version) {
            let driver = driver.unwrap_or_default();
            let path = mapped_file(name).unwrap_or_else(|| name.to_owned());
            return Err(LoadError::Newer { path, version, driver });
        }
        Ok(keep(library, name.to_owned(), version, None))
    }

    /// The newest that the driver serves in the usual places.
    fn elsewhere(&self, driver: Option<u32>) -> Option<Found> {
        let newest = driver.map_or(u32::MAX, |driver| driver / 1000);
        let prefix = format!("lib{}.so.", self.stem);
        let files = search(&usual_places(), &prefix);
        let mut files: Vec<(Vec<u32>, PathBuf)> = files
            .into_iter()
            .filter_map(|file| {
                let name = file.file_name()?.to_str()?.strip_prefix(&prefix)?.to_owned();
                let version: Option<Vec<u32>> =
                    name.split('.').map(|part| part.parse().ok()).collect();
                Some((version?, file))
            })
            .filter(|(version, _)| version.first().is_some_and(|major| *major <= newest))
            .collect();
        files.sort();
        files.into_iter().rev().find_map(|(_, file)| {
            // SAFETY: as in `load_name`; the file has the name of NVIDIA's library.
            let library = unsafe { Library::new(&file) }.ok()?;
            let name = file.display().to_string();
            require(&library, &name, self.symbols).ok()?;
            let version = (self.version)(&library);
            serves(driver, &version).then(|| Found {
                info: keep(library, name.clone(), version, Some(name)),
                unreached: Some(file),
            })
        })
    }
}

/// Describes a library and leaves it loaded, as cudarc will load it again anyway.
fn keep(library: Library, name: String, version: String, path: Option<String>) -> LibraryInfo {
    std::mem::forget(library);
    LibraryInfo { path: path.or_else(|| mapped_file(&name)), name, version }
}

/// Where toolkits and Python packages lie.
fn usual_places() -> Vec<PathBuf> {
    let below = |folder: &str, prefix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
        named.map(|entry| entry.path()).collect()
    };
    let mut places = below("/usr/local", "cuda");
    places.extend(below("/usr/lib", "python3"));
    places.extend(below("/usr/local/lib", "python3"));
    places.push(PathBuf::from("/opt"));
    let of = |variable: &str| env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    places.extend(["VIRTUAL_ENV", "CONDA_PREFIX", "WARPMARK_CACHE"].iter().filter_map(|v| of(v)));
    if let Some(home) = of("HOME") {
        places.extend([".cache/warpmark", ".local/lib"].map(|folder| home.join(folder)));
    }
    places
}

/// Files below the places whose names begin so, the places' own links followed and no others: what a
/// toolkit stands in for (`stubs`) is none.
fn search(places: &[PathBuf], prefix: &str) -> Vec<PathBuf> {
    let mut folders: VecDeque<PathBuf> =
        places.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(folder) = folders.pop_front() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > LOOKED_AT {
                return found;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if entry.file_name() != "stubs" {
                    folders.push_back(entry.path());
                }
            } else if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The search path of the loader with which a new process finds these files first: a folder of links under
/// the names that are looked for first, then their own folders, which hold what they load in turn. `None`
/// where nothing has to change.
///
/// # Errors
/// The links cannot be made.
pub(crate) fn search_path(links: &Path, files: &[(&str, PathBuf)]) -> io::Result<Option<OsString>> {
    if files.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(links)?;
    let mut folders = vec![links.to_path_buf()];
    for (stem, file) in files {
        let first = names(&[stem]).swap_remove(0);
        // Another process may be doing the same: a link is never missing for a moment.
        let new = links.join(format!(".{first}.{}", std::process::id()));
        let _ = fs::remove_file(&new);
        symlink(&fs::canonicalize(file)?, &new)?;
        fs::rename(&new, links.join(first))?;
        folders.extend(file.parent().map(Path::to_path_buf));
    }
    folders.dedup();
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(env::split_paths(&before).filter(|folder| !folder.as_os_str().is_empty()));
    env::join_paths(folders).map(Some).map_err(io::Error::other)
}

#[cfg(unix)]
fn symlink(file: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(file, link)
}

#[cfg(not(unix))]
fn symlink(file: &Path, link: &Path) -> io::Result<()> {
    fs::copy(file, link).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_serves_its_own_major_version_and_older_ones() {
        // What the drivers 525, 535, 550, 570 and 580 report.
        for (driver, twelve, thirteen) in [
            (12_000, true, false),
            (12_020, true, false),
            (12_040, true, false),
            (12_080, true, false),
            (13_000, true, true),
        ] {
            for (library, served) in [("12.9", twelve), ("12.9.1", twelve), ("13.0", thirteen)] {
                assert_eq!(serves(Some(driver), library), served, "{library} on {driver}");
            }
        }
        assert!(serves(None, "13.0") && serves(Some(0), "13.0") && serves(Some(12_000), ""));
    }

    #[test]
    fn files_are_found_below_a_linked_place_and_stubs_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("cuda-12.9/targets/x/lib");
        fs::create_dir_all(lib.join("stubs")).unwrap();
        for file in ["libnvrtc.so.12", "libnvrtc-builtins.so.12.9", "stubs/libnvrtc.so.12"] {
            fs::write(lib.join(file), "").unwrap();
        }
        let link = folder.path().join("cuda");
        symlink(&folder.path().join("cuda-12.9"), &link).unwrap();
        let found = search(&[link, folder.path().join("none")], "libnvrtc.so.");
        assert_eq!(found, [fs::canonicalize(lib).unwrap().join("libnvrtc.so.12")]);
    }

    #[test]
    fn what_is_out_of_reach_gets_a_link_under_the_first_name_in_front_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lib/libnvrtc.so.12");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "twelve").unwrap();
        let links = folder.path().join("links");
        for _ in 0..2 {
            let path = search_path(&links, &[("nvrtc", file.clone())]).unwrap().unwrap();
            let folders: Vec<PathBuf> = env::split_paths(&path).collect();
            assert_eq!(folders[..2], [links.clone(), file.parent().unwrap().to_path_buf()]);
        }
        let first = names(&["nvrtc"]).swap_remove(0);
        assert_eq!(fs::read_to_string(links.join(first)).unwrap(), "twelve");
        assert_eq!(search_path(&links, &[]).unwrap(), None);
    }
}
