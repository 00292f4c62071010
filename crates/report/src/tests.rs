use proptest::prelude::*;
use serde_json::Value;
use warpmark_analyze::compare;
use warpmark_analyze::compare::Options;

use super::*;
use crate::fixture::{self, HOSTILE};

const FORMATS: [Format; 5] =
    [Format::Terminal, Format::Markdown, Format::Csv, Format::Json, Format::Html];

fn style(width: u16) -> Style {
    Style { width, ..Style::default() }
}

fn rendered(format: Format) -> String {
    render_run(&fixture::recording(), format, style(80)).unwrap()
}

/// B is 10 % slower in its first row, another method in its second, and lacks the rest.
fn comparison_found() -> Comparison {
    let mut a = fixture::recording();
    a.runs[0].host.load_average = warpmark_record::Field::Known(0.0);
    let mut b = a.clone();
    b.rows.truncate(2);
    for time in &mut b.rows[0].samples.as_mut().unwrap().wall_s {
        *time *= 1.1;
    }
    b.rows[1].method = 2;
    compare(&a, &b, &Options::default())
}

#[test]
fn a_run_reads_well_at_80_columns() {
    let expected = r"Some CPU (cpu), run r1
  started   2026-11-21T23:30:46Z, suite quick, seed 1
  host      Some CPU, 2 cores, 8.00 GiB memory, Linux 6.1, Debian 12
  build     warpmark 0.1.0 (0123abc), release
  settings  threads=2
  measured  f32/f32 194 GFLOP/s, memory 20.0 GB/s, reading 20.0 GB/s
  caution   the host was busy with other work when the run began: 1.5 of 2 cores

micro/matmul @gemm
  best: f32 194 GFLOP/s
  benchmark                 time     ±  n        rate of measured bound
  f32.f32/1024x1024x1024 12.5 ms 0.4 % 10 172 GFLOP/s        89 % compute
  f32.f32/2048x2048x2048 88.6 ms 0.4 % 10 194 GFLOP/s       100 % compute

micro/memory @host
  best: f32 20.0 GB/s
  benchmark          time     ±  n      rate of measured bound
  read/f32/256MiB 40.0 ms 0.4 % 10 20.0 GB/s       100 % bandwidth

load/gpt2-124m @warpmark
  best: f32 1.00 GB/s
  benchmark   time     ±  n      rate of limit bound
  f32/cold  500 ms 0.4 % 10 1.00 GB/s        - transfer
  f32/cold stages: read 400 ms, first run 80.0 ms

text/gpt2-124m @warpmark
  best: f32 25.0 tok/s, 62 % of measured
  benchmark             time     ±  n       rate of measured bound     notes
  decode/f32/b1/c128 40.0 ms 0.4 % 10 25.0 tok/s        62 % bandwidth [1]
  decode/f32/b1/c128 time between tokens: p50 40.5 ms, p95 needs n 200, p99
  needs n 1000, mean 40.5 ms ± 290 µs, n 100

not measured
  skipped text/gpt2-124m/decode/f32/b8/c128@warpmark: out of memory
  failed  text/gpt2-124m/decode/f16/b1/c128@warpmark:
          =1|\u{1b}[31m<b>`x`\u{202e}@all

  [1] =1|\u{1b}[31m<b>`x`\u{202e}@all

warning: results/cpu-some/r1.jsonl:9: the line is torn
";
    assert_eq!(rendered(Format::Terminal), expected);
}

#[test]
fn a_run_is_ready_for_a_pull_request() {
    let expected = r"## Some CPU (cpu), run r1

- started: 2026-11-21T23:30:46Z, suite quick, seed 1
- host: Some CPU, 2 cores, 8.00 GiB memory, Linux 6.1, Debian 12
- build: warpmark 0.1.0 (0123abc), release
- settings: threads=2
- measured: f32/f32 194 GFLOP/s, memory 20.0 GB/s, reading 20.0 GB/s

- **caution** the host was busy with other work when the run began: 1.5 of 2 cores

### `micro/matmul@gemm`

best: f32 194 GFLOP/s

| benchmark | time | ± | n | rate | of measured | bound |
| :-- | --: | --: | --: | --: | --: | :-- |
| `f32.f32/1024x1024x1024` | 12.5 ms | 0.4 % | 10 | 172 GFLOP/s | 89 % | compute |
| `f32.f32/2048x2048x2048` | 88.6 ms | 0.4 % | 10 | 194 GFLOP/s | 100 % | compute |

### `micro/memory@host`

best: f32 20.0 GB/s

| benchmark | time | ± | n | rate | of measured | bound |
| :-- | --: | --: | --: | --: | --: | :-- |
| `read/f32/256MiB` | 40.0 ms | 0.4 % | 10 | 20.0 GB/s | 100 % | bandwidth |

### `load/gpt2-124m@warpmark`

best: f32 1.00 GB/s

| benchmark | time | ± | n | rate | of limit | bound |
| :-- | --: | --: | --: | --: | --: | :-- |
| `f32/cold` | 500 ms | 0.4 % | 10 | 1.00 GB/s | - | transfer |

- `f32/cold` stages: read 400 ms, first run 80.0 ms

### `text/gpt2-124m@warpmark`

best: f32 25.0 tok/s, 62 % of measured

| benchmark | time | ± | n | rate | of measured | bound | memory | notes |
| :-- | --: | --: | --: | --: | --: | :-- | --: | :-- |
| `decode/f32/b1/c128` | 40.0 ms | 0.4 % | 10 | 25.0 tok/s | 62 % | bandwidth | 1.00 GiB | \[1\] |

- `decode/f32/b1/c128` time between tokens: p50 40.5 ms, p95 needs n 200, p99 needs n 1000, mean 40.5 ms ± 290 µs, n 100

### not measured

| benchmark | outcome | reason |
| :-- | :-- | :-- |
| `text/gpt2-124m/decode/f32/b8/c128@warpmark` | skipped | out of memory |
| `text/gpt2-124m/decode/f16/b1/c128@warpmark` | failed | =1\|\\u{1b}\[31m&lt;b&gt;\`x\`\\u{202e}@all |

1. =1\|\\u{1b}\[31m&lt;b&gt;\`x\`\\u{202e}@all

- **warning** results/cpu-some/r1.jsonl:9: the line is torn

";
    assert_eq!(rendered(Format::Markdown).replace('\u{200b}', ""), expected);
}

#[test]
fn a_wide_terminal_shows_memory_and_a_narrow_one_keeps_within_its_width() {
    let recording = fixture::recording();
    for width in [40, 60, 80, 100, 120] {
        let text = render_run(&recording, Format::Terminal, style(width)).unwrap();
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        // Ids and reasons without a space cannot be broken anywhere; there are none at 60 and up.
        assert!(width < 60 || longest <= usize::from(width), "{longest} at {width}:\n{text}");
        assert_eq!(text.contains("1.00 GiB"), width >= 100, "{text}");
    }
}

#[test]
fn a_selection_is_read_against_the_limits_of_the_whole_run() {
    let decode = |row: &Record| row.id.group() == "text";
    let text = render_selected(&fixture::recording(), decode, Format::Terminal, style(80)).unwrap();
    assert!(!text.contains("micro/"), "{text}");
    assert!(text.contains("25.0 tok/s        62 % bandwidth"), "{text}");
}

#[test]
fn colours_appear_only_when_they_are_asked_for() {
    let recording = fixture::recording();
    let colored =
        render_run(&recording, Format::Terminal, Style { color: true, ..Style::default() })
            .unwrap();
    assert!(colored.contains("\u{1b}[1mmicro/matmul @gemm\u{1b}[0m"), "{colored}");
    let stripped = ["1", "31", "33", "0"]
        .iter()
        .fold(colored, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
    assert_eq!(stripped, rendered(Format::Terminal));
}

#[test]
fn no_format_lets_hostile_text_act() {
    for format in FORMATS {
        let text = rendered(format);
        let active = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(active), "{format:?}: {text}");
        assert!(text.contains("[31m"), "{format:?} shows what was written");
        if format == Format::Markdown {
            assert!(!text.contains("@all"), "{text}");
        }
        if matches!(format, Format::Markdown | Format::Html) {
            assert!(!text.contains("<b>"), "{format:?} lets markup through");
        }
    }
}

#[test]
fn csv_has_a_line_a_record_and_keeps_formulas_from_spreadsheets() {
    let text = rendered(Format::Csv);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let records: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 7);
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    assert_eq!(&records[0][column("id")], "micro/matmul/f32.f32/1024x1024x1024@gemm");
    let time: f64 = records[0][column("time_s")].parse().unwrap();
    assert!((time - 0.0125).abs() < 1e-4);
    assert_eq!(&records[0][column("share_book_compute")], "", "unknown stays empty");
    assert_eq!(&records[6][column("outcome")], "failed");
    // What has names of its own has a column for each as well.
    let p50 = column("distributions.time_between_tokens_s.p50");
    assert!((records[4][p50].parse::<f64>().unwrap() - 0.040_495).abs() < 1e-9);
    assert_eq!(&records[4][column("distributions.time_between_tokens_s.p95")], "");
    assert_eq!(&records[0][p50], "");
    assert!(records[4][column("distributions")].starts_with("time_between_tokens_s=deviation="));
    for record in &records {
        let formula = |cell: &str| {
            cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err()
        };
        assert!(!record.iter().any(formula), "{record:?}");
    }
}

#[test]
fn tools_that_follow_figures_get_the_newest_of_each_benchmark_in_their_own_forms() {
    let recording = fixture::recording();
    let metrics = render_series(&recording, |_| true, Series::OpenMetrics).unwrap();
    let first = "warpmark_time_seconds{benchmark=\"micro/matmul/f32.f32/1024x1024x1024@gemm\",card=\"\",\
                 device=\"cpu-some\"} 0.0124";
    let of = |name: &str| metrics.lines().filter(|line| line.starts_with(name)).count();
    assert!(metrics.contains(first), "{metrics}");
    assert_eq!(of("# TYPE warpmark_time_seconds gauge"), 1);
    assert_eq!((of("warpmark_time_seconds{"), of("warpmark_failed{")), (5, 6), "{metrics}");
    assert_eq!(metrics.lines().last(), Some("# EOF"));
    // A line is a name, labels in quotes and a number; a new line or quote of a label would make it two.
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (labels, value) = line.rsplit_once("} ").unwrap();
        assert!(value.parse::<f64>().is_ok() && labels.matches('"').count() % 2 == 0, "{line}");
    }
    let value = |series| -> Value {
        serde_json::from_str(&render_series(&recording, |_| true, series).unwrap()).unwrap()
    };
    let action = value(Series::BenchmarkAction);
    assert_eq!(action.as_array().unwrap().len(), 5);
    let name = "cpu-some/micro/matmul/f32.f32/1024x1024x1024@gemm";
    let row = action.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row["unit"], "s");
    assert!(row["range"].as_str().unwrap().ends_with(" %"), "{row}");
    let bencher = value(Series::Bencher);
    let row = &bencher[name];
    assert!((row["latency"]["value"].as_f64().unwrap() - 12.5e6).abs() < 1e5, "{row}");
    assert!(row["latency"]["lower_value"].as_f64() <= row["latency"]["upper_value"].as_f64());
}

#[test]
fn the_page_over_a_folder_ranks_its_devices_by_the_newest_method() {
    let one = fixture::recording();
    assert!(
        render_index(&one).contains("## Ranking\n\nOne device was measured"),
        "{}",
        render_index(&one)
    );
    let mut two = one.clone();
    let mut run = one.runs[0].clone();
    run.run = warpmark_record::RunId("r2".to_owned());
    run.device.name = "Another CPU".to_owned();
    run.device.slug = "cpu-another".to_owned();
    two.runs.push(run);
    let rows: Vec<Record> = one
        .rows
        .iter()
        .cloned()
        .map(|mut row| {
            row.run = warpmark_record::RunId("r2".to_owned());
            row
        })
        .collect();
    two.rows.extend(rows);
    let page = render_index(&two);
    let ranked = page.split_once("## Ranking\n").unwrap().1.split_once("\n## ").unwrap().0;
    assert!(
        ranked.contains("Another CPU") && ranked.contains("over 5 common workloads"),
        "{ranked}"
    );
    // Rows of an older method are of other numbers: they are left out and not a reason to rank nothing.
    for row in two.rows.iter_mut().filter(|row| row.run.0 == "r2") {
        row.method += 1;
    }
    assert!(render_index(&two).contains("One device was measured"));
}

#[test]
fn json_holds_the_derived_figures_and_the_warnings() {
    let value: Value = serde_json::from_str(&rendered(Format::Json)).unwrap();
    let run = &value["runs"][0];
    assert_eq!(run["run"]["device"]["name"], "Some CPU");
    assert_eq!(run["rows"].as_array().unwrap().len(), 7);
    assert_eq!(run["rows"][4]["bound"], "bandwidth");
    assert_eq!(run["rows"][4]["share_book_bandwidth"], Value::Null);
    assert!((run["rows"][4]["share_measured_bandwidth"].as_f64().unwrap() - 0.625).abs() < 1e-9);
    assert_eq!(run["rows"][4]["caveats"][0], HOSTILE);
    assert_eq!(run["rows"][6]["reason"], HOSTILE);
    let between = &run["rows"][4]["distributions"]["time_between_tokens_s"];
    assert_eq!((&between["n"], &between["p95"]), (&100.into(), &Value::Null));
    assert!((between["p50"].as_f64().unwrap() - 0.040_495).abs() < 1e-9);
    assert_eq!(value["warnings"][0], "results/cpu-some/r1.jsonl:9: the line is torn");
}

#[test]
fn specs_give_the_reason_where_a_value_is_absent() {
    let (device, host) = fixture::machine();
    let text = render_specs(&device, &host, Format::Terminal, style(80)).unwrap();
    let expected = r"device
  name              Some CPU
  kind              cpu:0
  results folder    cpu-some
  memory            8.00 GiB
  memory bandwidth  unknown (a CPU does not tell)
  last-level cache  32.0 MiB

processor
  cores                2
  vector instructions  avx512
  virtualised          no

host
  processor     Some CPU
  cores         2
  memory        8.00 GiB
  system        Linux 6.1, Debian 12
  container     unknown (none recognised)
  load average  1.50
";
    assert_eq!(text, expected);
    for format in [Format::Markdown, Format::Csv, Format::Json] {
        let text = render_specs(&device, &host, format, style(80)).unwrap();
        assert!(text.contains("a CPU does not tell"), "{format:?}: {text}");
    }
}

#[test]
fn a_comparison_shows_pairs_refusals_absences_and_the_verdict() {
    let text = render_comparison(&comparison_found(), Format::Terminal, style(80)).unwrap();
    let expected = r"  benchmark                  A       B B / A interval       B is
  micro/matmul/f32.f32 12.5 ms 13.7 ms 1.100 1.041 to 1.163 slower
  1024x1024x1024@gemm

refused: micro/matmul/f32.f32/2048x2048x2048@gemm: method version: 1 in A, 2 in
         B
unmatched: load/gpt2-124m/f32/cold@warpmark measured in A alone: B has no such
           row
unmatched: micro/memory/read/f32/256MiB@host measured in A alone: B has no such
           row
unmatched: text/gpt2-124m/decode/f32/b1/c128@warpmark measured in A alone: B has
           no such row
note: two runs of one program are taken to differ by about 2.0 %, by what the
      rows say of themselves, since none was repeated; several runs a side with
      `--all-runs`, or `warpmark ab`, measure it
not comparable: the sides are unlike, geometric mean of B / A 1.100 over 1
benchmark (differences up to 1.0 % do not count)
";
    assert_eq!(text, expected);
}

#[test]
fn a_comparison_is_the_same_in_every_format() {
    let found = comparison_found();
    let json = render_comparison(&found, Format::Json, style(80)).unwrap();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["verdict"], &value["exit_code"]), (&"not comparable".into(), &3.into()));
    assert_eq!(value["rows"][0]["verdict"], "slower");
    let csv = render_comparison(&found, Format::Csv, style(80)).unwrap();
    assert_eq!(csv.lines().count(), 1 + value["rows"].as_array().unwrap().len());
    let markdown = render_comparison(&found, Format::Markdown, style(80)).unwrap();
    assert!(markdown.contains("| 1.100 |") && markdown.contains("| slower |"), "{markdown}");
    assert!(markdown.contains("refused: micro/matmul/f32.f32/2048x2048x2048"), "{markdown}");
}

#[test]
fn an_empty_recording_is_a_report_in_every_format() {
    for format in FORMATS {
        let text = render_run(&Recording::default(), format, style(80)).unwrap();
        let expected = match format {
            Format::Html => {
                assert!(text.contains("<p>No rows were recorded.</p>"), "{text}");
                continue;
            }
            Format::Terminal | Format::Markdown => "No rows were recorded.\n",
            Format::Csv => "",
            Format::Json => "{\n  \"runs\": [],\n  \"warnings\": []\n}\n",
        };
        assert_eq!(text, expected, "{format:?}");
    }
}

proptest! {
    #[test]
    fn any_text_in_any_name_leaves_every_format_whole(text in any::<String>()) {
        let mut recording = fixture::recording();
        recording.runs[0].device.name.clone_from(&text);
        recording.runs[0].host.os.clone_from(&text);
        recording.runs[0].settings.insert(text.clone(), text.clone());
        recording.rows[0].caveats = vec![text.clone()];
        recording.rows[0].parameters.insert("dtype".to_owned(), text.as_str().into());
        recording.warnings[0].text = text;
        for format in FORMATS {
            let rendered = render_run(&recording, format, style(80)).unwrap();
            prop_assert!(!rendered.contains(|c: char| c != '\n' && c.is_control()));
            match format {
                Format::Json => {
                    prop_assert!(serde_json::from_str::<Value>(&rendered).is_ok());
                }
                Format::Csv => {
                    let mut reader = ::csv::Reader::from_reader(rendered.as_bytes());
                    prop_assert_eq!(reader.records().flatten().count(), 7);
                }
                Format::Terminal => {}
                Format::Html => {
                    let rows = rendered.matches("<td>f32.f32/").count();
                    prop_assert_eq!(rows, 2);
                    prop_assert_eq!(rendered.matches("<script").count(), 1);
                }
                Format::Markdown => {
                    let widths: Vec<usize> = rendered
                        .lines()
                        .filter(|line| line.starts_with("| `f32.f32"))
                        .map(|line| line.replace("\\|", "").matches('|').count())
                        .collect();
                    prop_assert_eq!(widths.len(), 2);
                    prop_assert_eq!(widths[0], widths[1]);
                }
            }
        }
    }
}
