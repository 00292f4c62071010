//! Matrix multiplication: what every engine's version of it has in common.
//!
//! `C = A · B` with row-major `A` of `m × k`, `B` of `k × n` and `C` of `m × n`. The id names the type
//! of the operands and that of the sums: `f16.f32` multiplies f16 and adds up in f32, which is not what
//! `f16.f16` does, neither in speed nor in result.
//!
//! Where the matrices fit a GPU's last cache, the id ends in `warm` (every launch multiplies the same
//! matrices, which fit half of it), `mixed` (the same, and they do not) or `cold` (launches take turns on
//! copies that do not fit together).

mod capability;
mod check;
mod choose;
pub(crate) mod cublaslt;
pub(crate) mod host;
mod kernels;
mod lt;
mod multiply;
mod operands;
mod session;
mod shapes;

use std::collections::BTreeMap;

use warpmark_measure::Entry;
use warpmark_record::{BenchmarkId, Bytes, DeviceSpec, Flops, Seconds, Value, Work};

use crate::data::{self, Dtype, Stream};
use crate::{RunOptions, guess};

/// Multiplications that take longer than this say nothing that the next smaller ones do not.
const LONGEST: Seconds = Seconds(2.0);

/// The least time that a launch takes on any device.
const LAUNCH: Seconds = Seconds(2e-6);

/// One multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The type of `A` and `B`.
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

    /// `m x n x k` as ids have it.
    fn size(&self) -> String {
        format!("{}x{}x{}", self.m, self.n, self.k)
    }

    /// The type of `C`: that of the operands where it can hold a product; else that of the sums for
    /// integers, and bf16 for fp8, which is what networks go on with.
    fn result(&self) -> Dtype {
        match self.dtype {
            Dtype::Int8 => Dtype::Int32,
            Dtype::Fp8 => Dtype::Bf16,
            Dtype::Tf32 => Dtype::F32,
            other => other,
        }
    }

    /// Whether `B` lies in memory column by column, the only order in which libraries multiply matrices
    /// of 8-bit numbers on every card that has them.
    fn by_columns(&self) -> bool {
        self.dtype.size() == 1
    }

    /// Where entry `(row, column)` of `B` lies, in elements.
    fn place_in_b(&self, row: usize, column: usize) -> usize {
        if self.by_columns() { column * self.k + row } else { row * self.n + column }
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        let order = if self.by_columns() { "columns" } else { "rows" };
        [
            ("dtype", Value::from(self.dtype.name())),
            ("accumulate", Value::from(self.accumulate.name())),
            ("result", Value::from(self.result().name())),
            ("b_stored_by", Value::from(order)),
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
        let operands = (self.m * self.k + self.k * self.n) * self.dtype.size();
        Bytes::from_count(operands + self.m * self.n * self.result().size())
    }

    /// The entry of this problem under `engine`: `name` is what its id has after the arithmetic,
    /// `memory` all that it takes.
    fn entry(
        &self,
        name: &[&str],
        engine: &str,
        spec: &DeviceSpec,
        options: &RunOptions,
        memory: Bytes,
    ) -> Option<Entry> {
        let arithmetic = self.arithmetic();
        let segments = ["micro", "matmul", &arithmetic].into_iter().chain(name.iter().copied());
        let iteration = self.estimate(spec);
        Some(Entry {
            id: BenchmarkId::new(segments, engine).ok()?,
            sampling: guess::sampling(options, iteration),
            iteration_estimate: iteration,
            preparation_estimate: Seconds(0.0),
            memory_estimate: memory,
            sweep: Some(format!("micro/matmul/{arithmetic}@{engine}")),
            skip: guess::too_large(spec, memory).or_else(|| self.too_long(spec)),
        })
    }

    /// A guess at the time of one multiplication.
    fn estimate(&self, spec: &DeviceSpec) -> Seconds {
        let arithmetic = self.flops() / guess::flops(spec, self.dtype, self.accumulate);
        let traffic = self.bytes() / guess::bandwidth(spec);
        Seconds(arithmetic.0.max(traffic.0).max(LAUNCH.0))
    }

    fn too_long(&self, spec: &DeviceSpec) -> Option<String> {
        let estimate = self.estimate(spec);
        (estimate > LONGEST).then(|| {
            format!("one multiplication would take about {estimate}; over {LONGEST} it is left out")
        })
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

    /// What a record says of operands of `dtype`.
    fn described(&self, dtype: Dtype) -> String {
        match dtype {
            Dtype::Int8 => format!("uniform on all 256 integers, seed {}", self.seed),
            _ => data::described(self.seed),
        }
    }
}
