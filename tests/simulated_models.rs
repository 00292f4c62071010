//! Models on simulated cards, through candle's CUDA backend and its own kernels: in a build with the feature
//! `cuda` and the simulated nvcc (`scripts/simulated-cuda/environment`), and in no other, which has real
//! libraries.

// Clippy sees it in every build.
#![cfg(any(simulated_cuda, clippy))]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "simulated_models/families.rs"]
mod families;
mod support;

use std::path::{Path, PathBuf};

use support::machine::{Machine, assert_reason};
use support::{Ran, World};
use warpmark_record::{Outcome, Record, Value};

/// The oldest that this build's kernels run on.
const CARD: &str = "a100-40";

/// Two loads, a prompt in one batch size, a context in two.
const ROWS: usize = 5;

fn catalog() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml")
}

/// Runs what the filter names, of the small GPT-2 on candle's backend, launch by launch, and of the micro suite.
fn run(machine: &Machine, models: &Path, filter: &str, more: &[&str]) -> Ran {
    let mut command = machine.measuring(&format!("{filter},!@fused,!@graph"));
    command.arg("--models").arg(models).args(more);
    Ran::of(command.output().unwrap())
}

fn rows_of<'r>(rows: &'r [Record], part: &str) -> Vec<&'r Record> {
    rows.iter().filter(|row| row.id.to_string().contains(part)).collect()
}

#[track_caller]
fn assert_measured(rows: &[Record], part: &str, count: usize) {
    let found = rows_of(rows, part);
    assert_eq!(found.len(), count, "{part}: {rows:#?}");
    for row in found {
        assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
        let check = row.check.as_ref().unwrap();
        assert!(check.worst_error <= check.tolerance, "{}: {check:?}", row.id);
    }
}

#[test]
fn a_model_loads_reads_and_writes_on_a_card_and_its_answers_are_right() {
    let machine = Machine::with(CARD);
    run(&machine, &catalog(), "tiny", &[]).exits(0);
    let recording = machine.recording();
    let all = &recording.rows;
    assert_eq!(all.len(), ROWS, "{all:#?}");
    assert_measured(all, "/tiny/prefill", 1);
    assert_measured(all, "/tiny/decode", 2);
    assert_measured(all, "load/tiny/f16/warm", 1);
    // Whether pages can be dropped is up to the host's kernel.
    let cold = rows_of(all, "load/tiny/f16/cold")[0];
    match cold.outcome {
        Outcome::Measured => assert!(cold.check.is_some(), "{cold:?}"),
        _ => assert_reason(&cold.outcome, false, "the page cache could not be emptied"),
    }
    let build = &recording.runs[0].build;
    let kernels = "sm_80, PTX 9.0, simulated: for tests alone";
    assert_eq!(build.cuda_kernels.as_deref(), Some(kernels));
    let report = machine.report();
    assert_eq!(report.dangling(), 0);
    for function in ["cublasGemmStridedBatchedEx", "curandCreateGenerator", "cuMemAllocAsync"] {
        assert!(report.calls(function) > 0, "{function}");
    }
    for kernel in ["layernorm_f16", "attention_f16_16x1", "ugelu_f16", "is_u32_f16"] {
        assert!(report.launches(kernel) > 0, "{kernel}");
    }
}

#[test]
fn the_same_decode_stands_engine_by_engine_with_its_kernels() {
    let machine = Machine::with(CARD);
    let mut command = machine.measuring("text/tiny/decode/f16/b1,micro/memory/read");
    let ran = Ran::of(command.arg("--models").arg(catalog()).output().unwrap());
    ran.exits(0);
    assert!(ran.stdout.contains("text/tiny/decode/f16/b1/c16, engine by engine"), "{}", ran.stdout);
    let rows = machine.rows();
    let number = |row: &Record, name: &str| match row.parameters.get(name) {
        Some(Value::Integer(number)) => *number,
        other => panic!("{name} of {} is {other:?}", row.id),
    };
    for engine in ["@warpmark", "@graph", "@fused"] {
        assert_measured(&rows, &format!("decode/f16/b1/c16{engine}"), 1);
    }
    let of = |engine: &str| rows_of(&rows, engine)[0];
    let (graph, fused) = (of("decode/f16/b1/c16@graph"), of("decode/f16/b1/c16@fused"));
    assert_eq!((number(graph, "graph_launches"), number(fused, "graph_launches")), (1, 1));
    assert!(number(graph, "kernels") > 2 * number(fused, "kernels"), "{graph:?}");
}

/// The memory that a dry run counts for a benchmark, in bytes.
fn counted(dry_run: &str, id: &str) -> f64 {
    let line = dry_run.lines().find(|line| line.trim_start().starts_with(id)).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., number, unit] = words[..] else { panic!("{line}") };
    let scale = match unit {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        other => panic!("{other} in {line}"),
    };
    number.parse::<f64>().unwrap() * scale
}

#[test]
fn the_peak_of_a_model_is_what_was_counted_and_at_most_a_tenth_more() {
    let machine = Machine::with(CARD);
    let larger = [
        ("width = 64", "width = 256"),
        ("vocabulary = 199", "vocabulary = 8000"),
        ("batches = [1, 2]", "batches = [1, 8]"),
    ];
    let text = std::fs::read_to_string(catalog()).unwrap();
    let text = larger.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let models = machine.world.write("larger.toml", &text);
    let dry = run(&machine, &models, "tiny", &["--dry-run"]);
    run(&machine, &models, "text/tiny", &[]).exits(0);
    let rows = machine.rows();
    for row in rows_of(&rows, "text/tiny") {
        let memory = row.memory.as_ref().unwrap();
        let weights = memory.weights.known().unwrap().0;
        let peak = memory.peak.known().unwrap().0;
        let most = 1.1 * counted(&dry.stdout, &row.id.to_string());
        assert!((weights..=most).contains(&peak), "{}: {weights} {peak} {most}", row.id);
    }
}

#[test]
fn a_build_with_simulated_kernels_says_so_and_records_nothing_of_a_real_device() {
    let doctor = Machine::with(CARD).run(&["doctor"]);
    assert!(doctor.stdout.contains("simulated: for tests alone"), "{}", doctor.stdout);
    let world = World::new();
    let ran = Ran::of(world.tiny_run().output().unwrap());
    ran.exits(70).says(&["simulated nvcc", "records nothing of a real device"]);
    assert!(world.results().is_empty());
    let machine = Machine::with(CARD);
    let arguments = ["run", "--device", "cuda", "--filter", "tiny", "--models"];
    let mut command = machine.command(&arguments);
    let ran = Ran::of(command.arg(catalog()).output().unwrap());
    ran.exits(70).says(&["simulated results cannot go to"]);
    assert!(machine.world.results().is_empty());
}

#[test]
fn a_card_of_another_architecture_is_told_how_to_build_for_it() {
    for (card, command) in [("v100", "CUDA_COMPUTE_CAP=70"), ("t4", "CUDA_COMPUTE_CAP=75")] {
        let machine = Machine::with(card);
        run(&machine, &catalog(), "tiny", &[]);
        let rows = machine.rows();
        assert_eq!(rows.len(), ROWS, "{rows:#?}");
        for row in &rows {
            assert_reason(&row.outcome, false, &format!("{command} cargo build"));
            assert!(row.samples.is_none(), "{row:?}");
        }
    }
}

#[test]
fn a_driver_older_than_the_kernels_is_told_which_it_needs() {
    let machine = Machine::with(CARD).set(|simulator| simulator.driver(12_080));
    run(&machine, &catalog(), "tiny", &[]);
    for row in &machine.rows() {
        assert_reason(
            &row.outcome,
            false,
            "needs a driver for CUDA 13.0, and this one is for 12.8",
        );
    }
}

/// Runs the decode steps and a row of the micro suite under a plan: the steps fail for this reason, the
/// other row is measured, and both are kept.
#[track_caller]
fn decode_fails(plan: &str, more: &[&str], part: &str) {
    let machine = Machine::with(CARD).faults(plan);
    run(&machine, &catalog(), "text/tiny/decode,micro/memory/copy", more).exits(1);
    let rows = machine.rows();
    let steps = rows_of(&rows, "decode");
    assert_eq!(steps.len(), 2, "{rows:#?}");
    for step in steps {
        assert_reason(&step.outcome, true, part);
        assert!(step.samples.is_none(), "{step:?}");
    }
    assert_measured(&rows, "micro/memory/copy", 1);
}

#[test]
fn an_illegal_address_in_a_decode_step_costs_its_row_and_no_other() {
    decode_fails("attention_f16_16x1:40=700", &[], "CUDA_ERROR_ILLEGAL_ADDRESS");
}

#[test]
fn an_uncorrectable_memory_error_in_a_decode_step_costs_its_row_and_no_other() {
    decode_fails("ugelu_f16:40=214", &[], "CUDA_ERROR_ECC_UNCORRECTABLE");
}

#[test]
fn a_product_that_cublas_cannot_run_fails_its_row() {
    decode_fails("cublasGemmStridedBatchedEx:40+=13", &[], "CUBLAS_STATUS_EXECUTION_FAILED");
}

#[test]
fn a_cublas_that_cannot_be_started_fails_what_needs_it() {
    decode_fails("cublasCreate_v2:1+=1", &[], "CUBLAS_STATUS_NOT_INITIALIZED");
}

#[test]
fn a_decode_step_that_never_ends_is_given_up_and_the_run_goes_on() {
    let machine = Machine::with(CARD).faults("attention_f16_16x1:40=hang");
    let filter = "text/tiny/decode,micro/memory/copy";
    run(&machine, &catalog(), filter, &["--hang-limit=6s"]).exits(1);
    let rows = machine.rows();
    assert_reason(&rows_of(&rows, "decode")[0].outcome, true, "it hung");
    assert_measured(&rows, "micro/memory/copy", 1);
}

#[test]
fn a_card_that_is_lost_in_a_decode_step_ends_what_is_behind_it() {
    let machine = Machine::with(CARD).faults("attention_f16_16x1:40=lost");
    run(&machine, &catalog(), "micro/memory/copy,text/tiny/decode", &[]).exits(1);
    let rows = machine.rows();
    for step in rows_of(&rows, "decode") {
        assert!(matches!(step.outcome, Outcome::Failed { .. }), "{step:?}");
    }
    // Whatever was measured before it is kept, with its answers checked.
    assert!(rows_of(&rows, "copy").iter().all(|row| row.check.is_some()), "{rows:#?}");
}

#[test]
fn memory_that_runs_out_in_the_middle_of_a_load_skips_that_load_alone() {
    let machine = Machine::with(CARD).faults("cuMemAllocAsync:12=2");
    run(&machine, &catalog(), "load/tiny", &[]).exits(0);
    let rows = machine.rows();
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_reason(&rows[0].outcome, false, "memory");
    assert_measured(&rows, "load/tiny/f16/warm", 1);
    machine.report();
}

#[test]
fn a_card_too_small_for_the_weights_skips_every_row_with_that_reason() {
    let machine = Machine::with(CARD).faults("memory=100000");
    run(&machine, &catalog(), "tiny", &[]).exits(0);
    let rows = machine.rows();
    assert_eq!(rows.len(), ROWS, "{rows:#?}");
    for row in &rows {
        assert_reason(&row.outcome, false, "memory");
    }
}

/// Three levels of load, of which the second asks for much more than the others: a plan that counts launches
/// strikes there, and a process that begins with the third never gets as far.
#[track_caller]
fn only_the_second_level_fails(plan: &str, more: &[&str], part: &str) {
    let machine = Machine::with(CARD).faults(plan);
    let mut command = machine.command(&["serve", "tiny", "--device", "cuda"]);
    command.arg("--results").arg(machine.world.path("simulated")).arg("--models").arg(catalog());
    command.args(["--phase", "generate", "--prompt", "8", "--tokens", "6", "--max-batch", "4"]);
    command.args(["--rate", "2,60,3", "--duration", "1s", "--warm-up", "50ms", "--timeout", "1m"]);
    Ran::of(command.args(more).output().unwrap()).exits(1);
    let rows = machine.rows();
    let ends: Vec<&str> =
        rows.iter().map(|row| row.id.segments().last().unwrap().as_str()).collect();
    assert_eq!(ends, ["open-2", "open-60", "open-3"], "{rows:#?}");
    assert_reason(&rows[1].outcome, true, part);
    assert!(rows[1].load_test.is_none(), "{:?}", rows[1]);
    for row in [&rows[0], &rows[2]] {
        assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
        let (load, check) = (row.load_test.as_ref().unwrap(), row.check.as_ref().unwrap());
        assert!(load.requests.completed > 0 && load.requests.failed == 0, "{:?}", load.requests);
        assert!(check.worst_error <= check.tolerance, "{}: {check:?}", row.id);
    }
}

#[test]
fn an_illegal_address_under_load_costs_its_level_and_no_other() {
    only_the_second_level_fails("attention_f16_16x1:120=700", &[], "CUDA_ERROR_ILLEGAL_ADDRESS");
}

#[test]
fn a_kernel_that_never_ends_under_load_costs_its_level_and_no_other() {
    let hang = "it hung while answering requests";
    only_the_second_level_fails("attention_f16_16x1:120=hang", &["--hang-limit=6s"], hang);
}
