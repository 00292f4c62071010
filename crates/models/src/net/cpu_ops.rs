//! Ops of our own for candle's CPU backend, where its general ones leave memory bandwidth unused.
//!
//! candle multiplies a single row on one thread, widens both operands of a bf16 product to f32 in full
//! each time, and runs a batch of attention products one after the other. Decoding is made of just
//! these three, so on a CPU they are done here: on all threads, reading each weight once, summing in
//! f32 whatever the storage type. On a GPU none of this is used.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// A storage type that is summed in f32.
pub(super) trait Element: Copy + Send + Sync + 'static {
    fn narrow(value: f32) -> Self;
    fn narrow_all(source: &[f32], target: &mut [Self]);
    fn widen(source: &[Self], target: &mut [f32]);
    /// The elements themselves where they are f32 already.
    fn as_f32(elements: &[Self]) -> Option<&[f32]> {
        let _ = elements;
        None
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn storage(values: Vec<Self>) -> CpuStorage;
}

impl Element for f32 {
    fn narrow(value: f32) -> Self {
        value
    }
    fn narrow_all(source: &[f32], target: &mut [Self]) {
        target.copy_from_slice(source);
    }
    fn as_f32(elements: &[Self]) -> Option<&[f32]> {
        Some(elements)
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        target.copy_from_slice(source);
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::F32(values)
    }
}

impl Element for f16 {
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn narrow_all(source: &[f32], target: &mut [Self]) {
        target.convert_from_f32_slice(source);
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        source.convert_to_f32_slice(target);
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]> {
        if let CpuStorage::F16(values) = storage { Some(values) } else { None }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::F16(values)
    }
}

impl Element for bf16 {
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn narrow_all(source: &[f32], target: &mut [Self]) {
        target.convert_from_f32_slice(source);
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        source.convert_to_f32_slice(target);
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]> {
        if let CpuStorage::BF16(values) = storage { Some(values) } else { None }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::BF16(values)
    }
}

/// The elements of a contiguous tensor.
fn contiguous<'a, T: Element>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some(values) = T::slice(storage) else { bail!("operands differ in dtype") };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values[from..to]),
        None => bail!("expected a contiguous operand, got strides {:?}", layout.stride()),
    }
}

macro_rules! by_dtype {
    ($storage:expr, $call:ident $arguments:tt) => {
        match $storage {
            CpuStorage::F32(_) => $call::<f32> $arguments,
            CpuStorage::F16(_) => $call::<f16> $arguments,
            CpuStorage::BF16(_) => $call::<bf16> $arguments,
            other => bail!("no f32, f16 or bf16 operand but {:?}", other.dtype()),
        }
    };
}

use candle_core::backend::BackendStorage;

/// `x · w` for few rows: `x` is `[m, k]`; `w` is `[k, n]`, either as stored or as the transposed view
/// of `[n, k]`. Returns `[m, n]`.
pub(super) fn few_rows(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(w, &FewRows)
}

struct FewRows;

impl CustomOp2 for FewRows {
    fn name(&self) -> &'static str {
        "few-rows-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x, few_rows_of(x, x_layout, w, w_layout))
    }
}

fn few_rows_of<T: Element>(
    x: &CpuStorage,
    x_layout: &Layout,
    w: &CpuStorage,
    w_layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let (m, k) = x_layout.shape().dims2()?;
    let weights = Weights::<T>::new(w, w_layout)?;
    let n = weights.columns;
    if k != weights.depth {
        bail!("cannot multiply [{m}, {k}] by [{}, {n}]", weights.depth);
    }
    let mut rows = vec![0f32; m * k];
    T::widen(contiguous::<T>(x, x_layout)?, &mut rows);
    let width = weights.columns_of_a_task(m);
    // [task][m][width]: each task owns one stretch of the sums.
    let mut sums = vec![0f32; m * n];
    sums.par_chunks_mut(m * width).enumerate().for_each_init(Vec::new, |tile, (task, sums)| {
        weights.multiply(&rows, task * width, sums, tile);
    });
    let mut product = vec![T::narrow(0.0); m * n];
    for (task, sums) in sums.chunks(m * width).enumerate() {
        let filled = sums.len() / m;
        for (row, sums) in sums.chunks(filled).enumerate() {
            let start = row * n + task * width;
            T::narrow_all(sums, &mut product[start..start + filled]);
        }
    }
    Ok((T::storage(product), Shape::from((m, n))))
}

/// A `[depth, columns]` matrix in memory as `[depth, columns]` or as `[columns, depth]`.
struct Weights<'a, T> {
    elements: &'a [T],
    depth: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, T: Element> Weights<'a, T> {
    /// Depth that is widened at a time: a tile of it stays in the second-level cache.
    const TILE_DEPTH: usize = 256;

    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (depth, columns) = layout.shape().dims2()?;
        let Some(elements) = T::slice(storage) else { bail!("operands differ in dtype") };
        let transposed = match *layout.stride() {
            [next_row, 1] if next_row == columns => false,
            [1, next_column] if next_column == depth => true,
            ref other => bail!("weights [{depth}, {columns}] cannot have strides {other:?}"),
        };
        let start = layout.start_offset();
        let elements = &elements[start..start + depth * columns];
        Ok(Self { elements, depth, columns, transposed })
    }

    /// Columns that one task computes for `m` rows.
    fn columns_of_a_task(&self, m: usize) -> usize {
        if self.transposed && m <= 32 {
            // gemm has a kernel for dot products, which it takes for up to 256 of them.
            256 / m
        } else {
            // Two tasks a thread even out a thread that is late; whole vectors.
            (self.columns / (2 * rayon::current_num_threads())).next_multiple_of(16).clamp(16, 1024)
        }
    }

    /// `sums = rows · w[.., first ..]`, as many columns as `sums` has.
    fn multiply(&self, rows: &[f32], first: usize, sums: &mut [f32], tile: &mut Vec<f32>) {
        let m = rows.len() / self.depth;
        let width = sums.len() / m;
        if let Some(elements) = T::as_f32(self.elements) {
            let (start, strides) = if self.transposed {
                (first * self.depth, (1, self.depth))
            } else {
                (first, (self.columns, 1))
            };
            let w = Strided { elements: &elements[start..], strides };
            add_product(sums, width, (rows, self.depth), &w, self.depth, false);
            return;
        }
        for from in (0..self.depth).step_by(Self::TILE_DEPTH) {
            let depth = Self::TILE_DEPTH.min(self.depth - from);
            tile.resize(Self::TILE_DEPTH * width, 0.0);
            let strides = if self.transposed {
                for (column, tile) in tile.chunks_mut(depth).take(width).enumerate() {
                    let start = (first + column) * self.depth + from;
                    T::widen(&self.elements[start..start + depth], tile);
                }
                (1, depth)
            } else {
                for (row, tile) in tile.chunks_mut(width).take(depth).enumerate() {
                    let start = (from + row) * self.columns + first;
                    T::widen(&self.elements[start..start + width], tile);
                }
                (width, 1)
            };
            let w = Strided { elements: tile, strides };
            add_product(sums, width, (&rows[from..], self.depth), &w, depth, from > 0);
        }
    }
}

struct Strided<'a> {
    elements: &'a [f32],
    /// Elements from a row to the next, and from a column to the next.
    strides: (usize, usize),
}

/// `sums [+]= rows · w` on the calling thread, `sums` being `[m, width]`, `rows` `[m, depth]` with
/// `next_row` elements from one to the next, and `w` `[depth, width]`.
fn add_product(
    sums: &mut [f32],
    width: usize,
    (rows, next_row): (&[f32], usize),
    w: &Strided<'_>,
    depth: usize,
    add: bool,
) {
    let m = sums.len() / width;
    assert!(rows.len() >= (m - 1) * next_row + depth);
    assert!(w.elements.len() > (depth - 1) * w.strides.0 + (width - 1) * w.strides.1);
    // SAFETY: the largest offset into each operand is inside its slice: m * width of `sums` by its
    // definition, the others by the assertions above; `sums` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            width,
            depth,
            sums.as_mut_ptr(),
            1,
            width.cast_signed(),
            add,
            rows.as_ptr(),
            1,
            next_row.cast_signed(),
            w.elements.as_ptr(),
            w.strides.1.cast_signed(),
            w.strides.0.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A dot product in sixteen partial sums, which the compiler keeps in vector registers.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 =
        left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// Attention of one new position over a cache: `q` is `[b, h, 1, d]` and already scaled, `k` and `v`
/// are the first `t` positions of caches, `[b, h, t, d]` with any stride between heads. Returns
/// `[b, h, 1, d]`.
pub(super) fn decode_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    q.contiguous()?.apply_op3_no_bwd(k, v, &DecodeAttention)
}

struct DecodeAttention;

impl CustomOp3 for DecodeAttention {
    fn name(&self) -> &'static str {
        "decode-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(q, decode_attention_of((q, q_layout), (k, k_layout), (v, v_layout)))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn decode_attention_of<T: Element>(
    q: Operand<'_>,
    k: Operand<'_>,
    v: Operand<'_>,
) -> Result<(CpuStorage, Shape)> {
    let (_, heads, _, width) = q.1.shape().dims4()?;
    let (keys, values) = (Heads::<T>::new(k, heads)?, Heads::<T>::new(v, heads)?);
    let queries = contiguous::<T>(q.0, q.1)?;
    let mut mixed = vec![T::narrow(0.0); queries.len()];
    mixed.par_chunks_mut(width).zip(queries.par_chunks(width)).enumerate().for_each(
        |(head, (mixed, query))| {
            let mut wide_query = vec![0f32; width];
            T::widen(query, &mut wide_query);
            let mixture = attend(&wide_query, keys.head(head), values.head(head));
            for (target, value) in mixed.iter_mut().zip(mixture) {
                *target = T::narrow(value);
            }
        },
    );
    Ok((T::storage(mixed), q.1.shape().clone()))
}

/// The heads of a cache, each one contiguous.
struct Heads<'a, T> {
    elements: &'a [T],
    per_sequence: usize,
    /// Elements from a sequence to the next, and from a head to the next.
    strides: (usize, usize),
    length: usize,
}

impl<'a, T: Element> Heads<'a, T> {
    fn new((storage, layout): Operand<'a>, heads: usize) -> Result<Self> {
        let (_, own_heads, positions, width) = layout.shape().dims4()?;
        let Some(elements) = T::slice(storage) else { bail!("operands differ in dtype") };
        match layout.stride() {
            &[batch, head, position, 1] if position == width && own_heads == heads => Ok(Self {
                elements: &elements[layout.start_offset()..],
                per_sequence: heads,
                strides: (batch, head),
                length: positions * width,
            }),
            other => bail!("a cache of {heads} heads cannot have strides {other:?}"),
        }
    }

    fn head(&self, index: usize) -> &'a [T] {
        let start =
            index / self.per_sequence * self.strides.0 + index % self.per_sequence * self.strides.1;
        &self.elements[start..start + self.length]
    }
}

/// `softmax(query · keysᵀ) · values` of one head.
fn attend<T: Element>(query: &[f32], keys: &[T], values: &[T]) -> Vec<f32> {
    let width = query.len();
    let mut wide = vec![0f32; width];
    let mut scores: Vec<f32> = keys
        .chunks(width)
        .map(|key| {
            T::widen(key, &mut wide);
            dot(query, &wide)
        })
        .collect();
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0f32;
    for score in &mut scores {
        *score = (*score - highest).exp();
        total += *score;
    }
    let mut mixture = vec![0f32; width];
    for (value, score) in values.chunks(width).zip(&scores) {
        T::widen(value, &mut wide);
        for (sum, value) in mixture.iter_mut().zip(&wide) {
            *sum += score / total * value;
        }
    }
    mixture
}

/// `gelu(x + bias)` with the tanh approximation, `x` being `[.., n]` and `bias` `[n]`.
pub(super) fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGelu)
}

struct BiasGelu;

impl CustomOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x, bias_gelu_of(x, x_layout, bias, bias_layout))
    }
}

fn bias_gelu_of<T: Element>(
    x: &CpuStorage,
    x_layout: &Layout,
    bias: &CpuStorage,
    bias_layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let x = contiguous::<T>(x, x_layout)?;
    let mut wide_bias = vec![0f32; bias_layout.shape().elem_count()];
    T::widen(contiguous::<T>(bias, bias_layout)?, &mut wide_bias);
    let n = wide_bias.len();
    let mut y = vec![T::narrow(0.0); x.len()];
    y.par_chunks_mut(n).zip(x.par_chunks(n)).for_each(|(y, x)| {
        let mut wide = vec![0f32; n];
        T::widen(x, &mut wide);
        for ((y, x), bias) in y.iter_mut().zip(&wide).zip(&wide_bias) {
            *y = T::narrow(gelu_tanh(x + bias));
        }
    });
    Ok((T::storage(y), x_layout.shape().clone()))
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, Hendrycks and Gimpel 2016, equation 2; written with
/// the logistic function, for `(1 + tanh u)/2 = 1/(1 + exp(-2u))`.
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    x / (1.0 + (-TWICE_ROOT * (x + 0.044_715 * x * x * x)).exp())
}
