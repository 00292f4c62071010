//! Whether a context can still be used.

use crate::CudaDevice;
use crate::code::CudaError;

impl CudaDevice {
    /// Waits for everything that was launched, and says whether the context still answers.
    ///
    /// An illegal address, an uncorrectable memory error or a lost device leave a context that answers
    /// every later call with the same error; only a new process gets another one. Errors that cudarc
    /// noted while things were dropped are forgotten here.
    ///
    /// # Errors
    /// What the context answers from now on.
    pub fn still_works(&self) -> Result<(), CudaError> {
        // Otherwise the next call would answer with the error of a drop before it.
        let _ = self.context.check_err();
        self.context.synchronize().map_err(CudaError::of("cuCtxSynchronize"))
    }
}
