//! cuBLASLt: multiplications of column-major matrices in the types that it documents, without batches or
//! epilogues.

mod multiply;

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::contents::Element;
use crate::product::Layout;

pub(crate) use multiply::multiplied;

const NOT_INITIALIZED: u32 = 1;
const INVALID_VALUE: u32 = 7;
const EXECUTION_FAILED: u32 = 13;
const NOT_SUPPORTED: u32 = 15;

const COMPUTE_16F: c_int = 64;
const COMPUTE_32F: c_int = 68;
const COMPUTE_64F: c_int = 70;
const COMPUTE_32I: c_int = 72;
const COMPUTE_32F_FAST_TF32: c_int = 77;
const R_32F: c_int = 0;
const R_64F: c_int = 1;
const R_16F: c_int = 2;
const R_8I: c_int = 3;
const R_32I: c_int = 10;
const R_16BF: c_int = 14;
const R_8F_E4M3: c_int = 28;

/// One way to multiply: how sums are made, what goes in, what comes out, and its name in a profile.
struct Arithmetic {
    compute: c_int,
    operands: Element,
    result: Element,
    name: &'static str,
}

const fn arithmetic(
    compute: c_int,
    operands: Element,
    result: Element,
    name: &'static str,
) -> Arithmetic {
    Arithmetic { compute, operands, result, name }
}

/// From the table of supported types in the documentation of `cublasLtMatmul`; a card has those that its
/// profile has a peak of.
const ARITHMETICS: [Arithmetic; 11] = [
    arithmetic(COMPUTE_16F, Element::F16, Element::F16, "f16/f16"),
    arithmetic(COMPUTE_32F, Element::F16, Element::F16, "f16/f32"),
    arithmetic(COMPUTE_32F, Element::Bf16, Element::Bf16, "bf16/f32"),
    arithmetic(COMPUTE_32F, Element::F16, Element::F32, "f16/f32"),
    arithmetic(COMPUTE_32F, Element::Bf16, Element::F32, "bf16/f32"),
    arithmetic(COMPUTE_32F, Element::F32, Element::F32, "f32/f32"),
    arithmetic(COMPUTE_32F_FAST_TF32, Element::F32, Element::F32, "tf32/f32"),
    arithmetic(COMPUTE_64F, Element::F64, Element::F64, "f64/f64"),
    arithmetic(COMPUTE_32I, Element::Int8, Element::Int32, "int8/int32"),
    arithmetic(COMPUTE_32F, Element::Fp8, Element::Bf16, "fp8/f32"),
    arithmetic(COMPUTE_32F, Element::Fp8, Element::F16, "fp8/f32"),
];

/// How many times as long as the card needs each algorithm takes. The library's favourite is not the
/// fastest one, and it refuses the last one when it is asked to run it: both happen.
const ALGORITHMS: [Option<f64>; 4] = [Some(1.25), Some(1.0), Some(1.5), None];

/// The same where the plan names the fastest: the others take little longer.
const CLOSE: f64 = 1.03;

/// How many times as long a product takes whose shape is not the fastest of the plan.
const OTHER_SHAPES: f64 = 1.04;

/// How many times as long an algorithm takes; `None` if it is refused.
fn slowness(fastest: Option<usize>, index: usize) -> Option<f64> {
    let usual = ALGORITHMS.get(index).copied().flatten()?;
    Some(fastest.map_or(usual, |fastest| if index == fastest { 1.0 } else { CLOSE }))
}

#[derive(Clone, Copy)]
struct Description {
    compute: c_int,
    scale: c_int,
    transpose_a: bool,
    transpose_b: bool,
}

#[derive(Clone, Copy)]
enum Object {
    Library,
    Layout(Layout),
    Description(Description),
    Preference,
}

static OBJECTS: LazyLock<Mutex<HashMap<u64, Object>>> = LazyLock::new(Mutex::default);

fn objects<T>(act: impl FnOnce(&mut HashMap<u64, Object>) -> T) -> T {
    act(&mut OBJECTS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn create(name: &'static str, handle: Option<&mut u64>, object: Result<Object, u32>) -> u32 {
    elsewhere(name, |machine| {
        let object = object?;
        let new = machine.handle();
        objects(|objects| objects.insert(new, object));
        put(handle, new, INVALID_VALUE)
    })
}

fn destroy(name: &'static str, handle: u64) -> u32 {
    elsewhere(name, |_| objects(|objects| objects.remove(&handle)).map(drop).ok_or(INVALID_VALUE))
}

/// The type of this number in `cudaDataType_t`.
pub(crate) fn element(kind: c_int) -> Option<Element> {
    Some(match kind {
        R_32F => Element::F32,
        R_64F => Element::F64,
        R_16F => Element::F16,
        R_8I => Element::Int8,
        R_32I => Element::Int32,
        R_16BF => Element::Bf16,
        R_8F_E4M3 => Element::Fp8,
        _ => return None,
    })
}

fn layout(handle: u64) -> Result<Layout, u32> {
    match objects(|objects| objects.get(&handle).copied()) {
        Some(Object::Layout(layout)) => Ok(layout),
        _ => Err(INVALID_VALUE),
    }
}

fn description(handle: u64) -> Result<Description, u32> {
    match objects(|objects| objects.get(&handle).copied()) {
        Some(Object::Description(description)) => Ok(description),
        _ => Err(INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    130_000
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtCreate(handle: Option<&mut u64>) -> u32 {
    create("cublasLtCreate", handle, Ok(Object::Library))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: u64) -> u32 {
    destroy("cublasLtDestroy", handle)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutCreate(
    handle: Option<&mut u64>,
    kind: c_int,
    rows: u64,
    columns: u64,
    leading: i64,
) -> u32 {
    let layout = element(kind).ok_or(NOT_SUPPORTED).and_then(|element| {
        let leading = u64::try_from(leading).ok().filter(|leading| *leading >= rows);
        let leading = leading.filter(|_| rows > 0 && columns > 0).ok_or(INVALID_VALUE)?;
        Ok(Object::Layout(Layout { element, rows, columns, leading }))
    });
    create("cublasLtMatrixLayoutCreate", handle, layout)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(handle: u64) -> u32 {
    destroy("cublasLtMatrixLayoutDestroy", handle)
}

/// Batches and row order are refused.
#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutSetAttribute(
    _handle: u64,
    _which: c_int,
    _value: *const c_void,
    _bytes: usize,
) -> u32 {
    elsewhere("cublasLtMatrixLayoutSetAttribute", |_| Err(NOT_SUPPORTED))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescCreate(
    handle: Option<&mut u64>,
    compute: c_int,
    scale: c_int,
) -> u32 {
    let known = matches!(
        (compute, scale),
        (COMPUTE_32F | COMPUTE_32F_FAST_TF32, R_32F)
            | (COMPUTE_16F, R_16F)
            | (COMPUTE_64F, R_64F)
            | (COMPUTE_32I, R_32I)
    );
    let description = Description { compute, scale, transpose_a: false, transpose_b: false };
    let object = known.then_some(Object::Description(description)).ok_or(NOT_SUPPORTED);
    create("cublasLtMatmulDescCreate", handle, object)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescDestroy(handle: u64) -> u32 {
    destroy("cublasLtMatmulDescDestroy", handle)
}

/// Only transposition can be set; each attribute that can is an int.
#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescSetAttribute(
    handle: u64,
    which: c_int,
    value: Option<&c_int>,
    bytes: usize,
) -> u32 {
    elsewhere("cublasLtMatmulDescSetAttribute", |_| {
        let transposed = *value.filter(|_| bytes == size_of::<c_int>()).ok_or(INVALID_VALUE)? != 0;
        let mut description = description(handle)?;
        match which {
            3 => description.transpose_a = transposed,
            4 => description.transpose_b = transposed,
            _ => return Err(NOT_SUPPORTED),
        }
        objects(|objects| objects.insert(handle, Object::Description(description)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceCreate(handle: Option<&mut u64>) -> u32 {
    create("cublasLtMatmulPreferenceCreate", handle, Ok(Object::Preference))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceDestroy(handle: u64) -> u32 {
    destroy("cublasLtMatmulPreferenceDestroy", handle)
}

/// The simulated algorithms need no workspace, so that its limit changes nothing.
#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    handle: u64,
    _which: c_int,
    _value: *const c_void,
    _bytes: usize,
) -> u32 {
    elsewhere("cublasLtMatmulPreferenceSetAttribute", |_| {
        let known = objects(|objects| matches!(objects.get(&handle), Some(Object::Preference)));
        known.then_some(()).ok_or(INVALID_VALUE)
    })
}

/// A profile's name for products that are computed so, of operands and into results of these types.
pub(crate) fn arithmetic_of(
    compute: c_int,
    operands: Element,
    result: Element,
) -> Option<&'static str> {
    let fits = |each: &&Arithmetic| {
        each.compute == compute && each.operands == operands && each.result == result
    };
    ARITHMETICS.iter().find(fits).map(|each| each.name)
}
