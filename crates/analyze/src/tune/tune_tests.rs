use warpmark_record::{Bytes, Check, Field, ItemUnit, Items, Memory, Record, RunId, Telemetry};

use super::*;
use crate::{analyze, fixture};

const GB: f64 = 1e9;

fn step(model: &str, dtype: &str, batch: u64, seconds: f64, weights: f64) -> Record {
    let id = format!("text/{model}/decode/{dtype}/b{batch}/c128@warpmark");
    let mut row = fixture::row(&id, seconds);
    row.run = RunId("r1".to_owned());
    row.parameters.insert("dtype".to_owned(), dtype.into());
    row.parameters.insert("batch".to_owned(), batch.into());
    row.work.items = Some(Items { count: batch as f64, unit: ItemUnit::Token });
    row.memory = Some(Memory {
        method: "a test".to_owned(),
        weights: Field::Known(Bytes(weights)),
        peak: Field::Known(Bytes(1.1 * weights + 0.5 * GB)),
        device: None,
    });
    row
}

fn tuned(rows: Vec<Record>) -> Tuning {
    let recording = fixture::recording(fixture::cpu_run(), rows);
    Tuning::of(&analyze(&recording)[0])
}

#[test]
fn precisions_stand_side_by_side_with_speed_memory_and_difference() {
    let mut half = step("m", "f16", 1, 0.005, 1.0 * GB);
    half.check = Some(Check { what: "f32".to_owned(), worst_error: 2e-3, tolerance: 1e-2 });
    let found = tuned(vec![step("m", "f32", 1, 0.010, 2.0 * GB), half]);
    assert_eq!(found.precisions.len(), 1);
    let precision = &found.precisions[0];
    assert_eq!(precision.what, "text/m/decode/b1/c128@warpmark");
    let names: Vec<&str> = precision.rows.iter().map(|row| row.dtype.as_str()).collect();
    assert_eq!(names, ["f32", "f16"]);
    assert!((precision.rows[1].speedup - 2.0).abs() < 1e-2);
    assert_eq!(precision.rows[1].weights, Some(Bytes(GB)));
    assert_eq!(precision.rows[1].difference, Some(2e-3));
    let advice = &found.advice[0].text;
    assert!(advice.starts_with("use f16: 2.00 times as fast as f32, holds 1.49 GiB"), "{advice}");
    assert!(advice.ends_with("its output differs by 2.0e-3 from the reference"), "{advice}");
}

#[test]
fn quantised_weights_stand_beside_plain_ones() {
    let checked = |dtype: &str, seconds: f64, weights: f64, worst_error: f64| {
        let mut row = step("smollm2-135m", dtype, 1, seconds, weights);
        row.check = Some(Check { what: "f32".to_owned(), worst_error, tolerance: 1.0 });
        row
    };
    let found = tuned(vec![
        checked("f32", 0.020, 4.0 * GB, 1e-6),
        checked("f16", 0.010, 2.0 * GB, 2e-3),
        checked("bf16", 0.011, 2.0 * GB, 1e-2),
        checked("q8_0", 0.006, 1.06 * GB, 2e-2),
        checked("q4_k_m", 0.004, 0.6 * GB, 1e-1),
        // Another batch is another table.
        step("smollm2-135m", "q8_0", 8, 0.02, 1.06 * GB),
    ]);
    assert_eq!(found.precisions.len(), 1, "{:?}", found.precisions);
    let precision = &found.precisions[0];
    assert_eq!(precision.what, "text/smollm2-135m/decode/b1/c128@warpmark");
    let rows: Vec<_> =
        precision.rows.iter().map(|row| (row.dtype.as_str(), row.difference)).collect();
    let expected = [("f32", 1e-6), ("bf16", 1e-2), ("f16", 2e-3), ("q8_0", 2e-2), ("q4_k_m", 1e-1)];
    assert_eq!(rows, expected.map(|(dtype, error)| (dtype, Some(error))));
    let smallest = precision.rows.last().unwrap();
    assert_eq!(smallest.weights, Some(Bytes(0.6 * GB)));
    assert!((smallest.speedup - 5.0).abs() < 1e-2, "{smallest:?}");
    let advice = found.advice.iter().find(|advice| advice.text.starts_with("use q4_k_m")).unwrap();
    let difference =
        "differs by 1.0e-1 from the same weights in f32, and what quantising cost the model";
    assert!(advice.text.contains(difference), "{}", advice.text);
}

#[test]
fn words_on_quantised_weights_say_what_their_difference_is_not_and_which_hold_least() {
    let in_format = |dtype: &str, seconds: f64, weights: f64, error: f64| {
        let mut row = step("m", dtype, 1, seconds, weights * GB);
        row.check = Some(Check { what: "f32".to_owned(), worst_error: error, tolerance: 0.05 });
        row
    };
    let formats = |q8: f64| {
        vec![
            in_format("f32", 0.012, 4.0, 0.0),
            in_format("bf16", 0.010, 2.0, 2e-2),
            in_format("f16", 0.006, 2.0, 2e-3),
            in_format("q8_0", q8, 1.0625, 1e-2),
            in_format("q4_k_m", 0.005, 0.6, 3e-2),
        ]
    };
    let found = tuned(formats(0.004));
    assert_eq!(found.precisions.len(), 1);
    let rows = &found.precisions[0].rows;
    let names: Vec<String> = rows.iter().map(PrecisionRow::name).collect();
    assert_eq!(names, ["f32", "bf16", "f16", "q4_k_m (int4)", "q8_0 (int8)"]);
    let speedups: Vec<String> = rows.iter().map(|row| format!("{:.1}", row.speedup)).collect();
    assert_eq!(speedups, ["1.0", "1.2", "2.0", "2.4", "3.0"]);
    assert_eq!(rows[3].difference, Some(3e-2));
    let texts: Vec<&str> = found.advice.iter().map(|advice| advice.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "use q8_0 (int8): 3.00 times as fast as f32, holds 1.55 GiB instead of 4.56 GiB; its output \
             differs by 1.0e-2 from the same weights in f32, and what quantising cost the model is not in \
             that",
            "where the weights must not be quantised, use f16: 2.00 times as fast as f32; its output \
             differs by 2.0e-3 from the reference",
            "where memory is short, use q4_k_m (int4): it holds 1.08 GiB instead of the 1.55 GiB of q8_0 \
             (int8), at 0.80 times its speed; its output differs by 3.0e-2 from the same weights in f32, and \
             what quantising cost the model is not in that",
        ]
    );
    // Where quantised weights are slower, they still hold less.
    let slow = tuned(formats(0.02).into_iter().take(4).collect());
    let texts: Vec<&str> = slow.advice.iter().map(|advice| advice.text.as_str()).collect();
    assert!(texts[0].starts_with("use f16: 3.33 times as fast as q8_0 (int8)"), "{texts:?}");
    assert!(
        texts[1].starts_with("where memory is short, use q8_0 (int8): it holds 1.55 GiB"),
        "{texts:?}"
    );
}

#[test]
fn the_best_batch_is_the_smallest_that_is_about_as_fast_as_any() {
    let curve = |times: &[(u64, f64)]| {
        let rows = times.iter().map(|(batch, time)| step("m", "f32", *batch, *time, GB));
        tuned(rows.collect()).batches.remove(0)
    };
    // 100, 400, 780 and 800 tokens a second.
    let flat = curve(&[(16, 0.020), (1, 0.010), (4, 0.010), (8, 8.0 / 780.0)]);
    assert_eq!((flat.best, flat.still_rising), (8, false));
    assert!((flat.points[1].efficiency.unwrap() - 1.0).abs() < 1e-2);
    assert!((flat.points[3].efficiency.unwrap() - 0.5).abs() < 1e-2);
    let rising = curve(&[(1, 0.010), (2, 0.010)]);
    assert_eq!((rising.best, rising.still_rising), (2, true));
    let useless = tuned(vec![step("m", "f32", 1, 0.01, GB), step("m", "f32", 2, 0.03, GB)]);
    assert!(useless.advice[0].text.starts_with("keep the batch at 1"), "{:?}", useless.advice);
}

#[test]
fn models_of_several_sizes_give_lines_and_the_largest_that_fits() {
    // 1 ms and 10 GB/s; the peak is 1.1 times the weights and half a GB.
    let rows =
        [1.0, 2.0, 4.0].map(|gb| step(&format!("m{gb}"), "f32", 1, 0.001 + gb / 10.0, gb * GB));
    let found = tuned(rows.to_vec());
    let scaling = &found.scalings[0];
    assert_eq!(scaling.what, "text/*/decode/f32/b1/c128@warpmark");
    let bandwidth = scaling.time.unwrap().bandwidth().unwrap();
    assert!((bandwidth.0 / (10.0 * GB) - 1.0).abs() < 1e-2, "{bandwidth}");
    // The device has 8 GB.
    let largest = scaling.largest.unwrap().0;
    assert!((largest / (7.5 / 1.1 * GB) - 1.0).abs() < 1e-6, "{largest}");
    assert!((scaling.largest_parameters.unwrap() / (largest / 4.0) - 1.0).abs() < 1e-9);
    assert_eq!(scaling.models[2].parameters, Some(GB));
    let one = tuned(vec![step("m", "q4_k_m", 1, 0.01, GB)]);
    assert_eq!((one.scalings[0].time, one.scalings[0].largest), (None, None));
    assert_eq!(one.scalings[0].models[0].parameters, None);
}

#[test]
fn a_clock_that_was_held_down_is_worth_a_word() {
    let mut row = step("m", "f32", 1, 0.01, GB);
    row.telemetry = Some(Telemetry {
        readings: 10,
        throttle_causes: Field::Known([("power cap".to_owned(), 5)].into()),
        ..Telemetry::absent("not asked")
    });
    let found = tuned(vec![row.clone()]);
    assert!(found.advice[0].text.contains("\"power cap\" in 1 rows"), "{:?}", found.advice);
    row.telemetry.as_mut().unwrap().throttle_causes = Field::Known([("x".to_owned(), 1)].into());
    assert!(tuned(vec![row]).advice.is_empty());
}

#[test]
fn what_bounds_most_rows_of_a_phase_is_said_with_their_number() {
    let rows = (1..4).map(|batch| {
        let mut row = step("m", "f32", batch, 0.01, GB);
        row.samples.as_mut().unwrap().device_s = Some(vec![0.004; 10]);
        row
    });
    let found = tuned(rows.collect());
    let host = found.advice.iter().find(|advice| advice.text.contains("host")).unwrap();
    assert_eq!(host.about, "text/m/decode@warpmark");
    assert!(host.text.ends_with("(3 of 3 rows)"), "{}", host.text);
}

#[test]
fn a_run_without_models_says_nothing() {
    let found = tuned(vec![fixture::matmul("f32", 100, 0.01)]);
    let nothing = Tuning { precisions: vec![], batches: vec![], scalings: vec![], advice: vec![] };
    assert_eq!(found, nothing);
}
