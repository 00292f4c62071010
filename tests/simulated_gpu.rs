//! The GPU path of the suite, end to end, on cards that the simulator imitates: the real cudarc, the
//! real benchmarks, no GPU. It proves control flow, accounting and arithmetic, never a number.

#![allow(clippy::print_stdout, reason = "what a machine cannot test is said")]

use crate::support::World;
use crate::support::machine::{Machine, assert_reason};
use serde_json::Value;
use warpmark_record::{Field, Hertz, Outcome, Record};
use warpmark_simgpu::faults::THROTTLED;
use warpmark_simgpu::harness::Library;
use warpmark_simgpu::profile::Profile;

const PROFILES: [&str; 6] = ["t4", "l4", "a10g", "a100-40", "h100", "h200"];

#[test]
fn specs_tell_every_card_as_its_driver_does() {
    for name in PROFILES {
        let card = Profile::named(name);
        let specs = Machine::with(name).specs("cuda");
        let (device, gpu) = (&specs["device"], &specs["device"]["gpu"]);
        assert_eq!(device["kind"], "simulated");
        assert_eq!(device["name"], format!("{} (simulated)", card.name));
        assert!(device["slug"].as_str().unwrap().ends_with("-simulated"), "{device}");
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {specs}"));
        assert_eq!(number(&device["memory"]) as u64, card.memory_mib << 20);
        assert_eq!(number(&device["last_level_cache"]) as u64, u64::from(card.l2_kib) << 10);
        let datasheet = card.bandwidth_gb_s * 1e9;
        assert!((number(&device["memory_bandwidth"]) / datasheet - 1.0).abs() < 0.01, "{device}");
        let (major, minor) = card.compute_capability;
        assert_eq!(gpu["compute_capability"], serde_json::json!([major, minor]));
        assert_eq!(gpu["sm_count"], card.sm_count);
        assert_eq!(number(&gpu["power_limit"]) as u64, card.power_limit_w as u64);
        // The datasheet knows the card behind the suffix, by name, memory and SMs.
        let peak = number(&gpu["book"]["peaks"]["f16/f32"]["value"]) / 1e12;
        assert!((peak / card.peaks_tflops["f16/f32"] - 1.0).abs() < 0.01, "{name}: {peak}");
    }
}

/// Every sample of the row as a rate: FLOP/s where it multiplies, bytes a second else.
fn rates(row: &Record) -> Vec<f64> {
    let samples = row.samples.as_ref().unwrap();
    let work = row.work.flops.map_or_else(|| row.work.bytes.unwrap().0, |flops| flops.0);
    let times = samples.device_s.as_ref().unwrap().iter().zip(&samples.iterations);
    times.map(|(seconds, iterations)| work * *iterations as f64 / seconds).collect()
}

/// Runs matrix products and memory passes on a card, and holds every sample against its profile.
fn measure_figures(name: &str) {
    let card = Profile::named(name);
    let machine = Machine::with(name);
    let size = "4096x4096x4096";
    let products = ["f16", "bf16", "f32"].map(|dtype| format!("micro/matmul/{dtype}.f32/{size}"));
    let filter = format!("{},micro/memory/read,micro/memory/copy", products.join(","));
    machine.measure(&filter).exits(0);
    let rows = machine.rows();
    let measured = rows.iter().filter(|row| row.outcome == Outcome::Measured).count();
    let bf16 = card.peaks_tflops.contains_key("bf16/f32");
    assert_eq!((rows.len(), measured), (5, if bf16 { 5 } else { 4 }), "{name}");
    for row in rows.iter().filter(|row| row.outcome == Outcome::Measured) {
        let segments = row.id.segments();
        let expected = match segments[1].as_str() {
            "matmul" => card.matmul(&segments[2].replace('.', "/")).unwrap(),
            _ => card.bandwidth(),
        };
        for rate in rates(row) {
            // An event tells its time in f32.
            let off = rate / expected - 1.0;
            assert!(off.abs() < 1e-6, "{name} {}: {rate} and not {expected}", row.id);
        }
        let samples = row.samples.as_ref().unwrap();
        let device = samples.device_s.as_ref().unwrap();
        let waited = device.iter().zip(&samples.wall_s).all(|(d, wall)| wall >= &(d * 0.999));
        assert!(waited, "{name} {}: the wall is behind the device", row.id);
    }
    let report = machine.report();
    assert_eq!(report.dangling(), 0);
    assert!(report.launches("memory_copy") > 100);
    // No more work than planned, by the card's own clock: on a busy host it is less, since the time of some
    // steps is the host's.
    let ran = machine.run(&["run", "--dry-run", "--json", "--device", "cuda", "--filter", &filter]);
    let plan: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    let rows = plan["benchmarks"].as_array().unwrap();
    let planned: f64 = rows.iter().map(|row| row["time_s"].as_f64().unwrap()).sum();
    let worked = report.worked();
    assert!(worked < 1.15 * planned, "{name}: {worked:.2} s of work, {planned:.2} s were planned");
}

#[test]
fn every_card_is_measured_at_its_own_figures() {
    std::thread::scope(|scope| {
        for name in PROFILES {
            scope.spawn(move || measure_figures(name));
        }
    });
}

/// One measured row of the T4 under a fault plan.
fn copy_under(plan: &str) -> Record {
    let machine = Machine::with("t4").faults(plan);
    machine.measure("micro/memory/copy").exits(0);
    machine.rows().remove(0)
}

/// The same, see [`Machine::measure_at_length`].
fn long_copy_under(plan: &str) -> Record {
    let machine = Machine::with("t4").faults(plan);
    machine.measure_at_length("micro/memory/copy/f32/256MiB").exits(0);
    let [row] = &machine.rows()[..] else { panic!("{:#?}", machine.rows()) };
    row.clone()
}

#[test]
fn sensors_are_watched_while_samples_are_taken() {
    let card = Profile::named("t4");
    let seen = long_copy_under("").telemetry.unwrap();
    assert!(seen.readings > 2, "{seen:?}");
    assert_eq!(seen.sm_clock_min, Field::Known(Hertz(1590e6)));
    assert_eq!(seen.throttle_causes.known().unwrap().len(), 0);
    let limits = card.idle_w..=card.power_limit_w;
    let (energy, window) = (seen.energy.known().unwrap().0, seen.window.known().unwrap().0);
    for watts in [seen.power_mean.known().unwrap().0, energy / window] {
        assert!(limits.contains(&watts), "{watts} W");
    }
}

/// How far a sample's clock may lie off: the device's timer goes on by a microsecond, and samples take
/// some milliseconds at least.
const CLOCK_TOLERANCE: f64 = 2e-3;

#[test]
fn each_sample_tells_its_own_clock_as_the_card_counted_it() {
    let samples = copy_under("").samples.unwrap();
    let clocks = samples.sm_clock_hz.unwrap();
    assert_eq!(clocks.len(), samples.wall_s.len());
    assert!(
        clocks.iter().all(|clock| (clock / 1590e6 - 1.0).abs() < CLOCK_TOLERANCE),
        "{clocks:?}"
    );
    assert!(samples.slow_clock.is_empty());
}

#[test]
fn a_clock_that_falls_between_two_samples_is_seen_in_each_and_the_slow_ones_are_marked() {
    // It warms up for a second at most, and is sampled for three more.
    let samples = long_copy_under("throttled_after=3.4").samples.unwrap();
    let clocks = samples.sm_clock_hz.as_ref().unwrap();
    let near = |clock: &f64, share: f64| (clock / (share * 1590e6) - 1.0).abs() < CLOCK_TOLERANCE;
    let full = clocks.iter().take_while(|clock| near(clock, 1.0)).count();
    let low = clocks.iter().rev().take_while(|clock| near(clock, THROTTLED)).count();
    // One sample at most has both clocks in it.
    assert!(full > 0 && low > 0 && full + low + 1 >= clocks.len(), "{clocks:?}");
    // Work of as many cycles: what a sample takes is told by its clock alone.
    let times = samples.per_iteration();
    for (clock, time) in clocks.iter().zip(&times) {
        let cycles = clock * time / (clocks[0] * times[0]);
        assert!((cycles - 1.0).abs() < 2.0 * CLOCK_TOLERANCE, "{clocks:?} {times:?}");
    }
    let slow = clocks.iter().enumerate().filter(|(_, clock)| **clock < 0.75 * 1590e6);
    assert_eq!(samples.slow_clock, slow.map(|(place, _)| place).collect::<Vec<_>>());
}

#[test]
fn a_card_that_is_held_down_says_by_what() {
    let row = copy_under("throttled=8");
    let expected = Profile::named("t4").bandwidth() * THROTTLED;
    assert!(rates(&row).iter().all(|rate| (rate / expected - 1.0).abs() < 1e-6));
    let samples = row.samples.as_ref().unwrap();
    assert_eq!(samples.slow_clock, (0..samples.wall_s.len()).collect::<Vec<_>>());
    let seen = row.telemetry.unwrap();
    assert_eq!(seen.sm_clock_min, Field::Known(Hertz(1590e6 * THROTTLED)));
    let causes = seen.throttle_causes.known().unwrap();
    assert_eq!(causes["hardware slowdown"], seen.readings);
}

#[test]
fn the_fastest_of_cublaslts_algorithms_is_found_and_named() {
    let machine = Machine::with("a10g");
    machine.measure("micro/matmul/f16.f32/4096x4096x4096").exits(0);
    let caveat = machine.rows()[0].caveats.join("; ");
    let parts = ["number 2", "1.25 times", "3 algorithms tried, of 4"];
    assert!(parts.iter().all(|part| caveat.contains(part)), "{caveat}");
}

#[test]
fn every_answer_is_checked_at_every_size_and_on_the_newest_card() {
    let machine = Machine::with("h100");
    let filter = "matmul/f16.f32,matmul/bf16.f32,matmul/f32.f32,micro/memory";
    let ran = machine.run(&["verify", "--device", "cuda", "--filter", filter]);
    assert!(ran.exits(0).stdout.contains("14 right, 0 wrong"), "{}", ran.stdout);
    machine.report();
}

#[test]
fn simulated_figures_never_reach_the_results() {
    let machine = Machine::with("t4");
    let ran = machine.run(&["run", "--device", "cuda", "--filter", "micro/memory/read"]);
    ran.exits(70).says(&["simulated", "results"]);
    assert!(machine.world.results().is_empty());
}

#[test]
fn what_does_not_fit_is_skipped_and_the_next_one_runs() {
    let machine = Machine::with("t4").faults("memory=314572800");
    let products = "micro/matmul/f16.f32/4096x4096x4096,micro/matmul/f32.f32/8192x8192x8192";
    machine.measure(&format!("{products},micro/memory/read,micro/memory/copy")).exits(0);
    let rows = machine.rows();
    assert_eq!(rows[0].outcome, Outcome::Measured, "{rows:?}");
    assert_reason(&rows[1].outcome, false, "matrix B of 8192 x 8192 f32 (needs 256 MiB)");
    assert_reason(&rows[2].outcome, false, "array b (needs 256 MiB)");
    assert_reason(&rows[3].outcome, false, "the device was full at micro/memory/read");
    machine.report();
}

/// Checks without measuring under a fault, and returns the message lines.
fn verify_under(plan: &str, filter: &str, code: i32) -> String {
    let machine = Machine::with("t4").faults(plan);
    let ran = machine.run(&["verify", "--device", "cuda", "--filter", filter]);
    ran.exits(code).says(&[]);
    ran.stderr
}

#[test]
fn faults_of_driver_and_libraries_are_rows_and_never_a_crash() {
    let cases = [
        ("cuStreamSynchronize:9=214", "CUDA_ERROR_ECC_UNCORRECTABLE (214)"),
        ("cuLaunchKernel:3=719", "CUDA_ERROR_LAUNCH_FAILED (719)"),
        // A driver newer than the bindings: the code has no name there.
        ("cuLaunchKernel:3=4242", "code 4242"),
        ("cuModuleLoadData:1=222", "update the driver"),
        ("cuModuleLoadData:1=200", "compiled by a toolkit newer than the driver"),
        ("cuModuleLoadData:1=209", "another architecture"),
        ("nvrtcCompileProgram:1=6", "NVRTC could not compile"),
        ("cuMemAllocAsync:1=999", "CUDA_ERROR_UNKNOWN (999)"),
    ];
    for (plan, part) in cases {
        let said = verify_under(plan, "micro/memory", 1);
        assert!(said.contains(part), "{plan}: {said}");
    }
    for (plan, part) in [
        ("cublasLtMatmul:1+=13", "EXECUTION_FAILED (13)"),
        ("cublasLtCreate:1=1", "NOT_INITIALIZED (1): is the library newer than the driver?"),
        // cudarc keeps the error of a drop for the next caller, whoever that is.
        ("cuMemFreeAsync:1=1", "the device reported afterwards"),
    ] {
        let said = verify_under(plan, "micro/matmul/f16.f32", 1);
        assert!(said.contains(part), "{plan}: {said}");
    }
    // What the library has no algorithm for is skipped.
    let said = verify_under("cublasLtMatmulAlgoGetHeuristic:1+=15", "micro/matmul/f16.f32", 0);
    assert!(said.contains("cuBLASLt proposes no algorithm"), "{said}");
    // A refusal to be destroyed is nobody's failure.
    let destroys = "cublasLtDestroy:1+=14; cublasLtMatmulDescDestroy:1+=14; \
                    cublasLtMatrixLayoutDestroy:1+=14; nvrtcDestroyProgram:1+=4";
    verify_under(destroys, "micro/matmul/f16.f32", 0);
}

#[test]
fn a_driver_that_does_not_start_is_named_with_the_way_out() {
    for (code, part) in [
        (34, "CUDA_ERROR_STUB_LIBRARY"),
        (100, "sees no device"),
        (803, "reboot"),
        (999, "nvidia-smi"),
    ] {
        let machine = Machine::with("t4").faults(&format!("cuInit:1+={code}"));
        machine.run(&["specs", "--device", "cuda"]).exits(70).says(&[part, "--device cpu"]);
    }
    let old = Machine::with("t4").set(|simulator| simulator.driver(11_040));
    old.run(&["specs", "--device", "cuda"]).exits(70).says(&["CUDA 11.4", "12.0", "update"]);
}

#[test]
fn devices_are_counted_as_the_driver_counts_them() {
    let two = Machine::with("t4,l4");
    assert_eq!(two.specs("cuda:1")["device"]["name"], "NVIDIA L4 (simulated)");
    two.run(&["specs", "--device", "cuda:2"]).exits(70).says(&["there is no device cuda:2"]);
    let second = Machine::with("t4,l4").set(|simulator| simulator.visible("1"));
    assert_eq!(second.specs("cuda:0")["device"]["name"], "NVIDIA L4 (simulated)");
    let said = second.run(&["specs", "--device", "cuda:1"]);
    said.exits(70).says(&["there is no device cuda:1", "CUDA_VISIBLE_DEVICES is \"1\""]);
    // By its UUID, as `nvidia-smi -L` prints it.
    let id = "GPU-73696d75-6c61-7465-6420-677075203031";
    let by_id = Machine::with("t4,l4").set(|simulator| simulator.visible(id));
    assert_eq!(by_id.specs("cuda:0")["device"]["name"], "NVIDIA L4 (simulated)");
    by_id.run(&["specs", "--device", "cuda:1"]).exits(70).says(&["there is no device cuda:1", id]);
    for hidden in ["", "-1", "GPU-none"] {
        let none = Machine::with("t4").set(|simulator| simulator.visible(hidden));
        let said = none.run(&["specs", "--device", "cuda"]);
        said.exits(70).says(&[&format!("CUDA_VISIBLE_DEVICES is \"{hidden}\""), "unset it"]);
    }
    Machine::with("").run(&["specs", "--device", "cuda"]).exits(70).says(&["sees no device"]);
}

/// Whether the machine has a library of its own, which would be found where the simulated one is left
/// out. Says so.
fn on_this_machine(library: &str) -> bool {
    let doctor = World::new().run(&["doctor", "--json"]);
    let findings: Value = serde_json::from_str(&doctor.exits(0).stdout).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|f| f["what"] == library).unwrap();
    let there = finding["state"] == "ok";
    if there {
        println!(
            "not tested: the machine has a real {library}, so that its absence cannot be simulated"
        );
    }
    there
}

#[test]
fn without_nvml_everything_else_is_told_and_measured() {
    if on_this_machine("NVML") {
        return;
    }
    let refused = Machine::with("t4").faults("nvmlDevice*:1+=4");
    let absent = Machine::with("t4").set(|simulator| simulator.without(Library::Nvml));
    for (machine, part) in [(refused, "not permitted"), (absent, "libnvidia-ml.so.1 was not found")]
    {
        let specs = machine.specs("cuda");
        let reason = specs["device"]["gpu"]["power_limit"]["absent"].as_str().unwrap();
        assert!(reason.contains(part), "{reason}");
        assert_eq!(specs["device"]["gpu"]["sm_count"], 40);
        machine.measure("micro/memory/read").exits(0);
        assert_eq!(machine.rows()[0].outcome, Outcome::Measured);
    }
}

#[test]
fn a_missing_library_skips_what_needs_it_and_nothing_else() {
    if on_this_machine("NVRTC") || on_this_machine("cuBLASLt") {
        return;
    }
    let verify =
        ["verify", "--device", "cuda", "--filter", "micro/matmul/f16.f32,micro/memory/copy"];
    let no_blas = Machine::with("t4").set(|simulator| simulator.without(Library::Cublaslt));
    let ran = no_blas.run(&verify);
    ran.exits(0).says(&["cuBLASLt is not usable", "libcublasLt"]);
    assert!(ran.stdout.contains("1 right, 0 wrong or failed, 3 skipped"), "{}", ran.stdout);
    let no_compiler = Machine::with("t4").set(|simulator| simulator.without(Library::Nvrtc));
    let ran = no_compiler.run(&verify);
    ran.exits(0).says(&["NVRTC is not usable", "libnvrtc"]);
    assert!(ran.stdout.contains("0 right, 0 wrong or failed, 4 skipped"), "{}", ran.stdout);
    let doctor = no_compiler.run(&["doctor", "--json"]);
    let findings: Value = serde_json::from_str(&doctor.exits(0).stdout).unwrap();
    let compiler = findings.as_array().unwrap().iter().find(|f| f["what"] == "NVRTC").unwrap();
    assert!(compiler["state"] != "ok" && compiler["mend"].is_string(), "{compiler}");
}
