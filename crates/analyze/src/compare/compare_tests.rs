use proptest::prelude::*;
use warpmark_record::machine::CpuSpec;
use warpmark_record::{Bytes, ClockKind, DeviceKind, Field, WeightsStamp};

use super::*;
use crate::fixture::{self, cpu_run, decode, gpu_run, matmul, memory};

fn recording(rows: Vec<Record>) -> Recording {
    fixture::recording(cpu_run(), rows)
}

fn compared(a: Vec<Record>, b: Vec<Record>) -> Comparison {
    compare(&recording(a), &recording(b), &Options::default())
}

/// The one refusal of a comparison that must have one, and exit code 3.
fn refusal(a: &Recording, b: &Recording) -> String {
    let found = compare(a, b, &Options::default());
    assert_eq!(found.overall().exit_code(), 3);
    assert_eq!((found.pairs.len(), found.refused.len()), (0, 1), "{found:?}");
    found.refused[0].reasons.join("; ")
}

#[test]
fn a_recording_is_the_same_as_itself() {
    let rows = vec![decode("f32", 0.04), memory("triad", 1e9, 0.1)];
    let found = compared(rows.clone(), rows);
    assert!(found.pairs.iter().all(|pair| pair.verdict == Verdict::Same), "{found:?}");
    assert_eq!(found.overall(), Overall::SameOrFaster);
    assert_eq!(found.overall().exit_code(), 0);
    assert!((found.mean_ratio().unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn a_slower_row_decides_the_whole_and_a_faster_one_does_not_hide_it() {
    let a = vec![decode("f32", 0.04), memory("triad", 1e9, 0.1)];
    let b = vec![decode("f32", 0.05), memory("triad", 1e9, 0.05)];
    let found = compared(a, b);
    let verdicts: Vec<Verdict> = found.pairs.iter().map(|pair| pair.verdict).collect();
    assert_eq!(verdicts, [Verdict::Faster, Verdict::Slower]);
    assert_eq!((found.overall(), found.overall().exit_code()), (Overall::Slower, 1));
}

#[test]
fn noise_across_the_edge_of_the_band_is_ambiguous() {
    let mut noisy = decode("f32", 0.04);
    let times = &mut noisy.samples.as_mut().unwrap().wall_s;
    for (i, time) in times.iter_mut().enumerate() {
        *time *= if i % 2 == 0 { 0.9 } else { 1.1 };
    }
    let found = compared(vec![decode("f32", 0.04)], vec![noisy]);
    assert_eq!(found.pairs[0].verdict, Verdict::Ambiguous);
    assert_eq!((found.overall(), found.overall().exit_code()), (Overall::Ambiguous, 2));
}

#[test]
fn what_is_at_least_as_fast_for_certain_is_not_held_against_b() {
    let interval = Interval { low: 0.97, high: 1.002, confidence: 0.95 };
    assert_eq!(verdict(interval, interval, 0.01), Verdict::Ambiguous);
    let mut found = compared(vec![decode("f32", 0.04)], vec![decode("f32", 0.04)]);
    found.pairs[0].interval = interval;
    found.pairs[0].verdict = Verdict::Ambiguous;
    assert_eq!(found.overall(), Overall::SameOrFaster);
}

#[test]
fn another_device_method_clock_weights_or_dtype_is_refused_with_both_values() {
    let a = recording(vec![decode("f32", 0.04)]);
    let gpu = fixture::recording(gpu_run(), vec![decode("f32", 0.04)]);
    assert_eq!(refusal(&a, &gpu), "device: Some CPU (cpu) in A, Some GPU (cuda) in B");
    let mut simulated = a.clone();
    simulated.runs[0].device.kind = DeviceKind::Simulated;
    assert!(refusal(&a, &simulated).contains("Some CPU (simulated) in B"));
    let mut method = a.clone();
    let (own, other) = (warpmark_record::METHOD, warpmark_record::METHOD + 1);
    method.rows[0].method = other;
    assert_eq!(refusal(&a, &method), format!("method version: {own} in A, {other} in B"));
    let mut clock = a.clone();
    clock.rows[0].samples.as_mut().unwrap().clock = ClockKind::CudaEvents;
    assert_eq!(refusal(&a, &clock), "clock: wall in A, CUDA events in B");
    let mut weights = a.clone();
    weights.rows[0].weights = Some(WeightsStamp::Folder { name: "mine".to_owned() });
    assert_eq!(refusal(&a, &weights), "weights: synthetic in A, folder mine in B");
    let mut dtype = a.clone();
    dtype.rows[0].parameters.insert("dtype".to_owned(), "f16".into());
    assert_eq!(refusal(&a, &dtype), "dtype: f32 in A, f16 in B");
    let mut orphan = a.clone();
    orphan.runs.clear();
    assert!(refusal(&a, &orphan).contains("line of a run is missing"));
}

type Change = fn(&mut Run);

#[test]
fn unlike_machines_with_a_device_of_one_name_are_compared_only_when_asked_for() {
    let cpu = |cores: u32| CpuSpec {
        cores,
        simd: "avx2".to_owned(),
        virtualised: Field::Known(true),
        governor: Some("performance".to_owned()),
    };
    let mut a = recording(vec![decode("f32", 0.04)]);
    a.runs[0].device.cpu = Some(Box::new(cpu(2)));
    a.runs[0].settings.insert("threads".to_owned(), "2".to_owned());
    let with = |change: Change| {
        let mut b = a.clone();
        change(&mut b.runs[0]);
        b
    };
    let unlike: [(Change, &str); 5] = [
        (|run| run.device.cpu.as_mut().unwrap().cores = 64, "cores: 2 in A, 64 in B"),
        (
            |run| drop(run.settings.insert("threads".to_owned(), "4".to_owned())),
            "threads: 2 in A, 4 in B",
        ),
        (
            |run| run.device.memory = Field::Known(Bytes(64e9)),
            "memory: 7.45 GiB in A, 59.6 GiB in B",
        ),
        (
            |run| run.device.cpu.as_mut().unwrap().governor = Some("powersave".to_owned()),
            "frequency governor: performance in A, powersave in B",
        ),
        (
            |run| run.device.cpu.as_mut().unwrap().virtualised = Field::Known(false),
            "under a hypervisor: true in A, false in B",
        ),
    ];
    for (change, says) in unlike {
        assert_eq!(refusal(&a, &with(change)), says);
        let options = Options { across_machines: true, ..Options::default() };
        let found = compare(&a, &with(change), &options);
        assert_eq!((found.pairs.len(), found.refused.len()), (1, 0), "{says}");
        assert!(found.notes.iter().any(|note| note == says), "{:?}", found.notes);
    }
    // What a machine does not tell is no difference, and a little memory is none either.
    let alike: [Change; 2] = [
        |run| run.device.cpu.as_mut().unwrap().governor = None,
        |run| run.device.memory = Field::Known(Bytes(8.1e9)),
    ];
    for change in alike {
        assert_eq!(compare(&a, &with(change), &Options::default()).pairs.len(), 1);
    }
}

#[test]
fn two_shapes_that_two_searches_found_are_not_compared() {
    let found = |m: u64| {
        let mut row = matmul("f16", 8192, 0.01);
        let sides = [("m", m), ("n", 8192), ("k", 4096)];
        let sides = sides.map(|(side, length)| (side.to_owned(), length.into()));
        row.parameters.extend(sides);
        recording(vec![row])
    };
    let said = refusal(&found(8192), &found(6144));
    assert_eq!(said, "shape: 8192x8192x4096 in A, 6144x8192x4096 in B");
}

#[test]
fn two_engines_are_compared_only_when_asked_for() {
    let mut fused = decode("f32", 0.02);
    fused.id = "text/gpt2-124m/decode/f32/b1/c128@fused".parse().unwrap();
    let (a, b) = (recording(vec![decode("f32", 0.04)]), recording(vec![fused]));
    let reason = refusal(&a, &b);
    assert!(reason.starts_with("engine: warpmark and fused are two programs"), "{reason}");
    let engines = Some(("warpmark".to_owned(), "fused".to_owned()));
    let found = compare(&a, &b, &Options { engines, ..Options::default() });
    assert_eq!(found.pairs[0].verdict, Verdict::Faster);
    assert!((found.pairs[0].ratio - 0.5).abs() < 1e-3);
}

#[test]
fn rows_of_one_side_are_listed_with_what_the_other_side_says() {
    let mut failed = memory("copy", 1e9, 0.1);
    failed.outcome = Outcome::Failed { reason: "wrong answer".to_owned() };
    failed.samples = None;
    let a = vec![decode("f32", 0.04), memory("copy", 1e9, 0.1)];
    let b = vec![decode("f32", 0.04), failed.clone(), matmul("f32", 100, 0.1)];
    let found = compared(a, b);
    assert_eq!(found.only_a.len(), 1);
    assert_eq!(found.only_a[0].other_side, Some(failed.outcome));
    assert_eq!((found.only_b.len(), &found.only_b[0].other_side), (1, &None));
    assert_eq!(found.overall(), Overall::Ambiguous, "a benchmark that fails now is not all right");
}

#[test]
fn nothing_in_common_is_not_comparable() {
    let found = compared(vec![decode("f32", 0.04)], vec![memory("copy", 1e9, 0.1)]);
    assert_eq!(found.overall(), Overall::NotComparable);
    assert_eq!((found.only_a.len(), found.only_b.len()), (1, 1));
}

#[test]
fn differences_of_the_surroundings_are_noted_once() {
    let rows = vec![decode("f32", 0.04), memory("copy", 1e9, 0.1)];
    let a = fixture::recording(gpu_run(), rows.clone());
    let mut b = fixture::recording(gpu_run(), rows);
    b.runs[0].device.gpu.as_mut().unwrap().driver_version = Field::Known("590.2".to_owned());
    let found = compare(&a, &b, &Options::default());
    assert_eq!(found.notes, ["driver: 580.1 in A, 590.2 in B"]);
    assert_eq!(found.pairs.len(), 2);
}

#[test]
fn of_several_runs_the_latest_row_counts_and_it_is_said() {
    let mut later = decode("f32", 0.05);
    later.started_at = "2026-11-22T00:00:00Z".to_owned();
    let found = compared(vec![later, decode("f32", 0.04)], vec![decode("f32", 0.05)]);
    assert!((found.pairs[0].ratio - 1.0).abs() < 1e-12, "{found:?}");
    assert!(found.notes[0].starts_with("A holds several runs"), "{:?}", found.notes);
}

#[test]
fn where_all_runs_count_the_interval_covers_what_changes_between_them() {
    let runs = |times: &[f64]| {
        let rows = times.iter().enumerate().map(|(at, time)| {
            let mut row = decode("f32", *time);
            row.started_at = format!("2026-11-2{at}T00:00:00Z");
            row
        });
        rows.collect::<Vec<_>>()
    };
    let compared = |a: &[f64], b: &[f64], all_runs| {
        let options = Options { all_runs, ..Options::default() };
        compare(&recording(runs(a)), &recording(runs(b)), &options)
    };
    // The latest rows differ by 5 %, and so do two runs of one side.
    let (a, b) = ([1.00, 1.05, 1.00], [1.05, 1.00, 1.05]);
    assert_eq!(compared(&a, &b, false).pairs[0].verdict, Verdict::Ambiguous);
    let all = compared(&a, &b, true);
    assert_eq!(all.pairs[0].verdict, Verdict::Ambiguous, "{all:?}");
    assert!(all.notes.iter().any(|note| note.contains("all of them count")), "{:?}", all.notes);
    let clear = compared(&a, &[1.2, 1.25, 1.2], true);
    assert_eq!(clear.pairs[0].verdict, Verdict::Slower);
    assert!((clear.pairs[0].ratio - 1.2).abs() < 1e-3);
    assert_eq!(compared(&a, &a, true).pairs[0].verdict, Verdict::Same);
}

fn with_times(times: &[f64]) -> Recording {
    let mut row = decode("f32", 1.0);
    let samples = row.samples.as_mut().unwrap();
    samples.iterations = vec![1; times.len()];
    samples.wall_s = times.to_vec();
    recording(vec![row])
}

fn times() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.5..2.0_f64, 10..40)
}

proptest! {
    #[test]
    fn swapping_the_sides_never_contradicts(a in times(), b in times(), factor in 0.1..10.0_f64) {
        let b: Vec<f64> = b.iter().map(|time| time * factor).collect();
        let (a, b) = (with_times(&a), with_times(&b));
        let there = &compare(&a, &b, &Options::default()).pairs[0];
        let back = &compare(&b, &a, &Options::default()).pairs[0];
        prop_assert!((there.ratio * back.ratio - 1.0).abs() < 1e-12);
        // The two draw different resamples, so an edge may fall to either side; a verdict never turns.
        prop_assert!(!matches!(
            (there.verdict, back.verdict),
            (Verdict::Faster, Verdict::Faster | Verdict::Same)
                | (Verdict::Slower, Verdict::Slower | Verdict::Same)
        ));
    }

    #[test]
    fn the_verdict_on_the_inverse_interval_is_the_inverse_verdict(
        low in 0.5..1.5_f64,
        width in 0.0..0.5_f64,
        threshold in 0.001..0.2_f64,
    ) {
        let there = Interval { low, high: low + width, confidence: 0.95 };
        let back = Interval { low: 1.0 / (low + width), high: 1.0 / low, confidence: 0.95 };
        let expected = match verdict(there, there, threshold) {
            Verdict::Faster => Verdict::Slower,
            Verdict::Slower => Verdict::Faster,
            other => other,
        };
        prop_assert_eq!(verdict(back, back, threshold), expected);
    }

    #[test]
    fn scaling_one_side_by_much_more_than_its_noise_decides(a in times(), factor in 20.0..50.0_f64) {
        let slow: Vec<f64> = a.iter().map(|time| time * factor).collect();
        let found = compare(&with_times(&a), &with_times(&slow), &Options::default());
        prop_assert_eq!(found.pairs[0].verdict, Verdict::Slower);
        let found = compare(&with_times(&slow), &with_times(&a), &Options::default());
        prop_assert_eq!(found.pairs[0].verdict, Verdict::Faster);
    }

    #[test]
    fn any_recording_is_the_same_as_itself(a in times()) {
        let found = compare(&with_times(&a), &with_times(&a), &Options::default());
        prop_assert_eq!(found.pairs[0].verdict, Verdict::Same);
        prop_assert_eq!(found.overall(), Overall::SameOrFaster);
    }

    #[test]
    fn the_same_times_measured_twice_are_never_faster_or_slower(a in times()) {
        let mut again = with_times(&a);
        again.rows[0].started_at = "2026-11-22T00:00:00Z".to_owned();
        let found = compare(&with_times(&a), &again, &Options::default());
        let interval = found.pairs[0].interval;
        prop_assert!(interval.low <= 1.0 && 1.0 <= interval.high);
        prop_assert!(matches!(found.pairs[0].verdict, Verdict::Same | Verdict::Ambiguous));
    }
}

#[test]
fn cards_of_one_name_that_are_set_up_apart_are_unlike_machines() {
    use warpmark_record::Watts;
    use warpmark_record::machine::{GpuSpec, PcieLink};
    type Set = fn(&mut GpuSpec);
    let on = |set: Set, rows: Vec<Record>| {
        let mut run = gpu_run();
        let gpu = run.device.gpu.as_mut().unwrap();
        let link = PcieLink { generation: 4, width: 16 };
        (gpu.ecc, gpu.mig) = (Field::Known(true), Field::Known(false));
        gpu.power_limit = Field::Known(Watts(300.0));
        (gpu.pcie_now, gpu.pcie_max) =
            (Field::Known(PcieLink { generation: 1, ..link }), Field::Known(link));
        gpu.uuid_hash = Field::Known("aa".to_owned());
        set(gpu);
        fixture::recording(run, rows)
    };
    let decoding = || vec![decode("f16", 0.04)];
    let a = on(|_| {}, decoding());
    let cases: [(Set, &str); 4] = [
        (|gpu| gpu.sm_count = Field::Known(98), "SMs: 100 in A, 98 in B"),
        (|gpu| gpu.ecc = Field::Known(false), "ECC: on in A, off in B"),
        (|gpu| gpu.mig = Field::Known(true), "multi-instance mode: off in A, on in B"),
        (|gpu| gpu.power_limit = Field::Known(Watts(250.0)), "power limit: 300 W in A, 250 W in B"),
    ];
    for (set, says) in cases {
        let b = on(set, decoding());
        assert_eq!(refusal(&a, &b), says);
        let asked = Options { across_machines: true, ..Options::default() };
        let found = compare(&a, &b, &asked);
        assert_eq!(found.overall().exit_code(), 0);
        assert!(found.notes.contains(&says.to_owned()), "{:?}", found.notes);
    }
    let notes = |set: Set| compare(&a, &on(set, decoding()), &Options::default()).notes;
    assert_eq!(notes(|gpu| gpu.power_limit = Field::Known(Watts(290.0))).len(), 1);
    assert_eq!(notes(|gpu| gpu.ecc = Field::absent("not told")), Vec::<String>::new());
    assert_eq!(
        notes(|gpu| gpu.uuid_hash = Field::Known("bb".to_owned())),
        ["card: aa in A, bb in B"]
    );
    // The link matters to what crosses it, and is worth a word elsewhere.
    let narrow: Set = |gpu| gpu.pcie_now = Field::Known(PcieLink { generation: 1, width: 8 });
    let says = "link to the host: PCIe 4.0 x16 in A, PCIe 4.0 x8 in B";
    assert_eq!(notes(narrow), [says]);
    let loading = || vec![fixture::load(500e6, 0.2)];
    assert_eq!(refusal(&on(|_| {}, loading()), &on(narrow, loading())), says);
}
