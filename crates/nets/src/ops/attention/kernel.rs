//! Attention as one kernel of ours (`kernels/attention.cu`), an operator of candle's: in a build with the feature
//! `cuda`.
//!
//! It is launched on candle's own stream, in candle's own context, and its results are a tensor of candle's.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, DType, Device, Error, Layout, Result, Shape, Storage,
    Tensor, bail,
};
use half::{bf16, f16};
use warpmark_fused::Dtype;
use warpmark_fused::attention::{
    AttentionBuild, AttentionMask, AttentionShape, Card, FILE, Operands, Positions, Strides,
    enqueue,
};

use super::Keys;

/// A block reads all keys of its head: from so many on, products by the whole card are faster where the heads do not
/// fill it. A prediction: a block streams some 50 GB/s, and the five further launches take some 20 µs.
const MANY_KEYS: usize = 1024;

/// Why the kernel computes no attention of this type and head size on a device; `None` where it does.
pub(super) fn refusal(device: &Device, dtype: DType, head_size: usize) -> Option<String> {
    let Device::Cuda(device) = device else { return None };
    let Some(dtype) = kernel_dtype(dtype) else {
        return Some(format!("there are no tensor cores for attention in {}", dtype.as_str()));
    };
    let card = card(device).map_err(|error| error.to_string());
    let build = AttentionBuild { head_size: head_size as u32, dtype, tiles: 1 };
    card.and_then(|card| build.check(card.capability).map_err(|error| error.to_string())).err()
}

fn kernel_dtype(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F16 => Some(Dtype::F16),
        DType::BF16 => Some(Dtype::Bf16),
        _ => None,
    }
}

/// `softmax(scale · q · kᵀ) · v` where the kernel does it: `q` is `[b, heads, n, d]`, `k` and `v` are `[b, shared, t,
/// d]`, of any strides but for the last. The result is a view of `[b, n, heads, d]`.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    keys: Keys<'_>,
    scale: f64,
) -> Result<Option<Tensor>> {
    let (batch, heads, queries, size) = q.dims4()?;
    let Device::Cuda(device) = q.device() else { return Ok(None) };
    if refusal(q.device(), q.dtype(), size).is_some() || !lies_well(&[q, k, v]) {
        return Ok(None);
    }
    let on_device = matches!(keys, Keys::Ragged(_));
    let blocks = batch * heads * queries.div_ceil(64);
    if !on_device && k.dim(2)? > MANY_KEYS && blocks < card(device)?.multiprocessors as usize {
        return Ok(None);
    }
    let op = Kernel { keys, scale: scale as f32 };
    Ok(Some(q.apply_op3_no_bwd(k, v, &op)?.transpose(1, 2)?))
}

/// Whether the kernel's loads of 16 bytes take the operands as they lie.
fn lies_well(operands: &[&Tensor]) -> bool {
    operands.iter().all(|operand| {
        let layout = operand.layout();
        let (stride, offset) = (layout.stride(), layout.start_offset());
        stride[3] == 1
            && offset.is_multiple_of(8)
            && stride[..3].iter().all(|stride| stride.is_multiple_of(8))
    })
}

/// The operator.
struct Kernel<'a> {
    keys: Keys<'a>,
    scale: f32,
}

impl CustomOp3 for Kernel<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("attention by tensor cores runs on a GPU only")
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        q_lies: &Layout,
        k: &CudaStorage,
        k_lies: &Layout,
        v: &CudaStorage,
        v_lies: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let operands = [(q, q_lies), (k, k_lies), (v, v_lies)];
        match q.dtype() {
            DType::F16 => self.run::<f16>(Dtype::F16, operands),
            DType::BF16 => self.run::<bf16>(Dtype::Bf16, operands),
            other => bail!("attention by tensor cores in {}", other.as_str()),
        }
    }
}

impl Kernel<'_> {
    fn run<T: CudaDType + DeviceRepr>(
        &self,
        dtype: Dtype,
        operands: [(&CudaStorage, &Layout); 3],
    ) -> Result<(CudaStorage, Shape)> {
        let [(q, q_lies), (k, k_lies), (v, v_lies)] = operands;
        let (device, stream) = (q.device().clone(), q.device().cuda_stream());
        let (batch, heads, queries, size) = q_lies.shape().dims4()?;
        let (_, shared, attended, _) = k_lies.shape().dims4()?;
        // SAFETY: the kernel writes all of it.
        let out = unsafe { device.alloc::<T>(batch * queries * heads * size)? };
        // A stream's own order is enough: nothing else works on these.
        let (out_at, writes) = out.device_ptr(&stream);
        let shape = AttentionShape {
            sequences: batch as u32,
            heads: heads as u32,
            key_heads: shared as u32,
            queries: queries as u32,
            positions: self.positions(attended, &stream)?,
            mask: match self.keys {
                Keys::All => AttentionMask::Full,
                Keys::UpToItself { .. } | Keys::Ragged(_) => AttentionMask::Causal,
            },
            scale: self.scale,
            q: strides(q_lies),
            k: strides(k_lies),
            v: strides(v_lies),
            out: Strides::by_position(heads as u32, queries as u32, size as u32),
        };
        let operands = Operands {
            q: address::<T>(q, q_lies, &stream)?,
            k: address::<T>(k, k_lies, &stream)?,
            v: address::<T>(v, v_lies, &stream)?,
            out: out_at,
        };
        let build = AttentionBuild::chosen((size as u32, dtype), card(&device)?, &shape);
        let text = text(build, card(&device)?.capability)?;
        let function = device.get_or_load_custom_func(&build.name(), &build.name(), &text)?;
        // SAFETY: layouts are within their storages, the results have room for every query, and positions lie within the
        // keys' buffers, as the cache has checked.
        unsafe { enqueue(&stream, (build, &function), operands, &shape) }.map_err(Error::wrap)?;
        drop(writes);
        let shape = Shape::from((batch, queries, heads, size));
        Ok((CudaStorage::wrap_cuda_slice(out, device), shape))
    }

    fn positions(&self, attended: usize, stream: &CudaStream) -> Result<Positions> {
        let uniform =
            |first: usize| Positions::Uniform { first: first as u32, keys: attended as u32 };
        Ok(match self.keys {
            Keys::All => uniform(0),
            Keys::UpToItself { before } => uniform(before),
            Keys::Ragged(pairs) => {
                let (storage, layout) = pairs.storage_and_layout();
                let Storage::Cuda(storage) = &*storage else {
                    bail!("positions of sequences on another device than their keys")
                };
                Positions::Ragged(address::<u32>(storage, layout, stream)?)
            }
        })
    }
}

/// How `[b, heads, positions, size]` lies.
fn strides(layout: &Layout) -> Strides {
    let stride = layout.stride();
    Strides { sequence: stride[0] as i64, head: stride[1] as i64, position: stride[2] as u32 }
}

/// Where a tensor begins.
fn address<T: CudaDType + DeviceRepr>(
    storage: &CudaStorage,
    layout: &Layout,
    stream: &CudaStream,
) -> Result<u64> {
    let slice: &CudaSlice<T> = storage.as_cuda_slice::<T>()?;
    let (at, _reads) = slice.device_ptr(stream);
    Ok(at + (layout.start_offset() * size_of::<T>()) as u64)
}

/// What of each card the kernel depends on, by its ordinal.
static CARDS: LazyLock<Mutex<HashMap<usize, Card>>> = LazyLock::new(Mutex::default);

fn card(device: &CudaDevice) -> Result<Card> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let mut cards = CARDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(card) = cards.get(&context.ordinal()) {
        return Ok(*card);
    }
    let ask = |what: Attribute| -> Result<u32> {
        let told = context.attribute(what);
        told.map(i32::unsigned_abs).map_err(|error| Error::msg(warpmark_device::describe(&error)))
    };
    let card = Card {
        capability: (
            ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?,
    };
    cards.insert(context.ordinal(), card);
    Ok(card)
}

/// What NVRTC made of a build, for a compute capability; or its refusal.
type Texts = HashMap<(AttentionBuild, (u32, u32)), std::result::Result<String, String>>;

static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

/// The build's PTX; candle loads it once.
fn text(build: AttentionBuild, capability: (u32, u32)) -> Result<String> {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = texts.entry((build, capability)).or_insert_with(|| {
        warpmark_cuda::ptx(FILE, &build.source(), capability).map_err(|error| error.to_string())
    });
    found.clone().map_err(Error::msg)
}
