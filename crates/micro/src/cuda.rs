//! What the GPU benchmarks share beside `warpmark-cuda`: filled buffers, gates, timers, contests.

pub(crate) mod blocking;
pub(crate) mod contest;
pub(crate) mod sum;
pub(crate) mod timer;

use std::ffi::c_void;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_cuda::Geometry;
pub(crate) use warpmark_cuda::{
    Buffer, Compiler, Graph, Library, Split, argument, function, multiprocessors, prefer, refused,
    required, wait,
};
use warpmark_measure::WorkloadError;

use crate::data::{Dtype, Stream};

/// Enqueues a kernel without allocating.
///
/// # Safety
/// As of [`warpmark_cuda::launch`].
pub(crate) unsafe fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    blocks: u32,
    threads: u32,
    arguments: &mut [*mut c_void],
) -> Result<(), WorkloadError> {
    // SAFETY: the caller's promise.
    unsafe { warpmark_cuda::launch(stream, function, Geometry::line(blocks, threads), arguments) }
}

/// The kernel that fills memory with numbers of each type; TF32 lies in memory as f32.
const FILLS: [(Dtype, &str); 7] = [
    (Dtype::F64, "fill_f64"),
    (Dtype::F32, "fill_f32"),
    (Dtype::Tf32, "fill_f32"),
    (Dtype::F16, "fill_f16"),
    (Dtype::Bf16, "fill_bf16"),
    (Dtype::Fp8, "fill_fp8"),
    (Dtype::Int8, "fill_int8"),
];

/// The kernels that fill buffers with random numbers.
pub(crate) struct Filler(Vec<(Dtype, CudaFunction)>);

impl Filler {
    /// Compiles `kernels/fill.cu` for the device.
    pub(crate) fn new(compiler: &Compiler) -> Result<Self, WorkloadError> {
        let source = include_str!("../../../kernels/fill.cu");
        let module = compiler.compile("fill.cu", source)?.module;
        let kernels = FILLS.map(|(dtype, name)| Ok((dtype, function(&module, name)?)));
        Ok(Self(kernels.into_iter().collect::<Result<_, WorkloadError>>()?))
    }

    /// Fills the whole buffer with the numbers of `numbers` as `dtype`.
    pub(crate) fn fill(
        &self,
        stream: &CudaStream,
        buffer: &mut Buffer,
        dtype: Dtype,
        numbers: Stream,
    ) -> Result<(), WorkloadError> {
        let elements = buffer.bytes() / dtype.size();
        self.fill_part(stream, buffer, 0, elements, dtype, numbers)
    }

    /// Fills `elements` elements from byte `offset` on with the first numbers of `numbers`.
    pub(crate) fn fill_part(
        &self,
        stream: &CudaStream,
        buffer: &mut Buffer,
        offset: usize,
        elements: usize,
        dtype: Dtype,
        numbers: Stream,
    ) -> Result<(), WorkloadError> {
        let end = offset + elements * dtype.size();
        let kernel = self.0.iter().find(|(filled, _)| *filled == dtype).map(|(_, kernel)| kernel);
        let Some(kernel) = kernel.filter(|_| end <= buffer.bytes()) else {
            return Err(WorkloadError::Failed(format!(
                "bytes {offset} to {end} of a buffer of {} cannot be filled with {}",
                buffer.bytes(),
                dtype.name()
            )));
        };
        let (address, elements) = (buffer.address + offset as u64, elements as u64);
        let mut arguments = [argument(&address), argument(&elements), argument(&numbers.key)];
        // SAFETY: the kernels take a pointer, a count and a key, and write `elements` elements of
        // `dtype`, for which there is room after the offset.
        unsafe { launch(stream, kernel, 1024, 256, &mut arguments) }
    }
}

#[cfg(test)]
mod tests {
    use warpmark_cuda::Target;

    /// Kernels that older architectures have no instructions for, with the first that has them; an
    /// engine refuses older cards before anything is compiled.
    const FIRST: &[(&str, u32)] = &[("attention.cu", 75)];

    /// Not run by default: NVRTC is a library of the CUDA toolkit, which a machine without a GPU
    /// usually lacks. With it: `cargo test -p warpmark-micro -- --ignored nvrtc`.
    #[test]
    #[ignore = "needs NVRTC, which cargo test must not require"]
    fn every_kernel_compiles_for_every_architecture_that_this_nvrtc_knows() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels");
        let mut sources: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "cu"))
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        assert!(sources.len() >= 7, "{}", sources.len());
        sources.extend(crate::memory::variants::sources());
        for arch in warpmark_cuda::known_architectures().unwrap() {
            for (name, source) in &sources {
                if FIRST.iter().any(|(newer, first)| newer == name && arch < *first) {
                    continue;
                }
                let cubin = warpmark_cuda::image(name, source, Target::Cubin(arch)).unwrap();
                assert!(cubin.starts_with(b"\x7fELF"), "{name} for sm_{arch}");
                let ptx = warpmark_cuda::image(name, source, Target::Ptx(arch)).unwrap();
                assert!(ptx.ends_with(b"\0"), "{name} for compute_{arch}");
            }
        }
    }
}
