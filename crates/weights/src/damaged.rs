//! Damaged files of the cache, which are removed so that they are made anew.

use std::path::Path;

use crate::WeightsError;

/// Removes a damaged file, and says so.
pub(super) fn removed(path: &Path, problem: &str) -> Result<String, WeightsError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(format!(
            "{} is damaged: {problem}; it was removed, and is made anew when it is next needed",
            path.display()
        )),
        Err(error) => Err(WeightsError::Damaged {
            path: path.to_owned(),
            problem: problem.to_owned(),
            reason: error.to_string(),
        }),
    }
}
