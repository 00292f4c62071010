//! What a report over 10,000 records costs in time and memory, for each format.
//!
//! ```text
//! cargo run --release -p warpmark-report --example ten_thousand -- results/cpu-amd-epyc/RUN.jsonl
//! ```
//!
//! The rows of the named file are repeated under further ids until there are 10,000.

#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::disallowed_methods, reason = "no benchmark row is timed here")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use warpmark_record::store;
use warpmark_report::{Format, Style, render_run};

const ROWS: usize = 10_000;

/// The file's run line and 10,000 rows made of its own.
fn repeated(path: &Path) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    let run = lines.next().ok_or("the file is empty")?;
    let rows: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut all = format!("{run}\n");
    for number in 0..ROWS {
        let mut row = rows.get(number % rows.len().max(1)).ok_or("the file has no rows")?.clone();
        let id = row["id"].as_str().ok_or("a row has no id")?;
        let (segments, engine) = id.split_once('@').ok_or("an id has no engine")?;
        row["id"] = format!("{segments}/r{number}@{engine}").into();
        all += &(row.to_string() + "\n");
    }
    Ok(all)
}

/// The most memory this process has held.
fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".to_owned(), |line| line.trim().to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a results file")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("many.jsonl");
    fs::write(&file, repeated(Path::new(&path))?)?;
    println!("{ROWS} rows, {} bytes", fs::metadata(&file)?.len());
    for format in [Format::Terminal, Format::Markdown, Format::Csv, Format::Json, Format::Html] {
        let start = Instant::now();
        let recording = store::read(&file)?;
        let read = start.elapsed();
        let text = render_run(&recording, format, Style::default())?;
        let all = start.elapsed();
        println!(
            "{format:?}: read {:.3} s, in all {:.3} s, {} bytes; peak memory so far {}",
            read.as_secs_f64(),
            all.as_secs_f64(),
            text.len(),
            peak()
        );
    }
    Ok(())
}
