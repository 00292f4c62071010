//! cuBLASLt: multiplications of column-major matrices in the types that it documents, without batches or
//! epilogues.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::card::Device;
use crate::contents::Element;
use crate::machine::Machine;
use crate::product::{Layout, Operand, Product};
use crate::profile::Work;

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
const ARITHMETICS: [Arithmetic; 9] = [
    arithmetic(COMPUTE_16F, Element::F16, Element::F16, "f16/f16"),
    arithmetic(COMPUTE_32F, Element::F16, Element::F16, "f16/f32"),
    arithmetic(COMPUTE_32F, Element::Bf16, Element::Bf16, "bf16/f32"),
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

#[derive(Clone, Copy)]
#[repr(C)]
struct Algorithm([u64; 8]);

#[repr(C)]
struct Proposal {
    algorithm: Algorithm,
    workspace: usize,
    state: u32,
    waves: f32,
    reserved: [c_int; 4],
}

/// The shape of a multiplication, checked: layouts must fit each other, and their types the arithmetic.
struct Problem {
    description: Description,
    a: Layout,
    b: Layout,
    c: Layout,
    d: Layout,
    inner: u64,
    /// FLOP a second that the card reaches on it.
    rate: f64,
}

impl Problem {
    fn new(device: &Device, handle: u64, [a, b, c, d]: [u64; 4]) -> Result<Self, u32> {
        let description = description(handle)?;
        let [a, b, c, d] = [layout(a)?, layout(b)?, layout(c)?, layout(d)?];
        let turned = |m: &Layout, yes| if yes { (m.columns, m.rows) } else { (m.rows, m.columns) };
        let (m, inner) = turned(&a, description.transpose_a);
        let (inner_of_b, n) = turned(&b, description.transpose_b);
        let fits =
            inner == inner_of_b && (d.rows, d.columns) == (m, n) && (c.rows, c.columns) == (m, n);
        if !fits {
            return Err(INVALID_VALUE);
        }
        let arithmetic = ARITHMETICS.iter().find(|each| {
            each.compute == description.compute
                && [a, b].iter().all(|operand| operand.element == each.operands)
                && [c, d].iter().all(|result| result.element == each.result)
        });
        let arithmetic = arithmetic.ok_or(NOT_SUPPORTED)?;
        if !aligned(&description, &[a, b, c, d], a.element) {
            return Err(NOT_SUPPORTED);
        }
        let rate = device.profile.matmul(arithmetic.name).ok_or(NOT_SUPPORTED)?;
        let seen = |layout: Layout| match description.compute {
            COMPUTE_32F_FAST_TF32 => Layout { element: Element::Tf32, ..layout },
            _ => layout,
        };
        Ok(Self { description, a: seen(a), b: seen(b), c, d, inner, rate })
    }

    /// Seconds that the card needs with the best algorithm.
    fn seconds(&self, device: &Device) -> f64 {
        device.profile.seconds(multiplied([self.a, self.b, self.d], self.inner, 1.0, self.rate))
    }
}

/// The work of `count` products of these two operands and this result, at a rate in FLOP a second.
pub(crate) fn multiplied([a, b, d]: [Layout; 3], inner: u64, count: f64, rate: f64) -> Work {
    let flops = 2.0 * d.rows as f64 * d.columns as f64 * inner as f64;
    let bytes = a.traffic() + b.traffic() + d.traffic();
    Work { bytes: count * bytes, flops: Some((count * flops, rate)) }
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

/// What the documentation asks of 8-bit operands: the first transposed and the second not, and lengths of
/// columns that are multiples of 4 bytes, or of 16 for fp8.
fn aligned(description: &Description, layouts: &[Layout], operands: Element) -> bool {
    let least = match operands {
        Element::Int8 => 4,
        Element::Fp8 => 16,
        _ => return true,
    };
    let bytes = |layout: &Layout| layout.leading * layout.element.size();
    description.transpose_a
        && !description.transpose_b
        && layouts.iter().all(|layout| bytes(layout).is_multiple_of(least))
}

fn device(machine: &mut Machine) -> Result<&mut Device, u32> {
    machine.working().map_err(|code| if code == 3 { NOT_INITIALIZED } else { EXECUTION_FAILED })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    _library: u64,
    operation: u64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    _preference: u64,
    wanted: c_int,
    proposals: *mut Proposal,
    found: Option<&mut c_int>,
) -> u32 {
    elsewhere("cublasLtMatmulAlgoGetHeuristic", |machine| {
        Problem::new(device(machine)?, operation, [a, b, c, d])?;
        let count = ALGORITHMS.len().min(usize::try_from(wanted).unwrap_or(0));
        for index in 0..count {
            let algorithm = Algorithm([index as u64, 0, 0, 0, 0, 0, 0, 0]);
            let proposal =
                Proposal { algorithm, workspace: 0, state: 0, waves: 1.0, reserved: [0; 4] };
            // SAFETY: the caller has room for as many proposals as it wants.
            unsafe { proposals.add(index).write(proposal) };
        }
        put(found, count as c_int, INVALID_VALUE)
    })
}

/// A factor of the operation, in its scale type.
fn scalar(at: *const c_void, scale: c_int) -> Result<f64, u32> {
    let element = element(scale).ok_or(INVALID_VALUE)?;
    if at.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: factors lie on the host in the type that the operation was made with.
    let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), element.size() as usize) };
    Ok(element.decode(bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmul(
    _library: u64,
    operation: u64,
    alpha: *const c_void,
    a: u64,
    a_layout: u64,
    b: u64,
    b_layout: u64,
    beta: *const c_void,
    c: u64,
    c_layout: u64,
    d: u64,
    d_layout: u64,
    algorithm: Option<&Algorithm>,
    workspace: u64,
    workspace_bytes: usize,
    stream: u64,
) -> u32 {
    elsewhere("cublasLtMatmul", |machine| {
        let device = device(machine)?;
        let problem = Problem::new(device, operation, [a_layout, b_layout, c_layout, d_layout])?;
        let index = algorithm.map_or(0, |algorithm| algorithm.0[0] as usize);
        let factor = ALGORITHMS.get(index).copied().flatten().ok_or(NOT_SUPPORTED)?;
        let scale = problem.description.scale;
        let factors = (scalar(alpha, scale)?, scalar(beta, scale)?);
        let work_area = (workspace, workspace_bytes as u64);
        if multiply(device, &problem, [a, b, c, d], factors, work_area).is_err() {
            // A kernel that reads or writes where nothing is, as any other.
            machine.dangling += 1;
            machine.poison_context(700);
            return Ok(());
        }
        let seconds = problem.seconds(device) * factor;
        device.launched(stream).map_err(|_| EXECUTION_FAILED)?;
        device.busy(stream, seconds).map_err(|_| EXECUTION_FAILED)
    })
}

/// Lets the result hold the product; the error is an address that is none.
fn multiply(
    device: &mut Device,
    problem: &Problem,
    [a, b, c, d]: [u64; 4],
    (alpha, beta): (f64, f64),
    (workspace, workspace_bytes): (u64, u64),
) -> Result<(), u32> {
    if workspace_bytes > 0 {
        device.memory.snapshot(workspace, workspace_bytes)?;
    }
    let operand = |at: u64, layout: Layout, transposed: bool| {
        let what = device.memory.snapshot(at, layout.bytes())?;
        Ok::<_, u32>(Operand { layout, what, transposed })
    };
    let before = device.memory.snapshot(d, problem.d.bytes())?;
    let description = problem.description;
    let product = Product {
        a: operand(a, problem.a, description.transpose_a)?,
        b: operand(b, problem.b, description.transpose_b)?,
        c: if beta == 0.0 { None } else { Some(operand(c, problem.c, false)?) },
        alpha,
        beta,
        inner: problem.inner,
        d: problem.d,
        before: if problem.d.leading == problem.d.rows { None } else { Some(before) },
    };
    let (contents, offset) = device.memory.contents(d, problem.d.bytes())?;
    contents.write(offset, problem.d.bytes(), Arc::new(product));
    Ok(())
}
