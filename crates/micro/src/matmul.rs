//! Matrix multiplication: what every engine's version of it has in common.
//!
//! `C = A · B` with row-major `A` of `m × k`, `B` of `k × n` and `C` of `m × n`. The id names the type
//! of the operands and that of the sums: `f16.f32` multiplies f16 and adds up in f32, which is not what
//! `f16.f16` does, neither in speed nor in result.
//!
//! Every launch multiplies the same operands, so matrices that fit the last cache stay in it, as they
//! do in every other tool that reports a peak of arithmetic.

pub(crate) mod cublaslt;
pub(crate) mod host;
mod lt;

use std::collections::BTreeMap;

use warpmark_measure::workload::checked;
use warpmark_measure::{Entry, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Flops, Seconds, Value, Work};

use crate::data::{Dtype, Stream};
use crate::{Request, guess};

/// Positions of the product that are checked besides its corners.
const SAMPLED: u64 = 64;

/// One multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The type of `A`, `B` and `C`.
    pub(crate) dtype: Dtype,
    /// The type in which products are added up.
    pub(crate) accumulate: Dtype,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

impl Problem {
    /// Three square matrices of `side` rows.
    pub(crate) fn square(dtype: Dtype, accumulate: Dtype, side: usize) -> Self {
        Self { dtype, accumulate, m: side, n: side, k: side }
    }

    fn arithmetic(&self) -> String {
        format!("{}.{}", self.dtype.name(), self.accumulate.name())
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        [
            ("dtype", Value::from(self.dtype.name())),
            ("accumulate", Value::from(self.accumulate.name())),
            ("m", Value::from(self.m)),
            ("n", Value::from(self.n)),
            ("k", Value::from(self.k)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// `2mnk` operations; each matrix crosses the memory bus at least once.
    fn work(&self) -> Work {
        Work { flops: Some(self.flops()), bytes: Some(self.bytes()), items: None }
    }

    fn flops(&self) -> Flops {
        Flops(2.0 * self.m as f64 * self.n as f64 * self.k as f64)
    }

    /// What the three matrices take.
    fn bytes(&self) -> Bytes {
        let elements = self.m * self.k + self.k * self.n + self.m * self.n;
        Bytes::from_count(elements * self.dtype.size())
    }

    /// The entry of this problem under `engine`; `reserved` is what the engine holds besides.
    fn entry(
        &self,
        engine: &str,
        spec: &DeviceSpec,
        request: &Request,
        reserved: Bytes,
    ) -> Option<Entry> {
        let size = format!("{}x{}x{}", self.m, self.n, self.k);
        let arithmetic = self.arithmetic();
        let id = BenchmarkId::new(["micro", "matmul", &arithmetic, &size], engine).ok()?;
        let iteration = self.estimate(spec);
        let memory = self.bytes() + reserved;
        Some(Entry {
            sampling: guess::sampling(request, iteration),
            iteration_estimate: iteration,
            memory_estimate: memory,
            sweep: Some(format!("micro/matmul/{arithmetic}@{engine}")),
            skip: guess::too_large(spec, memory),
            id,
        })
    }

    /// A guess at the time of one multiplication.
    fn estimate(&self, spec: &DeviceSpec) -> Seconds {
        self.flops() / guess::flops(spec, self.dtype, self.accumulate)
    }

    /// Compares sampled entries of the product, which `product(row, column)` fetches, with dot products
    /// in f64 of the very operands. `stores` is how often a running sum is rounded to the product's type.
    fn check(
        &self,
        inputs: Inputs,
        stores: f64,
        mut product: impl FnMut(usize, usize) -> Result<f64, WorkloadError>,
    ) -> Result<Check, WorkloadError> {
        let spread = (self.k as f64).sqrt() / 3.0;
        let mut worst = 0.0_f64;
        let positions = self.positions(inputs.seed);
        for &(row, column) in &positions {
            let error = (product(row, column)? - self.dot(inputs, row, column)).abs() / spread;
            // `max` would lose a NaN, and a NaN must fail.
            worst = if error.is_nan() { f64::NAN } else { worst.max(error) };
            if worst.is_nan() {
                break;
            }
        }
        let what = format!(
            "{} entries with f64 dot products, relative to the entries' standard deviation",
            positions.len()
        );
        checked(what, worst, self.tolerance(stores))
    }

    /// The largest error to allow, in units of the standard deviation `√k / 3` of an entry (a product of
    /// two numbers uniform on [-1, 1) has variance 1/9, and an entry adds up k of them).
    ///
    /// Adding up in units of `u`: with rounding to nearest the errors of k additions go both ways, and a
    /// random walk of them has a spread of about 0.4·√k·u, allowed twenty times. Tensor cores cut off
    /// instead, always towards zero: k·u. Writing the result: an entry within six standard deviations,
    /// rounded to the product's type, once for each store. A multiplication in less precise arithmetic
    /// than the id names (TF32 for f32) is beyond that, and so is a lost product in all but the largest.
    fn tolerance(&self, stores: f64) -> f64 {
        let k = self.k as f64;
        let unit = self.accumulate.roundoff();
        let cut_off = self.dtype != self.accumulate;
        let adding = if cut_off { (8.0 * k.sqrt()).max(k) * unit } else { 8.0 * k.sqrt() * unit };
        let storing = 6.0 * self.dtype.roundoff() * stores.max(1.0).sqrt();
        adding + storing
    }

    fn dot(&self, inputs: Inputs, row: usize, column: usize) -> f64 {
        let products = (0..self.k).map(|i| {
            let a = self.dtype.element(inputs.a, (row * self.k + i) as u64);
            let b = self.dtype.element(inputs.b, (i * self.n + column) as u64);
            a * b
        });
        products.sum()
    }

    fn positions(&self, seed: u64) -> Vec<(usize, usize)> {
        let (bottom, right) = (self.m - 1, self.n - 1);
        let corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)];
        let stream = Stream::new(seed, 2);
        let anywhere = (0..SAMPLED).map(|i| {
            let row = stream.bits(2 * i) % self.m as u64;
            let column = stream.bits(2 * i + 1) % self.n as u64;
            (row as usize, column as usize)
        });
        corners.into_iter().chain(anywhere).collect()
    }
}

/// Where the operands come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs {
    pub(crate) seed: u64,
    pub(crate) a: Stream,
    pub(crate) b: Stream,
}

impl Inputs {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, a: Stream::new(seed, 0), b: Stream::new(seed, 1) }
    }
}
