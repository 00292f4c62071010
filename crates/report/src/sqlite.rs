//! A recording as an `SQLite` database, for those who query.
//!
//! | Table | A line is | Columns |
//! |---|---|---|
//! | `runs` | a run | its stamp, and the whole of it as JSON |
//! | `rows` | a row | the columns of the CSV form, and `row`, by which other tables name it |
//! | `samples` | a sample | `row`, `sample` from 0, `iterations`, `wall_s`, `device_s` |
//! | `parts` | a time within a row | `row`, `name` (a phase of a load, a token), `at` from 0, `seconds` |
//! | `latencies` | a bucket of a level of load | `row`, `name`, `nanoseconds`, `requests` |

use std::path::Path;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use serde_json::Value;
use warpmark_analyze::analyze;
use warpmark_record::store::Recording;
use warpmark_record::{Record, Run, Samples};

use crate::fields;

/// Why a database could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// `SQLite`'s own refusal.
    #[error("the database could not be written: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A stamp that is no JSON.
    #[error("a run could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The file system's refusal.
    #[error("the database could not be written: {0}")]
    File(#[from] std::io::Error),
}

const TABLES: &str = "
CREATE TABLE runs (
    run TEXT NOT NULL, started_at TEXT NOT NULL, method INTEGER NOT NULL, suite TEXT NOT NULL,
    seed INTEGER NOT NULL, device TEXT NOT NULL, device_kind TEXT NOT NULL, version TEXT NOT NULL,
    git TEXT NOT NULL, json TEXT NOT NULL
);
CREATE TABLE samples (
    row INTEGER NOT NULL REFERENCES rows (row), sample INTEGER NOT NULL, iterations INTEGER NOT NULL,
    wall_s REAL NOT NULL, device_s REAL
);
CREATE TABLE parts (
    row INTEGER NOT NULL REFERENCES rows (row), name TEXT NOT NULL, at INTEGER NOT NULL,
    seconds REAL NOT NULL
);
CREATE TABLE latencies (
    row INTEGER NOT NULL REFERENCES rows (row), name TEXT NOT NULL, nanoseconds INTEGER NOT NULL,
    requests INTEGER NOT NULL
);
";

const INDEXES: &str = "
CREATE INDEX rows_id ON rows (id);
CREATE INDEX samples_row ON samples (row);
CREATE INDEX parts_row ON parts (row);
CREATE INDEX latencies_row ON latencies (row);
";

/// Writes the rows that `selected` chooses, and every run, into a new database. One that is there already is
/// replaced when the new one is complete.
pub fn write(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    path: &Path,
) -> Result<(), SqliteError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    if beside.exists() {
        std::fs::remove_file(beside)?;
    }
    let written = fill(recording, selected, beside);
    if let Err(error) = written {
        // What was begun is of no use to anybody; the first error is the one to tell.
        let _ = std::fs::remove_file(beside);
        return Err(error);
    }
    Ok(std::fs::rename(beside, path)?)
}

fn fill(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    path: &Path,
) -> Result<(), SqliteError> {
    let mut database = Connection::open(path)?;
    // A file that is thrown away when anything fails needs no journal.
    database.pragma_update(None, "journal_mode", "OFF")?;
    let all = database.transaction()?;
    all.execute_batch(TABLES)?;
    for run in &recording.runs {
        add_run(&all, run)?;
    }
    let mut number = 0;
    for run in &analyze(recording) {
        for row in run.rows.iter().filter(|row| selected(row.record)) {
            let columns = fields::of(run, row);
            if number == 0 {
                all.execute_batch(&rows_table(&columns))?;
            }
            add_row(&all, number, &columns)?;
            add_times(&all, number, row.record)?;
            number += 1;
        }
    }
    if number == 0 {
        all.execute_batch("CREATE TABLE rows (row INTEGER PRIMARY KEY, id TEXT)")?;
    }
    all.execute_batch(INDEXES)?;
    all.commit()?;
    Ok(database.close().map_err(|(_, error)| error)?)
}

/// The table of the rows: its columns are names of this program, never of a results file. They have no type,
/// so that each cell keeps its own.
fn rows_table(columns: &[(&'static str, Value)]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    format!("CREATE TABLE rows (row INTEGER PRIMARY KEY, {})", names.join(", "))
}

fn add_run(all: &Transaction<'_>, run: &Run) -> Result<(), SqliteError> {
    let mut insert =
        all.prepare("INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    insert.execute(params![
        run.run.0,
        run.started_at,
        run.method,
        run.suite,
        // SQLite's integers are signed: a larger seed comes out negative, bit by bit the same.
        run.seed.cast_signed(),
        run.device.name,
        run.device.kind.to_string(),
        run.build.version,
        run.build.git,
        serde_json::to_string(run)?,
    ])?;
    Ok(())
}

fn add_row(
    all: &Transaction<'_>,
    number: i64,
    columns: &[(&'static str, Value)],
) -> Result<(), SqliteError> {
    let places = vec!["?"; columns.len() + 1].join(", ");
    let mut insert = all.prepare(&format!("INSERT INTO rows VALUES ({places})"))?;
    let cells = columns.iter().map(|(_, value)| cell(value));
    insert.execute(params_from_iter([Cell::Integer(number)].into_iter().chain(cells)))?;
    Ok(())
}

/// Numbers and words as they are; what has parts as JSON.
fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(yes) => Cell::Integer(i64::from(*yes)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Cell::Integer(integer),
            (None, Some(real)) => Cell::Real(real),
            (None, None) => Cell::Text(number.to_string()),
        },
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Cell::Text(value.to_string()),
    }
}

fn add_times(all: &Transaction<'_>, number: i64, row: &Record) -> Result<(), SqliteError> {
    if let Some(samples) = &row.samples {
        add_samples(all, number, samples)?;
    }
    let Some(load) = &row.load_test else { return Ok(()) };
    let mut insert = all.prepare("INSERT INTO latencies VALUES (?1, ?2, ?3, ?4)")?;
    let kinds = [
        ("latency", Some(&load.latency)),
        ("waiting", Some(&load.waiting)),
        ("first_token", load.first_token.as_ref()),
        ("between_tokens", load.between_tokens.as_ref()),
    ];
    for (name, times) in kinds {
        for (nanoseconds, requests) in times.into_iter().flat_map(|times| &times.buckets) {
            let (nanoseconds, requests) = (nanoseconds.cast_signed(), requests.cast_signed());
            insert.execute(params![number, name, nanoseconds, requests])?;
        }
    }
    Ok(())
}

fn add_samples(all: &Transaction<'_>, number: i64, samples: &Samples) -> Result<(), SqliteError> {
    let mut insert = all.prepare("INSERT INTO samples VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (at, (wall, iterations)) in samples.wall_s.iter().zip(&samples.iterations).enumerate() {
        let device = samples.device_s.as_ref().and_then(|times| times.get(at));
        insert.execute(params![
            number,
            at.cast_signed() as i64,
            iterations.cast_signed(),
            wall,
            device
        ])?;
    }
    let mut insert = all.prepare("INSERT INTO parts VALUES (?1, ?2, ?3, ?4)")?;
    for (name, times) in samples.stages.iter().chain(&samples.distributions) {
        for (at, time) in times.iter().enumerate() {
            insert.execute(params![number, name, at.cast_signed() as i64, time])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn written(recording: &Recording) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.sqlite");
        // Twice: what is there is replaced.
        write(recording, |_| true, &path).unwrap();
        write(recording, |_| true, &path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let database = Connection::open(&path).unwrap();
        (folder, database)
    }

    #[test]
    fn every_run_row_and_sample_is_read_back_by_a_query() {
        let recording = fixture::recording();
        let (_folder, database) = written(&recording);
        let count = |table: &str| -> usize {
            let query = format!("SELECT count(*) FROM {table}");
            let found: i64 = database.query_row(&query, [], |row| row.get(0)).unwrap();
            usize::try_from(found).unwrap()
        };
        assert_eq!((count("runs"), count("rows")), (recording.runs.len(), recording.rows.len()));
        for row in &recording.rows {
            let Some(samples) = &row.samples else { continue };
            let mut query = database
                .prepare(
                    "SELECT samples.wall_s FROM samples JOIN rows USING (row) WHERE id = ? ORDER BY sample",
                )
                .unwrap();
            let times = query.query_map([row.id.to_string()], |row| row.get(0)).unwrap();
            let times: Vec<f64> = times.map(Result::unwrap).collect();
            assert_eq!(times, samples.wall_s, "{}", row.id);
        }
        let json: String =
            database.query_row("SELECT json FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&json).unwrap(), recording.runs[0]);
    }

    #[test]
    fn hostile_names_are_values_and_no_sql() {
        let mut recording = fixture::recording();
        let name = "x'); DROP TABLE rows; --\"\u{1b}[31m".to_owned();
        recording.runs[0].device.name.clone_from(&name);
        recording.rows[0].parameters.insert(name.clone(), name.as_str().into());
        if let Some(samples) = &mut recording.rows[0].samples {
            samples.stages.insert(name.clone(), vec![1.0]);
        }
        let (_folder, database) = written(&recording);
        let found: String =
            database.query_row("SELECT device FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(found, name);
        let rows: i64 =
            database.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(rows), Ok(recording.rows.len()));
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("runs.sqlite");
        assert!(write(&fixture::recording(), |_| true, &path).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
