//! What a user sees when something goes wrong on a GPU in the middle of a run, on simulated cards: the
//! benchmark that it happened to says so, and everything else is measured and kept.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::Ran;
use crate::support::machine::{Machine, assert_reason};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use warpmark_record::{DeviceKind, Outcome, Record};

/// A group of three, one after the other on the same buffers.
const THREE: &str = "micro/memory/copy,micro/memory/scale,micro/memory/add";

/// One row in any suite.
const COPY: &str = "micro/memory/copy/f32/256MiB";

/// Rows by the third segment of their ids.
fn row<'r>(rows: &'r [Record], name: &str) -> &'r Record {
    let found = rows.iter().find(|row| row.id.segments()[2] == name);
    found.unwrap_or_else(|| panic!("no row {name} in {rows:#?}"))
}

#[track_caller]
fn assert_measured(rows: &[Record], names: &[&str]) {
    for name in names {
        let row = row(rows, name);
        assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
        assert!(row.samples.is_some() && row.check.is_some(), "{row:?}");
    }
}

/// Measures the three under a fault that strikes `scale`, which fails for this reason while the others
/// are measured.
#[track_caller]
fn only_scale_fails(plan: &str, limit: Option<&str>, parts: &[&str]) {
    let machine = Machine::with("t4").faults(plan);
    let mut command = machine.measuring(THREE);
    command.args(limit.map(|limit| format!("--hang-limit={limit}")));
    Ran::of(command.output().unwrap()).exits(1).says(parts);
    let rows = machine.rows();
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert_measured(&rows, &["copy", "add"]);
    for part in parts {
        assert_reason(&row(&rows, "scale").outcome, true, part);
    }
}

#[test]
fn an_illegal_address_costs_its_benchmark_and_no_other() {
    only_scale_fails("memory_scale:5=700", None, &["CUDA_ERROR_ILLEGAL_ADDRESS (700)"]);
}

#[test]
fn verify_and_serve_do_not_work_on_a_card_on_which_a_run_measures() {
    let machine = Machine::with("t4");
    let verify = ["verify", "--device", "cuda", "--filter", "micro/memory/copy"];
    machine.run(&verify).exits(0);
    let cache = std::fs::read_dir(machine.world.path("cache")).unwrap();
    let locks = cache.flatten().map(|item| item.path());
    let is_lock = |path: &std::path::PathBuf| path.to_string_lossy().contains("/measuring-");
    let path = locks.filter(is_lock).last().unwrap();
    let lock = std::fs::File::open(path).unwrap();
    lock.lock().unwrap();
    let serve = ["serve", "gpt2-124m", "--device", "cuda", "--duration", "100ms"];
    for arguments in [&verify[..], &serve] {
        machine.run(arguments).exits(70).says(&["another warpmark run is measuring"]);
    }
    drop(lock);
    machine.run(&verify).exits(0);
}

#[test]
fn an_uncorrectable_memory_error_costs_its_benchmark_and_no_other() {
    only_scale_fails("memory_scale:9=214", None, &["CUDA_ERROR_ECC_UNCORRECTABLE (214)"]);
}

#[test]
fn a_kernel_that_never_ends_is_given_up_and_the_next_benchmark_runs() {
    only_scale_fails("memory_scale:5=hang", Some("6s"), &["it hung while", "6.00 s", "Xid"]);
}

#[test]
fn after_two_hangs_the_rest_of_a_group_is_left_out() {
    let machine = Machine::with("t4").faults("memory_copy:1=hang; memory_scale:1=hang");
    let mut command = machine.measuring(THREE);
    command.args(["--hang-limit", "6s"]);
    Ran::of(command.output().unwrap()).exits(1);
    let rows = machine.rows();
    assert_reason(&row(&rows, "copy").outcome, true, "it hung");
    assert_reason(&row(&rows, "scale").outcome, true, "it hung");
    assert_reason(&row(&rows, "add").outcome, false, "left out: 2 benchmarks of its group hung");
}

#[test]
fn a_driver_call_that_never_returns_when_the_device_is_opened_ends_the_run_with_a_reason() {
    let machine = Machine::with("t4").faults("cuDevicePrimaryCtxRetain:1=hang");
    let mut command = machine.measuring(THREE);
    command.args(["--hang-limit", "2s"]);
    let ran = Ran::of(command.output().unwrap());
    ran.exits(70).says(&["it hung while opening Tesla T4", "2.00 s"]);
    assert!(!machine.world.path("simulated").exists(), "nothing was measured");
}

#[test]
fn a_lost_card_fails_everything_behind_it_and_keeps_everything_before() {
    let machine = Machine::with("t4").faults("memory_scale:5=lost");
    machine.measure(THREE).exits(1).says(&["CUDA_ERROR_UNKNOWN (999)", "sees no device"]);
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    assert_reason(&row(&rows, "scale").outcome, true, "CUDA_ERROR_UNKNOWN (999)");
    assert_reason(&row(&rows, "add").outcome, true, "no process could go on with it");
}

#[test]
fn the_card_behind_a_lost_one_is_not_measured_under_its_name() {
    let machine = Machine::with("t4,t4").faults("memory_scale:5=lost");
    machine.measure(THREE).exits(1);
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    assert_reason(&row(&rows, "add").outcome, true, "cuda:0 is another card now");
}

/// The processes that another one has started.
fn children(parent: &Child) -> Vec<Pid> {
    let id = parent.id();
    let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    list.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

/// A card on which the second of the three never ends.
fn stuck() -> Machine {
    Machine::with("t4").faults("memory_scale:5=hang")
}

/// Starts a run of the three on that card and waits until it has finished its first row.
fn started(mut command: Command) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("micro/memory/copy")).unwrap();
    (run, lines)
}

#[test]
fn a_process_killed_in_the_middle_is_a_row_that_names_the_signal() {
    let machine = stuck();
    let (mut run, lines) = started(machine.measuring(THREE));
    let workers = children(&run);
    assert_eq!(workers.len(), 1);
    kill_process(workers[0], Signal::KILL).unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{said:?}");
    let rows = machine.rows();
    assert_eq!(rows.len(), 3, "{said:?}");
    assert_measured(&rows, &["copy", "add"]);
    assert_reason(&row(&rows, "scale").outcome, true, "SIGKILL");
    assert_reason(&row(&rows, "scale").outcome, true, "out-of-memory killer");
}

#[test]
fn a_crash_is_told_by_its_signal_too() {
    let machine = stuck();
    let (mut run, lines) = started(machine.measuring(THREE));
    kill_process(children(&run)[0], Signal::ABORT).unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{said:?}");
    let rows = machine.rows();
    assert_reason(&row(&rows, "scale").outcome, true, "SIGABRT");
    assert_measured(&rows, &["copy", "add"]);
}

/// Whether a process is gone, at once or soon.
fn gone(pid: Pid) -> bool {
    // A minute of patience.
    (0..6000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        test_kill_process(pid).is_err()
    })
}

#[test]
fn ctrl_c_ends_the_run_and_its_worker_and_keeps_the_finished_rows() {
    let machine = stuck();
    let (mut run, lines) = started(machine.interruptible(&machine.measuring(THREE)));
    let worker = children(&run)[0];
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{said:?}");
    assert!(gone(worker), "the worker goes on measuring for nobody");
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    assert!(rows.iter().all(|row| row.outcome == Outcome::Measured), "{rows:#?}");
    let kept = crate::support::kept(rows.len());
    assert!(said.iter().any(|line| line.contains(&kept)), "{said:?}");
}

#[test]
fn a_run_that_is_killed_takes_its_worker_along() {
    let machine = stuck();
    let (mut run, _lines) = started(machine.measuring(THREE));
    let worker = children(&run)[0];
    kill_process(Pid::from_child(&run), Signal::KILL).unwrap();
    run.wait().unwrap();
    assert!(gone(worker), "the worker goes on measuring for nobody");
    assert_measured(&machine.rows(), &["copy"]);
}

#[test]
fn memory_that_ends_in_the_middle_of_a_load_is_a_skipped_row_and_no_crash() {
    // The second array of the group does not fit, nor do the others; a product that needs less does.
    let machine = Machine::with("t4").faults("cuMemAllocAsync:2+=2");
    let ran = machine.measure(THREE);
    ran.exits(0).says(&["out of memory", "array b (needs 256 MiB)"]);
    for row in machine.rows() {
        assert_reason(&row.outcome, false, "array b (needs 256 MiB)");
    }
    machine.report();
}

#[test]
fn a_worker_that_nobody_instructs_says_who_starts_it() {
    let machine = Machine::with("t4");
    let mut command = machine.command(&["worker"]);
    let ran = Ran::of(command.stdin(Stdio::null()).output().unwrap());
    ran.exits(70).says(&["started by `warpmark` alone"]);
}

/// The command that puts two levels of load on a model.
fn serving(machine: &Machine, more: &[&str]) -> Ran {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml");
    let mut command = machine.command(&["serve", "tiny", "--device", "cuda", "--users", "1,2"]);
    command.arg("--results").arg(machine.world.path("simulated"));
    command.args(["--prompt", "8", "--tokens", "6"]).arg("--models").arg(models);
    command.args(["--duration", "300ms", "--timeout", "1s"]).args(more);
    Ran::of(command.output().unwrap())
}

#[test]
fn a_card_that_does_not_answer_ends_a_load_with_a_reason() {
    let machine = Machine::with("t4").faults("cuDevicePrimaryCtxRetain:1=hang");
    let ran = serving(&machine, &["--hang-limit", "2s"]);
    ran.exits(70).says(&["it hung while opening Tesla T4", "2.00 s"]);
    assert!(!machine.world.path("simulated").exists(), "nothing was measured");
}

#[test]
fn every_level_on_a_service_that_this_build_cannot_load_is_a_skipped_row() {
    let machine = Machine::with("t4");
    serving(&machine, &[]).exits(0);
    let recording = machine.recording();
    assert_eq!(recording.runs[0].suite, "serve");
    assert_eq!(recording.rows.len(), 2, "{:#?}", recording.rows);
    for row in &recording.rows {
        assert_reason(&row.outcome, false, "--features cuda");
    }
    // The process that was started opened no device; the one that did left nothing on it.
    assert_eq!(machine.report().calls("cuMemAllocAsync"), 0);
}

#[test]
fn a_card_without_memory_pools_is_measured_and_the_run_says_so() {
    let machine = Machine::with("t4").faults("pools=0");
    machine.measure(THREE).exits(0);
    assert_measured(&machine.rows(), &["copy", "scale", "add"]);
    let run = &machine.recording().runs[0];
    assert_eq!(run.device.kind, DeviceKind::Simulated);
    let threshold = &run.settings["cuda_pool_release_threshold"];
    assert_eq!(threshold, "not set: the device has no memory pools");
    assert_eq!(machine.report().calls("cuMemAllocAsync"), 0);
}

#[test]
fn a_slice_of_a_card_is_measured_and_read_against_no_datasheet() {
    let machine = Machine::with("a100-40").faults("mig=1");
    let device = &machine.specs("cuda")["device"];
    assert_eq!(device["name"], "NVIDIA A100-SXM4-40GB MIG 1g.5gb (simulated)");
    assert_eq!(device["gpu"]["mig"], true);
    assert_eq!(device["gpu"]["sm_count"], 14);
    let datasheet = device["gpu"]["book"]["absent"].as_str().unwrap();
    assert!(datasheet.contains("has no \"NVIDIA A100-SXM4-40GB MIG 1g.5gb\""), "{datasheet}");
    let ran = machine.measure("micro/memory/copy");
    assert!(!ran.exits(0).stdout.contains("% of datasheet"), "{}", ran.stdout);
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    // What NVML tells of the parent is not the slice's.
    let telemetry = rows[0].telemetry.as_ref().unwrap();
    for reason in [
        telemetry.energy.reason(),
        telemetry.energy_by_power.reason(),
        telemetry.power_mean.reason(),
        telemetry.other_processes.reason(),
    ] {
        assert!(reason.unwrap().contains("slice of a card (MIG)"), "{telemetry:?}");
    }
    assert!(telemetry.sm_clock_mean.known().is_some());
}

#[test]
fn a_sticky_error_while_answers_are_checked_costs_its_benchmark_and_no_other() {
    let machine = Machine::with("t4").faults("memory_scale:2=700");
    let ran = machine.run(&["verify", "--device", "cuda", "--filter", THREE]);
    ran.exits(1).says(&["CUDA_ERROR_ILLEGAL_ADDRESS (700)"]);
    assert!(ran.stdout.contains("2 right, 1 wrong or failed, 0 skipped"), "{}", ran.stdout);
}

#[test]
fn another_tenant_on_the_card_is_a_caution_on_the_report() {
    let machine = Machine::with("t4").faults("tenants=2");
    let ran = machine.measure("micro/memory/copy,micro/memory/add");
    for row in machine.rows() {
        let telemetry = row.telemetry.as_ref().unwrap();
        assert_eq!(telemetry.other_processes.known(), Some(&2), "{}", row.id);
    }
    assert!(ran.stdout.contains("] 2 other processes held memory on the card"), "{}", ran.stdout);
    let said = "caution   2 other processes held memory on the card";
    assert!(ran.exits(0).stdout.contains(said), "{}", ran.stdout);
    // The run's own worker is not among them where there is no other.
    let alone = Machine::with("t4");
    let ran = alone.measure("micro/memory/copy");
    assert!(!ran.exits(0).stdout.contains("held memory on the card"), "{}", ran.stdout);
}

#[test]
fn a_tenant_that_comes_in_the_middle_is_told_on_the_rows_that_were_measured_beside_it() {
    let machine = Machine::with("t4").faults("memory_scale:5=tenant");
    let ran = machine.measure(THREE);
    let rows = machine.rows();
    let others = |name: &str| {
        let telemetry = row(&rows, name).telemetry.as_ref().unwrap();
        telemetry.other_processes.known().copied()
    };
    assert_eq!((others("copy"), others("add")), (Some(0), Some(1)), "{rows:?}");
    assert!(ran.exits(0).stdout.contains("another process held memory on the card"));
    // It came later than the run's own look at the card.
    assert!(!ran.stdout.contains("caution   another process"), "{}", ran.stdout);
}

#[test]
fn a_container_that_hides_processes_or_their_numbers_names_no_wrong_tenant() {
    let hidden = Machine::with("t4").faults("processes=hidden; tenants=2");
    let ran = hidden.measure("micro/memory/copy,micro/memory/add");
    let said = "caution   whether other processes used the card is unknown: NVML lists no process";
    assert_eq!(ran.exits(0).stdout.matches(said).count(), 1, "{}", ran.stdout);
    let foreign = Machine::with("t4").faults("processes=foreign");
    let ran = foreign.measure("micro/memory/copy");
    assert!(!ran.exits(0).stdout.contains("process"), "{}", ran.stdout);
    let telemetry = foreign.rows()[0].telemetry.clone().unwrap();
    assert_eq!(telemetry.other_processes.known(), Some(&0));
}

#[test]
fn an_energy_counter_that_jumps_gives_no_energy_and_the_report_says_so() {
    let machine = Machine::with("t4").faults("energy_step=6");
    let ran = machine.measure_at_length(COPY);
    assert!(ran.exits(0).stdout.contains("the energy counter jumped by 10"), "{}", ran.stdout);
    let rows = machine.rows();
    let telemetry = rows[0].telemetry.as_ref().unwrap();
    assert!(telemetry.energy.reason().unwrap().contains("jumped by"), "{telemetry:?}");
    assert!(telemetry.energy_by_power.known().is_some(), "{telemetry:?}");
}

#[test]
fn an_energy_counter_that_begins_anew_gives_no_energy() {
    let machine = Machine::with("t4").faults("energy_back=6");
    let ran = machine.measure_at_length(COPY);
    assert!(ran.exits(0).stdout.contains("the energy counter ran backwards"), "{}", ran.stdout);
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    let telemetry = rows[0].telemetry.as_ref().unwrap();
    assert!(telemetry.energy.reason().unwrap().contains("backwards"), "{telemetry:?}");
    assert!(telemetry.power_mean.known().is_some(), "{telemetry:?}");
}

#[test]
fn a_clock_that_drops_while_sampling_is_kept_and_marked_with_its_cause() {
    // It warms up for a second at most, and is sampled for three more.
    let machine = Machine::with("t4").faults("throttled_after=3.4");
    let ran = machine.measure_at_length(COPY);
    let rows = machine.rows();
    assert_measured(&rows, &["copy"]);
    let telemetry = rows[0].telemetry.as_ref().unwrap();
    let causes = telemetry.throttle_causes.known().unwrap();
    let hot = causes["hardware thermal slowdown"];
    assert!(0 < hot && hot < telemetry.readings, "{telemetry:?}");
    let samples = rows[0].samples.as_ref().unwrap();
    let marked = &samples.throttled["hardware thermal slowdown"];
    assert!(!marked.is_empty() && marked.len() < samples.wall_s.len(), "{marked:?}");
    assert_eq!(marked.last(), Some(&(samples.wall_s.len() - 1)), "none is thrown away");
    assert!(telemetry.sm_clock_min.known() < telemetry.sm_clock_mean.known(), "{telemetry:?}");
    for said in
        ["the card held its clocks down: hardware thermal slowdown", "below 75 % of the card"]
    {
        assert!(ran.exits(0).stdout.contains(said), "{said:?} is missing in {}", ran.stdout);
    }
}
