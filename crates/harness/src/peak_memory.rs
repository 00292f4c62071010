//! Where the high-water mark of held memory is read while a model runs.

use warpmark_device::{CudaDevice, Device, Footprint, resident};
use warpmark_record::{Bytes, Field, Memory};

/// The high-water mark of held memory.
///
/// Its figures are whole ones, not differences: what an earlier workload gave back may still be
/// resident and be used again, so that a difference would come out too small.
pub enum PeakMemory {
    /// The resident set of this process, everything it holds included, and whether the mark begins
    /// with this workload, or why it does not.
    Host(Result<(), String>),
    /// The memory of a GPU, whose pool candle shares.
    Gpu(Box<Footprint>),
}

impl PeakMemory {
    /// The marks on a device on which the weights were just loaded.
    pub fn of(device: &Device) -> Self {
        match device {
            Device::Cpu(_) => Self::host(),
            Device::Cuda(device) => Self::of_card(device),
        }
    }

    /// The same of a card.
    pub fn of_card(device: &CudaDevice) -> Self {
        Self::Gpu(Box::new(Footprint::of(device)))
    }

    /// The marks of a workload on a CPU.
    pub fn host() -> Self {
        Self::Host(Err("no sample was begun".to_owned()))
    }

    /// Starts the high-water mark anew.
    pub fn begin(&mut self) {
        match self {
            Self::Host(reset) => {
                *reset = resident::reset_peak().map_err(|error| error.to_string());
            }
            Self::Gpu(footprint) => footprint.begin(),
        }
    }

    /// The most that was held since then, beside what the weights alone hold.
    pub fn read(&self, weights: Bytes) -> Memory {
        let weights = Field::Known(weights);
        let reset = match self {
            Self::Gpu(footprint) => return footprint.read(weights),
            Self::Host(reset) => reset,
        };
        let peak = match reset {
            Ok(()) => resident::peak(),
            Err(reason) => {
                Field::absent(format!("the high-water mark could not be reset: {reason}"))
            }
        };
        Memory { method: resident::METHOD.to_owned(), weights, peak, device: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_was_never_reset_is_no_figure() {
        let memory = PeakMemory::host().read(Bytes(1.0));
        assert_eq!(memory.weights, Field::Known(Bytes(1.0)));
        assert!(matches!(memory.peak, Field::Absent { absent } if absent.contains("no sample")));
    }
}
