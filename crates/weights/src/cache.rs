//! The folder where synthetic weights are kept between runs.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::WeightsError;

/// The environment variable that names the folder, before all others.
const VARIABLE: &str = "WARPMARK_CACHE";

/// Drafts begun by this process, which keeps their names apart.
static DRAFTS: AtomicU32 = AtomicU32::new(0);

/// The folder where synthetic weights are kept between runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache in that folder, which is made when first written to.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache that the environment names: `WARPMARK_CACHE`, else `warpmark` below `XDG_CACHE_HOME`,
    /// else below `~/.cache`.
    pub fn from_env() -> Result<Self, WeightsError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, WeightsError> {
        // An empty variable is an unset one, as the XDG specification has it.
        let folder = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        folder(VARIABLE)
            // The XDG specification has relative paths ignored.
            .or_else(|| {
                let caches = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
                Some(caches?.join("warpmark"))
            })
            .or_else(|| Some(folder("HOME")?.join(".cache").join("warpmark")))
            .map(Self::at)
            .ok_or(WeightsError::NoCacheFolder)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file of that name stands, there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Starts a file of a known size under a temporary name beside its final one, so that a run that
    /// is killed, or a second one, never meets half a file. The space is claimed at once.
    pub(super) fn begin(&self, name: &str, bytes: u64) -> Result<Draft, WeightsError> {
        let unwritable = |source| WeightsError::CacheUnwritable { path: self.root.clone(), source };
        std::fs::create_dir_all(&self.root).map_err(unwritable)?;
        self.sweep();
        let (file, path) = self.create(name).map_err(unwritable)?;
        let draft = Draft { file, path, target: self.path(name), bytes, committed: false };
        draft.claim()?;
        Ok(draft)
    }

    /// Makes an empty draft and locks it. The lock is what tells a living draft from one whose writer
    /// was killed: a process number says nothing to another container that shares the folder.
    fn create(&self, name: &str) -> io::Result<(File, PathBuf)> {
        loop {
            let count = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let path = self.path(&format!("{name}.{}-{count}.draft", std::process::id()));
            let file = match File::options().write(true).create_new(true).open(&path) {
                // Of a process with this number in another container.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            match file.try_lock() {
                // A sweep met it before it was locked, and removes it.
                Err(TryLockError::WouldBlock) => continue,
                // Where nothing can be locked, nothing is swept either.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            if file.metadata()?.nlink() > 0 {
                return Ok((file, path));
            }
        }
    }

    /// Removes drafts, of whatever file, that nobody holds any more.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let is_draft = file_name.to_str().is_some_and(is_draft);
            let abandoned = || {
                let file = File::options().write(true).open(entry.path()).ok()?;
                file.try_lock().ok().map(|()| file)
            };
            // Locked until it is gone, so that its writer, if it was just made, makes another.
            if is_draft && let Some(_lock) = abandoned() {
                // It is only in the way; whoever cannot remove it can still write the new one.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether it is the name of a draft: that of a file, a process and a count.
fn is_draft(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".draft")
        .and_then(|rest| rest.rsplit_once('.'))
        .and_then(|(_, maker)| maker.split_once('-'))
        .is_some_and(|(process, count)| number(process) && number(count))
}

/// A file that is being written. Dropped before [`Draft::commit`], it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
    bytes: u64,
    committed: bool,
}

impl Draft {
    fn claim(&self) -> Result<(), WeightsError> {
        use rustix::io::Errno;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file, flags, 0, self.bytes) {
            // A file system that cannot claim space says so, and the writing finds out.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(self.explain(error.into())),
        }
    }

    /// The error for a write that failed.
    pub(super) fn explain(&self, source: io::Error) -> WeightsError {
        WeightsError::write(&self.file, &self.target, self.bytes, VARIABLE, source)
    }

    /// Puts the file on the disk and under its final name; a file of that name is replaced.
    pub(super) fn commit(mut self) -> Result<PathBuf, WeightsError> {
        self.file.sync_all().map_err(|error| self.explain(error))?;
        std::fs::rename(&self.path, &self.target)
            .map_err(WeightsError::io("move into place", &self.target))?;
        self.committed = true;
        if let Some(folder) = self.target.parent() {
            // The name is on the disk only once the folder is.
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(WeightsError::io("sync", folder))?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // There is nobody to report a failure to, and the next sweep tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache_of(variables: &[(&str, &str)]) -> Result<Cache, WeightsError> {
        Cache::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_nearest_variable_names_the_cache() {
        let home = ("HOME", "/h");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let own = ("WARPMARK_CACHE", "/w");
        assert_eq!(cache_of(&[home]).unwrap().root(), Path::new("/h/.cache/warpmark"));
        assert_eq!(cache_of(&[home, xdg]).unwrap().root(), Path::new("/x/warpmark"));
        assert_eq!(cache_of(&[home, xdg, own]).unwrap().root(), Path::new("/w"));
        let relative = ("XDG_CACHE_HOME", "x");
        assert_eq!(cache_of(&[home, relative]).unwrap().root(), Path::new("/h/.cache/warpmark"));
        assert_eq!(
            cache_of(&[home, ("WARPMARK_CACHE", "")]).unwrap().root().parent(),
            Some(Path::new("/h/.cache"))
        );
        assert!(cache_of(&[]).unwrap_err().to_string().contains("WARPMARK_CACHE"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-file");
        std::fs::write(&file, "").unwrap();
        let error = Cache::at(file.join("below")).begin("w", 1).unwrap_err().to_string();
        assert!(error.contains("a-file/below") && error.contains("WARPMARK_CACHE"), "{error}");
    }

    #[test]
    fn a_folder_without_write_permission_is_named_too() {
        if rustix::process::geteuid().is_root() {
            // Nothing is unwritable to root; the case above stands in for this one there.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o500)).unwrap();
        let error = Cache::at(folder.path()).begin("w", 1).unwrap_err();
        assert!(matches!(error, WeightsError::CacheUnwritable { .. }), "{error}");
    }

    #[test]
    fn more_than_the_disk_holds_is_refused_at_once_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cache::at(folder.path()).begin("w", 1 << 62).unwrap_err();
        assert!(matches!(error, WeightsError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("TiB are needed"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_draft_that_is_dropped_is_gone_and_one_that_is_committed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("made/on/demand"));
        drop(cache.begin("w", 16).unwrap());
        assert_eq!(std::fs::read_dir(cache.root()).unwrap().count(), 0);
        let path = cache.begin("w", 16).unwrap().commit().unwrap();
        assert_eq!(path, cache.path("w"));
        assert_eq!(std::fs::metadata(path).unwrap().len(), 16);
        assert_eq!(std::fs::read_dir(cache.root()).unwrap().count(), 1);
    }

    #[test]
    fn drafts_that_nobody_holds_are_swept_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let held = cache.begin("w", 1).unwrap();
        // Of a process long gone, and of one in another container that had this one's number.
        let own = std::process::id();
        // And one of another model's file.
        let names = ["w.2000000000-0.draft", "m-f32-seed7.safetensors.17-3.draft"];
        let names = names.map(str::to_owned).into_iter().chain([format!("w.{own}-999.draft")]);
        let names: Vec<String> = names.collect();
        let others = ["my.draft", "w.draft", "w.1-x.draft", "w.safetensors"];
        for name in names.iter().map(String::as_str).chain(others) {
            std::fs::write(cache.path(name), "half").unwrap();
        }
        cache.begin("w", 1).unwrap().commit().unwrap();
        assert!(names.iter().all(|name| !cache.path(name).exists()));
        assert!(others.iter().all(|name| cache.path(name).exists()));
        assert!(held.path.exists());
    }

    #[test]
    fn a_name_that_another_container_holds_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let next = DRAFTS.load(Ordering::Relaxed);
        let held: Vec<File> = (next..next + 50)
            .map(|count| cache.path(&format!("w.{}-{count}.draft", std::process::id())))
            .map(|path| File::create_new(path).unwrap())
            .inspect(|file| file.try_lock().unwrap())
            .collect();
        assert!(cache.begin("w", 1).unwrap().commit().is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), held.len() + 1);
    }
}
