//! What a workload takes of a card's memory, by every count, on simulated cards: to the byte.

use crate::support::Ran;
use crate::support::machine::Machine;
use warpmark_record::{Bytes, Field, Memory};
use warpmark_simgpu::profile::{CODE, CONTEXT};

const MIB: u64 = 1 << 20;

/// Three arrays, and the word that a fold goes to.
const ARRAYS: u64 = 3 * 256 * MIB + 4;

/// What the pool takes for them, in pieces of 32 MiB.
const POOL: u64 = 800 * MIB;

/// The code of memory.cu, built in six ways, and of the kernel that reads the clocks, with what that writes to:
/// two readings of eight blocks, three words each. The code of fill.cu is gone when the arrays are filled.
const MODULES: u64 = 7 * CODE + 2 * 8 * 3 * 8;

fn bytes(count: u64) -> Field<Bytes> {
    Field::Known(Bytes(count as f64))
}

/// A copy of 256 MiB under a plan: the memory of its row, and what was printed.
fn copy_under(plan: &str) -> (Memory, String) {
    let machine = Machine::with("t4").faults(plan);
    let ran = machine.measure("micro/memory/copy");
    let memory = machine.rows()[0].memory.clone().unwrap();
    machine.report();
    (memory, ran.exits(0).stdout.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn every_count_is_told_and_they_add_up_to_the_process() {
    let (memory, said) = copy_under("graphs=4096");
    assert_eq!(memory.method, "cuda pool high-water mark");
    assert_eq!(memory.peak, bytes(ARRAYS));
    assert!(memory.weights.reason().unwrap().contains("no weights"));
    let counts = memory.device.unwrap();
    assert_eq!(counts.loaded, bytes(ARRAYS));
    assert_eq!(counts.pool_reserved, bytes(POOL));
    assert_eq!((&counts.graphs, &counts.graphs_reserved), (&bytes(4096), &bytes(4096)));
    assert_eq!(
        (&counts.context, &counts.libraries),
        (&bytes(CONTEXT + 4096), &bytes(MODULES - 4096))
    );
    assert_eq!(counts.process, bytes(CONTEXT + POOL + MODULES + 4096));
    assert!(
        said.contains("held before it ran 768 MiB, by the run at most 0 B, graphs 4.00 KiB"),
        "{said}"
    );
    assert!(said.contains("in all by NVML 1.08 GiB (cuda pool high-water mark)"), "{said}");
    assert!(!said.contains("add up"), "{said}");
}

#[test]
fn a_process_that_holds_more_than_is_counted_is_a_doubt_on_the_row() {
    let (memory, said) = copy_under(&format!("own_memory={}", 200 * MIB));
    let counts = memory.device.unwrap();
    assert_eq!(counts.process, bytes(CONTEXT + POOL + MODULES + 200 * MIB));
    assert!(said.contains("do not add up to what NVML tells of this process"), "{said}");
}

#[test]
fn without_memory_pools_the_device_is_asked_and_the_row_says_so() {
    let (memory, _) = copy_under("pools=0");
    assert!(memory.method.contains("cuMemGetInfo") && memory.method.contains("no memory pools"));
    assert_eq!(memory.peak, bytes(ARRAYS + MODULES));
    let counts = memory.device.unwrap();
    assert_eq!(counts.loaded, bytes(ARRAYS + MODULES));
    for absent in [&counts.pool_reserved, &counts.libraries] {
        assert!(absent.reason().is_some(), "{counts:?}");
    }
    assert_eq!(counts.process, bytes(CONTEXT + ARRAYS + MODULES));
}

#[test]
fn where_nvml_hides_processes_the_rest_is_told_all_the_same() {
    let (memory, said) = copy_under("processes=hidden");
    let counts = memory.device.unwrap();
    assert!(counts.process.reason().unwrap().contains("does not list this process"));
    assert_eq!(counts.context, bytes(CONTEXT));
    assert!(said.contains("in all by NVML unknown"), "{said}");
}

#[test]
fn after_a_full_device_the_next_benchmark_finds_all_of_it() {
    // The third array does not fit. What the pool keeps of the first two is more than half, and memory
    // for copies between cards does not come from the pool.
    let machine = Machine::with("t4,t4").faults(&format!("memory={}", 560 * MIB));
    let filter = "micro/memory/copy/f32/256MiB,micro/transfer/d2d/peer/64MiB";
    let mut command = machine.command(&["verify", "--device", "cuda", "--suite", "full"]);
    command.args(["--filter", filter]);
    let ran = Ran::of(command.output().unwrap());
    ran.exits(0).says(&["out of memory: array c (needs 256 MiB)"]);
    assert!(ran.stdout.contains("1 right, 0 wrong or failed, 1 skipped"), "{}", ran.stdout);
    assert!(machine.report().calls("cuMemPoolTrimTo") > 0);
}
