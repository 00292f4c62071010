use serde_json::Value as Json;
use warpmark_analyze::cost::Tariffs;
use warpmark_analyze::recommend::{self, Wish};
use warpmark_analyze::{UsdPerHour, analyze};
use warpmark_record::stats::Bootstrap;
use warpmark_record::{Bytes, Field};

use super::{Decision, Grid, Note, cost, rank, tune};
use crate::fixture::{self, HOSTILE};
use crate::{Format, Style, render_decision};

const FORMATS: [Format; 5] =
    [Format::Terminal, Format::Markdown, Format::Csv, Format::Json, Format::Html];

fn tariffs() -> Tariffs {
    Tariffs { every: Some(UsdPerHour::new(1.0).unwrap()), ..Tariffs::default() }
}

fn rendered(decision: &Decision, format: Format) -> String {
    render_decision(decision, format, Style::default()).unwrap()
}

/// No format may act on what a name holds, and each stays whole.
pub(crate) fn stays_harmless(decision: &Decision) {
    for format in FORMATS {
        let text = rendered(decision, format);
        assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{text}");
        match format {
            Format::Json => drop(serde_json::from_str::<Json>(&text).unwrap()),
            Format::Csv => {
                let mut reader = ::csv::Reader::from_reader(text.as_bytes());
                let lines: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
                assert_eq!(lines.len(), decision.lines.len());
                let formula = |field: &str| field.starts_with(['=', '@']);
                assert!(!lines.iter().flatten().any(formula), "{text}");
            }
            Format::Markdown | Format::Html => assert!(!text.contains("<b>"), "{text}"),
            Format::Terminal => {}
        }
    }
}

#[test]
fn hostile_names_stay_names_in_every_format() {
    let mut recording = fixture::recording();
    recording.runs[0].device.name = HOSTILE.to_owned();
    stays_harmless(&cost::of(&recording, |_| true, &tariffs()));
    stays_harmless(&tune::of(&recording, |_| true));
    let mut other = recording.clone();
    other.runs[0].run.0 = "r2".to_owned();
    other.runs[0].device.name = format!("{HOSTILE}2");
    for row in &mut other.rows {
        row.run.0 = "r2".to_owned();
    }
    other.runs.extend(recording.runs.clone());
    other.rows.extend(recording.rows.clone());
    let ranking = warpmark_analyze::rank::rank(&other, &Bootstrap::default()).unwrap();
    stays_harmless(&rank::of(&ranking));
    let wish = Wish { model: HOSTILE.to_owned(), phase: None, latency: None, budget: None };
    let found = recommend::recommend(&analyze(&recording), &wish, &tariffs());
    stays_harmless(&super::recommend::of(&found, &wish));
    let wish = Wish { model: "gpt2-124m".to_owned(), ..wish };
    let found = recommend::recommend(&analyze(&recording), &wish, &tariffs());
    stays_harmless(&super::recommend::of(&found, &wish));
    let page = Decision {
        title: HOSTILE.to_owned(),
        facts: vec![("fact", HOSTILE.to_owned())],
        grids: vec![Grid {
            rows: vec![vec![HOSTILE.to_owned()]],
            notes: vec![Note::bad("note: ", HOSTILE)],
            ..Grid::new(HOSTILE, &[HOSTILE])
        }],
        notes: vec![Note::plain("note: ", HOSTILE)],
        summary: HOSTILE.to_owned(),
        head: vec![("head", HOSTILE.into())],
        lines: vec![vec![("line", HOSTILE.into())]],
    };
    stays_harmless(&page);
}

#[test]
fn costs_read_well() {
    let recording = fixture::recording();
    let page = cost::of(&recording, |_| true, &tariffs());
    let expected = "\
what it costs

text/gpt2-124m on Some CPU, run r1
  benchmark           rate price for          for $1 per $/h J each per W
  decode/f32/b1 25.0 tok/s $11.1 1M output 90045 tok    25.0      -     -
  c128@warpmark                  tokens
  price: $1.00/h, as given
  no energy: the row has no sensors

cheapest: gpt2-124m on Some CPU: $11.1 for 1M output tokens with
          text/gpt2-124m/decode/f32/b1/c128@warpmark
";
    let text = rendered(&page, Format::Terminal);
    assert_eq!(text, expected);
    assert_eq!(page.lines.len(), 1);
}

#[test]
fn nothing_that_costs_is_said_to_be_nothing() {
    let mut recording = fixture::recording();
    recording.rows.truncate(2);
    let page = cost::of(&recording, |_| true, &tariffs());
    assert!(rendered(&page, Format::Terminal).contains("no row yields anything that is paid for"));
    for format in FORMATS {
        rendered(&page, format);
    }
}

#[test]
fn quantised_formats_are_named_with_their_integers() {
    let mut recording = fixture::recording();
    for dtype in ["q8_0", "q4_k_m"] {
        let mut row = recording.rows[4].clone();
        row.id = format!("text/gpt2-124m/decode/{dtype}/b1/c128@warpmark").parse().unwrap();
        row.parameters.insert("dtype".to_owned(), dtype.into());
        recording.rows.push(row);
    }
    let decision = tune::of(&recording, |_| true);
    let table = rendered(&decision, Format::Terminal);
    for format in ["f32 ", "q8_0 (int8)", "q4_k_m (int4)"] {
        assert!(table.contains(format), "{format}: {table}");
    }
    // Whoever queries finds the name that rows have.
    let lines = rendered(&decision, Format::Csv);
    assert!(lines.contains(",q4_k_m,") && !lines.contains("(int4)"), "{lines}");
}

#[test]
fn precisions_read_well_with_quantised_weights_among_them() {
    let mut recording = fixture::recording();
    let plain = recording.rows[4].clone();
    for (dtype, factor, weights, error) in
        [("f16", 0.6, 2.5e8, 2e-3), ("q8_0", 0.4, 1.4e8, 1e-2), ("q4_k_m", 0.3, 0.9e8, 3e-2)]
    {
        let mut row = plain.clone();
        row.id = format!("text/gpt2-124m/decode/{dtype}/b1/c128@warpmark").parse().unwrap();
        row.parameters.insert("dtype".to_owned(), dtype.into());
        for time in &mut row.samples.as_mut().unwrap().wall_s {
            *time *= factor;
        }
        row.memory.as_mut().unwrap().weights = Field::Known(Bytes(weights));
        row.check.as_mut().unwrap().worst_error = error;
        recording.rows.push(row);
    }
    let page = tune::of(&recording, |_| true);
    let expected = "\
precision: text/gpt2-124m/decode/b1/c128@warpmark on Some CPU, run r1
  dtype            time speed  weights     peak difference
  f32           40.0 ms 1.00x  477 MiB 1.00 GiB    0.0e0
  f16           24.0 ms 1.67x  238 MiB 1.00 GiB    2.0e-3
  q8_0 (int8)   16.0 ms 2.50x  134 MiB 1.00 GiB    1.0e-2
  q4_k_m (int4) 12.0 ms 3.33x 85.8 MiB 1.00 GiB    3.0e-2
";
    let text = rendered(&page, Format::Terminal);
    let words =
        |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains(&words(expected)), "{text}");
    assert!(words(&text).contains("what quantising cost the model is not in it"), "{text}");
    assert!(words(&text).contains("use q4_k_m (int4): 3.33 times as fast as f32"), "{text}");
    let csv = rendered(&page, Format::Csv);
    assert!(csv.lines().any(|line| line.contains(",q4_k_m,")), "{csv}");
}
