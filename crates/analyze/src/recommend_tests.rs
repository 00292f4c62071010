use warpmark_record::store::Recording;
use warpmark_record::{ItemUnit, Items, Record};

use super::*;
use crate::{analyze, fixture};

fn step(batch: u64, seconds: f64) -> Record {
    let mut row = fixture::decode("f16", seconds);
    row.id = format!("text/gpt2-124m/decode/f16/b{batch}/c128@warpmark").parse().unwrap();
    row.parameters.insert("batch".to_owned(), batch.into());
    row.work.items = Some(Items { count: batch as f64, unit: ItemUnit::Token });
    row
}

/// One run for each device, with its steps.
fn recorded(devices: &[(&str, &[(u64, f64)])]) -> Recording {
    let mut recording = Recording::default();
    for (device, steps) in devices {
        let mut run = fixture::cpu_run();
        run.run = RunId((*device).to_owned());
        run.device.name = (*device).to_owned();
        run.device.slug = (*device).to_owned();
        recording.runs.push(run);
        for (batch, seconds) in *steps {
            let mut row = step(*batch, *seconds);
            row.run = RunId((*device).to_owned());
            recording.rows.push(row);
        }
    }
    recording
}

fn wish(latency: Option<f64>, budget: Option<f64>) -> Wish {
    Wish {
        model: "gpt2-124m".to_owned(),
        phase: None,
        latency: latency.map(Seconds),
        budget: budget.map(|usd| UsdPerHour::new(usd).unwrap()),
    }
}

fn chosen(recording: &Recording, wish: &Wish, prices: &[(&str, f64)]) -> Recommendation {
    let own = prices.iter().map(|(name, usd)| ((*name).to_owned(), UsdPerHour::new(*usd).unwrap()));
    let tariffs = Tariffs { own: own.collect(), ..Tariffs::default() };
    recommend(&analyze(recording), wish, &tariffs)
}

fn order(found: &Recommendation) -> Vec<&str> {
    found.candidates.iter().map(|candidate| candidate.device.as_str()).collect()
}

#[test]
fn the_cheapest_that_is_quick_enough_comes_first_with_its_best_batch() {
    let recording = recorded(&[
        ("small", &[(1, 0.020), (8, 0.040), (32, 0.200)]),
        ("large", &[(1, 0.004), (8, 0.005), (32, 0.010)]),
    ]);
    let prices = [("small", 0.5), ("large", 4.0)];
    let found = chosen(&recording, &wish(Some(0.05), None), &prices);
    // $0.5 buys 200 tok/s, $4 buys 3200 tok/s.
    assert_eq!(order(&found), ["large", "small"]);
    assert_eq!(found.candidates[0].cost.batch, Some(32));
    assert_eq!(found.candidates[1].cost.batch, Some(8), "32 take longer than 50 ms");
    assert!((found.candidates[1].usd - 0.5 * 1e6 / (200.0 * 3600.0)).abs() < 1e-3);
}

#[test]
fn whoever_is_refused_has_a_reason() {
    let recording = recorded(&[
        ("slow", &[(1, 0.2)]),
        ("dear", &[(1, 0.001)]),
        ("free", &[(1, 0.001)]),
        ("empty", &[]),
        ("fine", &[(1, 0.01)]),
    ]);
    let prices = [("slow", 0.1), ("dear", 9.0), ("empty", 1.0), ("fine", 1.0)];
    let found = chosen(&recording, &wish(Some(0.05), Some(2.0)), &prices);
    assert_eq!(order(&found), ["fine"]);
    let reason = |device: &str| {
        let refused = found.refused.iter().find(|refused| refused.device == device);
        refused.unwrap().reason.as_str()
    };
    assert!(reason("slow").contains("above the 50.0 ms that are wanted"), "{}", reason("slow"));
    assert_eq!(reason("dear"), "$9.00/h is above the budget of $2.00/h");
    assert!(reason("free").contains("no price is listed"), "{}", reason("free"));
}

#[test]
fn a_run_without_rows_of_the_model_and_a_row_that_did_not_fit_are_told_apart() {
    let mut recording = recorded(&[("a", &[(1, 0.01)]), ("b", &[(1, 0.01)])]);
    recording.rows[0].id = "micro/x@host".parse().unwrap();
    recording.rows[1].samples = None;
    recording.rows[1].outcome = Outcome::Skipped { reason: "needs 99 GiB".to_owned() };
    let found = chosen(&recording, &wish(None, None), &[("a", 1.0), ("b", 1.0)]);
    assert_eq!(found.refused[0].reason, "it has no row of gpt2-124m, nor of any model");
    assert_eq!(found.refused[1].reason, "gpt2-124m was not measured on it: needs 99 GiB");
}

#[test]
fn a_simulated_device_is_never_recommended_and_an_unknown_model_lists_the_known() {
    let mut recording = recorded(&[("a", &[(1, 0.01)])]);
    let unknown = Wish { model: "gpt3".to_owned(), ..wish(None, None) };
    assert_eq!(chosen(&recording, &unknown, &[("a", 1.0)]).known, ["gpt2-124m"]);
    recording.runs[0].device.kind = DeviceKind::Simulated;
    let found = chosen(&recording, &wish(None, None), &[("a", 1.0)]);
    assert!(found.refused[0].reason.contains("simulated"));
}

#[test]
fn of_two_runs_of_a_device_the_later_counts() {
    let mut recording = recorded(&[("a", &[(1, 0.01)]), ("b", &[(1, 0.02)])]);
    for run in &mut recording.runs {
        run.device.name = "same".to_owned();
        run.device.slug = "same".to_owned();
    }
    recording.runs[0].started_at = "2026-11-23T00:00:00Z".to_owned();
    let found = chosen(&recording, &wish(None, None), &[("same", 1.0)]);
    assert_eq!((found.candidates.len(), found.replaced), (1, 1));
    assert_eq!(found.candidates[0].run.0, "a");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let recording = recorded(&[("small", &[(1, 0.020)])]);
    let reason = |wish: &Wish| {
        let found = chosen(&recording, wish, &[("small", 0.5)]);
        assert!(found.candidates.is_empty());
        (found.refused[0].reason.clone(), found.known, found.phases)
    };
    let prefill = Wish { phase: Some("prefill".to_owned()), ..wish(None, None) };
    let (said, known, phases) = reason(&prefill);
    assert_eq!(said, "it has no row of prefill; `--phase decode` has");
    assert_eq!((known, phases), (vec![], vec!["decode".to_owned()]));
    let other = Wish { model: "gpt3".to_owned(), ..wish(None, None) };
    let (said, known, phases) = reason(&other);
    assert_eq!(said, "it has no row of gpt3; of models it has gpt2-124m");
    assert_eq!((known, phases), (vec!["gpt2-124m".to_owned()], vec![]));
}

#[test]
fn without_a_phase_all_that_it_may_be_are_named() {
    let mut recording = recorded(&[("small", &[(1, 0.020)])]);
    recording.rows[0].id = "text/gpt2-124m/prefill/f16/b1/p16@warpmark".parse().unwrap();
    let found = chosen(&recording, &wish(None, None), &[("small", 0.5)]);
    assert_eq!(
        found.refused[0].reason,
        "it has no row of generate, transcribe, decode or classify; `--phase prefill` has"
    );
}
