//! Downloads and generated weights, a bar for each file.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};
use warpmark_models::weights::Progress;
use warpmark_record::Bytes;

use crate::bar::style;
use crate::budget::Budget;
use crate::output::plain;

/// A bar for each file on its way.
pub(crate) struct Transfers {
    bars: MultiProgress,
    budget: Budget,
    files: Mutex<HashMap<String, ProgressBar>>,
}

impl Transfers {
    /// Bars among other bars, for what may take so long.
    pub(crate) fn new(bars: MultiProgress, budget: Budget) -> Self {
        Self { bars, budget, files: Mutex::new(HashMap::new()) }
    }

    fn with_bar(&self, file: &str, f: impl FnOnce(&ProgressBar)) {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = files.get(file) {
            f(bar);
        }
    }
}

impl Progress for Transfers {
    fn begin(&self, file: &str, total: Option<Bytes>) {
        let bar = total.map_or_else(ProgressBar::no_length, |t| ProgressBar::new(t.get() as u64));
        let bar = bar
            .with_style(style("{prefix} [{bar:24}] {bytes} of {total_bytes}, {bytes_per_sec}"))
            .with_prefix(plain(file));
        let bar = self.bars.insert(0, bar);
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), bar);
    }

    fn advance(&self, file: &str, done: Bytes) {
        self.with_bar(file, |bar| bar.set_position(done.get() as u64));
    }

    fn finish(&self, file: &str) {
        self.with_bar(file, ProgressBar::finish_and_clear);
    }

    fn time_left(&self) -> Option<Duration> {
        self.budget.left()
    }
}
