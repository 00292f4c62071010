use warpmark_record::store::Recording;
use warpmark_record::{ItemUnit, Items};

use super::judge::judge;
use super::*;
use crate::fixture;
use crate::{Prices, analyze};

fn cards() -> Cards {
    let datasheet = warpmark_device::datasheet::datasheets().unwrap();
    let card = |entry: &warpmark_record::machine::DatasheetEntry| Card {
        datasheet: entry.clone(),
        memories: datasheet.memories(&entry.name),
    };
    Cards(datasheet.entries().map(card).collect())
}

fn warnings_of(reference: &PublishedTables) -> Vec<Warning> {
    warnings::of(reference, &cards(), &Prices::builtin().unwrap())
}

fn table(columns: &str, rows: &str, more: &str) -> String {
    format!(
        "[[table]]\nid = \"t\"\ntitle = \"T\"\nsource = \"someone\"\nmethod = \"none\"\n\
         depends_on = \"card\"\n{more}\ncolumns = {columns}\nrows = [\n{rows}\n]\n"
    )
}

fn parsed(text: &str) -> Result<PublishedTables, ReferenceError> {
    PublishedTables::parse(&[("r.toml", text)], &cards())
}

/// The warnings on a table, as line and text.
fn warned(columns: &str, rows: &str, more: &str) -> Vec<(usize, String)> {
    let reference = parsed(&table(columns, rows, more)).unwrap();
    warnings_of(&reference)
        .into_iter()
        .map(|warning| (warning.location.line, warning.text))
        .collect()
}

fn of_table<'a>(warnings: &'a [Warning], table: &str) -> Vec<&'a str> {
    let of = warnings.iter().filter(|warning| warning.table == table);
    of.map(|warning| warning.text.as_str()).collect()
}

#[test]
fn the_programs_tables_are_read_with_all_cards_known() {
    let reference = PublishedTables::builtin(&cards()).unwrap();
    let find = |id: &str| reference.tables.iter().find(|table| table.id == id).unwrap();
    let whisper = find("gpu-benchmark-whisper");
    assert_eq!(whisper.number(&whisper.rows[3], Column::LatencyMeanMs), Some(1169.68));
    assert_eq!(whisper.cards(&whisper.rows[0]), ["a100-40-sxm", "a100-40-pcie"]);
    assert_eq!(find("modal-base").rows.len(), 54);
    assert_eq!(find("load-a10g").rows.len(), 9);
}

#[test]
fn a_percentile_below_the_mean_is_doubted_in_every_load_table() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    let first = of_table(&warnings, "load-a10g");
    // Concurrency 4, 8 and 16 print a percentile of 0.00.
    assert_eq!(first.len(), 3, "{first:?}");
    assert_eq!(first[0], "the 95th percentile, 0.00 s, is below the mean, 0.61 s");
    assert_eq!(of_table(&warnings, "load-8-workers-base-1").len(), 3);
}

#[test]
fn prices_of_tokens_are_computed_again() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    assert!(of_table(&warnings, "module-4-baselines-gpt2").is_empty());
    let large = of_table(&warnings, "module-4-baselines-llama-2-70b");
    let wrong = "$20 for 1M tokens do not follow from 15 tok/s and 4 cards at $1.10 an hour: \
                 $81.48 do, and the price of one card was taken";
    assert!(large.contains(&wrong), "{large:#?}");
    assert!(large.iter().any(|text| text.starts_with("$15 for 1M tokens do not follow from 60")));
    assert!(large.contains(&"150 GB do not fit in 4 x 24 GB: 7 cards are needed"));
    assert!(large.contains(&"140 GB do not fit in 1 x 40 GB: 4 cards are needed"));
}

#[test]
fn a_rate_that_one_sequence_cannot_have_gets_a_warning() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    let small = of_table(&warnings, "module-4-baselines-llama-2-7b");
    assert_eq!(small.len(), 2, "{small:#?}");
    assert!(small[0].starts_with("50 tok/s is above the 22.9 that one sequence can have"));
    assert!(small[0].ends_with("at least 3 sequences ran together, and the table names no batch"));
    assert!(of_table(&warnings, "xiongjiedai-7b").is_empty());
    let batched = warned(
        r#"["card", "tokens_per_s"]"#,
        r#"["t4", 50]"#,
        "fixed = { parameters_billion = 7, weight_bytes = 2, batch = 2 }",
    );
    assert!(batched[0].1.ends_with("so a batch of 2 cannot have been all"), "{batched:?}");
}

#[test]
fn a_card_that_loses_to_a_lesser_one_gets_a_warning() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    let whisper = of_table(&warnings, "gpu-benchmark-whisper");
    assert_eq!(whisper.len(), 1, "{whisper:?}");
    assert!(whisper[0].starts_with("0.73 s is slower than the 0.69 s of a10g"), "{whisper:?}");
    let modal = of_table(&warnings, "modal-base");
    let h100 = "18.53 s is slower than the 11.57 s of t4";
    assert!(modal.iter().any(|text| text.starts_with(h100)), "{modal:#?}");
}

#[test]
fn cards_are_held_against_the_datasheet() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    let of_cards = of_table(&warnings, "module-4-cards");
    assert_eq!(of_cards, ["9216 CUDA cores, by the datasheet 10234; 150 W, by the datasheet 300"]);
    let odd = warned(r#"["card", "vram_gb"]"#, r#"["v100-sxm2", 24]"#, "");
    assert!(odd[0].1.starts_with("24 GB, by the datasheet 16"), "{odd:?}");
    let matmul = of_table(&warnings, "torch-mm-f16");
    assert!(
        matmul.iter().any(|text| text.starts_with("75.9 TFLOP/s is 107 % of the datasheet's 71"))
    );
}

#[test]
fn users_and_their_tokens_must_agree_and_so_must_real_time_factors() {
    let warnings = warnings_of(&PublishedTables::builtin(&cards()).unwrap());
    let text = of_table(&warnings, "stacks-text");
    assert_eq!(text, ["20 users with 45 ms between their tokens take 444 tok/s at most, not 650"]);
    assert!(of_table(&warnings, "stacks-whisper").is_empty());
    assert!(of_table(&warnings, "stacks-tts").is_empty());
    let wrong = warned(r#"["real_time_factor", "s_per_audio_minute"]"#, "[0.1, 9]", "");
    assert_eq!(wrong[0].1, "9 s do not follow from a real-time factor of 0.1: 6.00 do");
}

#[test]
fn the_warning_names_the_line_of_the_row() {
    let found = warned(
        r#"["concurrency", "latency_mean_s", "requests_per_s", "latency_p95_ms", "latency_p99_ms"]"#,
        "[1, 0.5, 2.0, 600, 700],\n[1, 0.5, 3.0, 600, 500],",
        "",
    );
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [11, 11], "{found:?}");
    assert!(found[0].1.contains("99th percentile, 0.500 s, is below the 95th, 0.600 s"));
    assert!(found[1].1.contains("3 requests/s do not follow from 0.500 s a request: 2.00 do"));
    assert!(warned(r#"["card", "gb_per_s"]"#, r#"["t4", 321]"#, "")[0].1.contains("100 %"));
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line() {
    let refused = |columns: &str, rows: &str, more: &str| {
        parsed(&table(columns, rows, more)).unwrap_err().to_string()
    };
    let one = r#"["card", "tflops"]"#;
    for (row, expected) in [
        ("[\"t4\", -1]", "r.toml:10: tflops is -1: expected a number above 0"),
        ("[\"t4\", 0.0]", "r.toml:10: tflops is 0"),
        ("[\"t4\", nan]", "r.toml:10: tflops is NaN"),
        ("[\"t4\", inf]", "r.toml:10: tflops is inf"),
        ("[\"t4\", \"fast\"]", "r.toml:10: \"fast\" is no figure for tflops"),
        ("[\"t4\"]", "r.toml:10: the row has 1 cells, the table 2 columns"),
        ("[\"t5\\u001b[31m\", 1]", "r.toml:10: \"t5\\u{1b}[31m\" is no card with a datasheet"),
        ("[4, 1]", "r.toml:10: card holds words, and 4 is a number"),
        ("[\"t4\", [1]]", "r.toml:10: "),
    ] {
        let message = refused(one, row, "");
        assert!(message.starts_with(expected), "{message}");
    }
    let message = refused(r#"["card", "tflop"]"#, "", "");
    assert!(message.starts_with("r.toml:8: \"tflop\" is no column"), "{message}");
    assert!(refused(r#"["card", "card"]"#, "", "").starts_with("r.toml:8: \"card\" stands twice"));
    assert!(refused(one, "", "fixed = { card = \"t4\" }").contains("fixed and a column too"));
    assert!(refused(one, "", "benchmark = \"a,,b\"").starts_with("r.toml:7: "));
    assert!(refused(one, "", "colour = 1").starts_with("r.toml:7: "));
    let twice = format!("{0}{0}", table(one, "", ""));
    let message = parsed(&twice).unwrap_err().to_string();
    assert!(message.contains("the id \"t\" is taken at r.toml:2"), "{message}");
    let unnamed = table(one, "", "").replace("someone", " ");
    assert!(parsed(&unnamed).unwrap_err().to_string().contains("needs its source"));
}

/// A T4 whose f16 matmul takes `seconds` for 2 TFLOP.
fn t4(seconds: f64) -> Recording {
    let mut run = fixture::gpu_run();
    let gpu = run.device.gpu.as_mut().unwrap();
    gpu.datasheet = warpmark_record::Field::Known(cards().get("t4").unwrap().datasheet.clone());
    fixture::recording(run, vec![fixture::matmul("f16", 10_000, seconds)])
}

fn standing(recording: &Recording) -> Standing {
    let reference = PublishedTables::builtin(&cards()).unwrap();
    judge(&analyze(recording)[0], &reference, &warnings_of(&reference))
}

#[test]
fn a_rented_card_is_as_it_should_be_slow_ambiguous_or_unknown() {
    // Published are 41.9 to 42.7 TFLOP/s, so the edge is 41.9 * 0.95 = 39.8.
    for (tflops, expected) in [
        (60.0, Verdict::AsItShouldBe),
        (42.0, Verdict::AsItShouldBe),
        (39.9, Verdict::AsItShouldBe),
        (39.0, Verdict::Slow),
    ] {
        let found = standing(&t4(2.0 / tflops));
        assert_eq!(found.overall(), expected, "{tflops}");
        assert_eq!(found.card.as_deref(), Ok("t4"));
    }
    let mut torn = t4(2.0 / 40.0);
    for (at, wall) in torn.rows[0].samples.as_mut().unwrap().wall_s.iter_mut().enumerate() {
        *wall *= if at % 2 == 0 { 0.9 } else { 1.1 };
    }
    assert_eq!(standing(&torn).overall(), Verdict::Ambiguous);
    let none = fixture::recording(fixture::gpu_run(), vec![fixture::matmul("f16", 10_000, 0.04)]);
    assert_eq!(standing(&none).overall(), Verdict::Unknown);
    let cpu = fixture::recording(fixture::cpu_run(), vec![fixture::matmul("f16", 10_000, 0.04)]);
    assert!(standing(&cpu).card.unwrap_err().contains("no card"));
}

#[test]
fn a_contradicted_figure_judges_nothing_and_a_latency_is_judged_the_other_way_round() {
    let mut run = fixture::gpu_run();
    let gpu = run.device.gpu.as_mut().unwrap();
    gpu.datasheet =
        warpmark_record::Field::Known(cards().get("rtx-3090").unwrap().datasheet.clone());
    let recording = fixture::recording(run.clone(), vec![fixture::matmul("f16", 10_000, 0.04)]);
    let found = standing(&recording);
    let matmul = found.judged.iter().find(|one| one.benchmark == "matmul/f16.f32").unwrap();
    assert_eq!(matmul.verdict, Verdict::Unknown);
    assert_eq!(matmul.reason.as_deref(), Some("every published figure is contradicted"));

    let datasheet = cards().get("v100-sxm2").unwrap().datasheet.clone();
    run.device.gpu.as_mut().unwrap().datasheet = warpmark_record::Field::Known(datasheet);
    let chase = |size: &str, ns: f64| {
        let mut row = fixture::row(&format!("micro/latency/chase/{size}@nvrtc"), ns * 1e-6);
        row.work.items = Some(Items { count: 1000.0, unit: ItemUnit::Access });
        row
    };
    let verdict = |memory: f64| {
        let rows = vec![chase("16KiB", 20.0), chase("1GiB", memory)];
        standing(&fixture::recording(run.clone(), rows)).overall()
    };
    assert_eq!(verdict(300.0), Verdict::AsItShouldBe);
    assert_eq!(verdict(400.0), Verdict::Slow);
}
