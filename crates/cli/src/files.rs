//! Files that the user names to be written: whole, or as they were before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::arguments::WrongUsage;

/// No first line of recorded runs is longer.
const LONGEST_LINE: u64 = 4 << 20;

/// Fills a file beside `path` and moves it into place, so that a full disk or a kill leaves what was there
/// before. What is no file (a device, a pipe) is written to as it is, and a link leads to what is replaced.
///
/// # Errors
/// Those of `fill`, and the disk's.
pub(crate) fn replace(
    path: &Path,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let there = match fs::metadata(path) {
        Ok(there) if there.is_dir() => bail!("{} is a folder: name a file in it", path.display()),
        Ok(there) if !there.is_file() => {
            let _reader = reader_of(path, &there)?;
            return fill(path);
        }
        Ok(there) => Some(there),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| unwritable(path)),
    };
    let target = if there.is_some() { fs::canonicalize(path) } else { Ok(path.to_owned()) };
    let target = target.with_context(|| unwritable(path))?;
    let draft = Draft::beside(&target).with_context(|| unwritable(path))?;
    fill(&draft.0)?;
    draft.sync().with_context(|| unwritable(path))?;
    if let Some(there) = there {
        fs::set_permissions(&draft.0, there.permissions()).with_context(|| unwritable(path))?;
    }
    fs::rename(&draft.0, &target).with_context(|| unwritable(path))
}

/// Makes sure that somebody reads a named pipe, as long as what is returned is kept: to open one that nobody reads
/// waits for ever.
fn reader_of(path: &Path, there: &fs::Metadata) -> anyhow::Result<Option<File>> {
    if !there.file_type().is_fifo() {
        return Ok(None);
    }
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let pipe = OpenOptions::new().write(true).custom_flags(flags).open(path);
    let nobody =
        || format!("{} is a pipe that nobody reads: start its reader first", path.display());
    pipe.map(Some).with_context(nobody)
}

/// Fills a new file beside `path` and gives it its name. One that is there already stays.
///
/// # Errors
/// There is such a file; those of `fill`, and the disk's.
pub(crate) fn create(
    path: &Path,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let taken = || {
        anyhow::anyhow!("{} is there already: remove it, or choose another name", path.display())
    };
    if fs::symlink_metadata(path).is_ok() {
        return Err(taken());
    }
    let draft = Draft::beside(path).with_context(|| unwritable(path))?;
    fill(&draft.0)?;
    draft.sync().with_context(|| unwritable(path))?;
    match fs::hard_link(&draft.0, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
        // There are file systems without links.
        Err(_) => fs::rename(&draft.0, path).with_context(|| unwritable(path)),
    }
}

/// Refuses to write a report over what it is read from, or over any other record of measurements, by
/// whatever name.
///
/// # Errors
/// The file is one of those, and what to do.
pub(crate) fn spare_records(path: &Path, read: &[&Path]) -> anyhow::Result<()> {
    let is_read = read.iter().any(|other| is_same(path, other));
    if is_read || holds_records(path) {
        let what = if is_read { "is read for this report" } else { "holds recorded runs" };
        return Err(WrongUsage(format!(
            "{} {what}, and would be lost: name another file with --output",
            path.display()
        ))
        .into());
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Whether a file begins as the results of a run do, in whatever order a tool has written the names.
fn holds_records(path: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Line {
        kind: String,
        schema: u64,
    }
    if !fs::metadata(path).is_ok_and(|file| file.is_file()) {
        return false;
    }
    let Ok(file) = File::open(path) else { return false };
    let mut line = Vec::new();
    let read = BufReader::new(file.take(LONGEST_LINE)).read_until(b'\n', &mut line);
    let line = serde_json::from_slice::<Line>(&line);
    read.is_ok() && line.is_ok_and(|line| line.schema > 0 && ["run", "row"].contains(&&*line.kind))
}

fn unwritable(path: &Path) -> String {
    format!("{} cannot be written; what was there is as it was", path.display())
}

/// A file under a name of its own, gone at the end.
struct Draft(PathBuf);

impl Draft {
    fn beside(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Process numbers repeat in other containers; a draft that a kill left there stays.
        for count in 0..1000 {
            let draft = folder.join(format!(".warpmark-{}-{count}.draft", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&draft) {
                Ok(_) => return Ok(Self(draft)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Waits until it is on the disk: some disks say only then that they are full.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone by this name once it is in place.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_the_file_as_it_was_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        fs::write(&path, "before").unwrap();
        let failed = replace(&path, |draft| {
            fs::write(draft, "half")?;
            bail!("no room")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        replace(&path, |draft| Ok(fs::write(draft, "after")?)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert!(create(&path, |_| Ok(())).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn permissions_and_links_outlive_a_new_text() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("page.html"), folder.path().join("link.html"));
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, |draft| Ok(fs::write(draft, "after")?)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn records_are_known_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        fs::write(&path, "{\"kind\": \"run\", \"schema\": 1}\n").unwrap();
        let (link, hard) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::hard_link(&path, &hard).unwrap();
        for path in [&path, &link, &hard] {
            assert!(spare_records(path, &[]).is_err(), "{}", path.display());
        }
        let other = folder.path().join("p.toml");
        fs::write(&other, "").unwrap();
        assert!(spare_records(&other, &[&path, &other]).is_err());
        assert!(spare_records(&other, &[&path]).is_ok());
        assert!(spare_records(&folder.path().join("none"), &[&path]).is_ok());
    }
}
