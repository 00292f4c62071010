//! Where the high-water mark of held memory is read while a model runs.

use warpmark_device::{CudaDevice, Device, pool, resident};
use warpmark_record::{Bytes, Field, Memory};

/// The high-water mark of held memory.
///
/// Its figures are whole ones, not differences: what an earlier workload gave back may still be
/// resident and be used again, so that a difference would come out too small.
pub(crate) struct Marks {
    source: Source,
    /// Whether the mark begins with this workload, or why it does not.
    reset: Result<(), String>,
}

enum Source {
    /// The resident set of this process, everything it holds included.
    Host,
    /// The pool of a GPU, which candle shares.
    Pool(CudaDevice),
}

impl Marks {
    pub(crate) fn of(device: &Device) -> Self {
        match device {
            Device::Cpu(_) => Self::host(),
            Device::Cuda(device) => Self::new(Source::Pool(device.clone())),
        }
    }

    /// The marks of a workload on a CPU.
    pub(crate) fn host() -> Self {
        Self::new(Source::Host)
    }

    fn new(source: Source) -> Self {
        Self { source, reset: Err("no sample was begun".to_owned()) }
    }

    /// Starts the high-water mark anew.
    pub(crate) fn begin(&mut self) {
        self.reset = match &self.source {
            Source::Host => resident::reset_peak().map_err(|error| error.to_string()),
            Source::Pool(device) => device.reset_peak().map_err(|error| error.to_string()),
        };
    }

    /// The most that was held since then, beside what the weights alone hold.
    pub(crate) fn read(&self, weights: Bytes) -> Memory {
        let (method, peak) = match &self.source {
            Source::Host => (resident::METHOD, resident::peak()),
            Source::Pool(device) => (pool::METHOD, device.peak()),
        };
        let peak = match &self.reset {
            Ok(()) => peak,
            Err(reason) => {
                Field::absent(format!("the high-water mark could not be reset: {reason}"))
            }
        };
        Memory { method: method.to_owned(), weights: Field::Known(weights), peak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_was_never_reset_is_no_figure() {
        let memory = Marks::host().read(Bytes(1.0));
        assert_eq!(memory.weights, Field::Known(Bytes(1.0)));
        assert!(matches!(memory.peak, Field::Absent { absent } if absent.contains("no sample")));
    }
}
