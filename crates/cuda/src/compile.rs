//! Compiling kernels at run time by NVRTC, for the architecture of the device that is there.

use std::ffi::{CString, c_char, c_int};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaModule};
use cudarc::nvrtc::{Ptx, result, sys};
use warpmark_device::CudaDevice;
use warpmark_measure::WorkloadError;

use crate::refused;

/// NVRTC, and the device it compiles for.
pub struct Compiler {
    context: Arc<CudaContext>,
    target: Target,
}

/// A module on the device, and what it was compiled to.
pub struct Compiled {
    /// The module.
    pub module: Arc<CudaModule>,
    /// `sm_90 cubin` or `compute_90 ptx`.
    pub code: String,
}

/// What to compile to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Machine code: what runs is what this NVRTC made, whatever the driver's own compiler is.
    Cubin(u32),
    /// PTX, which the driver compiles on: for a card newer than this NVRTC.
    Ptx(u32),
}

impl Target {
    /// The best target for compute capability `wanted` (`90` for 9.0) among those NVRTC knows.
    fn choose(wanted: u32, known: &[u32]) -> Result<Self, WorkloadError> {
        if known.contains(&wanted) {
            return Ok(Self::Cubin(wanted));
        }
        let newest_older = known.iter().copied().filter(|&arch| arch < wanted).max();
        newest_older.map(Self::Ptx).ok_or_else(|| {
            WorkloadError::Unsupported(format!(
                "this NVRTC compiles for none of the architectures that compute capability {}.{} \
                 runs (it knows {known:?}); install the NVRTC of an older CUDA",
                wanted / 10,
                wanted % 10
            ))
        })
    }

    fn option(self) -> String {
        match self {
            Self::Cubin(arch) => format!("--gpu-architecture=sm_{arch}"),
            Self::Ptx(arch) => format!("--gpu-architecture=compute_{arch}"),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Cubin(arch) => format!("sm_{arch} cubin"),
            Self::Ptx(arch) => format!("compute_{arch} ptx"),
        }
    }
}

/// An NVRTC program, destroyed at the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and destroyed only here. A refusal leaks a few kilobytes;
        // cudarc's own type would panic instead.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

impl Compiler {
    /// NVRTC for `device`.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] where it compiles for nothing that the card runs. It has to be known that
    /// there is an NVRTC: see [`crate::required`].
    pub fn new(device: &CudaDevice) -> Result<Self, WorkloadError> {
        let gpu = device.spec.gpu.as_ref().ok_or_else(|| {
            WorkloadError::Failed("the GPU's specification has no compute capability".to_owned())
        })?;
        let (major, minor) = gpu.compute_capability;
        let target = Target::choose(major * 10 + minor, &known_architectures()?)?;
        Ok(Self { context: device.context.clone(), target })
    }

    /// Compiles the source and loads the module.
    ///
    /// # Errors
    /// NVRTC's refusal with its log, or the driver's.
    pub fn compile(&self, name: &str, source: &str) -> Result<Compiled, WorkloadError> {
        let image = image(name, source, self.target)?;
        let module = self
            .context
            .load_module(Ptx::from_binary(image))
            .map_err(refused(&format!("loading {name} as {}", self.target.name())))?;
        Ok(Compiled { module, code: self.target.name() })
    }
}

/// PTX of a source, for the newest architecture that a card of this compute capability runs: for who loads
/// modules by itself. Its driver has to be as new as this NVRTC.
///
/// # Errors
/// [`WorkloadError::Unsupported`] where NVRTC compiles for nothing that the card runs; NVRTC's refusal.
pub fn ptx(name: &str, source: &str, (major, minor): (u32, u32)) -> Result<String, WorkloadError> {
    let target = match Target::choose(major * 10 + minor, &known_architectures()?)? {
        Target::Cubin(arch) | Target::Ptx(arch) => Target::Ptx(arch),
    };
    let text = String::from_utf8(image(name, source, target)?).map_err(WorkloadError::failed)?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// The architectures that this NVRTC compiles for, as `90` for 9.0.
///
/// # Errors
/// NVRTC's refusal.
pub fn known_architectures() -> Result<Vec<u32>, WorkloadError> {
    let mut count: c_int = 0;
    // SAFETY: writes one integer.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }
        .result()
        .map_err(nvrtc("nvrtcGetNumSupportedArchs"))?;
    let mut known: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: writes as many integers as it said there are.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }
        .result()
        .map_err(nvrtc("nvrtcGetSupportedArchs"))?;
    Ok(known.into_iter().filter_map(|arch| u32::try_from(arch).ok()).collect())
}

/// The module's image: a cubin, or PTX with its final zero byte.
///
/// # Errors
/// NVRTC's refusal, with its log.
pub fn image(name: &str, source: &str, target: Target) -> Result<Vec<u8>, WorkloadError> {
    let text = CString::new(source).map_err(WorkloadError::failed)?;
    let title = CString::new(name).map_err(WorkloadError::failed)?;
    let program =
        Program(result::create_program(&text, Some(&title)).map_err(nvrtc("nvrtcCreateProgram"))?);
    let options = [target.option(), "--std=c++17".to_owned()];
    // SAFETY: the program is alive; the options have no zero bytes.
    unsafe { result::compile_program(program.0, &options) }.map_err(|error| {
        WorkloadError::Failed(format!(
            "NVRTC could not compile {name} with {options:?} (code {}):\n{}",
            error.0 as u32,
            log(&program)
        ))
    })?;
    match target {
        Target::Ptx(_) => {
            // SAFETY: the program is alive and was compiled.
            let ptx = unsafe { result::get_ptx(program.0) }.map_err(nvrtc("nvrtcGetPTX"))?;
            Ok(ptx.into_iter().flat_map(c_char::to_ne_bytes).collect())
        }
        Target::Cubin(_) => cubin(&program),
    }
}

fn cubin(program: &Program) -> Result<Vec<u8>, WorkloadError> {
    let mut size = 0;
    // SAFETY: the program is alive and was compiled; writes one size.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }
        .result()
        .map_err(nvrtc("nvrtcGetCUBINSize"))?;
    let mut image = vec![0_u8; size];
    // SAFETY: writes as many bytes as it said there are.
    unsafe { sys::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()) }
        .result()
        .map_err(nvrtc("nvrtcGetCUBIN"))?;
    Ok(image)
}

fn log(program: &Program) -> String {
    // SAFETY: the program is alive.
    match unsafe { result::get_program_log(program.0) } {
        Ok(text) => {
            let bytes: Vec<u8> = text.into_iter().flat_map(c_char::to_ne_bytes).collect();
            String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
        }
        Err(_) => "(it gave no log either)".to_owned(),
    }
}

/// NVRTC's refusal by number: its text is made from an enum that a newer NVRTC can step out of.
fn nvrtc(call: &str) -> impl Fn(result::NvrtcError) -> WorkloadError {
    move |error| WorkloadError::Failed(format!("{call} answered code {}", error.0 as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NVRTC_13: &[u32] = &[75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121];

    #[test]
    fn a_known_architecture_gets_machine_code() {
        assert_eq!(Target::choose(90, NVRTC_13).unwrap(), Target::Cubin(90));
        assert_eq!(Target::choose(75, NVRTC_13).unwrap().option(), "--gpu-architecture=sm_75");
    }

    #[test]
    fn a_card_newer_than_nvrtc_gets_ptx_of_the_newest_it_knows() {
        assert_eq!(Target::choose(130, NVRTC_13).unwrap(), Target::Ptx(121));
        assert_eq!(Target::choose(130, NVRTC_13).unwrap().name(), "compute_121 ptx");
    }

    #[test]
    fn a_card_that_nvrtc_gave_up_is_unsupported_with_the_way_out() {
        let Err(WorkloadError::Unsupported(reason)) = Target::choose(70, NVRTC_13) else {
            panic!("a V100 cannot be compiled for by NVRTC 13");
        };
        assert!(reason.contains("7.0") && reason.contains("older CUDA"), "{reason}");
    }
}
