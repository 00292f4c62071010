//! Caches, latency, shared memory, atomics, transfers and launches on simulated cards: each row's figure
//! has to be the profile's, and each answer the one that the kernel's model computed.

use crate::support::Ran;
use crate::support::machine::Machine;
use std::collections::BTreeMap;
use warpmark_record::{Outcome, Record, Value};
use warpmark_simgpu::harness::Report;
use warpmark_simgpu::profile::Profile;

const T4: &str = "t4";

/// Runs a selection on a machine; the rows by their path, and what the processes left behind.
fn measure_on(machine: &Machine, filter: &str, full: bool) -> (BTreeMap<String, Record>, Report) {
    let mut command = machine.measuring(filter);
    command.args(full.then_some(["--suite", "full"]).into_iter().flatten());
    Ran::of(command.output().unwrap()).exits(0);
    let report = machine.report();
    assert_eq!(report.dangling(), 0);
    (machine.rows().into_iter().map(|row| (row.id.path(), row)).collect(), report)
}

fn measure(profile: &str, filter: &str, full: bool) -> (BTreeMap<String, Record>, Report) {
    measure_on(&Machine::with(profile), filter, full)
}

/// Work a second by the device's clock, and by every sample alike: bytes where the row counts them, items
/// else.
#[track_caller]
fn rate(rows: &BTreeMap<String, Record>, path: &str) -> f64 {
    let row = rows.get(path).unwrap_or_else(|| panic!("{path} is not in {:?}", rows.keys()));
    assert_eq!(row.outcome, Outcome::Measured, "{path}");
    let samples = row.samples.as_ref().unwrap();
    let work = row.work.bytes.map_or_else(|| row.work.items.unwrap().count, |bytes| bytes.0);
    let times = samples.device_s.as_ref().unwrap().iter().zip(&samples.iterations);
    let rates: Vec<f64> = times.map(|(time, n)| work * *n as f64 / time).collect();
    // An event tells its time in f32.
    assert!(rates.iter().all(|rate| (rate / rates[0] - 1.0).abs() < 1e-5), "{path}: {rates:?}");
    rates[0]
}

#[track_caller]
fn assert_rate(rows: &BTreeMap<String, Record>, path: &str, expected: f64) {
    assert_about(rows, path, expected, 1e-5);
}

/// The same where a launch does a little beside what is measured, which is counted too.
#[track_caller]
fn assert_about(rows: &BTreeMap<String, Record>, path: &str, expected: f64, tolerance: f64) {
    let rate = rate(rows, path);
    assert!((rate / expected - 1.0).abs() < tolerance, "{path}: {rate} and not {expected}");
}

#[test]
fn bandwidth_and_latency_go_down_the_hierarchy_step_by_step() {
    let card = Profile::named(T4);
    let (rows, report) = measure(T4, "micro/cache,micro/latency", false);
    assert_eq!(rows.len(), 5);
    for (size, bytes_a_second) in
        [("32KiB", card.l1_gb_s * 1e9), ("2MiB", card.l2_gb_s * 1e9), ("16MiB", card.bandwidth())]
    {
        assert_rate(&rows, &format!("micro/cache/read/f32/{size}"), bytes_a_second);
    }
    let (l1, _, memory) = card.latency_ns;
    for (size, nanoseconds) in [("32KiB", l1), ("16MiB", memory)] {
        let path = format!("micro/latency/chase/{size}");
        // The place where the walk stands is one load more.
        assert_about(&rows, &path, 1e9 / nanoseconds, 1e-3);
        let cycles = nanoseconds * f64::from(card.sm_clock_mhz) / 1e3;
        let parameters = &rows[&path].parameters;
        assert_eq!(parameters["cycles_per_access"], Value::Text(format!("{cycles:.1}")));
        assert_eq!(parameters["cycles_at_mhz"], Value::Text(card.sm_clock_mhz.to_string()));
    }
    assert!(report.launches("cache_read") > 30 && report.launches("chase_walk") > 20);
}

#[test]
fn few_operations_a_byte_are_bound_by_memory_and_many_by_arithmetic() {
    let card = Profile::named("l4");
    let (rows, _) = measure("l4", "micro/intensity", false);
    assert_eq!(rows.len(), 2);
    assert_rate(&rows, "micro/intensity/f32/0.25", card.bandwidth());
    // Bytes are counted, of which each has 512 FLOPs: 128 lanes of an L4's multiprocessor do two in a clock, and
    // the instructions of the loop itself are issued beside them.
    let lanes = 128.0 * f64::from(card.sm_count);
    let computing = 2.0 * lanes * f64::from(card.sm_clock_mhz) * 1e6 / 512.0;
    assert_about(&rows, "micro/intensity/f32/512", computing, 0.06);
}

#[test]
fn shared_memory_and_atomics_are_measured_at_the_cards_figures() {
    let card = Profile::named("a10g");
    let (rows, _) = measure("a10g", "micro/shared,micro/atomics", false);
    assert_eq!(rows.len(), 3);
    // The tile is written once, and PTX adds in pairs where machine code adds three numbers at once.
    assert_about(&rows, "micro/shared/read", card.shared_gb_s * 1e9, 1e-2);
    assert_rate(&rows, "micro/atomics/same", card.atomics_g_s.0 * 1e9);
    assert_rate(&rows, "micro/atomics/spread", card.atomics_g_s.1 * 1e9);
}

#[test]
fn transfers_run_at_the_rate_of_the_bus_and_both_ways_at_twice_that() {
    let card = Profile::named(T4);
    let (rows, report) = measure(T4, "micro/transfer/*/*/1MiB,!d2d", true);
    assert_eq!(rows.len(), 5);
    for direction in ["h2d", "d2h"] {
        for (memory, pinned) in [("pinned", true), ("pageable", false)] {
            let path = format!("micro/transfer/{direction}/{memory}/1MiB");
            assert_rate(&rows, &path, card.bus(pinned));
        }
    }
    assert_rate(&rows, "micro/transfer/both/pinned/1MiB", 2.0 * card.bus(true));
    // Both streams meet twice a sample and not twice a copy.
    let met = report.calls("cuStreamWaitEvent");
    assert!(met > 20 && 10 * met < report.calls("cuMemcpyDtoHAsync_v2"), "{met}");
    assert_eq!(report.calls("cuMemHostAlloc"), report.calls("cuMemFreeHost"));
    assert_eq!(report.calls("cuStreamCreate"), report.calls("cuStreamDestroy_v2"));
}

#[test]
fn a_launch_a_graph_a_wait_and_an_allocation_cost_what_the_card_takes() {
    let card = Profile::named("l4");
    let (rows, report) = measure("l4", "micro/launch", false);
    assert_eq!(rows.len(), 5);
    assert_rate(&rows, "micro/launch/empty", 1e6 / card.launch_us);
    assert_rate(&rows, "micro/launch/queued", 1e6 / card.launch_us);
    let blocked =
        |call: &str| rows[&format!("micro/launch/{call}")].samples.as_ref().unwrap().blocked;
    assert!(blocked("queued") && !blocked("empty") && !blocked("synchronise"));
    assert_rate(&rows, "micro/launch/synchronise", 1e6 / card.launch_us);
    assert_rate(&rows, "micro/launch/graph", 1e6 / (100.0 * card.graph_node_us));
    assert_rate(&rows, "micro/launch/alloc", 1e6 / (2.0 * card.alloc_us));
    assert_eq!(report.calls("cuGraphInstantiateWithFlags"), report.calls("cuGraphExecDestroy"));
    assert_eq!(report.calls("cuStreamEndCapture"), report.calls("cuGraphDestroy"));
    assert!(report.calls("cuGraphLaunch") > 100);
}

#[test]
fn every_answer_is_right_on_the_newest_card_at_every_size_of_the_quick_suite() {
    let machine = Machine::with("h100");
    let ran = machine.run(&["verify", "--device", "cuda", "--filter", "micro,!matmul,!memory"]);
    assert!(ran.exits(0).stdout.contains("19 right, 0 wrong"), "{}", ran.stdout);
}

#[test]
fn a_kernel_that_faults_is_a_failed_row_and_not_a_figure() {
    for (kernel, filter) in [
        ("cache_read", "micro/cache/read/f32/32KiB"),
        ("chase_walk", "micro/latency/chase/32KiB"),
        ("shared_read", "micro/shared"),
        ("atomics_add", "micro/atomics/same"),
        ("launch_empty", "micro/launch/empty"),
        ("block_stream", "micro/launch/queued"),
    ] {
        let machine = Machine::with(T4).faults(&format!("{kernel}:1=700"));
        let ran = machine.run(&["verify", "--device", "cuda", "--filter", filter]);
        ran.exits(1).says(&["CUDA_ERROR_ILLEGAL_ADDRESS (700)"]);
    }
}

#[test]
fn a_copy_between_two_cards_takes_the_direct_way_and_is_skipped_where_there_is_one() {
    let (rows, report) = measure("a10g,a10g", "micro/transfer/d2d/peer/1MiB", true);
    let path = "micro/transfer/d2d/peer/1MiB";
    assert_rate(&rows, path, Profile::named("a10g").peer_gb_s * 1e9);
    assert_eq!(rows[path].parameters["path"], Value::Text("direct".to_owned()));
    assert_eq!(report.calls("cuMemAlloc_v2"), report.calls("cuMemFree_v2"));
    let (rows, _) = measure(T4, "micro/transfer/d2d/peer/1MiB,micro/launch/empty", true);
    let Outcome::Skipped { reason } = &rows[path].outcome else { panic!("{:?}", rows[path]) };
    assert!(reason.contains("there is one GPU"), "{reason}");
}

/// A product of a few microseconds on this card.
const SHORT: &str = "micro/matmul/f16.f32/1024x1024x1024/warm";

fn flops(row: &Record) -> f64 {
    let samples = row.samples.as_ref().unwrap();
    row.work.flops.unwrap().0 / samples.median().unwrap().0
}

#[test]
fn a_host_that_launches_slowly_is_not_in_the_time_of_short_kernels() {
    let card = Profile::named("h100");
    let machine = Machine::with("h100").faults("launch_us=20");
    let filter = format!("micro/launch/empty,micro/launch/queued,{SHORT}");
    let (rows, _) = measure_on(&machine, &filter, true);
    // Launched as they come, kernels take as long as their launches; queued beforehand, their own time.
    assert_rate(&rows, "micro/launch/queued", 1e6 / card.launch_us);
    let empty = rate(&rows, "micro/launch/empty");
    assert!((4.9e4..5.1e4).contains(&empty), "{empty}");
    let product = &rows[SHORT];
    assert!(product.samples.as_ref().unwrap().blocked);
    let expected = card.matmul("f16/f32").unwrap();
    assert!(
        (flops(product) / expected - 1.0).abs() < 1e-5,
        "{} and not {expected}",
        flops(product)
    );
}

#[test]
fn a_device_that_cannot_be_held_gives_a_row_that_says_so() {
    // A queue of 64 is held with fewer launches at once.
    let short = Machine::with("h100").faults("launch_us=20; queue=64");
    let (rows, _) = measure_on(&short, "micro/launch/queued", false);
    assert!(rows["micro/launch/queued"].samples.as_ref().unwrap().blocked);
    assert_rate(&rows, "micro/launch/queued", 1e6 / Profile::named("h100").launch_us);
    let machine = Machine::with("h100").faults("launch_us=20; queue=30");
    let (rows, _) = measure_on(&machine, "micro/launch/queued", false);
    let row = &rows["micro/launch/queued"];
    assert!(!row.samples.as_ref().unwrap().blocked);
    let caveat = "the device could not be held back while launches were queued";
    assert!(row.caveats.iter().any(|said| said.contains(caveat)), "{:?}", row.caveats);
    let rate = rate(&rows, "micro/launch/queued");
    assert!((4.9e4..5.1e4).contains(&rate), "{rate}");
}

#[test]
fn burst_and_sustained_speed_are_both_kept_where_a_card_slows_down() {
    let path = "micro/memory/triad/f32/256MiB/sustained";
    let steady = Machine::with(T4);
    let (rows, _) = measure_on(&steady, path, false);
    let burst = rows[path].samples.as_ref().unwrap().burst.clone().unwrap();
    let same =
        burst.median().unwrap().ratio(rows[path].samples.as_ref().unwrap().median().unwrap());
    assert!((same - 1.0).abs() < 1e-5, "{same}");
    assert!(burst.rest_s > 2.0 && burst.load_s > 3.0 && burst.seconds.len() > 1, "{burst:?}");

    // It rests for three seconds, and works for four before its samples, the first of which is the burst.
    let hot = Machine::with(T4).faults("throttled_after=5.5");
    let ran = hot.measure(path);
    let said = ran.exits(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let row = &hot.rows()[0];
    let samples = row.samples.as_ref().unwrap();
    let faster = samples.median().unwrap().ratio(samples.burst.as_ref().unwrap().median().unwrap());
    assert!((faster - 2.0).abs() < 1e-3, "{faster}");
    let expected = Profile::named(T4).bandwidth() * 0.5;
    let sustained = row.work.bytes.unwrap().0 / samples.median().unwrap().0;
    assert!((sustained / expected - 1.0).abs() < 1e-5, "{sustained} and not {expected}");
    assert!(
        said.contains("240 GB/s in its first second after a rest of 3.00 s, +100.0 %"),
        "{said}"
    );
    assert_eq!(samples.throttled["hardware thermal slowdown"], (0..10).collect::<Vec<_>>());
}
