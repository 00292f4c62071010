//! Records that are large.

use std::fs;
use std::io::{self, Write};

use super::tests::recorded;
use super::*;

/// Lines that stand very often are neither kept nor warned of one by one. A million of them, by hand:
/// `WARPMARK_MANY_LINES=1000000 cargo test --release -p warpmark-record --lib many_lines -- --nocapture`
#[test]
fn many_lines_take_memory_for_what_is_kept_alone() {
    let many = std::env::var("WARPMARK_MANY_LINES").map_or(20_000, |text| text.parse().unwrap());
    let (_folder, path) = recorded(2);
    let text = fs::read_to_string(&path).unwrap();
    let row = text.lines().last().unwrap();
    let mut file = io::BufWriter::new(fs::File::create(&path).unwrap());
    file.write_all(text.as_bytes()).unwrap();
    for _ in 0..many {
        writeln!(file, "{row}").unwrap();
    }
    drop(file);
    let before = resident();
    let found = read(&path).unwrap();
    let grown = resident().saturating_sub(before);
    assert_eq!(found.rows.len(), 2);
    assert_eq!(found.warnings.len(), 101);
    let last = found.warnings.last().unwrap().to_string();
    assert!(last.contains(&format!("{} more lines", many - 100)), "{last}");
    assert!(grown < 64 << 20, "{grown} bytes for two rows");
}

/// The memory that this process holds.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).map_or(0, |pages| pages.parse::<usize>().unwrap() * 4096)
}

#[test]
fn rows_beyond_what_is_held_are_refused_with_their_line() {
    let (_folder, path) = recorded(3);
    let text = fs::read_to_string(&path).unwrap();
    let rows: Vec<u64> = text.lines().skip(1).map(|line| line.len() as u64).collect();
    let all = rows.iter().sum();
    assert_eq!(reader::read_at_most([&path], all).unwrap().rows.len(), 3);
    let error = reader::read_at_most([&path], all - 1).unwrap_err().to_string();
    assert!(error.contains("r1.jsonl:4:") && error.contains("name fewer records"), "{error}");
    // Rows that stand twice are not kept, and do not count.
    let rows = text.split_once('\n').unwrap().1;
    fs::write(&path, format!("{text}{rows}")).unwrap();
    assert_eq!(reader::read_at_most([&path], all).unwrap().rows.len(), 3);
}
