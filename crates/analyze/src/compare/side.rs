//! One of the two recordings that are compared.

use std::collections::BTreeMap;

use warpmark_record::store::Recording;
use warpmark_record::{Outcome, Record, Run};

use super::{Unmatched, unlike};

/// The rows of a recording by what they are matched by: the id, or the path when engines are compared.
pub(super) struct Side<'a> {
    recording: &'a Recording,
    /// The latest row of each.
    pub(super) rows: BTreeMap<String, &'a Record>,
    /// Where all runs count, every measured row of each, in the order in which they were read.
    all: BTreeMap<String, Vec<&'a Record>>,
}

pub(super) fn measured(row: &Record) -> bool {
    row.outcome == Outcome::Measured
}

impl<'a> Side<'a> {
    pub(super) fn of(
        recording: &'a Recording,
        engine: Option<&str>,
        all_runs: bool,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut rows: BTreeMap<String, &Record> = BTreeMap::new();
        let mut all: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
        let mut repeated = 0;
        for row in &recording.rows {
            if engine.is_some_and(|engine| engine != row.id.engine()) {
                continue;
            }
            let key = if engine.is_some() { row.id.path() } else { row.id.to_string() };
            if all_runs && measured(row) {
                all.entry(key.clone()).or_default().push(row);
            }
            let newer = match rows.get(&key) {
                Some(other) => {
                    repeated += 1;
                    other.started_at <= row.started_at
                }
                None => true,
            };
            if newer {
                rows.insert(key, row);
            }
        }
        if repeated > 0 && all_runs {
            notes.push(format!(
                "{name} holds several runs: all of them count, and intervals cover what changes from \
                 run to run"
            ));
        } else if repeated > 0 {
            notes.push(format!(
                "{name} holds several runs: of a benchmark that was run more than once, the latest \
                 row counts ({repeated} left out)"
            ));
        }
        Self { recording, rows, all }
    }

    /// All rows that count for a benchmark: the latest, and where all runs count those that are like it.
    pub(super) fn repeats(&self, key: &str, latest: &'a Record) -> Vec<&'a Record> {
        let one_machine = |row: &Record| match (self.run(row), self.run(latest)) {
            (Some(run), Some(latest)) => unlike::one_machine(run, latest),
            (run, latest) => run.is_none() && latest.is_none(),
        };
        let like = |row: &&&Record| unlike::rows(row, latest).is_empty() && one_machine(row);
        match self.all.get(key) {
            Some(rows) => rows.iter().filter(like).copied().collect(),
            None => vec![latest],
        }
    }

    pub(super) fn run(&self, row: &Record) -> Option<&'a Run> {
        self.recording.run_of(row)
    }

    pub(super) fn unmatched(&self, other: &Self) -> Vec<Unmatched> {
        let rows = self.rows.iter().filter(|(_, row)| measured(row));
        rows.map(|(key, row)| Unmatched {
            id: row.id.clone(),
            other_side: other.rows.get(key).map(|row| row.outcome.clone()),
        })
        .collect()
    }
}
