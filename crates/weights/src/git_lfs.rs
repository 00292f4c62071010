//! The small text that stands in a clone for a file that git-lfs keeps elsewhere.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WeightsError;

/// How every pointer begins, by the specification of git-lfs.
const START: &[u8] = b"version https://git-lfs";

/// Whether these are the first bytes of a pointer.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}

/// Refuses a pointer, with the command that fetches what it points to.
pub(super) fn refuse_pointer(file: &File, path: &Path) -> Result<(), WeightsError> {
    let mut start = [0; START.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) if is_pointer(&start) => Err(WeightsError::GitLfs { path: path.to_owned() }),
        // What cannot be read, or is shorter, is said by whoever reads it whole.
        _ => Ok(()),
    }
}

/// Refuses the text of a pointer, as `refuse_pointer` does.
pub fn refuse_pointer_text(text: &[u8], path: &Path) -> Result<(), WeightsError> {
    if is_pointer(text) {
        return Err(WeightsError::GitLfs { path: path.to_owned() });
    }
    Ok(())
}
