//! The bytes of one file, part by part, each written as it comes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use warpmark_measure::Stopwatch;
use warpmark_record::{Bytes, Seconds};

use super::http::{Ask, Fault, fault};
use super::{Client, Listed, RETRIES};
use crate::hub::HubError;
use crate::{Progress, WeightsError};

/// Bytes asked for at a time, unless the options say otherwise.
const PART: u64 = 64 << 20;

/// What a broken transfer must have brought to be no failure: with as much each time, it ends.
const GAIN: u64 = 1 << 20;

/// The least that must come in [`WATCHED`].
const LEAST: u64 = 32 << 10;

/// The time over which the rate is looked at.
const WATCHED: Seconds = Seconds(30.0);

/// The first wait before something is asked for again; it doubles each time.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file on its way.
struct Way<'a> {
    file: &'a File,
    path: &'a Path,
    listed: &'a Listed<'a>,
    /// Bytes that are there.
    done: u64,
}

/// Why a part did not come whole.
enum Stop {
    /// The server or the line.
    Fault(Fault),
    /// The disk, or an answer of the wrong size.
    Error(WeightsError),
}

impl Client<'_> {
    /// Fetches what is missing of the file at `path`.
    pub(super) fn transfer(
        &self,
        listed: &Listed<'_>,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), WeightsError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(WeightsError::io("open", path))?;
        let length = file.metadata().map_err(WeightsError::io("look at", path))?.len();
        let done = if length > listed.size { 0 } else { length };
        file.set_len(done).map_err(WeightsError::io("shorten", path))?;
        room(&file, path, listed.size - done)?;
        progress.begin(listed.file, Some(Bytes(listed.size as f64)));
        progress.advance(listed.file, Bytes(done as f64));

        let mut way = Way { file: &file, path, listed, done };
        let mut failures = 0;
        while way.done < listed.size {
            let before = way.done;
            let fault = match self.part(&mut way, progress) {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Fault(fault)) => fault,
            };
            failures = if way.done - before >= GAIN { 1 } else { failures + fault.weight() };
            if !fault.may_pass() || failures > self.options.retries.unwrap_or(RETRIES) {
                let sizes = (Bytes(way.done as f64), Bytes(listed.size as f64));
                return Err(self.explain(listed.file, fault, sizes).into());
            }
            thread::sleep(pause(failures, progress.time_left()));
        }
        file.sync_all().map_err(WeightsError::io("sync", path))
    }

    /// Asks for the next part and writes what comes of it.
    fn part(&self, way: &mut Way<'_>, progress: &dyn Progress) -> Result<(), Stop> {
        let listed = way.listed;
        let part = self.options.part.unwrap_or(PART).max(1);
        let (start, end) = (way.done, listed.size.min(way.done.saturating_add(part)));
        let path = format!(
            "/{}/resolve/{}/{}",
            self.repo.url(),
            self.repo.url_revision(),
            escaped(listed.file)
        );
        let limited = progress.time_left();
        let ask = Ask { path: &path, range: Some((start, end)), body: None, left: limited };
        let response = self.http.ask(&ask).map_err(Stop::Fault)?;
        let whole = start == 0 && end == listed.size;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        if !(is_part || whole) || begin(response.headers()).is_some_and(|begin| begin != start) {
            let found = response.body().content_length();
            let found = found.map_or("another part".to_owned(), |count| format!("{count} bytes"));
            return Err(Stop::Error(self.size(listed, end - start, found)));
        }
        if let Some(count) = response.body().content_length().filter(|count| *count != end - start)
        {
            return Err(Stop::Error(self.size(listed, end - start, format!("{count} bytes"))));
        }
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        let mut pace = Pace::start(WATCHED);
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| Stop::Fault(fault(error.into(), limited.is_some())))?;
            if count == 0 {
                break;
            }
            if way.done + count as u64 > end {
                let found = format!("more than {} bytes", end - start);
                return Err(Stop::Error(self.size(listed, end - start, found)));
            }
            way.write(&buffer[..count]).map_err(Stop::Error)?;
            progress.advance(listed.file, Bytes(way.done as f64));
            pace.came(count as u64).map_err(Stop::Fault)?;
        }
        if way.done < end {
            let reason = "the connection was closed before the end".to_owned();
            return Err(Stop::Fault(Fault::Connection(reason)));
        }
        Ok(())
    }

    fn size(&self, listed: &Listed<'_>, expected: u64, found: String) -> WeightsError {
        let (repo, file) = (self.model.repo.clone(), listed.file.to_owned());
        HubError::Size { repo, file, expected, found }.into()
    }
}

impl Way<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.file.write_all_at(bytes, self.done).map_err(|source| {
            WeightsError::write(self.file, self.path, self.listed.size, "HF_HUB_CACHE", source)
        })?;
        self.done += bytes.len() as u64;
        Ok(())
    }
}

/// Refuses what the disk has no room for, before it comes.
fn room(file: &File, path: &Path, needed: u64) -> Result<(), WeightsError> {
    // A file system that cannot tell is found out by the writing.
    let Ok(system) = rustix::fs::fstatvfs(file) else { return Ok(()) };
    if system.f_bavail.saturating_mul(system.f_frsize) >= needed {
        return Ok(());
    }
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Err(WeightsError::write(file, path, needed, "HF_HUB_CACHE", full))
}

/// The first byte of a part, as the answer has it.
fn begin(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// A file's name as a part of an address.
fn escaped(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    file.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The wait before the next attempt, within the time that is left.
pub(super) fn pause(failures: usize, left: Option<Duration>) -> Duration {
    let wait = PATIENCE * (1 << failures.min(6));
    left.map_or(wait, |left| wait.min(left))
}

/// Watches the rate at which bytes come.
struct Pace {
    watch: Stopwatch,
    over: Seconds,
    bytes: u64,
}

impl Pace {
    fn start(over: Seconds) -> Self {
        Self { watch: Stopwatch::start(), over, bytes: 0 }
    }

    fn came(&mut self, bytes: u64) -> Result<(), Fault> {
        self.bytes += bytes;
        if self.watch.elapsed() < self.over {
            return Ok(());
        }
        if self.bytes < LEAST {
            let reason = format!("it sent {} bytes in {}", self.bytes, self.over);
            return Err(Fault::Silence(reason));
        }
        *self = Self::start(self.over);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_becomes_part_of_an_address() {
        assert_eq!(escaped("sub/model-00001.safetensors"), "sub/model-00001.safetensors");
        assert_eq!(escaped("a b?é"), "a%20b%3F%C3%A9");
    }

    #[test]
    fn a_rate_below_the_least_is_noticed_when_it_was_watched_long_enough() {
        let mut pace = Pace::start(Seconds(0.0));
        assert!(pace.came(LEAST).is_ok());
        assert!(matches!(pace.came(LEAST - 1), Err(Fault::Silence(_))));
        assert!(Pace::start(WATCHED).came(1).is_ok());
    }

    #[test]
    fn waits_double_and_end_with_the_time_that_is_left() {
        assert_eq!(pause(1, None), 2 * PATIENCE);
        assert_eq!(pause(3, None), 8 * PATIENCE);
        assert_eq!(pause(60, None), 64 * PATIENCE);
        assert_eq!(pause(3, Some(Duration::from_millis(5))), Duration::from_millis(5));
    }
}
