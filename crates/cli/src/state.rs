//! Where a run keeps what is of no use to another: its lock, criterion's data and log.
//!
//! They stand in the cache where this user may write them there. A cache that another user has filled, or
//! that is read-only, serves all the same: then they stand in a folder of this user's own.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::Access;
use warpmark_models::weights::Cache;

/// Where a file or folder of that name is kept, whose own folder is there and can be written.
pub(crate) fn place(cache: &Cache, name: &str) -> anyhow::Result<PathBuf> {
    place_among(&folders(cache, |name| std::env::var_os(name)), name).with_context(|| {
        let folder = cache.root().display();
        format!("the cache folder {folder} cannot be written; set WARPMARK_CACHE to one that can")
    })
}

/// Opens the file that tells other runs by its lock that this one is measuring, in the cache where
/// possible: every user of it sees it there, also whoever may only read it.
pub(crate) fn lock_file(cache: &Cache, name: &str) -> anyhow::Result<File> {
    let open = |path: &Path| File::options().create(true).append(true).open(path);
    let shared = cache.path(name);
    // The folder is made, or what follows finds out that it cannot be.
    let _ = std::fs::create_dir_all(cache.root());
    if let Ok(file) = open(&shared).or_else(|_| File::open(&shared)) {
        return Ok(file);
    }
    let path = place(cache, name)?;
    open(&path).with_context(|| format!("{} cannot be written", path.display()))
}

/// The folders that may do, best first.
fn folders(cache: &Cache, get: impl Fn(&str) -> Option<OsString>) -> Vec<Folder> {
    // The XDG specification has relative paths ignored.
    let absolute = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let user = rustix::process::geteuid().as_raw();
    let temporary = std::env::temp_dir().join(format!("warpmark-{user}"));
    [
        Some(Folder::Known(cache.root().to_path_buf())),
        state.map(|folder| Folder::Known(folder.join("warpmark"))),
        absolute("XDG_RUNTIME_DIR").map(|folder| Folder::Known(folder.join("warpmark"))),
        Some(Folder::Temporary(temporary)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

enum Folder {
    /// One that belongs to the user or was named by them.
    Known(PathBuf),
    /// One beside which anybody may make another.
    Temporary(PathBuf),
}

impl Folder {
    /// Its path, where it is there or can be made.
    fn made(&self) -> io::Result<&Path> {
        match self {
            Self::Known(path) => std::fs::create_dir_all(path).map(|()| path.as_path()),
            Self::Temporary(path) => {
                match std::fs::DirBuilder::new().mode(0o700).create(path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => {}
                }
                let found = std::fs::symlink_metadata(path)?;
                let own = found.uid() == rustix::process::geteuid().as_raw();
                if found.is_dir() && own && found.mode() & 0o022 == 0 {
                    return Ok(path);
                }
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }
}

fn place_among(folders: &[Folder], name: &str) -> anyhow::Result<PathBuf> {
    let mut first = None;
    for folder in folders {
        match folder.made().and_then(|folder| usable(&folder.join(name), folder)) {
            Ok(path) => return Ok(path),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error.into()),
        None => bail!("no folder is known"),
    }
}

/// The path below `folder`, where it can be written and emptied: it and the folder that it stands in, or is to
/// stand in.
fn usable(path: &Path, folder: &Path) -> io::Result<PathBuf> {
    let above = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(folder);
    for target in [above, path] {
        if target.exists() {
            rustix::fs::access(target, Access::WRITE_OK)?;
        }
    }
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_in_the_cache_stands_in_a_folder_of_the_users_own() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("a-file");
        std::fs::write(&blocked, "").unwrap();
        let cache = Cache::at(blocked.join("cache"));
        let home = folder.path().join("home");
        let get = |name: &str| (name == "HOME").then(|| home.clone().into());
        let found = place_among(&folders(&cache, get), "criterion").unwrap();
        assert_eq!(found, home.join(".local/state/warpmark/criterion"));

        let free = Cache::at(folder.path().join("cache"));
        let found = place_among(&folders(&free, get), "criterion").unwrap();
        assert_eq!(found, free.path("criterion"));
    }

    #[test]
    fn a_relative_folder_in_an_xdg_variable_is_ignored() {
        let cache = Cache::at("/nowhere");
        let get = |name: &str| (name == "XDG_STATE_HOME").then(|| "state".into());
        assert_eq!(folders(&cache, get).len(), 2);
    }

    #[test]
    fn a_temporary_folder_that_others_may_write_is_not_taken() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let own = Folder::Temporary(folder.path().join("own"));
        assert!(own.made().is_ok() && own.made().is_ok());
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Folder::Temporary(open).made().is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(Folder::Temporary(link).made().is_err());
    }

    #[test]
    fn a_lock_that_may_only_be_read_is_still_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let first = lock_file(&cache, "x.lock").unwrap();
        first.try_lock().unwrap();
        let reader = File::open(cache.path("x.lock")).unwrap();
        assert!(reader.try_lock().is_err());
    }
}
