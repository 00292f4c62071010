//! The multiplication itself: what fits, what it costs, and what it writes.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use super::{
    ALGORITHMS, ARITHMETICS, COMPUTE_32F_FAST_TF32, Description, EXECUTION_FAILED, INVALID_VALUE,
    NOT_INITIALIZED, NOT_SUPPORTED, OTHER_SHAPES, description, element, layout, slowness,
};
use crate::call::{elsewhere, put};
use crate::card::Device;
use crate::contents::Element;
use crate::driver::Kind;
use crate::faults::Tf32;
use crate::machine::Machine;
use crate::product::{Layout, Operand, Product};
use crate::profile::Work;

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
#[derive(Clone, Copy)]
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
        let seen = |layout: Layout| match (description.compute, device.wrong.tf32) {
            (COMPUTE_32F_FAST_TF32, Tf32::Cut) => Layout { element: Element::Tf32, ..layout },
            (COMPUTE_32F_FAST_TF32, Tf32::Even) => Layout { element: Element::Tf32Even, ..layout },
            _ => layout,
        };
        Ok(Self { description, a: seen(a), b: seen(b), c, d, inner, rate })
    }

    /// Seconds that the card needs with the best algorithm.
    fn seconds(&self, device: &Device) -> f64 {
        // The library's columns are our rows.
        let (m, n, k) = (self.d.columns, self.d.rows, self.inner);
        let other = device.wrong.shape.is_some_and(|fastest| fastest != [m, n, k]);
        let work = multiplied([self.a, self.b, self.d], self.inner, 1.0, self.rate);
        device.profile.seconds(work) * if other { OTHER_SHAPES } else { 1.0 }
    }
}

/// The work of `count` products of these two operands and this result, at a rate in FLOP a second.
pub(crate) fn multiplied([a, b, d]: [Layout; 3], inner: u64, count: f64, rate: f64) -> Work {
    let flops = 2.0 * d.rows as f64 * d.columns as f64 * inner as f64;
    let bytes = a.traffic() + b.traffic() + d.traffic();
    Work { bytes: count * bytes, flops: Some((count * flops, rate)) }
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
        let factor = slowness(device.wrong.fastest, index).ok_or(NOT_SUPPORTED)?;
        let scale = problem.description.scale;
        let multiplication = Multiplication {
            problem,
            at: [a, b, c, d],
            factors: (scalar(alpha, scale)?, scalar(beta, scale)?),
            workspace: (workspace, workspace_bytes as u64),
            factor,
        };
        if let Some(capture) = device.capture(stream) {
            capture.node(Kind::Kernel, move |machine, stream| multiplication.run(machine, stream));
            return Ok(());
        }
        device.launched(stream).map_err(|_| EXECUTION_FAILED)?;
        multiplication.run(machine, stream)
    })
}

/// A multiplication that was asked for: what a graph keeps of it.
#[derive(Clone, Copy)]
struct Multiplication {
    problem: Problem,
    /// The operands, what is added to their product, and the result.
    at: [u64; 4],
    /// Of the product and of what is added.
    factors: (f64, f64),
    /// Where the work area is, and its bytes.
    workspace: (u64, u64),
    /// How many times as long as the card needs it takes.
    factor: f64,
}

impl Multiplication {
    /// Multiplies.
    fn run(&self, machine: &mut Machine, stream: u64) -> Result<(), u32> {
        let Self { problem, at, factors, workspace, factor } = self;
        let device = device(machine)?;
        if multiply(device, problem, *at, *factors, *workspace).is_err() {
            // A kernel that reads or writes where nothing is, as any other.
            machine.dangling += 1;
            machine.poison_context(700);
            return Ok(());
        }
        let seconds = problem.seconds(device) * factor;
        device.busy(stream, seconds).map_err(|_| EXECUTION_FAILED)
    }
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
