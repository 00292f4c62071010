//! Kernels that a program brings with it: found by the address of a function of the host.

use super::*;
use crate::contents::Source;
use crate::fatbin::tests::{binary, entry};
use crate::machine::machine;
use crate::machine::test_context::Context;

/// Writes what it is given plus what a variable of the module holds.
const TEXT: &str = ".version 8.0\n.target sm_75\n.address_size 64\n.global .align 4 .u32 table[1] = {5};\n\
    .visible .entry _Z5storePjj(.param .u64 out, .param .u32 value)\n{\n\
    .reg .b32 %r<4>;\n.reg .b64 %d<4>;\nld.param.u64 %d1, [out];\nld.param.u32 %r1, [value];\n\
    ld.global.u32 %r2, [table];\nadd.u32 %r1, %r1, %r2;\nst.global.u32 [%d1], %r1;\nret;\n}\n";

/// A function of the host, by its address: as many as there are tests.
static HOSTS: [u8; 4] = [0; 4];

fn host(test: usize) -> u64 {
    (&raw const HOSTS[test]) as u64
}

/// Registers a program of one kernel, as its start does; the handle of its binary.
fn program(test: usize, texts: &[Vec<u8>]) -> u64 {
    let image = binary(texts).leak();
    let (file, version) = (std::ptr::null(), 1);
    let wrapper = Wrapper { magic: WRAPPER, version, binary: image.as_ptr(), file };
    let handle = __cudaRegisterFatBinary(Some(&wrapper));
    let (name, none) = (c"_Z5storePjj".as_ptr(), std::ptr::null());
    __cudaRegisterFunction(
        handle,
        host(test),
        name,
        name,
        -1,
        none,
        none,
        none,
        none,
        std::ptr::null(),
    );
    __cudaRegisterFatBinaryEnd(handle);
    handle
}

/// Launches it as a host function that nvcc made does.
fn launch_it(test: usize, out: u64, value: u32, threads: u32) -> u32 {
    let one = Dimensions { x: 1, y: 1, z: 1 };
    assert_eq!(__cudaPushCallConfiguration(one, Dimensions { x: threads, ..one }, 0, 2), 0);
    let (mut grid, mut block, mut shared, mut stream) = (one, one, 1, 0);
    let popped = __cudaPopCallConfiguration(
        Some(&mut grid),
        Some(&mut block),
        Some(&mut shared),
        Some(&mut stream),
    );
    assert_eq!((popped, block.x, shared, stream), (0, threads, 0, 2));
    let mut kernel = 0;
    assert_eq!(__cudaGetKernel(Some(&mut kernel), host(test)), 0);
    let arguments = [(&raw const out).cast::<u8>(), (&raw const value).cast::<u8>()];
    __cudaLaunchKernel_ptsz(kernel, grid, block, arguments.as_ptr(), shared, stream)
}

fn word(at: u64) -> u32 {
    let mut word = [0; 4];
    let held = machine().working().unwrap().memory.snapshot(at, 4).unwrap();
    held.read(0, &mut word);
    u32::from_le_bytes(word)
}

#[test]
fn a_kernel_of_the_program_runs_with_its_arguments_and_the_modules_variables() {
    let _context = Context::new();
    let newer = TEXT.replace("sm_75", "sm_80").replace("{5}", "{9}");
    // A T4 takes what is compiled for it, and not what is newer.
    let handle = program(0, &[entry(1, 80, 0, &newer), entry(1, 75, 0, TEXT)]);
    let mut out = 0;
    assert_eq!(cudaMallocAsync_ptsz(Some(&mut out), 4, 2), 0);
    assert_eq!(launch_it(0, out, 7, 1), 0);
    assert_eq!(word(out), 12);
    assert_eq!(launch_it(0, out, 7, 2000), INVALID_CONFIGURATION);
    assert_eq!((cudaPeekAtLastError(), cudaGetLastError()), (9, 9));
    assert_eq!(cudaGetLastError(), 0);
    assert_eq!(cudaFuncSetAttribute(host(0), 8, 60 << 10), 0);
    assert_eq!(cudaFuncSetAttribute(host(0), 8, 65 << 10), INVALID_VALUE);
    assert_eq!(cudaFreeAsync_ptsz(out, 2), 0);
    __cudaUnregisterFatBinary(handle);
    assert_eq!(launch_it(0, out, 7, 1), INVALID_DEVICE_FUNCTION);
}

#[test]
fn a_program_that_has_nothing_for_the_card_is_told_so() {
    let _context = Context::new();
    let handle = program(1, &[entry(1, 80, 0, &TEXT.replace("sm_75", "sm_80"))]);
    assert_eq!(launch_it(1, 0, 7, 1), NO_BINARY_FOR_GPU);
    __cudaUnregisterFatBinary(handle);
    let packed = program(2, &[entry(1, 75, 0x2000, TEXT)]);
    assert_eq!(launch_it(2, 0, 7, 1), INVALID_IMAGE);
    __cudaUnregisterFatBinary(packed);
    let unknown = TEXT.replace("add.u32", "frobnicate.u32");
    let unknown = program(3, &[entry(1, 75, 0, &unknown)]);
    assert_eq!(launch_it(3, 0, 7, 1), INVALID_PTX);
    let said = machine().refusals.join("\n");
    assert!(said.contains("kernel _Z5storePjj: instruction frobnicate.u32"), "{said}");
    __cudaUnregisterFatBinary(unknown);
}
