//! Kernels of a few lines: what they give, and what is found in those that are wrong.

use std::fmt::Write;

use half::{bf16, f16};

use super::finding::Race;
use super::memory_for_tests::TestMemory;
use super::{Clocks, DeviceMemory, Fault, Geometry, Limits, Module, Outcome, View};

const LIMITS: Limits = Limits {
    multiprocessors: 4,
    shared: 48 << 10,
    instructions: 1 << 22,
    clocks: Clocks { cycles: 0, nanoseconds: 0, gigahertz: 2.0 },
};

/// A kernel whose parameters are three pointers and a number, in %d0 to %d2 and %r0; %r1 is the thread,
/// %r2 the block, %d3 four times the thread.
fn kernel(around: &str, body: &str) -> String {
    format!(
        ".version 8.4\n.target sm_90\n.address_size 64\n{around}\n.visible .entry k(.param .u64 a, \
         .param .u64 b, .param .u64 c, .param .u32 n)\n{{\n.reg .b16 %h<9>;\n.reg .b32 %r<40>;\n\
         .reg .b64 %d<20>;\n.reg .pred %p<9>;\nld.param.u64 %d0, [a];\nld.param.u64 %d1, [b];\n\
         ld.param.u64 %d2, [c];\nld.param.u32 %r0, [n];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, %ctaid.x;\n\
         mul.wide.u32 %d3, %r1, 4;\n{body}\nret;\n}}\n"
    )
}

const TILE: &str = ".shared .align 16 .b8 tile[1024];";

/// A card's memory and a kernel.
struct Bench {
    memory: TestMemory,
    module: Module,
    pointers: [u64; 3],
    number: u32,
}

impl Bench {
    /// With three arrays of 1024 words: 0, 1, 2, … in the first, nothing in the others.
    fn new(around: &str, body: &str) -> Self {
        Self::of(&kernel(around, body))
    }

    fn of(text: &str) -> Self {
        let mut memory = TestMemory::default();
        let pointers = [(); 3].map(|()| memory.allocate(4096));
        let mut bench = Self {
            module: Module::read(text, |_, bytes| memory.holding(bytes))
                .unwrap_or_else(|refusal| panic!("{refusal}")),
            memory,
            pointers,
            number: 0,
        };
        bench.write(0, &(0..1024).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        bench
    }

    fn write(&mut self, array: usize, bytes: &[u8]) {
        self.memory.write(self.pointers[array], bytes.to_vec());
    }

    fn words(&self, array: usize, count: usize) -> Vec<u32> {
        let bytes = self.memory.bytes(self.pointers[array], 4 * count);
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    fn launch(&mut self, geometry: Geometry) -> Outcome {
        let mut arguments: Vec<u8> = self.pointers.into_iter().flat_map(u64::to_le_bytes).collect();
        arguments.extend(self.number.to_le_bytes());
        let mut view = View::new(&mut self.memory);
        let outcome = self.module.kernels[0].run(&mut view, geometry, LIMITS, &arguments);
        view.commit();
        outcome
    }

    fn run(&mut self, blocks: u32, threads: u32) -> Vec<Fault> {
        self.launch(flat(blocks, threads)).findings.faults()
    }
}

fn flat(blocks: u32, threads: u32) -> Geometry {
    Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 }
}

/// What is found in a kernel that is run once.
fn found(around: &str, body: &str, blocks: u32, threads: u32) -> Vec<Fault> {
    Bench::new(around, body).run(blocks, threads)
}

/// Threads write a word of the tile each, and read that of the thread a warp further on.
fn exchange(between: &str) -> String {
    format!(
        "mov.u64 %d4, tile;\nadd.s64 %d5, %d4, %d3;\nst.shared.u32 [%d5], %r1;\n{between}\n\
         xor.b32 %r3, %r1, 32;\nmul.wide.u32 %d6, %r3, 4;\nadd.s64 %d6, %d4, %d6;\n\
         ld.shared.u32 %r4, [%d6];\nadd.s64 %d7, %d1, %d3;\nst.global.u32 [%d7], %r4;"
    )
}

#[test]
fn shared_memory_is_exchanged_over_a_barrier() {
    let mut bench = Bench::new(TILE, &exchange("bar.sync 0;"));
    assert_eq!(bench.run(1, 64), []);
    let expected: Vec<u32> = (0..64).map(|thread| thread ^ 32).collect();
    assert_eq!(bench.words(1, 64), expected);
}

#[test]
fn a_missing_barrier_is_a_race_or_a_read_of_nothing() {
    let faults = found(TILE, &exchange(""), 1, 64);
    assert!(faults.contains(&Fault::SharedRace(Race::ReadAfterWrite)), "{faults:?}");
    let war = "mov.u64 %d4, tile;\nadd.s64 %d5, %d4, %d3;\nst.shared.u32 [%d5], %r1;\nbar.sync 0;\n\
               xor.b32 %r3, %r1, 32;\nmul.wide.u32 %d6, %r3, 4;\nadd.s64 %d6, %d4, %d6;\n\
               ld.shared.u32 %r4, [%d6];\nadd.u32 %r5, %r4, 1000;\nst.shared.u32 [%d5], %r5;";
    let faults = found(TILE, war, 1, 64);
    assert!(faults.contains(&Fault::SharedRace(Race::WriteAfterRead)), "{faults:?}");
    assert_eq!(found(TILE, &war.replace("add.u32 %r5", "bar.sync 0;\nadd.u32 %r5"), 1, 64), []);
}

#[test]
fn memory_that_nobody_wrote_is_not_read_unnoticed() {
    let shared = "ld.shared.u32 %r3, [tile+8];";
    assert_eq!(found(TILE, shared, 1, 1), [Fault::SharedUnwritten]);
    assert_eq!(found("", "ld.global.u32 %r3, [%d1];", 1, 1), [Fault::Unwritten]);
    let written =
        "st.global.u16 [%d1], %h1;\nld.global.u16 %h2, [%d1];\nld.global.u16 %h2, [%d1+2];";
    assert_eq!(found("", written, 1, 1), [Fault::Unwritten]);
    assert_eq!(found("", "ld.global.u32 %r3, [%d0+4092];", 1, 1), []);
}

#[test]
fn what_a_kernel_never_wrote_stays_unwritten_after_it() {
    let mut bench = Bench::new("", "st.global.u8 [%d1+5], %r0;");
    assert_eq!(bench.run(1, 1), []);
    let unwritten = bench.memory.read(bench.pointers[1], &mut [0; 16]);
    let expected: Vec<(usize, usize)> =
        (0..16).filter(|at| *at != 5).map(|at| (at, at + 1)).collect();
    assert_eq!(unwritten, expected);
}

#[test]
fn accesses_out_of_bounds_and_misaligned_ones_end_the_kernel() {
    let stopped = |body: &str| Bench::new(TILE, body).launch(flat(1, 32)).stopped;
    assert_eq!(stopped("ld.global.u32 %r3, [%d0+4096];"), Some(Fault::OutOfBounds));
    assert_eq!(
        stopped("st.global.v4.u32 [%d0+4092], {%r1, %r1, %r1, %r1};"),
        Some(Fault::Misaligned)
    );
    assert_eq!(stopped("ld.global.u32 %r3, [%d0+-4];"), Some(Fault::OutOfBounds));
    assert_eq!(stopped("mov.u64 %d4, 0;\nld.global.u32 %r3, [%d4];"), Some(Fault::OutOfBounds));
    assert_eq!(stopped("ld.global.u64 %d4, [%d0+4];"), Some(Fault::Misaligned));
    assert_eq!(stopped("st.shared.u32 [tile+1024], %r1;"), Some(Fault::SharedOutOfBounds));
    assert_eq!(stopped("ld.global.u32 %r3, [%d0+4092];"), None);
    assert_eq!(Fault::OutOfBounds.error(), Some(700));
    assert_eq!(Fault::Misaligned.error(), Some(716));
}

#[test]
fn a_freed_array_is_out_of_bounds() {
    let mut bench = Bench::new("", "ld.global.u32 %r3, [%d0];");
    bench.memory.free(bench.pointers[0]);
    assert_eq!(bench.run(1, 1), [Fault::OutOfBounds]);
}

#[test]
fn barriers_that_threads_do_not_share_are_found() {
    let halves = "setp.lt.u32 %p1, %r1, 16;\n@%p1 bra $L;\nbar.sync 0;\n$L:\n";
    assert_eq!(found("", halves, 1, 32), [Fault::BarrierAfterEnd]);
    let guarded = "setp.lt.u32 %p1, %r1, 16;\n@%p1 bar.sync 0;";
    assert_eq!(found("", guarded, 1, 32), [Fault::BarrierUnderCondition]);
    let two =
        "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $L;\nbar.sync 0;\nbra $M;\n$L:\nbar.sync 0;\n$M:\n";
    assert_eq!(found("", two, 1, 64), [Fault::DifferentBarriers]);
    let ended = "setp.lt.u32 %p1, %r1, 40;\n@%p1 ret;\nbar.sync 0;";
    assert_eq!(found("", ended, 1, 64), [Fault::BarrierAfterEnd]);
    assert_eq!(found("", "bar.sync 0;\nbar.sync 0;", 3, 48), []);
}

#[test]
fn lanes_that_part_meet_again() {
    // Each lane goes round as often as its number says; then all vote.
    let body = "mov.u32 %r3, 0;\nmov.u32 %r4, 0;\n$L:\nsetp.ge.u32 %p1, %r3, %r1;\n@%p1 bra $M;\n\
                add.u32 %r4, %r4, %r3;\nadd.u32 %r3, %r3, 1;\nbra $L;\n$M:\nactivemask.b32 %r5;\n\
                add.s64 %d4, %d1, %d3;\nst.global.u32 [%d4], %r4;\nadd.s64 %d5, %d2, %d3;\n\
                st.global.u32 [%d5], %r5;";
    let mut bench = Bench::new("", body);
    assert_eq!(bench.run(1, 32), []);
    let expected: Vec<u32> = (0..32_u32).map(|n| n * n.saturating_sub(1) / 2).collect();
    assert_eq!(bench.words(1, 32), expected);
    assert_eq!(bench.words(2, 32), [u32::MAX; 32]);
}

#[test]
fn shuffles_take_from_the_lane_that_their_definition_names() {
    let of = |how: &str, by: u32, clamp: u32| {
        let body = format!(
            "shfl.sync.{how}.b32 %r3|%p1, %r1, {by}, {clamp}, -1;\nselp.u32 %r4, 100, 0, %p1;\n\
             add.u32 %r3, %r3, %r4;\nadd.s64 %d4, %d1, %d3;\nst.global.u32 [%d4], %r3;"
        );
        let mut bench = Bench::new("", &body);
        assert_eq!(bench.run(1, 32), []);
        bench.words(1, 32)
    };
    let each = |f: &dyn Fn(u32) -> u32| (0..32).map(f).collect::<Vec<u32>>();
    assert_eq!(of("up", 1, 0), each(&|l| if l == 0 { 0 } else { 99 + l }));
    assert_eq!(of("down", 2, 31), each(&|l| if l > 29 { l } else { 102 + l }));
    assert_eq!(of("bfly", 5, 31), each(&|l| 100 + (l ^ 5)));
    assert_eq!(of("idx", 7, 31), each(&|_| 107));
    // Segments of eight lanes: the mask of the segment is in bits 8 to 12.
    assert_eq!(of("down", 1, 0x181F), each(&|l| if l % 8 == 7 { l } else { 101 + l }));
    assert_eq!(of("up", 1, 0x1800), each(&|l| if l % 8 == 0 { l } else { 99 + l }));
    assert_eq!(of("idx", 2, 0x181F), each(&|l| 100 + l / 8 * 8 + 2));
}

#[test]
fn masks_that_are_not_those_of_the_lanes_are_found() {
    let shuffle = |mask: u32| format!("shfl.sync.bfly.b32 %r3, %r1, 1, 31, {mask};");
    assert_eq!(found("", &shuffle(0x7FFF_FFFF), 1, 32), [Fault::OutsideOwnMask]);
    let half = format!("setp.lt.u32 %p1, %r1, 16;\n@%p1 ret;\n{}", shuffle(u32::MAX));
    assert_eq!(found("", &half, 1, 32), [Fault::MaskNamesAbsent]);
    let absent = "setp.gt.u32 %p1, %r1, 15;\n@%p1 ret;\nshfl.sync.down.b32 %r3, %r1, 8, 31, 65535;";
    assert_eq!(found("", absent, 1, 32), [Fault::ReadsAbsentLane]);
    assert_eq!(found("", &shuffle(u32::MAX), 1, 32), []);
}

#[test]
fn votes_count_the_lanes_that_hold() {
    let body = "setp.lt.u32 %p1, %r1, 3;\nvote.sync.ballot.b32 %r3, %p1, -1;\nvote.sync.any.pred %p2, %p1, -1;\n\
                vote.sync.all.pred %p3, %p1, -1;\nselp.u32 %r4, 1, 0, %p2;\nselp.u32 %r5, 1, 0, %p3;\n\
                and.b32 %r6, %r1, 1;\nmatch.any.sync.b32 %r7, %r6, -1;\nredux.sync.add.s32 %r8, %r1, -1;\n\
                st.global.v4.u32 [%d1], {%r3, %r4, %r5, %r8};\nst.global.u32 [%d1+16], %r7;";
    let mut bench = Bench::new(
        "",
        &format!("setp.ne.u32 %p5, %r1, 0;\n{body}").replace("st.global", "@!%p5 st.global"),
    );
    assert_eq!(bench.run(1, 32), []);
    assert_eq!(bench.words(1, 5), [7, 1, 0, 496, 0x5555_5555]);
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let bounded = kernel("", "").replace("n)\n{", "n)\n.maxntid 64, 1, 1\n{");
    let refused = |text: &str, geometry: Geometry| Bench::of(text).launch(geometry).stopped;
    assert_eq!(refused(&bounded, flat(1, 65)), Some(Fault::TooManyThreads));
    assert_eq!(refused(&bounded, flat(1, 64)), None);
    let plain = kernel(TILE, "st.shared.u32 [tile], %r1;");
    for (grid, block) in [
        ([1, 1, 1], [1025, 1, 1]),
        ([1, 70_000, 1], [1; 3]),
        ([0, 1, 1], [1; 3]),
        ([1; 3], [1, 1, 65]),
    ] {
        assert_eq!(refused(&plain, Geometry { grid, block, shared: 0 }), Some(Fault::Geometry));
    }
    let much = Geometry { shared: (48 << 10) - 1023, ..flat(1, 1) };
    assert_eq!(refused(&plain, much), Some(Fault::TooMuchShared));
    let few = Bench::of(&plain);
    let mut memory = few.memory;
    let outcome =
        few.module.kernels[0].run(&mut View::new(&mut memory), flat(1, 1), LIMITS, &[0; 12]);
    assert_eq!(outcome.stopped, Some(Fault::WrongArguments));
}

#[test]
fn a_kernel_that_does_not_end_is_ended() {
    let stopped = |body: &str| Bench::new("", body).launch(flat(1, 32)).stopped;
    assert_eq!(stopped("$L:\nbra $L;"), Some(Fault::Endless));
    let spins = "$L:\nld.volatile.global.u32 %r3, [%d0];\nsetp.ne.u32 %p1, %r3, 77;\n@%p1 bra $L;";
    assert_eq!(stopped(spins), Some(Fault::Endless));
}

#[test]
fn assertions_and_traps_end_a_kernel_with_the_drivers_errors() {
    let assertion = "{\n.param .b64 param0;\nst.param.b64 [param0+0], %d0;\ncall.uni __assertfail, (param0);\n}";
    let outcome = Bench::new("", assertion).launch(flat(1, 1));
    assert_eq!(outcome.stopped.and_then(Fault::error), Some(710));
    assert_eq!(
        Bench::new("", "trap;").launch(flat(1, 1)).stopped.and_then(Fault::error),
        Some(719)
    );
}

#[test]
fn a_print_is_passed_over_and_what_it_answers_can_be_looked_at() {
    let print = "{\n.param .b64 param0;\n.param .b64 param1;\n.param .b32 retval0;\nst.param.b64 [param0], %d0;\n\
                 st.param.b64 [param1], 0;\ncall.uni (retval0), vprintf, (param0, param1);\n\
                 ld.param.b32 %r3, [retval0];\n}\nst.global.u32 [%d1], 7;";
    let outside = ".extern .func (.param .b32 func_retval0) vprintf(.param .b64 a, .param .b64 b);";
    let mut bench = Bench::new(outside, print);
    assert_eq!(bench.run(1, 1), []);
    assert_eq!(bench.words(1, 1), [7]);
}

#[test]
fn blocks_that_write_to_one_place_race_unless_they_write_the_same() {
    let own = "st.global.u32 [%d1], %r2;";
    assert_eq!(found("", own, 2, 1), [Fault::Race(Race::WriteAfterWrite)]);
    assert_eq!(found("", "st.global.u32 [%d1], 7;", 2, 1), []);
    let spread = "mul.wide.u32 %d4, %r2, 4;\nadd.s64 %d4, %d1, %d4;\nst.global.u32 [%d4], %r2;";
    assert_eq!(found("", spread, 8, 1), []);
    let add = "red.global.add.u32 [%d0], 1;";
    assert_eq!(found("", add, 8, 32), []);
}

/// Blocks store a word each; the last one that counts itself adds them up.
fn last_block(fence: &str) -> String {
    format!(
        "setp.ne.u32 %p1, %r1, 0;\n@%p1 ret;\nmul.wide.u32 %d4, %r2, 4;\nadd.s64 %d4, %d1, %d4;\n\
         add.u32 %r3, %r2, 1;\nst.global.u32 [%d4], %r3;\n{fence}\natom.global.add.u32 %r4, [%d0], 1;\n\
         mov.u32 %r5, %nctaid.x;\nsub.u32 %r5, %r5, 1;\nsetp.ne.u32 %p2, %r4, %r5;\n@%p2 ret;\n\
         mov.u32 %r6, 0;\nmov.u32 %r7, 0;\n$L:\nmul.wide.u32 %d5, %r6, 4;\nadd.s64 %d5, %d1, %d5;\n\
         ld.global.u32 %r8, [%d5];\nadd.u32 %r7, %r7, %r8;\nadd.u32 %r6, %r6, 1;\n\
         setp.le.u32 %p3, %r6, %r5;\n@%p3 bra $L;\nst.global.u32 [%d2], %r7;"
    )
}

#[test]
fn a_fence_and_an_atomic_operation_order_blocks() {
    let mut bench = Bench::new("", &last_block("membar.gl;"));
    assert_eq!(bench.run(5, 32), []);
    assert_eq!(bench.words(2, 1), [15]);
    assert_eq!(found("", &last_block(""), 5, 32), [Fault::Race(Race::ReadAfterWrite)]);
    let late = last_block("membar.gl;")
        .replace("st.global.u32 [%d4], %r3;\nmembar.gl;", "membar.gl;\nst.global.u32 [%d4], %r3;");
    assert_eq!(found("", &late, 5, 32), [Fault::Race(Race::ReadAfterWrite)]);
}

#[test]
fn functions_take_parameters_and_give_results() {
    let twice = ".func (.param .b32 result) twice(.param .b32 x)\n{\n.reg .b32 %r<3>;\n.reg .pred %p<2>;\n\
                 ld.param.u32 %r1, [x];\nsetp.gt.u32 %p1, %r1, 10;\n@%p1 bra $L;\nadd.u32 %r1, %r1, %r1;\n\
                 $L:\nst.param.b32 [result+0], %r1;\nret;\n}";
    let body = "{\n.param .b32 param0;\nst.param.b32 [param0+0], %r1;\n.param .b32 retval0;\n\
                call.uni (retval0), twice, (param0);\nld.param.b32 %r3, [retval0+0];\n}\n\
                add.s64 %d4, %d1, %d3;\nst.global.u32 [%d4], %r3;";
    let mut bench = Bench::new(twice, body);
    assert_eq!(bench.run(1, 32), []);
    let expected: Vec<u32> = (0..32).map(|x| if x > 10 { x } else { 2 * x }).collect();
    assert_eq!(bench.words(1, 32), expected);
    let own = ".func f()\n{\ncall.uni f, ();\nret;\n}";
    let refusal = Module::read(&kernel(own, "call.uni f, ();"), |_, _| 0).unwrap_err().to_string();
    assert!(refusal.contains("f calls itself"), "{refusal}");
}

#[test]
fn local_memory_is_each_threads_own_and_has_an_end() {
    let body = ".local .align 4 .b8 depot[16];\nmov.u64 %d4, depot;\ncvta.local.u64 %d5, %d4;\n\
                st.local.u32 [%d4+4], %r1;\nld.u32 %r3, [%d5+4];\nadd.s64 %d6, %d1, %d3;\n\
                st.global.u32 [%d6], %r3;";
    let mut bench = Bench::new("", body);
    assert_eq!(bench.run(1, 32), []);
    assert_eq!(bench.words(1, 32), (0..32).collect::<Vec<u32>>());
    let beyond = body.replace("st.local.u32 [%d4+4]", "st.local.u32 [%d4+16]");
    assert_eq!(found("", &beyond, 1, 1), [Fault::LocalOutOfBounds]);
}

#[test]
fn dynamic_shared_memory_lies_behind_the_kernels_own() {
    let around = format!("{TILE}\n.extern .shared .align 16 .b8 more[];");
    let body = "mov.u64 %d4, more;\nst.shared.u32 [tile], 5;\nst.shared.u32 [more+4], 6;\n\
                cvta.shared.u64 %d5, %d4;\nld.u32 %r3, [%d5+4];\nst.global.u32 [%d1], %r3;";
    let mut bench = Bench::new(&around, body);
    let with = |shared| Geometry { shared, ..flat(1, 1) };
    assert!(bench.launch(with(8)).findings.is_empty());
    assert_eq!(bench.words(1, 1), [6]);
    assert_eq!(bench.launch(with(4)).stopped, Some(Fault::SharedOutOfBounds));
    assert_eq!(bench.module.kernels[0].shared, 1024);
}

#[test]
fn variables_of_a_module_hold_what_they_begin_with() {
    let around = ".global .align 4 .b8 table[8] = {1, 0, 0, 0, 2};\n.const .align 4 .u32 five = 5;\n\
                  .global .align 4 .u32 below = -3;";
    let body = "ld.global.u32 %r3, [table+4];\nld.const.u32 %r4, [five];\nadd.u32 %r3, %r3, %r4;\n\
                {\n.reg.b32 t;\nld.global.u32 t, [below];\nsub.u32 %r3, %r3, t;\n}\n\
                cvt.s64.s32 %d4, %d3;\nst.global.u32 [%d1], %r3;";
    let mut bench = Bench::new(around, body);
    assert_eq!(bench.run(1, 1), []);
    assert_eq!(bench.words(1, 1), [10]);
}

#[test]
fn three_sides_of_grids_and_blocks_reach_the_threads() {
    let body = "mov.u32 %r3, %tid.y;\nmov.u32 %r4, %tid.z;\nmov.u32 %r5, %ntid.x;\nmov.u32 %r6, %ntid.y;\n\
                mad.lo.u32 %r7, %r4, %r6, %r3;\nmad.lo.u32 %r7, %r7, %r5, %r1;\nmov.u32 %r8, %ctaid.y;\n\
                mov.u32 %r9, %nctaid.x;\nmad.lo.u32 %r8, %r8, %r9, %r2;\nmad.lo.u32 %r10, %r8, 24, %r7;\n\
                mul.wide.u32 %d4, %r10, 4;\nadd.s64 %d4, %d1, %d4;\nst.global.u32 [%d4], %r10;";
    let mut bench = Bench::new("", body);
    let geometry = Geometry { grid: [2, 3, 1], block: [4, 3, 2], shared: 0 };
    assert!(bench.launch(geometry).findings.is_empty());
    assert_eq!(bench.words(1, 144), (0..144).collect::<Vec<u32>>());
}

#[test]
fn a_finding_names_the_line_of_the_source() {
    let body = ".loc 1 12 3\nmov.u32 %r3, 1;\n.loc 1 14 5, function_name $s, inlined_at 1 40 2\n\
                ld.global.u32 %r3, [%d1];";
    let text = format!("{}\n.file 1 \"/a/b/sum.cu\"\n", kernel("", body));
    let outcome = Bench::of(&text).launch(flat(1, 1));
    let line = outcome.findings.lines().next().unwrap().0;
    assert!(
        line.starts_with(
            "k: device memory is read that nobody wrote at sum.cu:14 (block [0, 0, 0], thread 0"
        ),
        "{line}"
    );
}

#[test]
fn narrow_loads_extend_and_wide_ones_keep_their_order() {
    let body = "ld.global.s8 %r3, [%d0];\nld.global.u8 %r4, [%d0];\nld.global.s16 %r5, [%d0];\n\
                ld.global.s32 %d4, [%d0+4];\nshr.u64 %d4, %d4, 32;\ncvt.u32.u64 %r6, %d4;\n\
                st.global.v4.u32 [%d1], {%r3, %r4, %r5, %r6};\nld.global.v2.u64 {%d5, %d6}, [%d0];\n\
                st.global.v2.u64 [%d1+16], {%d6, %d5};";
    let mut bench = Bench::new("", body);
    bench.write(0, &[0x80, 0xFF, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bench.run(1, 1), []);
    let minus = |x: i32| x.cast_unsigned();
    let expected = [minus(-128), 128, minus(-128), u32::MAX, 1, 2, 0xFF80, 0x8000_0000];
    assert_eq!(bench.words(1, 8), expected);
}

#[test]
fn a_launch_is_counted() {
    let body = "add.s64 %d4, %d0, %d3;\nld.global.u32 %r3, [%d4];\nadd.s64 %d5, %d1, %d3;\n\
                st.global.u32 [%d5], %r3;\nbar.sync 0;";
    let counts = Bench::new("", body).launch(flat(2, 64)).counts;
    assert_eq!((counts.read.requests, counts.read.bytes, counts.read.taken), (4, 512, 16));
    assert_eq!(counts.written.least, 16);
    assert_eq!(counts.barriers, 2);
}

/// Fragments of a matrix product come from the first array, one word a lane and register; results go to
/// the second.
fn product(shape: &str, counts: [usize; 3], words: &[u32]) -> Vec<u32> {
    let [a, b, d] = counts;
    let mut body = String::new();
    let list = |from: usize, count: usize| {
        let names: Vec<String> = (from..from + count).map(|index| format!("%r{index}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    for index in 0..a + b + d {
        let (register, offset) = (10 + index, 128 * index);
        let _ =
            writeln!(body, "add.s64 %d4, %d0, %d3;\nld.global.u32 %r{register}, [%d4+{offset}];");
    }
    let (x, y, z) = (list(10, a), list(10 + a, b), list(10 + a + b, d));
    let _ = writeln!(body, "mma.sync.aligned.{shape} {z}, {x}, {y}, {z};\nadd.s64 %d4, %d1, %d3;");
    for index in 0..d {
        let (register, offset) = (10 + a + b + index, 128 * index);
        let _ = writeln!(body, "st.global.u32 [%d4+{offset}], %r{register};");
    }
    let mut bench = Bench::new("", &body);
    bench.write(0, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    assert_eq!(bench.run(1, 32), []);
    bench.words(1, 32 * d)
}

/// Small whole numbers, of which all products and sums are exact.
fn small(index: usize) -> i32 {
    (index * 7 + index / 5) as i32 % 11 - 5
}

/// The fragment words of a matrix whose element is `at(row, column)`, by the manual: 16 rows as two
/// halves of eight, each quad of lanes one row.
fn fragment(
    height: usize,
    per_word: usize,
    columns: usize,
    at: &dyn Fn(usize, usize) -> u32,
) -> Vec<u32> {
    let mut words = Vec::new();
    for right in 0..columns / (4 * per_word) {
        for down in 0..height / 8 {
            for lane in 0..32 {
                let bits = 32 / per_word;
                words.push((0..per_word).fold(0, |word, part| {
                    let column = 4 * per_word * right + lane % 4 * per_word + part;
                    word | at(8 * down + lane / 4, column) << (bits * part)
                }));
            }
        }
    }
    words
}

#[test]
fn matrix_products_are_those_of_their_matrices() {
    let dot = |row: usize, column: usize, k: usize| -> i32 {
        (0..k).map(|x| small(row * k + x) * small(column * k + x + 3)).sum()
    };
    let f16 = |x: i32| u32::from(f16::from_f32(x as f32).to_bits());
    let bf16 = |x: i32| u32::from(bf16::from_f32(x as f32).to_bits());
    let byte = |x: i32| x.cast_unsigned() & 0xFF;
    let cases = [
        ("m16n8k16.row.col.f32.f16.f16.f32", 16, 16),
        ("m16n8k8.row.col.f32.f16.f16.f32", 16, 8),
        ("m16n8k16.row.col.f32.bf16.bf16.f32", 16, 16),
        ("m16n8k32.row.col.s32.s8.s8.s32", 16, 32),
        ("m8n8k16.row.col.s32.s8.s8.s32", 8, 16),
    ];
    for (shape, m, k) in cases {
        let bits = |x: i32| match () {
            () if shape.contains(".bf16") => bf16(x),
            () if shape.contains(".f16") => f16(x),
            () => byte(x),
        };
        let per_word = if shape.contains(".s8") { 4 } else { 2 };
        let a = fragment(m, per_word, k, &|row, x| bits(small(row * k + x)));
        let b = fragment(8, per_word, k, &|column, x| bits(small(column * k + x + 3)));
        let floats = shape.contains("f32");
        let one = if floats { 1.0_f32.to_bits() } else { 1 };
        let results = m / 4;
        let words = [a.clone(), b.clone(), vec![one; 32 * results]].concat();
        let got = product(shape, [a.len() / 32, b.len() / 32, results], &words);
        for (at, word) in got.into_iter().enumerate() {
            let (register, lane) = (at / 32, at % 32);
            let (row, column) = (lane / 4 + 8 * (register / 2), 2 * (lane % 4) + register % 2);
            let expected = dot(row, column, k) + 1;
            let got = if floats { f32::from_bits(word) as i32 } else { word.cast_signed() };
            assert_eq!(got, expected, "{shape}, row {row}, column {column}");
        }
    }
}

#[test]
fn matrices_are_loaded_by_rows_or_by_columns() {
    for (suffix, transposed) in [(".shared", false), (".trans.shared", true), ("", false)] {
        // Without a space the address is a generic one.
        let generic = if suffix.is_empty() { "cvta.shared.u64 %d6, %d6;\n" } else { "" };
        let body = format!(
            "mov.u64 %d4, tile;\nadd.s64 %d5, %d4, %d3;\nmov.u32 %r3, %r1;\nshl.b32 %r4, %r1, 1;\n\
             add.u32 %r5, %r4, 1;\nshl.b32 %r5, %r5, 16;\nor.b32 %r5, %r5, %r4;\nst.shared.u32 [%d5], %r5;\n\
             bar.warp.sync -1;\nand.b32 %r6, %r1, 7;\nmul.wide.u32 %d6, %r6, 16;\nadd.s64 %d6, %d4, %d6;\n\
             {generic}ldmatrix.sync.aligned.m8n8.x1{suffix}.b16 {{%r7}}, [%d6];\nadd.s64 %d7, %d1, %d3;\n\
             st.global.u32 [%d7], %r7;"
        );
        let mut bench = Bench::new(TILE, &body);
        assert_eq!(bench.run(1, 32), []);
        // Element (row, column) of the matrix is 8 * row + column.
        let element =
            |row: u32, column: u32| if transposed { 8 * column + row } else { 8 * row + column };
        let expected: Vec<u32> = (0..32)
            .map(|lane| {
                element(lane / 4, 2 * (lane % 4)) | element(lane / 4, 2 * (lane % 4) + 1) << 16
            })
            .collect();
        assert_eq!(bench.words(1, 32), expected);
    }
}

#[test]
fn a_copy_arrives_when_it_is_waited_for() {
    let body = |wait: &str| {
        format!(
            "mov.u64 %d4, tile;\nmul.wide.u32 %d5, %r1, 16;\nadd.s64 %d6, %d4, %d5;\nadd.s64 %d7, %d0, %d5;\n\
             cp.async.cg.shared.global [%d6], [%d7], 16;\ncp.async.commit_group;\n{wait}\n\
             ld.shared.u32 %r3, [%d6+4];\nadd.s64 %d8, %d1, %d3;\nst.global.u32 [%d8], %r3;"
        )
    };
    let mut bench = Bench::new(TILE, &body("cp.async.wait_group 0;"));
    assert_eq!(bench.run(1, 32), []);
    assert_eq!(bench.words(1, 32), (0..32).map(|thread| 4 * thread + 1).collect::<Vec<u32>>());
    assert_eq!(found(TILE, &body("cp.async.wait_group 1;"), 1, 32), [Fault::SharedUnwritten]);
    assert_eq!(found(TILE, &body("cp.async.wait_all;"), 1, 32), []);
}

#[test]
fn torn_and_foreign_texts_are_refused_and_end_nothing() {
    let whole = kernel(TILE, &exchange("bar.sync 0;"));
    for end in 0..whole.len() {
        // Whatever is cut off: an answer, and no panic.
        let _ = Module::read(&whole[..end], |_, _| 0);
    }
    let refused = |text: &str| Module::read(text, |_, _| 0).unwrap_err().to_string();
    assert!(refused(&whole.replace("8.4", "99.0")).contains("version 99.0 is newer than"));
    assert!(refused(&whole.replace("sm_90", "gfx90a")).contains("the target gfx90a"));
    assert!(refused(&whole.replace("64\n", "32\n")).contains("addresses of 32 bits"));
    assert!(refused("").contains("no version"));
    assert!(refused(&whole.replace("%r<40>", "%r<4000000000>")).contains("registers"));
}
