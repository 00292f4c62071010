//! cuBLAS: the multiplications that candle asks for, of column-major matrices with pitches and batches.

use std::collections::HashMap;
use std::ffi::{c_int, c_longlong, c_void};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::card::Device;
use crate::contents::Element;
use crate::cublaslt::{arithmetic_of, element, multiplied};
use crate::driver::Kind;
use crate::machine::Machine;
use crate::product::{Layout, Operand, Product};

const NOT_INITIALIZED: u32 = 1;
const INVALID_VALUE: u32 = 7;
const EXECUTION_FAILED: u32 = 13;
const NOT_SUPPORTED: u32 = 15;
/// `CUDA_ERROR_LAUNCH_FAILED`.
const LAUNCH_FAILED: u32 = 719;

const COMPUTE_64F: c_int = 70;
const R_64F: c_int = 1;

/// The streams of the library's handles.
static HANDLES: LazyLock<Mutex<HashMap<u64, u64>>> = LazyLock::new(Mutex::default);

fn handles<T>(act: impl FnOnce(&mut HashMap<u64, u64>) -> T) -> T {
    act(&mut HANDLES.lock().unwrap_or_else(PoisonError::into_inner))
}

#[unsafe(no_mangle)]
extern "C" fn cublasCreate_v2(handle: Option<&mut u64>) -> u32 {
    elsewhere("cublasCreate_v2", |machine| {
        machine.working().map_err(|_| NOT_INITIALIZED)?;
        let new = machine.handle();
        handles(|handles| handles.insert(new, 0));
        put(handle, new, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasDestroy_v2(handle: u64) -> u32 {
    elsewhere("cublasDestroy_v2", |_| {
        handles(|handles| handles.remove(&handle)).map(drop).ok_or(NOT_INITIALIZED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetStream_v2(handle: u64, stream: u64) -> u32 {
    elsewhere("cublasSetStream_v2", |_| {
        let known = handles(|handles| handles.get_mut(&handle).map(|known| *known = stream));
        known.ok_or(NOT_INITIALIZED)
    })
}

/// A batch of products, as the caller describes it.
#[derive(Clone, Copy)]
struct Batch {
    transposed: [c_int; 2],
    /// m, n and the length of the sums.
    sizes: [c_int; 3],
    /// Addresses, types, pitches and the distances from one matrix to the next, of A, B and C.
    at: [u64; 3],
    kinds: [c_int; 3],
    leading: [c_int; 3],
    strides: [c_longlong; 3],
    /// What products and what was there are multiplied with.
    factors: [f64; 2],
    count: c_int,
    compute: c_int,
}

impl Batch {
    /// Multiplies on the stream of the handle, or lets the graph do so that is being captured there.
    fn run(self, machine: &mut Machine, handle: u64) -> Result<(), u32> {
        let stream = handles(|handles| handles.get(&handle).copied()).ok_or(NOT_INITIALIZED)?;
        let device = machine.working().map_err(|_| EXECUTION_FAILED)?;
        if let Some(capture) = device.capture(stream) {
            self.layouts()?;
            capture.node(Kind::Kernel, move |machine, stream| {
                self.multiply(machine, stream).map_err(|_| LAUNCH_FAILED)
            });
            return Ok(());
        }
        device.launched(stream).map_err(|_| EXECUTION_FAILED)?;
        self.multiply(machine, stream)
    }

    fn multiply(&self, machine: &mut Machine, stream: u64) -> Result<(), u32> {
        let device = machine.working().map_err(|_| EXECUTION_FAILED)?;
        let [a, b, c] = self.layouts()?;
        let arithmetic = arithmetic_of(self.compute, a.element, c.element).ok_or(NOT_SUPPORTED)?;
        let rate = device.profile.matmul(arithmetic).ok_or(NOT_SUPPORTED)?;
        let [alpha, beta] = self.factors;
        let inner = self.sizes[2] as u64;
        for index in 0..self.count {
            let place = |which: usize, layout: &Layout| {
                let step = self.strides[which] * i64::from(index) * layout.element.size() as i64;
                self.at[which].wrapping_add_signed(step)
            };
            let places = [place(0, &a), place(1, &b), place(2, &c)];
            if self.one(device, [a, b, c], places, inner, (alpha, beta)).is_err() {
                // A kernel that reads or writes where nothing is, as any other.
                machine.dangling += 1;
                machine.poison_context(700);
                return Ok(());
            }
        }
        let work = multiplied([a, b, c], inner, f64::from(self.count), rate);
        device.work(stream, work).map_err(|_| EXECUTION_FAILED)
    }

    fn layouts(&self) -> Result<[Layout; 3], u32> {
        let [m, n, k] = self.sizes;
        if m < 1 || n < 1 || k < 1 || self.count < 1 {
            return Err(INVALID_VALUE);
        }
        let stored = |which: usize, (rows, columns): (c_int, c_int)| {
            let transposed = self.transposed.get(which).is_some_and(|operation| *operation != 0);
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            if self.leading[which] < rows {
                return Err(INVALID_VALUE);
            }
            let element = element(self.kinds[which]).ok_or(NOT_SUPPORTED)?;
            let [rows, columns, leading] = [rows, columns, self.leading[which]].map(|x| x as u64);
            Ok(Layout { element, rows, columns, leading })
        };
        Ok([stored(0, (m, k))?, stored(1, (k, n))?, stored(2, (m, n))?])
    }

    /// Lets one result hold its product; the error is an address that is none.
    fn one(
        &self,
        device: &mut Device,
        [a, b, c]: [Layout; 3],
        places: [u64; 3],
        inner: u64,
        (alpha, beta): (f64, f64),
    ) -> Result<(), u32> {
        let operand = |at: u64, layout: Layout, transposed: bool| {
            let what = device.memory.snapshot(at, layout.bytes())?;
            Ok::<_, u32>(Operand { layout, what, transposed })
        };
        let before = device.memory.snapshot(places[2], c.bytes())?;
        let product = Product {
            a: operand(places[0], a, self.transposed[0] != 0)?,
            b: operand(places[1], b, self.transposed[1] != 0)?,
            c: if beta == 0.0 { None } else { Some(operand(places[2], c, false)?) },
            alpha,
            beta,
            inner,
            d: c,
            before: if c.leading == c.rows { None } else { Some(before) },
        };
        let (contents, offset) = device.memory.contents(places[2], c.bytes())?;
        contents.write(offset, c.bytes(), Arc::new(product));
        Ok(())
    }
}

/// The factors, which lie on the host.
fn factors(at: [*const c_void; 2], compute: c_int) -> Result<[f64; 2], u32> {
    let scale = if compute == COMPUTE_64F { Element::F64 } else { Element::F32 };
    let [alpha, beta] = at.map(|at| factor(at, scale));
    Ok([alpha?, beta?])
}

fn factor(at: *const c_void, element: Element) -> Result<f64, u32> {
    if at.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: factors lie on the host in the type that the arithmetic asks for.
    let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), element.size() as usize) };
    Ok(element.decode(bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cublasGemmStridedBatchedEx(
    handle: u64,
    transposed_a: c_int,
    transposed_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: u64,
    kind_a: c_int,
    leading_a: c_int,
    stride_a: c_longlong,
    b: u64,
    kind_b: c_int,
    leading_b: c_int,
    stride_b: c_longlong,
    beta: *const c_void,
    c: u64,
    kind_c: c_int,
    leading_c: c_int,
    stride_c: c_longlong,
    count: c_int,
    compute: c_int,
    _algorithm: c_int,
) -> u32 {
    elsewhere("cublasGemmStridedBatchedEx", |machine| {
        let batch = Batch {
            transposed: [transposed_a, transposed_b],
            sizes: [m, n, k],
            at: [a, b, c],
            kinds: [kind_a, kind_b, kind_c],
            leading: [leading_a, leading_b, leading_c],
            strides: [stride_a, stride_b, stride_c],
            factors: factors([alpha, beta], compute)?,
            count,
            compute,
        };
        batch.run(machine, handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasDgemmStridedBatched(
    handle: u64,
    transposed_a: c_int,
    transposed_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: u64,
    leading_a: c_int,
    stride_a: c_longlong,
    b: u64,
    leading_b: c_int,
    stride_b: c_longlong,
    beta: *const c_void,
    c: u64,
    leading_c: c_int,
    stride_c: c_longlong,
    count: c_int,
) -> u32 {
    elsewhere("cublasDgemmStridedBatched", |machine| {
        let batch = Batch {
            transposed: [transposed_a, transposed_b],
            sizes: [m, n, k],
            at: [a, b, c],
            kinds: [R_64F; 3],
            leading: [leading_a, leading_b, leading_c],
            strides: [stride_a, stride_b, stride_c],
            factors: factors([alpha, beta], COMPUTE_64F)?,
            count,
            compute: COMPUTE_64F,
        };
        batch.run(machine, handle)
    })
}
