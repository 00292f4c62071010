//! The engine `fused` from the command line to the record, on simulated cards that execute its kernels: in a build
//! without candle's CUDA backend.

use crate::support::Ran;
use crate::support::machine::{Machine, assert_reason};
use warpmark_record::{Outcome, Record};
use warpmark_simgpu::harness::Library;

/// A GPT-2 of seven heads of nine with a vocabulary of a prime, and a Llama whose heads share keys.
const MODELS: &str = r#"
[[model]]
id = "odd"
family = "gpt2"
title = "Odd"
repo = "warpmark/odd"
checkpoint = "f32"
phases = ["decode"]
batches = [1, 3]
[model.architecture]
vocabulary = 1013
context = 40
width = 63
layers = 2
heads = 7
[model.inputs]
prompts = [4]
contexts = [5]
[model.suites.quick]
cpu = ["f32"]
cuda = ["f32", "f16", "bf16"]

[[model]]
id = "shared"
family = "llama"
title = "Shared"
repo = "warpmark/shared"
checkpoint = "f32"
phases = ["decode"]
batches = [1, 3, 9]
[model.architecture]
vocabulary = 199
context = 64
width = 60
hidden = 76
layers = 2
heads = 6
key_value_heads = 2
norm_epsilon = 1e-5
rope_theta = 10000.0
tied = false
[model.inputs]
prompts = [4]
contexts = [5]
[model.suites.quick]
cpu = ["f32"]
cuda = ["f16"]
"#;

fn measure(machine: &Machine, filter: &str) -> Ran {
    let models = machine.world.write("models.toml", MODELS);
    let mut command = machine.measuring(filter);
    Ran::of(command.arg("--models").arg(models).output().unwrap())
}

#[track_caller]
fn assert_right(row: &Record) {
    assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
    let check = row.check.as_ref().unwrap();
    assert!(
        check.worst_error > 0.0 && check.worst_error <= check.tolerance,
        "{}: {check:?}",
        row.id
    );
}

#[test]
fn a_gpt2_and_a_llama_of_odd_shapes_are_decoded_right_in_a_plain_build() {
    let machine = Machine::with("t4");
    measure(&machine, "@fused").exits(0);
    let rows = machine.rows();
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let expected = [
        "text/odd/decode/f16/b1/c5@fused",
        "text/odd/decode/f16/b3/c5@fused",
        "text/odd/decode/bf16/b1/c5@fused",
        "text/odd/decode/bf16/b3/c5@fused",
        "text/shared/decode/f16/b1/c5@fused",
        "text/shared/decode/f16/b3/c5@fused",
    ];
    assert_eq!(ids, expected);
    rows.iter().for_each(assert_right);
    // Two layers of six kernels, and three beside; a launch is one graph.
    let number = |name: &str| serde_json::to_value(&rows[0].parameters[name]).unwrap();
    assert_eq!((number("kernels"), number("graph_launches")), (15.into(), 1.into()));
    let report = machine.report();
    assert_eq!(report.dangling(), 0);
    let (launches, steps) = (report.calls("cuGraphLaunch"), report.launches("decode_pick"));
    // Each of six decoders captures its step, behind one that it makes by itself.
    assert_eq!(steps, launches + 6);
    assert!(launches > 6 * 20, "{launches}");
}

#[test]
fn without_the_compiler_the_rows_say_so_and_nothing_is_launched() {
    let machine = Machine::with("t4").set(|simulator| simulator.without(Library::Nvrtc));
    measure(&machine, "shared@fused");
    let rows = machine.rows();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_reason(&row.outcome, false, "NVRTC is not usable");
    }
    assert_eq!(machine.report().calls("cuLaunchKernel"), 0);
}

#[test]
fn a_published_net_is_not_executed_instruction_by_instruction() {
    let machine = Machine::with("h100");
    machine.measure("text/gpt2-124m/decode/f16/b1@fused");
    let rows = machine.rows();
    assert!(!rows.is_empty());
    for row in &rows {
        assert_reason(&row.outcome, false, "a simulated card executes one instruction");
    }
}
