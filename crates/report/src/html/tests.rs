use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use warpmark_analyze::cost::Tariffs;
use warpmark_record::store::Recording;
use warpmark_record::{Record, RunId};

use super::{SCRIPT, SCRIPT_HASH};
use crate::fixture::{self, HOSTILE};
use crate::{Format, Style, render_page, render_run};

fn page(recording: &Recording) -> String {
    render_run(recording, Format::Html, Style::default()).unwrap()
}

/// The part of a page from its anchor to the next one's.
fn part<'a>(page: &'a str, name: &str) -> &'a str {
    let anchor = format!("<section id=\"run-0-{name}\">");
    let (_, rest) = page.split_once(&anchor).unwrap_or_else(|| panic!("no part {name}"));
    rest.split_once("<section id=\"run-0-").map_or(rest, |(part, _)| part)
}

/// The row with other fields in it.
fn with(row: &Record, fields: &serde_json::Value) -> Record {
    let mut value = serde_json::to_value(row).unwrap();
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn decode(batch: u64, seconds: f64) -> Record {
    let mut row = fixture::recording().rows[4].clone();
    row = with(
        &row,
        &json!({
            "id": format!("text/gpt2-124m/decode/f32/b{batch}/c128@warpmark"),
            "parameters": {"dtype": "f32", "batch": batch, "context": 128},
            "work": {
                "flops": 2.5e8 * batch as f64, "bytes": 5e8,
                "items": {"count": batch, "unit": "token"},
            },
        }),
    );
    row.samples.as_mut().unwrap().wall_s.fill(seconds);
    row
}

fn telemetry(clock: f64, power: f64) -> serde_json::Value {
    let absent = json!({"absent": "not asked"});
    json!({"telemetry": {
        "readings": 5, "sm_clock_mean": clock, "sm_clock_min": clock * 0.9, "power_mean": power,
        "energy": absent, "window": absent, "temperature_max": 60.0, "throttle_causes": absent,
    }})
}

#[test]
fn the_hash_in_the_policy_is_that_of_the_script() {
    let digest = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    assert_eq!(SCRIPT_HASH, format!("sha256-{digest}"));
}

#[test]
fn a_page_names_no_other_place() {
    let page = page(&fixture::recording());
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for name in ["http:", "https:", "src=", "url(", "@import", "<link", "<img"] {
        assert!(!page.contains(name), "{name}");
    }
}

#[test]
fn one_recording_makes_one_page() {
    let recording = fixture::recording();
    assert_eq!(page(&recording), page(&recording));
}

#[test]
fn hostile_text_is_shown_and_does_nothing() {
    let mut recording = fixture::recording();
    let script =
        "</script></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u{1b}[2J";
    recording.runs[0].device.name = script.to_owned();
    recording.runs[0].device.slug = script.to_owned();
    recording.rows[0].caveats = vec![script.to_owned()];
    recording.rows[3].samples.as_mut().unwrap().stages.insert(script.to_owned(), vec![0.01; 10]);
    let hostile =
        with(&recording.rows[1], &json!({"parameters": {"dtype": script, "m": 2, "n": 2, "k": 2}}));
    recording.rows[1] = hostile;
    let page = page(&recording);
    assert_eq!(page.matches("<script").count(), 1, "only the page's own");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains("<img") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "what was written is shown");
    assert!(page.contains(r"\u{1b}[2J"));
    assert!(page.contains(&HOSTILE[..3]), "the reason of the failed row is there");
}

#[test]
fn batches_are_a_curve_with_its_best_point() {
    let rows = vec![decode(1, 0.04), decode(2, 0.042), decode(4, 0.05), decode(8, 0.12)];
    let page = page(&Recording { rows, ..fixture::recording() });
    let batch = part(&page, "batch");
    assert!(batch.contains(">best: 80.0 at 4</text>"), "{batch}");
    assert!(batch.contains("Best at batch 4: 80.0 tok/s."), "{batch}");
    assert_eq!(batch.matches("<circle").count(), 4);
    assert!(batch.contains("numbers (4)"));
    let roofline = part(&page, "roofline");
    assert_eq!(roofline.matches("<circle").count(), 8, "without roofs there are still the points");
    assert!(!roofline.contains("Solid roofs"));
}

#[test]
fn rows_stand_under_the_roofs_of_their_run() {
    let page = page(&fixture::recording());
    let roofline = part(&page, "roofline");
    // Once for a wide page, once for a narrow one.
    assert_eq!(roofline.matches("<circle").count(), 4);
    assert!(roofline.contains("20.0 GB/s measured") && roofline.contains("f32/f32 194 G"));
    // The memory row has no operations, and stands where the slope begins: it is the measured bandwidth.
    assert!(roofline.contains("2 of 5 measured rows, 1 of them at the left edge"), "{roofline}");
    assert!(roofline.contains("read/f32/256MiB@host: 20.0 GB/s</title>"), "{roofline}");
    // The others are listed, each with the reason.
    assert!(roofline.contains("3 other rows are listed below"), "{roofline}");
    assert!(roofline.contains("its bytes come from storage"), "{roofline}");
}

#[test]
fn a_row_too_short_for_a_rate_is_listed_and_not_drawn() {
    // Some 1e8 operations in this time are more a second than a number can hold.
    let rows = vec![decode(1, 0.04), decode(2, 1e-320)];
    let page = page(&Recording { rows, ..fixture::recording() });
    let roofline = part(&page, "roofline");
    assert_eq!(roofline.matches("<circle").count(), 2, "one row, wide and narrow");
    assert!(roofline.contains("1 of 2 measured rows"), "{roofline}");
    assert!(roofline.contains("its time is too short for a rate"), "{roofline}");
}

#[test]
fn sensors_are_drawn_over_the_run_and_readings_that_cannot_be_are_left_out() {
    let mut rows = Vec::new();
    for (minute, clock) in [(1, 1.4e9), (2, 1.2e9), (3, -1.0), (4, 1e30)] {
        let mut row = with(&decode(minute, 0.04), &telemetry(clock, 300.0));
        row.started_at = format!("2026-11-21T23:3{minute}:00Z");
        rows.push(row);
    }
    rows[0].telemetry.as_mut().unwrap().power_mean =
        warpmark_record::Field::Known(warpmark_record::Watts(f64::NAN));
    let page = page(&Recording { rows, ..fixture::recording() });
    let sensors = part(&page, "sensors");
    assert!(sensors.contains("SM clock over the run") && sensors.contains("Power over the run"));
    assert!(sensors.contains(": mean 1.20 GHz</title>"), "{sensors}");
    assert!(!sensors.contains("\"NaN") && !sensors.contains("\"inf"), "{sensors}");
}

#[test]
fn several_runs_stand_side_by_side_as_a_heat_map() {
    let mut recording = fixture::recording();
    assert!(!page(&recording).contains("Side by side"));
    let mut run = recording.runs[0].clone();
    run.run = RunId("r2".to_owned());
    run.device.name = "Other card".to_owned();
    recording.runs.push(run);
    let mut row = recording.rows[0].clone();
    row.run = RunId("r2".to_owned());
    for time in &mut row.samples.as_mut().unwrap().wall_s {
        *time *= 2.0;
    }
    recording.rows.push(row);
    let page = page(&recording);
    let heat = page.split_once("id=\"cards\"").unwrap().1.split_once("<article").unwrap().0;
    assert!(heat.contains("<td style=\"--h:100%\">172 GFLOP/s<"), "{heat}");
    assert!(heat.contains("<td style=\"--h:50%\">85.9 GFLOP/s<"), "{heat}");
    assert!(heat.contains("4 benchmarks that one run alone has"), "{heat}");
}

#[test]
fn another_method_is_never_in_the_same_line_of_the_heat_map() {
    let mut recording = fixture::recording();
    let mut row = recording.rows[0].clone();
    (row.run, row.method) = (RunId("r2".to_owned()), 2);
    recording.rows.push(row);
    assert!(!page(&recording).contains("Side by side"));
}

#[test]
fn figures_beyond_all_measure_leave_the_drawing_whole() {
    let mut recording = fixture::recording();
    for (row, seconds) in recording.rows.iter_mut().zip([f64::MIN_POSITIVE, 1e300, 1e-320]) {
        row.samples.as_mut().unwrap().wall_s.fill(seconds);
    }
    let page = page(&recording);
    for number in ["=\"NaN", "=\"inf", "=\"-inf", "M NaN", " NaN "] {
        assert!(!page.contains(number), "{number}");
    }
}

#[test]
fn costs_are_shown_where_a_price_is_known_and_nowhere_else() {
    let recording = fixture::recording();
    assert!(!page(&recording).contains("run-0-cost"), "nobody lists a price for some CPU");
    let tariffs = Tariffs { every: Some("2usd/h".parse().unwrap()), ..Tariffs::default() };
    let page = render_page(&recording, |_| true, &tariffs);
    let cost = part(&page, "cost");
    // 25 tokens a second at 2 dollars an hour.
    assert!(cost.contains("<td>1M output tokens<td>$22.2<"), "{cost}");
    assert!(cost.contains("as given"), "{cost}");
}
