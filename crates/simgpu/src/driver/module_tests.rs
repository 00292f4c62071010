//! Modules and launches that are wrong: each is answered by the driver's own error.

use std::ffi::CString;

use super::*;
use crate::driver::memory::{cuMemAlloc_v2, cuMemFree_v2};
use crate::machine::machine;
use crate::machine::test_context::Context;

const TEXT: &str = ".version 8.0\n.target sm_75\n.address_size 64\n\
    .visible .entry store(.param .u64 out, .param .u32 value)\n.maxntid 64, 1, 1\n{\n\
    .shared .align 16 .b8 tile[1024];\n.reg .b32 %r<4>;\n.reg .b64 %d<4>;\n\
    ld.param.u64 %d1, [out];\nld.param.u32 %r1, [value];\nst.shared.u32 [tile], %r1;\n\
    st.global.u32 [%d1], %r1;\nret;\n}\n";

/// Loads a text; the module, or the driver's error.
fn load(text: &str) -> Result<u64, u32> {
    let image = CString::new(text).unwrap();
    let mut module = 0;
    match cuModuleLoadData(Some(&mut module), image.as_ptr()) {
        0 => Ok(module),
        code => Err(code),
    }
}

fn function(module: u64) -> u64 {
    let mut function = 0;
    assert_eq!(cuModuleGetFunction(Some(&mut function), module, c"store".as_ptr()), 0);
    function
}

fn launch(function: u64, threads: u32, shared: u32, out: u64, value: u32) -> u32 {
    let arguments = [(&raw const out).cast::<u8>(), (&raw const value).cast::<u8>()];
    cuLaunchKernel(
        function,
        1,
        1,
        1,
        threads,
        1,
        1,
        shared,
        0,
        arguments.as_ptr(),
        std::ptr::null(),
    )
}

fn attribute(function: u64, which: c_int) -> c_int {
    let mut value = -1;
    assert_eq!(cuFuncGetAttribute(Some(&mut value), which, function), 0);
    value
}

#[test]
fn texts_that_cannot_be_run_are_refused_when_they_are_loaded() {
    let _context = Context::new();
    let unknown = TEXT.replace("st.global.u32", "frobnicate.u32");
    let cases = [
        ("no PTX at all".to_owned(), INVALID_IMAGE),
        (TEXT[..TEXT.len() - 8].to_owned(), INVALID_PTX),
        (unknown, INVALID_PTX),
        (TEXT.replace(".version 8.0", ".version 99.0"), UNSUPPORTED_PTX_VERSION),
        (TEXT.replace("sm_75", "sm_90"), NO_BINARY_FOR_GPU),
        (TEXT.replace("tile[1024]", "tile[49168]"), INVALID_PTX),
        (source::machine_code("sm_80", TEXT), NO_BINARY_FOR_GPU),
    ];
    for (text, code) in cases {
        assert_eq!(load(&text), Err(code), "{text}");
    }
    let said = machine().refusals.join("\n");
    assert!(said.contains("kernel store: instruction frobnicate.u32"), "{said}");
    assert!(said.contains("store has 49168 bytes of shared memory, of at most 49152"), "{said}");
}

#[test]
fn a_kernel_tells_what_its_text_says() {
    let _context = Context::new();
    let module = load(TEXT).unwrap();
    let kernel = function(module);
    let told = [0, 1, 3, 5, 6, 8].map(|which| attribute(kernel, which));
    assert_eq!(told, [64, 1024, 0, 80, 75, 47 << 10]);
    assert_eq!(cuFuncSetAttribute(kernel, 8, 60 << 10), 0);
    assert_eq!(attribute(kernel, 8), 60 << 10);
    // A block of a T4 may have 64 KiB, of which the kernel has one already.
    assert_eq!(cuFuncSetAttribute(kernel, 8, 64 << 10), INVALID_VALUE);
    assert_eq!(cuModuleUnload(module), 0);
}

#[test]
fn launches_that_do_not_fit_the_kernel_are_refused() {
    let _context = Context::new();
    let module = load(TEXT).unwrap();
    let kernel = function(module);
    let mut out = 0;
    assert_eq!(cuMemAlloc_v2(Some(&mut out), 4), 0);
    assert_eq!(launch(kernel, 65, 0, out, 1), OUT_OF_RESOURCES);
    assert_eq!(launch(kernel, 0, 0, out, 1), INVALID_VALUE);
    assert_eq!(launch(kernel, 1, 48 << 10, out, 1), INVALID_VALUE);
    assert_eq!(launch(kernel, 1, 47 << 10, out, 1), 0);
    let none = cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, std::ptr::null(), std::ptr::null());
    assert_eq!(none, INVALID_VALUE);
    // One argument too few, as a list that ends early with a null has it.
    let first = [(&raw const out).cast::<u8>(), std::ptr::null()];
    let few = cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, first.as_ptr(), std::ptr::null());
    assert_eq!(few, INVALID_VALUE);
    assert_eq!(machine().refusals.len(), 2);
    assert_eq!((cuMemFree_v2(out), cuModuleUnload(module)), (0, 0));
}

#[test]
fn what_a_kernel_writes_stands_in_memory_and_what_is_wrong_breaks_the_context() {
    let context = Context::new();
    let module = load(TEXT).unwrap();
    let kernel = function(module);
    let mut out = 0;
    assert_eq!(cuMemAlloc_v2(Some(&mut out), 4), 0);
    assert_eq!(launch(kernel, 1, 0, out, 7), 0);
    let mut word = [0; 4];
    let held = machine().working().unwrap().memory.snapshot(out, 4).unwrap();
    crate::contents::Source::read(&held, 0, &mut word);
    assert_eq!(word, [7, 0, 0, 0]);
    // The launch goes well, and the next call hears of it.
    assert_eq!(launch(kernel, 1, 0, out + 4, 7), 0);
    assert_eq!(launch(kernel, 1, 0, out, 7), ILLEGAL_ADDRESS);
    let lines: Vec<String> = machine().findings.lines().map(|(line, _)| line).collect();
    assert!(lines[0].starts_with("store: device memory out of bounds at PTX line "), "{lines:?}");
    drop(context);
    let _context = Context::new();
    let module = load(TEXT).unwrap();
    let mut out = 0;
    assert_eq!(cuMemAlloc_v2(Some(&mut out), 4), 0);
    assert_eq!(launch(function(module), 1, 0, out + 2, 7), 0);
    assert_eq!(cuMemFree_v2(out), MISALIGNED_ADDRESS);
}

#[test]
fn machine_code_is_bound_to_its_major_version_and_ptx_is_not() {
    assert!(runs_on("sm_80", (8, 6)) && runs_on("compute_75", (9, 0)));
    assert!(!runs_on("sm_89", (8, 6)) && !runs_on("sm_80", (9, 0)) && !runs_on("sass", (9, 0)));
}
