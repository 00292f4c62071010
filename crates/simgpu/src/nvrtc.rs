//! NVRTC: what it makes of a kernel comes from [`crate::compiler`].

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::compiler::Unit;
use crate::source::machine_code;

/// The option that names what is compiled for.
const ARCHITECTURE: &str = "--gpu-architecture=";
const INVALID_INPUT: u32 = 3;
const INVALID_PROGRAM: u32 = 4;
const INVALID_OPTION: u32 = 5;
const COMPILATION: u32 = 6;

/// Those that NVRTC 13.0 knows.
const ARCHITECTURES: [c_int; 12] = [75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121];

#[derive(Default)]
struct Program {
    name: String,
    source: String,
    ptx: Vec<u8>,
    cubin: Vec<u8>,
    log: Vec<u8>,
}

static PROGRAMS: LazyLock<Mutex<HashMap<u64, Program>>> = LazyLock::new(Mutex::default);

fn program<T>(handle: u64, act: impl FnOnce(&mut Program) -> Result<T, u32>) -> Result<T, u32> {
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    act(programs.get_mut(&handle).ok_or(INVALID_PROGRAM)?)
}

/// Text of the caller; null reads as empty.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: NVRTC's callers promise zero-terminated strings.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// Copies bytes to where the caller has made room for as many.
fn copy_out(bytes: &[u8], to: *mut u8) -> Result<(), u32> {
    if to.is_null() {
        return Err(INVALID_INPUT);
    }
    // SAFETY: the caller asked for the size first and made room for it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcVersion(major: Option<&mut c_int>, minor: Option<&mut c_int>) -> u32 {
    elsewhere("nvrtcVersion", |_| {
        put(major, 13, INVALID_INPUT)?;
        put(minor, 0, INVALID_INPUT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetErrorString(_code: u32) -> *const c_char {
    c"an error of the simulated NVRTC".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetNumSupportedArchs(count: Option<&mut c_int>) -> u32 {
    elsewhere("nvrtcGetNumSupportedArchs", |_| {
        put(count, ARCHITECTURES.len() as c_int, INVALID_INPUT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetSupportedArchs(list: Option<&mut [c_int; ARCHITECTURES.len()]>) -> u32 {
    elsewhere("nvrtcGetSupportedArchs", |_| put(list, ARCHITECTURES, INVALID_INPUT))
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcCreateProgram(
    handle: Option<&mut u64>,
    source: *const c_char,
    name: *const c_char,
    _headers: c_int,
    _contents: *const *const c_char,
    _names: *const *const c_char,
) -> u32 {
    elsewhere("nvrtcCreateProgram", |machine| {
        let new = machine.handle();
        let program = Program { name: text(name), source: text(source), ..Program::default() };
        PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).insert(new, program);
        put(handle, new, INVALID_INPUT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcDestroyProgram(handle: Option<&mut u64>) -> u32 {
    elsewhere("nvrtcDestroyProgram", |_| {
        let handle = handle.ok_or(INVALID_PROGRAM)?;
        let removed = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
        *handle = 0;
        removed.map(drop).ok_or(INVALID_PROGRAM)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcCompileProgram(handle: u64, count: c_int, options: *const *const c_char) -> u32 {
    elsewhere("nvrtcCompileProgram", |_| {
        let given = (0..count as usize).map(|i| {
            // SAFETY: the caller passes as many options as it says.
            text(unsafe { *options.add(i) })
        });
        let (chosen, options): (Vec<String>, Vec<String>) =
            given.partition(|option| option.starts_with(ARCHITECTURE));
        let target = chosen.last().map_or("compute_75", |option| &option[ARCHITECTURE.len()..]);
        let number = target.rsplit('_').next().and_then(|number| number.parse().ok());
        let number: c_int = number.filter(|n| ARCHITECTURES.contains(n)).ok_or(INVALID_OPTION)?;
        program(handle, |program| {
            let unit = Unit { name: &program.name, source: &program.source, options: &options };
            match unit.ptx(number.unsigned_abs()) {
                Ok(ptx) => {
                    program.cubin = zero_terminated(&machine_code(target, &ptx));
                    program.ptx = zero_terminated(&ptx);
                    program.log = vec![0];
                    Ok(())
                }
                Err(log) => {
                    program.log = zero_terminated(&log);
                    Err(COMPILATION)
                }
            }
        })
    })
}

fn zero_terminated(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// The results of a program: the size of each, and its bytes.
macro_rules! results {
    ($($size:ident, $get:ident, $what:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $size(handle: u64, size: Option<&mut usize>) -> u32 {
            elsewhere(stringify!($size), |_| {
                program(handle, |program| put(size, program.$what.len(), INVALID_INPUT))
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn $get(handle: u64, to: *mut u8) -> u32 {
            elsewhere(stringify!($get), |_| program(handle, |program| copy_out(&program.$what, to)))
        }
    )*};
}

results! {
    nvrtcGetPTXSize, nvrtcGetPTX, ptx;
    nvrtcGetCUBINSize, nvrtcGetCUBIN, cubin;
    nvrtcGetProgramLogSize, nvrtcGetProgramLog, log;
}
