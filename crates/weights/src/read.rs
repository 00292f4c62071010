//! Reading stored tensors onto a device, with the time of reading kept apart from the rest.
//!
//! On a CPU in the stored dtype the bytes are read straight into the tensor's own memory; in another
//! dtype they pass through a small staging buffer. For a GPU each tensor is staged whole, copied as it
//! is stored, and converted there. Either way the host never holds much more than the result.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use warpmark_measure::{Clock, WallClock};
use warpmark_record::Bytes;

use super::copies::Stored;
use super::element::{self, Element};
use super::{TensorSpec, WeightsError};
use crate::Dtype;

/// Bytes that one thread reads at a time.
const CHUNK: usize = 4 << 20;

/// Words of the staging buffer for conversion on the host: 16 MiB.
const STAGE: usize = 4 << 20;

/// Where an expected tensor is stored.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) spec: &'a TensorSpec,
    pub(super) stored: Stored<'a>,
}

/// Loads tensors one after the other and keeps the time.
pub(super) struct Reader<'a> {
    device: &'a Device,
    check: bool,
    /// Reused from tensor to tensor: fresh pages would cost as much as the copy.
    stage: Vec<u32>,
    clock: WallClock,
    /// Seconds spent on reading files.
    pub(super) read_s: f64,
    /// Seconds spent on converting and on copying to the device.
    pub(super) host_to_device_s: f64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(device: &'a Device, check: bool) -> Self {
        Self {
            device,
            check,
            stage: Vec::new(),
            clock: WallClock::default(),
            read_s: 0.0,
            host_to_device_s: 0.0,
        }
    }

    /// Loads one tensor as `target`.
    pub(super) fn load(
        &mut self,
        tensor: &Placed<'_>,
        target: Dtype,
    ) -> Result<Tensor, WeightsError> {
        match tensor.stored.dtype {
            Dtype::F32 => self.load_from::<f32>(tensor, target),
            Dtype::F16 => self.load_from::<f16>(tensor, target),
            Dtype::Bf16 => self.load_from::<bf16>(tensor, target),
        }
    }

    /// Waits until everything is on the device.
    pub(super) fn finish(&mut self) -> Result<(), WeightsError> {
        self.clock.start()?;
        let done = self.device.synchronize();
        self.host_to_device_s += self.clock.finish()?.wall.0;
        done.map_err(|source| WeightsError::Device {
            name: "the last tensors".to_owned(),
            bytes: Bytes(0.0),
            source: Box::new(source),
        })
    }

    fn load_from<S: Element>(
        &mut self,
        tensor: &Placed<'_>,
        target: Dtype,
    ) -> Result<Tensor, WeightsError> {
        if !self.device.is_cpu() {
            return self.stage_and_copy::<S>(tensor, target);
        }
        match target {
            _ if target == S::FORMAT => self.read_in_place::<S>(tensor),
            Dtype::F32 => self.read_and_convert::<S, f32>(tensor),
            Dtype::F16 => self.read_and_convert::<S, f16>(tensor),
            Dtype::Bf16 => self.read_and_convert::<S, bf16>(tensor),
        }
    }

    fn read_in_place<T: Element>(&mut self, tensor: &Placed<'_>) -> Result<Tensor, WeightsError> {
        self.clock.start()?;
        let mut values = vec![T::default(); tensor.stored.elements];
        read(tensor, tensor.stored.offset, &mut values)?;
        self.read_s += self.clock.finish()?.wall.0;
        if self.check {
            check(&values, tensor, 0, T::FORMAT)?;
        }
        self.clock.start()?;
        let loaded = Tensor::from_vec(values, tensor.spec.shape.as_slice(), self.device);
        self.host_to_device_s += self.clock.finish()?.wall.0;
        loaded.map_err(|source| device_error(tensor, T::FORMAT, source))
    }

    fn read_and_convert<S: Element, T: Element>(
        &mut self,
        tensor: &Placed<'_>,
    ) -> Result<Tensor, WeightsError> {
        self.stage.resize(self.stage.len().max(STAGE), 0);
        self.clock.start()?;
        let mut values = vec![T::default(); tensor.stored.elements];
        self.host_to_device_s += self.clock.finish()?.wall.0;
        let chunk = STAGE * size_of::<u32>() / size_of::<S>();
        for (index, part) in values.chunks_mut(chunk).enumerate() {
            let first = index * chunk;
            self.clock.start()?;
            let stage = element::view_mut::<S>(&mut self.stage, part.len());
            read(tensor, tensor.stored.offset + (first * size_of::<S>()) as u64, stage)?;
            self.read_s += self.clock.finish()?.wall.0;
            if self.check {
                check(stage, tensor, first, T::FORMAT)?;
            }
            self.clock.start()?;
            element::convert(stage, part);
            self.host_to_device_s += self.clock.finish()?.wall.0;
        }
        Tensor::from_vec(values, tensor.spec.shape.as_slice(), self.device)
            .map_err(|source| device_error(tensor, T::FORMAT, source))
    }

    fn stage_and_copy<S: Element>(
        &mut self,
        tensor: &Placed<'_>,
        target: Dtype,
    ) -> Result<Tensor, WeightsError> {
        let words = (tensor.stored.elements * size_of::<S>()).div_ceil(size_of::<u32>());
        self.clock.start()?;
        self.stage.resize(self.stage.len().max(words), 0);
        let stage = element::view_mut::<S>(&mut self.stage, tensor.stored.elements);
        read(tensor, tensor.stored.offset, stage)?;
        self.read_s += self.clock.finish()?.wall.0;
        if self.check {
            check(stage, tensor, 0, target)?;
        }
        self.clock.start()?;
        let stored = element::view::<S>(&self.stage, tensor.stored.elements);
        let loaded = copy(stored, tensor, target.candle(), self.device);
        self.host_to_device_s += self.clock.finish()?.wall.0;
        loaded.map_err(|source| device_error(tensor, target, source))
    }
}

/// Copies a staged tensor to the device and converts it there. The copy has left the staging buffer
/// when this returns, because memory that is not page-locked is copied by the driver before it does.
fn copy<S: Element>(
    stored: &[S],
    tensor: &Placed<'_>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor, candle_core::Error> {
    Tensor::from_slice(stored, tensor.spec.shape.as_slice(), device)?.to_dtype(dtype)
}

/// Fills `values` from the file on all threads.
fn read<T: Element>(
    tensor: &Placed<'_>,
    offset: u64,
    values: &mut [T],
) -> Result<(), WeightsError> {
    fill(tensor.stored.file, tensor.stored.path, offset, element::bytes_of_mut(values))
}

/// Fills bytes from a file on all threads.
pub(super) fn fill(
    file: &File,
    path: &Path,
    offset: u64,
    bytes: &mut [u8],
) -> Result<(), WeightsError> {
    bytes
        .par_chunks_mut(CHUNK)
        .enumerate()
        .try_for_each(|(index, chunk)| read_chunk(file, chunk, offset + (index * CHUNK) as u64))
        .map_err(WeightsError::io("read", path))
}

fn read_chunk(file: &File, chunk: &mut [u8], offset: u64) -> std::io::Result<()> {
    file.read_exact_at(chunk, offset)
}

/// Looks for a weight that is not finite or does not fit `target`; `first` is the place of
/// `values[0]` in the tensor.
fn check<S: Element>(
    values: &[S],
    tensor: &Placed<'_>,
    first: usize,
    target: Dtype,
) -> Result<(), WeightsError> {
    let Some((index, value)) = element::unfit(values, target) else { return Ok(()) };
    let (name, path) = (tensor.spec.name.clone(), tensor.stored.path.to_owned());
    let index = first + index;
    Err(if value.is_finite() {
        WeightsError::Overflow { name, path, index, value, dtype: target }
    } else {
        WeightsError::NotFinite { name, path, index, value }
    })
}

fn device_error(tensor: &Placed<'_>, dtype: Dtype, source: candle_core::Error) -> WeightsError {
    WeightsError::Device {
        name: tensor.spec.name.clone(),
        bytes: Bytes::from_count(tensor.stored.elements * dtype.bytes()),
        source: Box::new(source),
    }
}
