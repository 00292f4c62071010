//! Which results files there are below a folder, and which of their runs is the newest.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::StoreError;
use crate::source;

/// Folders deeper than this below a results folder hold no results.
const DEEPEST: usize = 16;

/// More of a file's beginning than a run's line takes.
const BEGINNING: u64 = 1 << 20;

/// Clocks of two machines differ, and the one that reads may be behind; a run that is ahead of it by
/// more than a year had a wrong one.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366);

/// The beginning of the year of the first version: a run that says it began earlier had a wrong clock, too.
const FIRST: Timestamp = Timestamp::constant(1_767_225_600, 0);

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

/// What bears the name of a results file below a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files, in the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// What is none.
    pub(super) passed_over: Vec<PathBuf>,
}

/// All `.jsonl` files below a folder. Links to folders are not followed, so that no circle can be, and what
/// is no file (a pipe would be waited for) is passed over.
pub(super) fn files(folder: &Path) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    list(folder, DEEPEST, &mut listing)?;
    Ok(listing)
}

fn list(folder: &Path, depth: usize, listing: &mut Listing) -> Result<(), StoreError> {
    let failed = |error| io_error("list", folder, error);
    let mut entries =
        fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // The type of the entry itself, not of what a link leads to.
        if entry.file_type().map_err(failed)?.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, listing)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            let kind = if path.is_file() { &mut listing.files } else { &mut listing.passed_over };
            kind.push(path);
        }
    }
    Ok(())
}

/// When the run of a file began, and whether it has a row.
#[derive(Debug, PartialEq, Eq)]
struct Beginning {
    /// By the run's own clock; `None` where that is no time, or one that no run can have begun at.
    started_at: Option<Timestamp>,
    has_rows: bool,
}

/// What the first lines of a results file say; what cannot be read has neither time nor rows.
fn beginning(path: &Path, now: Timestamp) -> Beginning {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        started_at: String,
    }
    let mut found = Beginning { started_at: None, has_rows: false };
    let Ok(file) = source::open(path) else { return found };
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    // A run's line may have been torn and written anew, so that more than two lines are looked at.
    for _ in 0..8 {
        text.clear();
        let read = reader.by_ref().take(BEGINNING).read_until(b'\n', &mut text);
        if read.map_or(true, |read| read == 0) {
            break;
        }
        // A row may be longer than what was read of it.
        found.has_rows |= text.starts_with(b"{\"kind\":\"row\"");
        if let Ok(line) = serde_json::from_slice::<Line>(&text) {
            found.has_rows |= line.kind == "row";
            found.started_at = found.started_at.or_else(|| plausible(&line.started_at, now));
        }
        if found.has_rows {
            break;
        }
    }
    found
}

/// A time at which a run can have begun.
fn plausible(text: &str, now: Timestamp) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    let possible = time >= FIRST && time.duration_since(now) <= AHEAD;
    possible.then_some(time)
}

/// The results file below a folder whose run began last by its own clock. Files without a row are passed
/// over, and a run whose clock was wrong comes after all others.
///
/// # Errors
/// The folder cannot be listed, or no file below it has a row.
pub fn newest(folder: &Path) -> Result<PathBuf, StoreError> {
    let files = if folder.is_dir() { files(folder)?.files } else { Vec::new() };
    if files.is_empty() {
        return Err(StoreError::NoFiles(folder.to_owned()));
    }
    by_time(files).pop().ok_or_else(|| StoreError::NoRows(folder.to_owned()))
}

/// The files that hold a row, the newest run last. Of two that began together the later name counts, since
/// run ids sort by time.
pub(super) fn by_time(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let now = Timestamp::now();
    let mut dated: Vec<(Option<Timestamp>, PathBuf)> = files
        .into_iter()
        .map(|file| (beginning(&file, now), file))
        .filter(|(beginning, _)| beginning.has_rows)
        .map(|(beginning, file)| (beginning.started_at, file))
        .collect();
    dated.sort_by(|a, b| (a.0, a.1.file_name(), &a.1).cmp(&(b.0, b.1.file_name(), &b.1)));
    dated.into_iter().map(|(_, file)| file).collect()
}

/// Why the time of a run cannot be right, if so.
pub(super) fn odd_clock(started_at: &str, now: Timestamp) -> Option<&'static str> {
    match started_at.parse::<Timestamp>() {
        Err(_) => Some("which is no time"),
        Ok(time) if time.duration_since(now) > AHEAD => Some("which is still to come"),
        Ok(time) if time < FIRST => Some("which is before there was a warpmark"),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, lines: &[&str]) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    fn run(at: &str) -> String {
        format!("{{\"kind\":\"run\",\"schema\":1,\"started_at\":\"{at}\"}}")
    }

    const ROW: &str = "{\"kind\":\"row\",\"schema\":1,\"started_at\":\"2026-01-01T00:00:00Z\"}";

    #[test]
    fn the_newest_run_is_so_by_its_own_time_whenever_its_file_was_written() {
        let root = tempfile::tempdir().unwrap();
        let newest_run = file(root.path(), "a/2.jsonl", &[&run("2026-02-01T00:00:00Z"), ROW]);
        file(root.path(), "b/1.jsonl", &[&run("2026-01-01T00:00:00Z"), ROW]);
        assert_eq!(newest(root.path()).unwrap(), newest_run);
    }

    #[test]
    fn runs_without_rows_or_with_an_odd_clock_are_not_the_newest() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "empty.jsonl", &[&run("2026-03-01T00:00:00Z")]);
        assert!(matches!(newest(root.path()), Err(StoreError::NoRows(_))));
        let odd = file(root.path(), "odd.jsonl", &[&run("2199-01-01T00:00:00Z"), ROW]);
        file(root.path(), "before.jsonl", &[&run("1969-01-01T00:00:00Z"), ROW]);
        assert_eq!(newest(root.path()).unwrap(), odd, "of odd ones the last by name");
        let torn = file(
            root.path(),
            "torn.jsonl",
            &["{\"kind\":\"run\",\"sch", &run("2026-01-01T00:00:00Z"), ROW],
        );
        assert_eq!(newest(root.path()).unwrap(), torn);
        let none = root.path().join("none");
        assert!(matches!(newest(&none), Err(StoreError::NoFiles(_))));
    }

    #[test]
    #[cfg(unix)]
    fn links_in_circles_end_and_pipes_are_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let only = file(root.path(), "cpu/a.jsonl", &[&run("2026-01-01T00:00:00Z"), ROW]);
        for name in ["one", "two"] {
            std::os::unix::fs::symlink("..", root.path().join("cpu").join(name)).unwrap();
        }
        let pipe = root.path().join("pipe.jsonl");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        assert_eq!(newest(root.path()).unwrap(), only);
        let listing = files(root.path()).unwrap();
        assert_eq!((listing.files, listing.passed_over), (vec![only], vec![pipe]));
    }
}
