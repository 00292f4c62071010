//! Every family through candle's CUDA backend, its kernels executed by their text: the answers are held
//! against the references that hold a CPU's, and nothing may be found in a kernel.

use std::path::Path;

use crate::support::Ran;
use crate::support::machine::Machine;

/// Checks the answers of what a filter names, which are so many, launch by launch.
#[track_caller]
fn answers_right(machine: &Machine, filter: &str, count: usize) {
    verified(machine, &format!("{filter},!@graph"), count);
}

#[track_caller]
fn verified(machine: &Machine, filter: &str, count: usize) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/families.toml");
    let mut command = machine.command(&["verify", "--device", "cuda", "--filter", filter]);
    let ran = Ran::of(command.arg("--models").arg(models).output().unwrap());
    ran.exits(0);
    assert!(ran.stdout.contains(&format!("{count} right, 0 wrong")), "{ran:#?}");
    assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);
}

/// The same, and nothing is left on the card.
#[track_caller]
fn plain_answers_right(filter: &str, count: usize) {
    let machine = Machine::with(super::CARD);
    answers_right(&machine, filter, count);
    assert_eq!(machine.report().dangling(), 0);
}

#[test]
fn gpt2_answers_right_in_every_precision() {
    plain_answers_right("text/gpt", 15);
}

#[test]
fn a_llama_of_shared_heads_and_stretched_positions_answers_right_in_every_precision() {
    plain_answers_right("text/llama,!q8_0,!q4_k_m", 15);
}

/// candle gives its quantised products room for whole tiles of activations behind the last one, and fills
/// none of it: what a tile has there goes into columns that are never stored.
const BEHIND_THE_LAST: &str = "device memory is read that nobody wrote at mmq_gguf.cuh:";

#[test]
fn a_llama_of_quantised_weights_answers_right() {
    let machine = Machine::with(super::CARD).known(BEHIND_THE_LAST);
    answers_right(&machine, "text/llama,!f32,!f16,!bf16", 6);
    // candle keeps its workspaces, and with them the context, until the process ends.
    let report = machine.report_of_kernels();
    // A prompt is multiplied on tensor cores, a step of few rows is not.
    for kernel in [
        "_Z9mul_mat_qIL9ggml_type8ELi16ELb0EEvPKcPKiS4_S4_PfS5_iiiiiiiiiiiiiiiii",
        "_Z9mul_mat_qIL9ggml_type12ELi16ELb0EEvPKcPKiS4_S4_PfS5_iiiiiiiiiiiiiiiii",
        "mmvq_gguf_q8_0_f32_plain_cuda1",
        "mmvq_gguf_q4_k_f32_plain_cuda3",
        "get_rows_q4_K",
    ] {
        assert!(report.launches(kernel) > 0, "{kernel}");
    }
}

/// Every row replays a window of steps beside the same steps launched one by one, and then another prompt's.
#[test]
fn replayed_steps_are_those_launched_one_by_one() {
    let machine = Machine::with(super::CARD);
    verified(&machine, "text/gpt/decode@graph,text/llama/decode@graph", 12);
    // candle keeps the shapes that captured kernels read until the process ends.
    let report = machine.report_of_kernels();
    assert!(report.calls("cuGraphLaunch") > 12 * 16, "{}", report.calls("cuGraphLaunch"));
    for kernel in ["attention_f16_16x1", "attention_bf16_64x1", "softmax_f32"] {
        assert!(report.launches(kernel) > 0, "{kernel}");
    }
}

/// Each is held against the same pass launched kernel by kernel, on its input and on another.
#[test]
fn replayed_passes_of_whisper_and_diffusion_are_those_launched_kernel_by_kernel() {
    let machine = Machine::with(super::CARD);
    let filter =
        "speech/listener/encode@graph,image/diffusion-v2/unet@graph,image/diffusion-v2/vae@graph";
    verified(&machine, &format!("{filter},!f32"), 10);
    assert!(machine.report_of_kernels().calls("cuGraphLaunch") >= 20);
}

#[test]
fn whisper_answers_right_in_every_precision() {
    plain_answers_right("speech/listener", 21);
}

#[test]
fn stable_diffusion_1_answers_right_in_every_precision() {
    plain_answers_right("image/diffusion-v1", 15);
}

#[test]
fn stable_diffusion_2_answers_right_in_every_precision() {
    plain_answers_right("image/diffusion-v2", 15);
}

#[test]
fn stable_diffusion_xl_answers_right_in_every_precision() {
    plain_answers_right("image/diffusion-xl", 15);
}

#[test]
fn resnet_answers_right_in_every_precision() {
    plain_answers_right("vision/resnet", 6);
}
