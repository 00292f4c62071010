use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::writer::{Appender, Sink};
use super::*;
use crate::machine::{DeviceKind, DeviceSpec, Field, HostSpec};
use crate::row::{ClockKind, Outcome, Samples, Value};
use crate::run::Build;
use crate::units::{Bytes, Flops, Work};

fn run(name: &str) -> Run {
    let absent = || Field::absent("not asked");
    Run {
        schema: crate::SCHEMA,
        method: crate::METHOD,
        run: RunId(name.to_owned()),
        started_at: "2026-11-21T23:30:46Z".to_owned(),
        command: vec!["warpmark".to_owned(), "run".to_owned()],
        suite: "quick".to_owned(),
        seed: 1,
        device: DeviceSpec {
            kind: DeviceKind::Cpu,
            index: 0,
            name: "Some CPU".to_owned(),
            slug: "cpu-some".to_owned(),
            memory: Field::Known(Bytes(8e9)),
            memory_bandwidth: Field::absent("a CPU does not tell"),
            last_level_cache: Field::Known(Bytes(32e6)),
            gpu: None,
            cpu: None,
        },
        host: HostSpec {
            name: None,
            cpu: "Some CPU".to_owned(),
            cores: 2,
            memory: Field::Known(Bytes(8e9)),
            os: "Linux".to_owned(),
            container: absent().map(|()| String::new()),
            load_average: Field::Known(0.1),
            busy_cores: None,
        },
        build: Build {
            version: "0.1.0".to_owned(),
            git: "0123abc".to_owned(),
            rustc: "1.95.0".to_owned(),
            profile: "release".to_owned(),
            features: vec![],
            cuda_kernels: None,
            crates: BTreeMap::new(),
        },
        settings: BTreeMap::new(),
        tags: BTreeMap::new(),
        planned: Vec::new(),
    }
}

fn simulated(name: &str) -> Run {
    let mut run = run(name);
    run.device.kind = DeviceKind::Simulated;
    run
}

fn row(run: &str, size: u64) -> Record {
    let id = format!("micro/matmul/f32.f32/{size}x{size}x{size}@gemm").parse().unwrap();
    let mut row = Record::without_samples(
        RunId(run.to_owned()),
        id,
        "2026-11-21T23:30:46Z",
        Outcome::Measured,
    );
    row.parameters.insert("note \u{1b}[31m|=\"\\ ÄÖ\n".to_owned(), Value::from("ü\u{0}"));
    row.work = Work { flops: Some(Flops(2.0 * (size as f64).powi(3))), ..Work::default() };
    row.samples = Some(Samples {
        clock: ClockKind::Wall,
        iterations: vec![1, 2, 3],
        device_s: None,
        wall_s: vec![0.1, 0.2, 1.0 / 3.0],
        warm_up_s: 0.5,
        converged: true,
        launch_s: None,
        blocked: false,
        duty: None,
        burst: None,
        ended: None,
        throttled: BTreeMap::new(),
        sm_clock_hz: None,
        slow_clock: Vec::new(),
        stages: BTreeMap::new(),
        distributions: BTreeMap::new(),
    });
    row
}

/// A folder with a run of `rows` rows; returns it with the path of the file.
pub(super) fn recorded(rows: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    for size in 1..=rows {
        writer.append(&row("r1", size)).unwrap();
    }
    let path = writer.path().to_owned();
    (folder, path)
}

fn append_text(path: &Path, text: &[u8]) {
    let mut all = fs::read(path).unwrap();
    all.extend_from_slice(text);
    fs::write(path, all).unwrap();
}

#[test]
fn what_is_written_is_read_back() {
    let (folder, path) = recorded(3);
    assert_eq!(path, folder.path().join("cpu-some/r1.jsonl"));
    let found = read(folder.path()).unwrap();
    assert_eq!(found.runs, [run("r1")]);
    assert_eq!(found.rows, [row("r1", 1), row("r1", 2), row("r1", 3)]);
    assert_eq!(found.warnings, []);
    assert_eq!(found.run_of(&found.rows[0]), Some(&run("r1")));
    assert!(fs::read_to_string(&path).unwrap().starts_with(r#"{"kind":"run","schema":1,"#));
}

#[test]
fn a_run_killed_at_any_byte_leaves_every_finished_line_readable() {
    let (folder, path) = recorded(2);
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let cut = folder.path().join("cut.jsonl");
    for length in last..whole.len() {
        fs::write(&cut, &whole[..length]).unwrap();
        let found = read(&cut).unwrap();
        let complete = length == whole.len() - 1;
        assert_eq!(found.rows.len(), if complete { 2 } else { 1 }, "cut at {length}");
        let warned = length != last && !complete;
        assert_eq!(found.warnings.len(), usize::from(warned), "cut at {length}");
        if warned {
            assert!(found.warnings[0].to_string().contains("cut.jsonl:3: the line is torn"));
        }
    }
}

#[test]
fn zeros_that_a_power_failure_left_are_a_torn_line() {
    let (_folder, path) = recorded(1);
    append_text(&path, b"{\"kind\":\"row\",\0\0\0\0\n\0\0\0\0\n");
    let found = read(&path).unwrap();
    assert_eq!(found.rows.len(), 1);
    let lines: Vec<u64> = found.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [3, 4]);
}

#[test]
fn a_writer_does_not_glue_its_line_to_a_torn_one() {
    let (folder, path) = recorded(1);
    append_text(&path, br#"{"kind":"row","schema":1,"meth"#);
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    writer.append(&row("r1", 2)).unwrap();
    writer.append(&row("r1", 3)).unwrap();
    let found = read(&path).unwrap();
    assert_eq!(found.rows, [row("r1", 1), row("r1", 2), row("r1", 3)]);
    assert_eq!(found.warnings.len(), 1);
    assert_eq!(found.warnings[0].line, 3);
}

#[test]
fn a_run_whose_own_line_was_torn_gets_another_when_it_is_joined() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("cpu-some");
    fs::create_dir(&device).unwrap();
    fs::write(device.join("r1.jsonl"), br#"{"kind":"run","sch"#).unwrap();
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    writer.append(&row("r1", 1)).unwrap();
    let found = read(folder.path()).unwrap();
    assert_eq!((found.runs.len(), found.rows.len(), found.warnings.len()), (1, 1, 1));
}

#[test]
fn the_processes_of_one_run_join_its_file_one_after_the_other() {
    let (folder, path) = recorded(1);
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    writer.append(&row("r1", 2)).unwrap();
    let error = writer.append(&row("r1", 1)).unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { .. }), "{error}");
    let found = read(&path).unwrap();
    assert_eq!((found.runs.len(), found.rows.len()), (1, 2));
}

#[test]
fn a_second_writer_at_the_same_time_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Writer::open(folder.path(), &run("r1")).unwrap();
    let error = Writer::open(folder.path(), &run("r1")).unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    first.append(&row("r1", 1)).unwrap();
    assert_eq!(read(folder.path()).unwrap().rows.len(), 1);
}

#[test]
fn many_writers_racing_for_one_file_lose_no_row_and_write_one_run_line() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                for number in 0..5 {
                    let mut writer = loop {
                        match Writer::open(folder, &run("r1")) {
                            Err(StoreError::Busy(_)) => std::thread::yield_now(),
                            result => break result.unwrap(),
                        }
                    };
                    writer.append(&row("r1", 1 + thread * 5 + number)).unwrap();
                }
            });
        }
    });
    let found = read(folder.path()).unwrap();
    assert_eq!((found.runs.len(), found.rows.len(), found.warnings.len()), (1, 20, 0));
}

#[test]
fn a_simulated_device_is_kept_out_of_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Writer::open(folder.path(), &simulated("r1")).unwrap_err();
    assert!(matches!(refused, StoreError::Simulated { .. }), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was created");

    Writer::open_simulated(&folder.path().join("simulated"), &simulated("r1")).unwrap();
    for (path, run) in [
        (folder.path().join("results"), simulated("r1")),
        (folder.path().join("results/deeper"), simulated("r1")),
        (folder.path().join("simulated/../results"), simulated("r1")),
        (folder.path().join("elsewhere"), run("r1")),
    ] {
        let refused = Writer::open_simulated(&path, &run).unwrap_err();
        assert!(matches!(refused, StoreError::NotForSimulated { .. }), "{refused}");
    }
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["../r1", "", ".hidden", "a/b", "nul\0"] {
        let error = Writer::open(folder.path(), &run(name)).unwrap_err();
        assert!(matches!(error, StoreError::BadName { .. }), "{error}");
        let mut run = run("r1");
        run.device.slug = name.to_owned();
        let error = Writer::open(folder.path(), &run).unwrap_err();
        assert!(matches!(error, StoreError::BadName { .. }), "{error}");
    }
}

#[test]
fn a_row_of_another_run_or_with_impossible_times_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    let error = writer.append(&row("r2", 1)).unwrap_err();
    assert!(matches!(error, StoreError::OtherRun { .. }), "{error}");
    let mut nan = row("r1", 1);
    nan.samples.as_mut().unwrap().wall_s[1] = f64::NAN;
    let error = writer.append(&nan).unwrap_err();
    assert!(error.to_string().contains("samples.wall_s[1] is NaN"), "{error}");
    writer.append(&row("r1", 1)).unwrap();
}

#[test]
fn a_newer_schema_is_refused_with_both_numbers_and_the_place() {
    let (_folder, path) = recorded(1);
    append_text(&path, b"{\"kind\":\"row\",\"schema\":7,\"new\":[]}\n");
    let error = read(&path).unwrap_err().to_string();
    let expected = "r1.jsonl:3: the line has schema 7, this warpmark reads schema 1: update";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_bad_line_in_the_middle_is_an_error_with_line_and_column() {
    let (_folder, path) = recorded(1);
    let good = fs::read_to_string(&path).unwrap();
    for (bad, place) in [
        (r#"{"kind":"row" "schema":1}"#, "r1.jsonl:3:15: expected"),
        (r#"{"kind":"page","schema":1}"#, r#"r1.jsonl:3:1: "page" is no kind of line"#),
        (r#"{"schema":1}"#, "r1.jsonl:3:1: the line has no `kind`"),
        (r#"{"kind":"row"}"#, "r1.jsonl:3:1: the line has no `schema` number"),
        (r#"{"kind":"row","schema":1,"method":"x"}"#, "r1.jsonl:3:37: invalid type: string"),
        (
            r#"{"kind":"row","schema":1,"id":"a"}"#,
            "r1.jsonl:3:34: benchmark id \"a\" has no engine",
        ),
        ("results", "r1.jsonl:3:1: expected value"),
    ] {
        fs::write(&path, format!("{good}{bad}\n{good}")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn numbers_that_cannot_be_are_refused_with_their_line() {
    let (_folder, path) = recorded(1);
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (r#""wall_s":[0.1,"#, r#""wall_s":[-0.1,"#, "samples.wall_s[0] is -0.1"),
        (r#""wall_s":[0.1,"#, r#""wall_s":["#, "samples.wall_s has 2 entries"),
        (r#""iterations":[1,"#, r#""iterations":[0,"#, "samples.iterations[0] is 0"),
        (r#""wall_s":[0.1,"#, r#""wall_s":[null,"#, "invalid type: null"),
        (r#""wall_s":[0.1,"#, r#""wall_s":[1e999,"#, "number out of range"),
        (r#""outcome":"measured""#, r#""outcome":{"failed":{"reason":""}}"#, "worth nothing"),
        (r#""outcome":"measured""#, r#""outcome":"\u001b[2J""#, "unknown variant `\\u{1b}[2J`"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        fs::write(&path, bad).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("r1.jsonl:2:") && error.contains(expected), "{error}");
    }
}

#[test]
fn rows_without_their_run_and_rows_that_stand_twice_are_warned_of() {
    let (folder, path) = recorded(2);
    let text = fs::read_to_string(&path).unwrap();
    let rows = text.split_once('\n').unwrap().1;
    fs::write(&path, rows.repeat(2)).unwrap();
    let found = read(folder.path()).unwrap();
    assert_eq!((found.runs.len(), found.rows.len()), (0, 2));
    let warnings: Vec<String> = found.warnings.iter().map(Warning::to_string).collect();
    assert!(warnings[0].contains("r1.jsonl:3: run \"r1\" has a row for"), "{warnings:?}");
    assert!(warnings[2].contains("r1.jsonl:1: run \"r1\" has no line of its own"), "{warnings:?}");
}

#[test]
fn a_clock_that_cannot_be_right_is_warned_of_once_a_run() {
    let (_folder, path) = recorded(3);
    let good = fs::read_to_string(&path).unwrap();
    assert_eq!(read(&path).unwrap().warnings, Vec::new());
    for (time, says) in [
        ("2999-01-01T00:00:00Z", "which is still to come"),
        ("1969-01-01T00:00:00Z", "which is before there was a warpmark"),
        ("2019-12-31T23:59:59Z", "which is before there was a warpmark"),
        ("yesterday\\u001b[2J", "which is no time"),
        ("2026-02-30T00:00:00Z", "which is no time"),
    ] {
        let start = "\"started_at\":\"";
        let odd: Vec<String> = good
            .split(start)
            .enumerate()
            .map(
                |(at, part)| {
                    if at == 0 { part.to_owned() } else { format!("{time}{}", &part[20..]) }
                },
            )
            .collect();
        fs::write(&path, odd.join(start)).unwrap();
        let found = read(&path).unwrap();
        assert_eq!((found.runs.len(), found.rows.len()), (1, 3));
        let warnings: Vec<String> = found.warnings.iter().map(Warning::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("r1.jsonl:1: run \"r1\" says"), "{warnings:?}");
        assert!(warnings[0].contains(says) && !warnings[0].contains('\u{1b}'), "{warnings:?}");
    }
}

#[test]
fn files_and_folders_are_read_together_and_each_file_once() {
    let (folder, path) = recorded(1);
    let mut other = run("r2");
    other.device.slug = "another".to_owned();
    let _writer = Writer::open(folder.path(), &other).unwrap();
    fs::write(folder.path().join("README.md"), "not results").unwrap();
    let found = read_all([path.as_path(), folder.path()]).unwrap();
    let runs: Vec<&str> = found.runs.iter().map(|run| run.run.0.as_str()).collect();
    assert_eq!(runs, ["r1", "r2"]);
    assert_eq!(found.warnings, []);
}

#[test]
fn a_folder_without_results_and_a_file_that_is_not_there_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::NoFiles(_)), "{error}");
    let error = read(&folder.path().join("none.jsonl")).unwrap_err().to_string();
    assert!(error.contains("none.jsonl") && error.starts_with("cannot open"), "{error}");
}

#[test]
fn a_file_that_was_made_and_got_no_row_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::open(folder.path(), &run("r1")).unwrap();
    let path = writer.path().to_owned();
    assert!(writer.is_new() && path.exists());
    drop(writer);
    assert!(!path.exists());
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    writer.append(&row("r1", 0)).unwrap();
    drop(writer);
    // Who joins a file that has rows leaves it there.
    drop(Writer::open(folder.path(), &run("r1")).unwrap());
    assert_eq!(read(&path).unwrap().rows.len(), 1);
}

#[test]
fn numbers_that_no_machine_has_are_refused_where_they_stand() {
    let (_folder, path) = recorded(1);
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, says) in [
        ("\"cores\":2", "\"cores\":4000000000", "host.cores is 4000000000.0"),
        ("\"load_average\":0.1", "\"load_average\":-3", "host.load_average is -3.0"),
        ("\"load_average\":0.1", "\"load_average\":1e308", "host.load_average is 1e308"),
        ("\"wall_s\":[0.1", "\"wall_s\":[1e308", "samples.wall_s[0] is 1e308"),
        ("\"wall_s\":[0.1", "\"wall_s\":[1e999", "number out of range"),
        ("\"wall_s\":[0.1", "\"wall_s\":[NaN", "expected value"),
        ("\"flops\":2.0", "\"flops\":2e40", "beyond what any machine"),
        ("\"iterations\":[1", "\"iterations\":[18446744073709551615", "expected no more than 2^53"),
        ("\"iterations\":[1", "\"iterations\":[-1", "invalid value"),
    ] {
        assert!(good.contains(from), "{from} in {good}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("r1.jsonl:") && error.contains(says), "{to}: {error}");
    }
}

/// A disk with room for so many bytes.
struct SmallDisk {
    bytes: Vec<u8>,
    room: usize,
    truncates: bool,
}

impl Sink for SmallDisk {
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if !self.truncates {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.bytes.truncate(length as usize);
        Ok(())
    }
}

fn small_disk(room: usize, truncates: bool) -> Appender<SmallDisk> {
    let sink = SmallDisk { bytes: vec![], room, truncates };
    Appender { path: "full.jsonl".into(), sink, length: 0, unfinished: false }
}

#[test]
fn a_line_that_the_disk_did_not_take_is_cut_off_again() {
    let line = row("r1", 1);
    let mut disk = small_disk(10_000, true);
    disk.append(&Line::Row(&line)).unwrap();
    let length = disk.sink.bytes.len();
    for room in [length, length + 1, 2 * length - 1] {
        disk.sink.room = room;
        let error = disk.append(&Line::Row(&line)).unwrap_err();
        assert!(matches!(error, StoreError::Append { after: Aftermath::CutBack, .. }), "{error}");
        assert!(error.to_string().contains("full.jsonl: a line of"), "{error}");
        assert_eq!(disk.sink.bytes.len(), length);
    }
    disk.sink.room = 10_000;
    disk.append(&Line::Row(&line)).unwrap();
    assert_eq!(disk.sink.bytes.len(), 2 * length);
}

#[test]
fn a_line_that_could_not_be_cut_off_stays_a_line_of_its_own() {
    let line = row("r1", 1);
    let mut disk = small_disk(100, false);
    let error = disk.append(&Line::Row(&line)).unwrap_err();
    assert!(matches!(error, StoreError::Append { after: Aftermath::Torn, .. }), "{error}");
    disk.sink.room = 10_000;
    disk.append(&Line::Row(&line)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.jsonl");
    fs::write(&path, &disk.sink.bytes).unwrap();
    let found = read(&path).unwrap();
    assert_eq!(found.rows, [line]);
    assert_eq!(found.warnings[0].line, 1);
}

#[test]
fn times_within_iterations_survive_the_file_and_must_be_times() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), &run("r1")).unwrap();
    let with = |size, times: &[f64]| {
        let mut row = row("r1", size);
        let distributions = &mut row.samples.as_mut().unwrap().distributions;
        distributions.insert("time_to_first_token_s".to_owned(), times.to_vec());
        row
    };
    for (times, says) in [
        (&[][..], "samples.distributions.time_to_first_token_s is empty"),
        (&[0.1, f64::NAN], "samples.distributions.time_to_first_token_s[1] is NaN"),
        (&[-1.0], "is -1.0: expected a number of at least 0"),
    ] {
        let error = writer.append(&with(1, times)).unwrap_err();
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let kept = with(1, &[0.25, 0.5]);
    writer.append(&kept).unwrap();
    assert_eq!(read(folder.path()).unwrap().rows, [kept]);
}

proptest! {
    #[test]
    fn any_times_survive_the_file(
        seconds in prop::collection::vec(prop::num::f64::POSITIVE | prop::num::f64::ZERO, 1..20),
        text in ".*",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut row = row("r1", 1);
        let samples = row.samples.as_mut().unwrap();
        samples.iterations = vec![1; seconds.len()];
        samples.wall_s = seconds.iter().map(|s| if s.is_finite() { s.abs() } else { 0.0 }).collect();
        row.caveats = vec![text];
        Writer::open(folder.path(), &run("r1")).unwrap().append(&row).unwrap();
        prop_assert_eq!(read(folder.path()).unwrap().rows, [row]);
    }

    #[test]
    fn no_damage_makes_the_reader_panic_or_invent_a_row(
        position in 0.0..1.0_f64,
        damage in prop::collection::vec(any::<u8>(), 0..12),
        cut: bool,
    ) {
        let (_folder, path) = recorded(3);
        let mut bytes = fs::read(&path).unwrap();
        let at = (position * bytes.len() as f64) as usize;
        let end = if cut { bytes.len() } else { (at + damage.len()).min(bytes.len()) };
        bytes.splice(at..end, damage);
        fs::write(&path, bytes).unwrap();
        if let Ok(found) = read(&path) {
            prop_assert!(found.rows.len() <= 3);
        }
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_finished_lines(position in 0.0..1.0_f64) {
        let (_folder, path) = recorded(3);
        let bytes = fs::read(&path).unwrap();
        let kept = &bytes[..(position * bytes.len() as f64) as usize];
        fs::write(&path, kept).unwrap();
        let finished = kept.split(|byte| *byte == b'\n').count() - 1;
        let found = read(&path).unwrap();
        // A last line that lacks nothing but its end counts as well.
        let lines = found.runs.len() + found.rows.len();
        prop_assert!(lines == finished || lines == finished + 1, "{lines} of {finished}");
        prop_assert!(found.warnings.len() <= 1);
    }
}
