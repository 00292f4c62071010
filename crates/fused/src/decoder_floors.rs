//! Bytes that a decode step moves, counted on a simulated card, against the floor: weights, keys, values and
//! activations once each.
//!
//! The published nets are too large to be executed instruction by instruction. One layer stands for all, since all
//! are alike: of GPT-2 124M at its own widths with an eighth of the vocabulary, of Llama-3-8B at a quarter of every
//! width. Weights shrink by the square of that and activations by it alone, so that their share of this Llama is
//! four times that of the published one, and a bound that holds here holds there.

use super::*;
use crate::kernels::VECTOR;
use crate::reference::Made;
use crate::testing::on_card_without;
use crate::{Activation, Dtype, NormKind, Positions, Shape};
use warpmark_simgpu::harness::Library;

/// The most positions of the tests.
const CAPACITY: usize = 4100;

fn gpt2() -> Shape {
    Shape {
        layers: 1,
        heads: 12,
        key_value_heads: 12,
        head_width: 64,
        width: 768,
        hidden: 3072,
        vocabulary: 50257 / 8,
        norm: NormKind::Layer,
        epsilon: 1e-5,
        activation: Activation::GeluTanh,
        positions: Positions::Learned(CAPACITY),
        tied: true,
    }
}

fn llama() -> Shape {
    Shape {
        layers: 1,
        heads: 8,
        key_value_heads: 2,
        head_width: 128,
        width: 1024,
        hidden: 3584,
        vocabulary: 1013,
        norm: NormKind::Rms,
        epsilon: 1e-5,
        activation: Activation::Swiglu,
        positions: Positions::Rotary(
            (0..64).map(|pair| 5e5_f64.powf(-f64::from(pair) / 64.0)).collect(),
        ),
        tied: false,
    }
}

/// The least that a step of so many sequences moves that stand at a position. Of tables that are looked up no more
/// than rows are read.
fn floor(shape: &Shape, batch: usize, position: usize) -> f64 {
    let padded = |columns: usize| columns.next_multiple_of(VECTOR);
    let rows = match shape.positions {
        Positions::Learned(count) => count * padded(shape.width),
        Positions::Rotary(_) => 0,
    };
    let looked_up = rows + if shape.tied { 0 } else { shape.vocabulary * padded(shape.width) };
    let weights = shape.weights(Dtype::F16).0 - 2.0 * looked_up as f64;
    let cache = shape.layers * 2 * (position + 1) * shape.key_value_heads * shape.head_padded() * 2;
    let activations = 4 * (shape.width + shape.qkv() + shape.mixed() + shape.hidden);
    let logits = 4 * shape.vocabulary;
    weights + (batch * (cache + shape.layers * activations + logits)) as f64
}

/// Takes a step at a position, alone in a process, and holds what it moved against the floor.
fn near_the_floor(shape: &Shape, batch: usize, position: usize, most: f64) {
    let report = on_card_without("t4", Some(Library::Cublaslt), |device| {
        let made = Made::new(shape.clone(), Dtype::F16, 5);
        let net = Net::load(device, shape.clone(), Dtype::F16, &made).unwrap();
        let prompts = vec![vec![7]; batch];
        let how = Multiplied::ByKernels;
        let mut decoder = Decoder::multiplied(&net, &prompts, CAPACITY - 1, how).unwrap();
        // What is in the cache does not matter: it is read.
        decoder.go_to(position, &vec![7; batch]).unwrap();
        decoder.step().unwrap();
        net.wait().unwrap();
        assert_eq!(decoder.kernels(), 9);
    });
    let Some(report) = report else { return };
    let (counted, floor) = (report.bytes_of_last_graph() as f64, floor(shape, batch, position));
    println!("batch {batch} at {position}: {counted} of {floor}, {:.4}", counted / floor);
    assert!(counted >= floor, "batch {batch} at {position}: {counted} is below {floor}");
    assert!(counted <= most * floor, "batch {batch} at {position}: {counted} of {floor}");
}

#[test]
fn a_step_of_gpt2_moves_its_weights_once_at_a_short_context() {
    near_the_floor(&gpt2(), 1, 127, 1.03);
}

#[test]
fn a_step_of_gpt2_moves_its_cache_once_at_a_long_context() {
    near_the_floor(&gpt2(), 1, 4095, 1.03);
}

#[test]
fn a_step_of_a_llama_moves_its_weights_once_at_a_short_context() {
    near_the_floor(&llama(), 1, 127, 1.03);
}

#[test]
fn a_step_of_a_llama_moves_its_cache_once_at_a_long_context() {
    near_the_floor(&llama(), 1, 4095, 1.03);
}

#[test]
fn a_step_of_eight_sequences_moves_the_weights_once_for_all() {
    near_the_floor(&llama(), 8, 127, 1.05);
}
