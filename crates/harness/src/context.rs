//! What the benchmarks of a loaded model share.

use std::cell::RefCell;
use std::rc::Rc;

use warpmark_device::CudaDevice;
use warpmark_measure::WorkloadError;
use warpmark_nets::NetError;
use warpmark_record::{BenchmarkId, Bytes, Memory, WeightsStamp};

use crate::device::workload_error;
use crate::input_cache::InputCache;
use crate::parameters::Parameters;
use crate::peak_memory::PeakMemory;
use warpmark_weights::{Dtype, Format};

/// What the benchmarks of a loaded model share.
pub struct Context {
    /// The model's id.
    pub model: String,
    /// The format of its weights.
    pub format: Format,
    /// The seed of inputs.
    pub seed: u64,
    /// Where its weights came from.
    pub stamp: WeightsStamp,
    /// Bytes that they hold.
    pub weights: Bytes,
    /// Where they are.
    pub device: candle_core::Device,
    /// The card that kernels of our own run on, while candle has the weights on the host.
    pub card: Option<CudaDevice>,
    pub(super) inputs: InputCache,
    pub(super) peak: RefCell<PeakMemory>,
}

impl Context {
    /// The same of weights that are loaded.
    pub fn new(
        model: String,
        (format, seed): (Format, u64),
        (stamp, weights): (WeightsStamp, Bytes),
        device: candle_core::Device,
        peak: PeakMemory,
    ) -> Self {
        let inputs = InputCache::default();
        let peak = RefCell::new(peak);
        Self { model, format, seed, stamp, weights, device, card: None, inputs, peak }
    }

    /// The same where kernels of our own run on a card, on which the weights, of so many bytes, are by now.
    pub fn on_card(&mut self, card: CudaDevice, weights: Bytes) {
        self.weights = weights;
        self.peak = RefCell::new(PeakMemory::of_card(&card));
        self.card = Some(card);
    }

    /// The numbers of activations.
    pub fn dtype(&self) -> Dtype {
        self.format.compute()
    }

    /// Whether the weights are trained ones, whose answers mean something.
    pub fn is_real(&self) -> bool {
        !matches!(self.stamp, WeightsStamp::Synthetic { .. })
    }

    /// Waits until everything launched is done.
    pub fn wait(&self) -> Result<(), WorkloadError> {
        if let Some(card) = &self.card {
            let waited = card.stream.synchronize();
            return waited.map_err(|error| {
                let what = warpmark_device::describe(&error);
                WorkloadError::Failed(format!("waiting for the device: {what}"))
            });
        }
        self.device.synchronize().map_err(|error| workload_error(error.into()))
    }

    /// Starts the high-water mark of memory anew.
    pub fn begin_peak(&self) {
        self.peak.borrow_mut().begin();
    }

    /// The most that was held since then.
    pub fn memory(&self) -> Memory {
        self.peak.borrow().read(self.weights)
    }

    /// What a CPU does with this format that a reader should know.
    pub fn widened(&self) -> Option<String> {
        let dtype = self.format.plain().filter(|dtype| *dtype != Dtype::F32)?;
        (self.device.is_cpu() && self.card.is_none())
            .then(|| format!("on this CPU, {dtype} is widened to f32 to be multiplied"))
    }
}

/// One benchmark of a loaded model.
#[derive(Clone, Copy)]
pub struct BenchContext<'a> {
    /// What it shares with the others.
    pub context: &'a Context,
    /// Its id.
    pub id: &'a BenchmarkId,
    /// What id and fields follow from.
    pub parameters: &'a Parameters,
}

impl BenchContext<'_> {
    /// What the benchmark is fed: what was kept for it, or what is made now.
    pub fn fed<T: 'static>(
        &self,
        make: impl FnOnce() -> Result<T, NetError>,
    ) -> Result<Rc<T>, NetError> {
        self.or_make(make)
    }

    /// The same of what may fail otherwise.
    pub fn or_make<T: 'static, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
        self.context.inputs.or_make(self.id, make)
    }
}
