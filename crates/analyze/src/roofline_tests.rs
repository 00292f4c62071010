use std::collections::BTreeMap;

use warpmark_record::machine::Sourced;
use warpmark_record::{Bytes, ClockKind, Field, Hertz, Telemetry};

use super::*;
use crate::fixture::{self, cpu_run, decode, gpu_run, load, matmul, memory};
use crate::{RunAnalysis, analyze};

fn placements(run: Run, rows: Vec<Record>) -> Vec<Placement> {
    let recording = fixture::recording(run, rows);
    let runs: Vec<RunAnalysis<'_>> = analyze(&recording);
    runs[0].rows.iter().map(|row| row.placement.clone().unwrap()).collect()
}

fn share(placement: &Placement, limit: Limit, resource: Resource) -> Option<f64> {
    let mut of = placement.of(limit);
    of.find(|share| share.resource == resource).map(|share| share.share)
}

fn about(value: Option<f64>, expected: f64) -> bool {
    value.is_some_and(|value| (value - expected).abs() < 1e-3 * expected)
}

fn telemetry(clock: f64) -> Telemetry {
    Telemetry {
        readings: 10,
        sm_clock_mean: Field::Known(Hertz(clock)),
        sm_clock_min: Field::Known(Hertz(clock)),
        throttle_causes: Field::Known(BTreeMap::new()),
        ..Telemetry::absent("not asked")
    }
}

#[test]
fn a_matmul_on_a_card_is_read_against_all_three_limits() {
    // 2e12 operations in 25 ms are 80 TFLOP/s: 0.8 of the datasheet, and of the datasheet at 1.2 of 1.5 GHz
    // all of it.
    let mut row = matmul("f16", 10_000, 0.025);
    row.telemetry = Some(telemetry(1.2e9));
    let placed = &placements(gpu_run(), vec![row, matmul("f16", 20_000, 0.25)])[0];
    assert!(about(share(placed, Limit::Datasheet, Resource::Compute), 0.8));
    assert!(about(share(placed, Limit::DatasheetAtClock, Resource::Compute), 1.0));
    assert!(about(share(placed, Limit::Measured, Resource::Compute), 1.0));
    assert_eq!(placed.headline().unwrap().limit, Limit::Datasheet);
    assert_eq!(placed.bound, Bound::Compute);
}

#[test]
fn each_peak_settles_by_its_own_clock() {
    let mut run = gpu_run();
    let gpu = run.device.gpu.as_mut().unwrap();
    let Field::Known(datasheet) = &mut gpu.datasheet else { panic!("no datasheet") };
    let peak = Sourced { value: FlopsPerSecond(40e12), source: "a test".to_owned() };
    datasheet.peaks.insert("f32/f32".to_owned(), peak);
    let faster = Sourced { value: Hertz(2e9), source: "a test".to_owned() };
    datasheet.clocks.insert("f32/f32".to_owned(), faster);
    // At 1.2 GHz 24 of 40 TFLOP/s are left of f32, which are stated for 2 GHz, and 80 of 100 of f16.
    let [mut f32, mut f16] = [matmul("f32", 10_000, 0.1), matmul("f16", 10_000, 0.025)];
    for row in [&mut f32, &mut f16] {
        row.telemetry = Some(telemetry(1.2e9));
    }
    let placed = placements(run, vec![f32, f16]);
    assert!(about(share(&placed[0], Limit::DatasheetAtClock, Resource::Compute), 20.0 / 24.0));
    assert!(about(share(&placed[1], Limit::DatasheetAtClock, Resource::Compute), 1.0));
}

#[test]
fn the_settled_clock_is_that_of_the_samples_where_they_have_one() {
    let mut row = matmul("f16", 10_000, 0.025);
    row.telemetry = Some(telemetry(1.2e9));
    assert_eq!(settled_clock(&row), Some(Hertz(1.2e9)));
    let samples = row.samples.as_mut().unwrap();
    let count = samples.wall_s.len();
    // A quarter of the time at 1.8 GHz and the rest at 1.0.
    let (mut times, mut clocks) = (vec![3.0; count], vec![1.0e9; count]);
    (times[0], clocks[0]) = (count as f64 - 1.0, 1.8e9);
    (samples.device_s, samples.sm_clock_hz) = (Some(times), Some(clocks));
    let told = settled_clock(&row).unwrap();
    assert!((told.0 / 1.2e9 - 1.0).abs() < 1e-12, "{told:?}");
}

#[test]
fn quantised_weights_are_read_against_the_arithmetic_of_integers() {
    for dtype in ["q8_0", "q4_k_m"] {
        assert_eq!(arithmetic(&decode(dtype, 0.1)).as_deref(), Some("int8/int32"));
    }
    assert_eq!(arithmetic(&decode("f16", 0.1)).as_deref(), Some("f16/f32"));
}

#[test]
fn without_clock_readings_the_settled_limit_is_unknown() {
    let placed = &placements(gpu_run(), vec![matmul("f16", 10_000, 0.025)])[0];
    assert_eq!(share(placed, Limit::DatasheetAtClock, Resource::Compute), None);
}

#[test]
fn an_arithmetic_that_the_book_lacks_has_no_share_of_it() {
    let placed = &placements(gpu_run(), vec![matmul("f32", 1000, 0.025)])[0];
    assert_eq!(share(placed, Limit::Datasheet, Resource::Compute), None);
    let mut other = matmul("f16", 1000, 0.025);
    other.parameters.insert("accumulate".to_owned(), "f16".into());
    let placed = &placements(gpu_run(), vec![other])[0];
    assert_eq!(share(placed, Limit::Datasheet, Resource::Compute), None);
}

#[test]
fn on_a_cpu_the_measured_peaks_of_the_run_are_the_limit() {
    // Reading at 10 GB/s, triad at 20, and 100 GFLOP/s; decoding 500 MB in 62.5 ms reaches 8 GB/s.
    let rows = vec![
        decode("f32", 0.0625),
        memory("copy", 1e9, 0.1),
        memory("triad", 2e9, 0.1),
        matmul("f32", 1000, 0.02),
        memory("read", 1e9, 0.1),
    ];
    let placed = placements(cpu_run(), rows);
    assert!(about(share(&placed[0], Limit::Measured, Resource::Bandwidth), 0.8));
    assert_eq!(placed[0].bound, Bound::Bandwidth);
    assert!(about(placed[0].intensity, 0.5));
    assert_eq!(placed[0].headline().unwrap().resource, Resource::Bandwidth);
    assert_eq!(placed[3].bound, Bound::Compute);
    // Half of the best: still near the limit by the rule.
    assert!(about(share(&placed[1], Limit::Measured, Resource::Bandwidth), 0.5));
}

#[test]
fn a_row_far_from_both_limits_is_bound_by_latency_and_one_without_limits_by_nobody_knows() {
    let rows = vec![decode("f32", 6.0), memory("read", 1e9, 0.1), matmul("f32", 1000, 0.02)];
    assert_eq!(placements(cpu_run(), rows)[0].bound, Bound::Neither);
    let placed = &placements(cpu_run(), vec![decode("f32", 6.0)])[0];
    assert_eq!((placed.bound, placed.headline()), (Bound::Unknown, None));
}

#[test]
fn one_known_limit_of_two_shows_a_bound_but_never_latency() {
    let near = vec![decode("f32", 0.0625), memory("read", 1e9, 0.1)];
    assert_eq!(placements(cpu_run(), near)[0].bound, Bound::Bandwidth);
    let far = vec![decode("f32", 6.0), memory("read", 1e9, 0.1)];
    assert_eq!(placements(cpu_run(), far)[0].bound, Bound::Unknown);
}

#[test]
fn a_device_that_waits_for_its_host_is_bound_by_the_host() {
    let mut row = decode("f16", 0.01);
    let samples = row.samples.as_mut().unwrap();
    samples.clock = ClockKind::CudaEvents;
    samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * 0.5).collect());
    assert_eq!(placements(gpu_run(), vec![row])[0].bound, Bound::Host);
}

#[test]
fn a_load_that_mostly_reads_is_bound_by_transfer() {
    let mut row = load(5e8, 0.5);
    assert_eq!(placements(cpu_run(), vec![row.clone()])[0].bound, Bound::Unknown);
    row.samples.as_mut().unwrap().stages.insert("host_to_device_s".to_owned(), vec![0.1; 10]);
    let placed = &placements(gpu_run(), vec![row])[0];
    assert_eq!(placed.bound, Bound::Transfer);
    assert_eq!(placed.shares, [], "no copy to the device was measured");
}

#[test]
fn a_load_is_held_against_copies_to_the_device_and_no_other_copy() {
    let transfer = |direction: &str, seconds| {
        let mut row = memory("read", 1e9, seconds);
        row.id = format!("micro/transfer/{direction}/pinned/64MiB@driver").parse().unwrap();
        row.parameters.clear();
        row
    };
    let copies = [transfer("h2d", 0.05), transfer("d2h", 0.01), transfer("both", 0.02)];
    let place = |checkpoint: &str, seconds| {
        let mut row = load(5e8, seconds);
        row.samples.as_mut().unwrap().stages.clear();
        row.parameters.insert("checkpoint".to_owned(), checkpoint.into());
        let placed = placements(gpu_run(), copies.iter().cloned().chain([row]).collect());
        placed.into_iter().next_back().unwrap()
    };
    let near = place("f32", 0.04);
    assert!(about(share(&near, Limit::Measured, Resource::Transfer), 0.625));
    assert_eq!(near.bound, Bound::Transfer);
    // What storage gives is not known, so that a slow load is not said to wait for nothing.
    assert_eq!(place("f32", 0.5).bound, Bound::Unknown);
    assert_eq!(place("bf16", 0.04).shares, [], "what is widened has another size on the bus");
}

#[test]
fn a_share_above_one_is_kept_and_called_a_contradiction() {
    let mut row = memory("triad", 2e12, 1.0);
    row.work.bytes = Some(Bytes(2e12));
    let placed = &placements(gpu_run(), vec![row])[0];
    assert!(about(share(placed, Limit::Datasheet, Resource::Bandwidth), 2.0));
    let contradictions: Vec<Limit> = placed.contradictions().map(|share| share.limit).collect();
    assert_eq!(
        contradictions,
        [Limit::Datasheet],
        "not the measured limit, which the row itself set"
    );
}

#[test]
fn a_cache_is_neither_a_limit_of_memory_nor_read_against_it() {
    let mut cache = memory("read", 20e12, 1.0);
    for id in ["micro/cache/read/f32/32KiB@nvrtc", "micro/transfer/h2d/pinned/64MiB@driver"] {
        cache.id = id.parse().unwrap();
        let placed = placements(gpu_run(), vec![cache.clone(), memory("triad", 0.5e12, 1.0)]);
        assert_eq!(placed[0].shares, [], "{id}");
        assert!(about(share(&placed[1], Limit::Measured, Resource::Bandwidth), 1.0), "{id}");
    }
}
