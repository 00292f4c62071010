use serde_json::json;
use warpmark_record::Record;
use warpmark_record::store::Recording;

use crate::fixture;
use crate::{Format, Style, render_run};

fn level(users: u64, seconds: f64, asked: u64, failed: u64) -> Record {
    let nanoseconds = (seconds * 1e9) as u64;
    let answered = asked - failed;
    let times = json!({
        "buckets": [[nanoseconds, answered]], "sum_s": seconds * answered as f64, "max_s": seconds,
    });
    serde_json::from_value(json!({
        "schema": 1, "method": 1, "run": "r1", "started_at": "2026-11-21T23:31:00Z",
        "id": format!("serve/gpt2-124m/generate/f32/closed-{users}@warpmark"),
        "outcome": "measured",
        "load": {
            "arrivals": {"loop": "closed", "users": users},
            "batching": {"batching": "continuous", "slots": 8},
            "warm_up_s": 1.0, "window_s": 10.0, "drain_s": 0.1, "timeout_s": 30.0, "queue_limit": 4096,
            "requests": {
                "asked": asked, "completed": answered, "failed": failed, "timed_out": 0,
                "cancelled": 0, "rejected": 0, "unfinished": 0,
            },
            "answered_in_window": answered, "good_in_window": answered, "target_s": 0.5,
            "tokens_per_request": 32,
            "passes": {
                "count": 100, "requests": 400, "busy_s": 9.0, "idle_s": 0.5, "generator_s": 0.5,
            },
            "queue": {"mean": 1.5, "most": 4},
            "latency": times, "waiting": times, "first_token": times,
        },
    }))
    .unwrap()
}

fn recording() -> Recording {
    let rows = vec![level(1, 0.1, 300, 0), level(8, 0.4, 300, 0), level(64, 2.0, 300, 3)];
    Recording { rows, ..fixture::recording() }
}

fn render(format: Format, width: u16) -> String {
    render_run(&recording(), format, Style { width, ..Style::default() }).unwrap()
}

#[test]
fn levels_of_load_stand_in_a_table_of_their_own() {
    let text = render(Format::Terminal, 140);
    let from = text.find("serve/gpt2").unwrap();
    let expected = "\
serve/gpt2-124m/generate/f32 @warpmark
  continuous batching in 8 slots, 32 tokens an answer; 10.0 s of traffic after 1.00 s of warm-up; times from the moment a request was due
  load      answers/s  tok/s    mean     p50     p95     p99  TTFT p50  TTFT p95  errors  goodput  queue  batch  busy  notes
  1 user         30.0    960  100 ms  100 ms  100 ms  n<1000    100 ms    100 ms   0.0 %     30.0   1.50   50 %  90 %    [1]
  8 users        30.0    960  400 ms  400 ms  400 ms  n<1000    400 ms    400 ms   0.0 %     30.0   1.50   50 %  90 %    [1]
  64 users       29.7    950  2.00 s  2.00 s  2.00 s  n<1000    2.00 s    2.00 s   1.0 %     29.7   1.50   50 %  90 %    [1]
  95 % of answers within 500 ms: 8 users, and no longer 64
  64 users: 3 failed of 300
";
    assert!(text[from..].starts_with(expected), "{}", &text[from..]);
    assert!(text.contains("[1] the load generator took 5.0 % of the window for itself"), "{text}");
}

#[test]
fn a_narrow_terminal_keeps_what_decides() {
    let text = render(Format::Terminal, 80);
    let header = text.lines().find(|line| line.starts_with("  load")).unwrap();
    assert!(header.contains("p95") && header.contains("errors"), "{header}");
    assert!(!header.contains("queue") && header.chars().count() <= 80, "{header}");
}

#[test]
fn every_format_has_the_levels() {
    let markdown = render(Format::Markdown, 80);
    assert!(markdown.contains("### `serve/gpt2-124m/generate/f32 @warpmark`"), "{markdown}");
    assert!(markdown.contains("| 8 users | 30.0 |"), "{markdown}");
    let figures: serde_json::Value = serde_json::from_str(&render(Format::Json, 80)).unwrap();
    let load = &figures["runs"][0]["rows"][1]["load"];
    assert_eq!(load["latency"]["p95_s"], json!(0.4));
    assert_eq!(load["latency"]["p99_s"], json!(null), "300 answers say nothing of p99");
    assert!(render(Format::Csv, 80).contains("answers_per_s=30"));
}

#[test]
fn a_page_draws_latency_and_answers_against_users() {
    let page = render(Format::Html, 80);
    let (_, users) = page.split_once("<section id=\"run-0-users\">").unwrap();
    let users = users.split_once("<h3>All rows").map_or(users, |(users, _)| users);
    assert!(users.contains("gpt2-124m/generate/f32 @warpmark, latency"), "{users}");
    // Three levels: p50, p95, all answers, those in time; p99 needs more answers.
    assert_eq!(users.matches("<circle").count(), 12);
    assert!(users.contains("closed-64@warpmark: p95 2.00 s</title>"), "{users}");
    assert!(users.contains("64 users: 3 failed of 300"), "{users}");
}

#[test]
fn a_page_of_nothing_but_load_says_what_its_notes_are() {
    let page = render(Format::Html, 80);
    assert_eq!(page.matches("class=\"footnotes\"").count(), 1);
    let mut mixed = recording();
    mixed.rows.extend(fixture::recording().rows);
    let page = render_run(&mixed, Format::Html, Style::default()).unwrap();
    assert_eq!(page.matches("class=\"footnotes\"").count(), 1);
}
