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

/// What a merge of these paths writes, and what it says.
fn merged(paths: &[&std::path::Path]) -> (String, Merged) {
    let mut text = Vec::new();
    let found = merge(paths, &mut |line: &[u8]| {
        text.extend_from_slice(line);
        text.push(b'\n');
        Ok(())
    });
    (String::from_utf8(text).unwrap(), found.unwrap())
}

#[test]
fn a_merge_takes_what_can_be_read_and_names_the_rest() {
    let (folder, path) = recorded(3);
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let bad = lines[2].replace("\"wall_s\":[", "\"wall_s\":[-");
    let other = good.replace("r1", "r2");
    let others: Vec<&str> = other.lines().collect();
    write("b.jsonl", &format!("{}\n{bad}\n{}\n", others[0], others[3]));
    write("c.jsonl", "no record\n\nat all\n");
    write("d.jsonl", &good.replace("\"schema\":1", "\"schema\":0"));
    let (text, found) = merged(&[folder.path()]);
    assert_eq!((found.runs.len(), found.rows), (2, 4));
    let said: Vec<String> = found.damaged.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].contains("b.jsonl:2:")
            && said[0].contains("2 lines of the file were taken, 1 left out"),
        "{said:?}"
    );
    assert!(said[1].contains("c.jsonl:1:") && said[1].contains("passed over"), "{said:?}");
    assert!(said[2].contains("d.jsonl:1: the line has schema 0"), "{said:?}");
    let again = folder.path().join("again");
    fs::write(&again, text).unwrap();
    let read = read(&again).unwrap();
    assert_eq!((read.runs.len(), read.rows.len(), read.warnings.len()), (2, 4, 0));
}

#[test]
fn two_runs_of_one_name_are_kept_apart_wherever_they_are_read() {
    let (folder, path) = recorded(2);
    let good = fs::read_to_string(&path).unwrap();
    let elsewhere = good.replace("Some CPU", "Other CPU");
    fs::write(folder.path().join("z-other.jsonl"), &elsewhere).unwrap();
    fs::write(folder.path().join("z-twice.jsonl"), &elsewhere).unwrap();
    let found = read(folder.path()).unwrap();
    let names: Vec<&str> = found.runs.iter().map(|run| run.run.0.as_str()).collect();
    assert_eq!((names, found.rows.len()), (vec!["r1", "r1.2"], 4));
    assert!(found.rows[2..].iter().all(|row| row.run.0 == "r1.2"));
    let warnings: Vec<String> = found.warnings.iter().map(Warning::to_string).collect();
    assert!(warnings[0].contains("kept apart as \"r1.2\""), "{warnings:?}");
    assert_eq!(warnings.len(), 1 + 3, "the third file says what the second did: {warnings:?}");
    let (text, merge) = merged(&[folder.path()]);
    assert_eq!((merge.runs.len(), merge.rows, merge.damaged.len()), (2, 4, 0));
    assert_eq!(text.matches("\"r1.2\"").count(), 3, "{text}");
}

#[test]
fn what_takes_merged_lines_may_refuse_them() {
    let (folder, _) = recorded(1);
    let refused = merge([folder.path()], &mut |_| Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(refused, Err(StoreError::Merged(_))));
}
