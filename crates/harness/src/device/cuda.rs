//! candle's CUDA backend: in a build with the feature `cuda`.

use std::collections::BTreeMap;

use candle_core::cuda_backend::{
    gemm_reduced_precision_bf16, gemm_reduced_precision_f16, gemm_reduced_precision_f32, kernels,
    set_gemm_reduced_precision_bf16, set_gemm_reduced_precision_f16,
    set_gemm_reduced_precision_f32,
};
use warpmark_cuda::Graph;
use warpmark_device::target::{Card, CodeKind, Kernels};
use warpmark_measure::WorkloadError;

/// candle's device on the primary context that is open already.
pub(super) fn device(ordinal: usize) -> Result<candle_core::Device, WorkloadError> {
    settle_precision();
    let device = candle_core::Device::new_cuda(ordinal).map_err(WorkloadError::failed)?;
    if let candle_core::Device::Cuda(cuda) = &device {
        // Every allocation would make two events otherwise, at a cost of microseconds each.
        // SAFETY: without events nothing orders work on different streams; all of it goes to the one
        // stream of the one thread, as the documentation of `candle_device` demands. No tensor is
        // allocated before this.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

/// The error that candle's context keeps for the next call, if there is one.
pub(super) fn check_sticky_error(device: &candle_core::Device) -> Result<(), String> {
    let candle_core::Device::Cuda(cuda) = device else { return Ok(()) };
    cuda.cuda_stream().context().check_err().map_err(|error| warpmark_device::describe(&error))
}

/// What candle's kernels were compiled for, as the kernels themselves say it: the variable that chose it
/// at build time may have another value by now.
pub(super) fn compiled() -> Option<Result<Kernels, String>> {
    Some(Kernels::of_ptx(kernels::AFFINE.ptx()))
}

/// What candle launches for a step of fixed shape, captured once and launched again as a whole.
pub struct Replay {
    graph: Graph,
    kernels: usize,
}

/// Steps before the one that is captured: kernels are loaded, workspaces taken, shapes and strides uploaded.
const WARM: usize = 2;

impl Replay {
    /// Runs a step and captures it. What it reads and writes beside memory of its own has to live as long as this and
    /// stay where it is; nothing that is on the host may change from one step to the next.
    ///
    /// # Errors
    /// Those of the step; what no capture takes, such as a copy to the host.
    pub fn of(
        device: &candle_core::Device,
        mut step: impl FnMut() -> Result<(), WorkloadError>,
    ) -> Result<Self, WorkloadError> {
        let candle_core::Device::Cuda(cuda) = device else {
            return Err(WorkloadError::Unsupported("graphs are captured on a GPU only".to_owned()));
        };
        // Meanwhile candle keeps the shapes and strides that its kernels read, and never lets go of them.
        let keeping = cuda.enable_cuda_graph_htod_cache();
        (0..WARM).try_for_each(|_| step())?;
        let stream = cuda.cuda_stream();
        warpmark_cuda::wait(&stream)?;
        let graph = Graph::capture(&stream, step)?;
        drop(keeping);
        // What was dropped meanwhile and could not be freed is noted in the context alone.
        check_sticky_error(device).map_err(WorkloadError::Failed)?;
        graph.upload()?;
        let kernels = graph.kernels()?;
        Ok(Self { graph, kernels })
    }

    /// Kernels of a step.
    pub fn kernels(&self) -> usize {
        self.kernels
    }

    /// Enqueues a step.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn launch(&self) -> Result<(), WorkloadError> {
        self.graph.launch()
    }
}

/// Why the kernels of this build cannot run on a card.
pub(super) fn refusal(card: Card<'_>, form: CodeKind) -> Option<String> {
    match compiled()? {
        Ok(kernels) => kernels.refusal(card, form),
        Err(error) => Some(format!("candle's kernels in this build cannot be recognised: {error}")),
    }
}

/// Products are summed in f32 whatever the operands, and f32 operands are not cut to TF32. These are
/// candle's own defaults, set all the same: the flags are the whole process's.
fn settle_precision() {
    set_gemm_reduced_precision_f16(false);
    set_gemm_reduced_precision_bf16(false);
    set_gemm_reduced_precision_f32(false);
}

/// How candle is set up, as its own getters answer.
pub(super) fn settings() -> BTreeMap<String, String> {
    settle_precision();
    let sums = |reduced| if reduced { "reduced precision" } else { "f32" };
    let f32 = if gemm_reduced_precision_f32() { "tf32" } else { "f32" };
    let flags = [
        ("candle_gemm_f16_sums", sums(gemm_reduced_precision_f16())),
        ("candle_gemm_bf16_sums", sums(gemm_reduced_precision_bf16())),
        ("candle_gemm_f32_operands", f32),
    ];
    flags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
