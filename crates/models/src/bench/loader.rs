//! A model that is loaded once for all of its cases.

use warpmark_device::{CudaDevice, Device};
use warpmark_harness::{Context, PeakMemory};
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use crate::catalog::{Format, Model};
use crate::configuration;
use crate::engine::{candle_device, check_host_memory};
use crate::options::RunOptions;
use crate::weights::{Checkpoint, Loaded, WeightSpec};

/// Everything needed to load a model once the device is open.
pub(crate) struct Loader {
    pub(crate) model: Model,
    pub(crate) wanted: WeightSpec,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) format: Format,
    /// Bytes that the weights will take.
    pub(crate) weights: Bytes,
    pub(crate) options: RunOptions,
    /// Whether candle keeps the weights on the host, whatever the device: kernels of our own take them from there.
    pub(crate) on_host: bool,
}

/// Loaded weights, and what the benchmarks on them share.
pub(crate) struct Opened {
    pub(crate) loaded: Loaded,
    pub(crate) context: Context,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) options: RunOptions,
    /// The card that weights on the host are meant for.
    pub(crate) card: Option<CudaDevice>,
}

impl Loader {
    /// Finds the weights and loads them.
    pub(crate) fn load(self, device: &Device) -> Result<Opened, WorkloadError> {
        let Self { model, wanted, checkpoint, format, weights, options, on_host } = self;
        let card = match device {
            Device::Cuda(card) if on_host => Some(card.clone()),
            Device::Cuda(_) | Device::Cpu(_) => None,
        };
        let candle = match card {
            Some(_) => candle_core::Device::Cpu,
            None => candle_device(device)?,
        };
        if candle.is_cpu() {
            check_host_memory("the weights", weights)?;
        }
        let files = configuration::locate(&model, &wanted, &checkpoint, &options)?;
        let loaded = wanted.load(&checkpoint, &files, &candle)?;
        let held = (files.stamp(), loaded.held());
        let peak = PeakMemory::of(device);
        let context = Context::new(model.id.clone(), (format, options.seed), held, candle, peak);
        Ok(Opened { loaded, context, checkpoint, options, card })
    }
}
