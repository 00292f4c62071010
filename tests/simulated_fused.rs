//! The engine `fused` from the command line to the record, on simulated cards that execute its kernels: in a build
//! without candle's CUDA backend.

use crate::support::Ran;
use crate::support::machine::{Machine, assert_reason};
use crate::support::models::{gpt2, llama};
use warpmark_record::{Outcome, Record};
use warpmark_simgpu::harness::Library;

/// A GPT-2 of seven heads of nine with a vocabulary of a prime, and a Llama whose heads share keys.
fn models() -> String {
    let odd = [
        ("phases", r#"["prefill", "decode", "generate"]"#),
        ("batches", "[1, 3]"),
        ("vocabulary", "1013"),
        ("context", "40"),
        ("width", "63"),
        ("heads", "7"),
        ("prompts", "[4]"),
        // And what the others have not.
        ("contexts", "[5]\ngenerations = [[4, 6]]"),
        ("cuda", r#"["f32", "f16", "bf16"]"#),
    ];
    let shared = [
        ("phases", r#"["decode"]"#),
        ("batches", "[1, 3, 9]"),
        ("width", "60"),
        ("hidden", "76"),
        ("heads", "6"),
        ("prompts", "[4]"),
        ("contexts", "[5]"),
    ];
    gpt2("odd", &odd) + &llama("shared", &shared)
}

fn measure(machine: &Machine, filter: &str) -> Ran {
    let models = machine.world.write("models.toml", &models());
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

/// A parameter of a row.
fn parameter(row: &Record, name: &str) -> serde_json::Value {
    serde_json::to_value(&row.parameters[name]).unwrap()
}

#[test]
fn a_gpt2_and_a_llama_of_odd_shapes_are_read_and_written_right_in_a_plain_build() {
    let machine = Machine::with("t4");
    measure(&machine, "@fused").exits(0);
    let rows = machine.rows();
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let expected = [
        "text/odd/prefill/f16/b1/p4@fused",
        "text/odd/decode/f16/b1/c5@fused",
        "text/odd/decode/f16/b3/c5@fused",
        "text/odd/generate/f16/b1/p4+6@fused",
        "text/odd/prefill/bf16/b1/p4@fused",
        "text/odd/decode/bf16/b1/c5@fused",
        "text/odd/decode/bf16/b3/c5@fused",
        "text/odd/generate/bf16/b1/p4+6@fused",
        "text/shared/decode/f16/b1/c5@fused",
        "text/shared/decode/f16/b3/c5@fused",
        "text/shared/decode/f16/b9/c5@fused",
    ];
    assert_eq!(ids, expected);
    for row in &rows {
        let id = row.id.to_string();
        // 7.5 multiplies no bf16; a step of a few sequences does without.
        if id.contains("bf16") && !id.contains("decode") {
            assert_reason(&row.outcome, false, "f16 would do");
        } else {
            assert_right(row);
        }
    }
    // Two layers of six kernels, and three beside, or where a library multiplies of nine and five; a launch is
    // one graph.
    for row in rows.iter().filter(|row| row.id.to_string().contains("/decode/")) {
        let (products, kernels) = (parameter(row, "products"), parameter(row, "kernels"));
        let library = products == "cublaslt";
        assert!(library || products == "kernels", "{products}");
        // Attention of more sequences fills the card in one part, which nothing joins.
        let expected = if library { [21, 23] } else { [13, 15] };
        assert!(expected.iter().any(|each| kernels == *each), "{}: {kernels}", row.id);
        assert_eq!(parameter(row, "graph_launches"), 1);
    }
    assert_eq!(parameter(&rows[10], "products"), "cublaslt");
    // Where both ways were tried, the row says what either took.
    let both = |row: &&Record| row.caveats.iter().any(|said| said.contains("when both were tried"));
    assert_eq!(rows.iter().filter(both).count(), 5);
    let times = &rows[3].samples.as_ref().unwrap().distributions["time_between_tokens_s"];
    assert!(times.len() >= 5, "{}", times.len());
    let report = machine.report();
    assert_eq!(report.dangling(), 0);
    let (launches, steps) = (report.calls("cuGraphLaunch"), report.launches("decode_pick"));
    // Each decoder captures its passes behind one that it makes by itself: of f16 the prompts' and one or two
    // of a step; of bf16, whose prompts are read token by token, that of a step.
    assert_eq!(steps, launches + (1 + 3 + 3 + 3) + 2 + (3 + 3 + 2));
    assert!(launches > 6 * 20, "{launches}");
}

/// What a plain `cargo bench` measures of a card, with nets that a simulated one executes in the place of those that
/// it does not.
#[test]
fn a_plain_build_measures_products_memory_and_both_nets_of_a_card() {
    let machine = Machine::with("a100-40");
    measure(
        &machine,
        "micro/matmul/f16.f32,micro/memory/read,odd/prefill/f16,shared/decode/f16/b1",
    )
    .exits(0);
    let rows = machine.rows();
    let measured = |part: &str, engine: &str| {
        let found = rows.iter().filter(|row| {
            let id = row.id.to_string();
            id.contains(part) && id.ends_with(engine)
        });
        let all: Vec<&Record> = found.collect();
        assert!(!all.is_empty(), "no row of {part}{engine}");
        assert!(all.iter().all(|row| row.outcome == Outcome::Measured), "{part}: {all:?}");
    };
    measured("micro/matmul/f16.f32", "@cublaslt");
    measured("micro/memory/read", "@nvrtc");
    measured("text/odd/prefill/f16/b1/p4", "@fused");
    measured("text/shared/decode/f16/b1/c5", "@fused");
}

#[test]
fn without_the_compiler_the_rows_say_so_and_nothing_is_launched() {
    let machine = Machine::with("t4").set(|simulator| simulator.without(Library::Nvrtc));
    measure(&machine, "shared@fused");
    let rows = machine.rows();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_reason(&row.outcome, false, "NVRTC is not usable");
    }
    assert_eq!(machine.report().calls("cuLaunchKernel"), 0);
}

#[test]
fn without_the_library_of_products_only_a_few_sequences_are_written() {
    let machine = Machine::with("a100-40").set(|simulator| simulator.without(Library::Cublaslt));
    measure(&machine, "odd/prefill,shared/decode/f16/b9");
    let rows = machine.rows();
    let ours: Vec<&Record> =
        rows.iter().filter(|row| row.id.to_string().ends_with("@fused")).collect();
    assert_eq!(ours.len(), 3);
    for row in ours {
        assert_reason(&row.outcome, false, "cuBLASLt is not usable");
    }
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
