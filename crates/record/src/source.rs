//! Files that others wrote, opened without waiting and read up to a length.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The longest text that a person or a tool writes for this suite: catalogs, prices, published figures.
pub const LONGEST_TEXT: u64 = 16 << 20;

/// Opens a file. A named pipe is refused, since opening it may wait for ever; what a shell hands over
/// (`/dev/stdin`, `/dev/fd/63`) has no name of its own and is opened.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for a named pipe.
pub fn open(path: &Path) -> io::Result<File> {
    if is_named_pipe(path) {
        let reason = "it is a named pipe, which may be waited for without end; give a file, or \
                      `/dev/stdin` after a `|`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    File::open(path)
}

/// The bytes of a file that has at most `most` of them.
///
/// # Errors
/// Those of [`open`]; [`io::ErrorKind::InvalidData`] for a longer one.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let reason = format!("it is longer than {} MiB, which none of its kind is", most >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// The text of a file that has at most `most` bytes.
///
/// # Errors
/// Those of [`bytes`], and for what is no UTF-8.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(unix)]
fn is_named_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_pipe = fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    // The links in /proc that stand for a pipe without a name lead nowhere in the file system.
    is_pipe && fs::canonicalize(path).is_ok()
}

#[cfg(not(unix))]
fn is_named_pipe(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_most_and_no_byte_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(text(&path, 12).unwrap(), "twelve bytes");
        assert_eq!(text(&path, 11).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(text(&path, 12).unwrap_err().to_string().contains("UTF-8"));
        assert_eq!(bytes(&path, 2).unwrap(), [0xff, 0xfe]);
    }

    #[test]
    #[cfg(unix)]
    fn what_never_ends_is_not_read_to_its_end_and_a_named_pipe_is_not_waited_for() {
        let error = text(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(open(&pipe).unwrap_err().to_string().contains("named pipe"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert!(open(&link).is_err());
        // What a shell hands over is a pipe all the same.
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        let handed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert!(bytes(Path::new(&handed), 1).unwrap().is_empty());
    }
}
