use warpmark_ptx::{Area, Atomics, Traffic};

use super::*;

const SHAPE: Shape = Shape { blocks: 4000, threads: 256, shared: 0, assembled: None };

fn t4() -> Profile {
    Profile::named("t4")
}

/// Counts of reading so many sectors of an area of so many.
fn reading(read: u64, touched: u64) -> Counts {
    let area = Area { read, touched, len: touched * SECTOR, ..Area::default() };
    Counts { areas: vec![area], ..Counts::default() }
}

#[track_caller]
fn assert_costs(counts: &Counts, shape: &Shape, term: Term, seconds: f64) {
    let (longest, told) = Cost::of(counts, shape, &t4()).longest();
    assert_eq!(longest, term);
    assert!((told / seconds - 1.0).abs() < 1e-12, "{told} and not {seconds}");
}

#[test]
fn what_is_read_once_comes_from_memory_and_what_is_read_again_from_the_level_that_holds_it() {
    let sectors = |bytes: u64| bytes / SECTOR;
    let gib = sectors(1 << 30);
    let bytes = (1_u64 << 30) as f64;
    assert_costs(&reading(gib, gib), &SHAPE, Term::Memory, bytes / 240e9);
    assert_costs(&reading(gib, sectors(16 << 20)), &SHAPE, Term::Memory, bytes / 240e9);
    assert_costs(&reading(gib, sectors(2 << 20)), &SHAPE, Term::L2, bytes / 1200e9);
    assert_costs(&reading(gib, sectors(32 << 10)), &SHAPE, Term::L1, bytes / 3900e9);
}

#[test]
fn a_tail_costs_a_whole_block_where_multiprocessors_work_by_themselves() {
    let shared = Traffic { taken: 4_000_000, ..Traffic::default() };
    let counts = Counts { shared, ..Counts::default() };
    let whole = 4e6 * 128.0 / 4010e9;
    assert_costs(&counts, &SHAPE, Term::Shared, whole);
    // 40 multiprocessors have 41 blocks: one has two.
    let shape = Shape { blocks: 41, ..SHAPE };
    assert_costs(&counts, &shape, Term::Shared, whole * 80.0 / 41.0);
    assert_costs(&counts, &Shape { blocks: 1, ..SHAPE }, Term::Shared, whole * 40.0);
}

#[test]
fn bank_conflicts_and_instructions_cost_time() {
    let mut counts = Counts::default();
    counts.kinds[Kind::Integer as usize] = 1_000_000;
    // 64 lanes a clock: two warps of a multiprocessor, of which there are 40 at 1590 MHz.
    assert_costs(&counts, &SHAPE, Term::Pipe(Kind::Integer), 1e6 / (2.0 * 40.0 * 1.59e9));
    counts.kinds[Kind::Control as usize] = 4_000_000;
    assert_costs(&counts, &SHAPE, Term::Issue, 5e6 / (4.0 * 40.0 * 1.59e9));
    counts.shared.taken = 1_000_000;
    assert_costs(&counts, &SHAPE, Term::Shared, 1e6 * 128.0 / 4010e9);
    counts.products = [1 << 40, 0, 0, 0];
    let tensor = (1_u64 << 40) as f64 / (65e12 * 0.625);
    assert_costs(&counts, &SHAPE, Term::Tensor, tensor);
}

#[test]
fn atomic_operations_take_turns_on_one_word() {
    let on_one = 1_000_000;
    let spread =
        Counts { atomics: Atomics { operations: 1_000_000, on_one: 10 }, ..Counts::default() };
    assert_costs(&spread, &SHAPE, Term::Atomics, 1e6 / 50e9);
    let same = Counts { atomics: Atomics { operations: 1_000_000, on_one }, ..Counts::default() };
    assert_costs(&same, &SHAPE, Term::Atomics, 1e6 / 1.5e9);
}

#[test]
fn one_thread_waits_for_each_load_and_a_full_card_for_its_rounds() {
    let walk = Counts { waits: 1000, ..reading(1000, 1 << 20) };
    let alone = Shape { blocks: 1, threads: 1, ..SHAPE };
    assert_costs(&walk, &alone, Term::Latency, 1000.0 * 420e-9);
    // 8 warps a block, each waits twice; four blocks are resident on each of 40 multiprocessors.
    let shape = Shape { blocks: 161, ..SHAPE };
    let full = Counts { waits: 161 * 8 * 2, ..reading(1000, 1 << 20) };
    assert_costs(&full, &shape, Term::Latency, 2.0 * 2.0 * 420e-9);
    // With 128 registers half as many are.
    let assembled = Some(Assembled { registers: 128, ..Assembled::default() });
    assert_costs(&full, &Shape { assembled, ..shape }, Term::Latency, 2.0 * 3.0 * 420e-9);
}
