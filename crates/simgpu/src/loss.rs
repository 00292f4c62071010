//! The one thing that outlasts a process: the loss of a card.

use std::path::{Path, PathBuf};

/// The file that says to later processes that a card is gone.
fn loss(slot: u32) -> Option<PathBuf> {
    let folder = std::env::var_os("SIMGPU_REPORT")?;
    Some(Path::new(&folder).join(format!(".lost-{slot}")))
}

/// Whether a card was lost in a process before this one.
pub(crate) fn is_lost(slot: u32) -> bool {
    loss(slot).is_some_and(|file| file.exists())
}

/// Tells later processes that a card is gone.
pub(crate) fn note_loss(slot: u32) {
    if let Some(file) = loss(slot) {
        std::fs::write(file, "").unwrap();
    }
}
