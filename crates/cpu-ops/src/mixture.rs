//! Attention of some queries of one head, all of it on the calling thread.

use super::elementary::exp_rows;
use super::product::{Strided, add_product};

/// Buffers of a thread, of scores and of what they mix.
#[derive(Default)]
pub(super) struct Mixture {
    scores: Vec<f32>,
    totals: Vec<f32>,
    values: Vec<f32>,
}

/// Which of the keys a query attends to.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// How many of them the first query sees.
    pub(super) first: usize,
    /// How many more each query sees than the one before it.
    pub(super) more: usize,
}

impl Mixture {
    /// `softmax(queries · keys) · values`: `queries` are `[n, d]` and already scaled, `keys` `[d, row]`, of
    /// which as many count as `values`, `[attended, d]`, has rows. Returns `[n, d]`.
    pub(super) fn of(
        &mut self,
        (queries, width): (&[f32], usize),
        (keys, row): (&Strided<'_>, usize),
        (values, attended): (&Strided<'_>, usize),
        seen: Seen,
    ) -> &[f32] {
        let rows = queries.len() / width;
        self.scores.resize(rows * row, 0.0);
        add_product(&mut self.scores, row, (queries, width), keys, width, false);
        self.totals.resize(rows, 0.0);
        exp_rows(&mut self.scores, row, &mut self.totals, seen.first, seen.more);
        self.values.resize(rows * width, 0.0);
        let scores = (self.scores.as_slice(), row);
        add_product(&mut self.values, width, scores, values, attended, false);
        for (values, total) in self.values.chunks_mut(width).zip(&self.totals) {
            for value in values {
                *value /= total;
            }
        }
        &self.values
    }
}
