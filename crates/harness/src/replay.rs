//! Passes of fixed shape that are captured once and replayed.

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_nets::NetError;
use warpmark_record::agreement::relative_error;

use crate::check::Comparison;
use crate::device::{Replay, workload_error};
use crate::engine::{Notes, Program};

/// A program whose iteration is one pass over tensors that stay where they are.
pub trait FixedPass: Program {
    /// The pass; nothing of it may depend on a number of the host's that changes.
    ///
    /// # Errors
    /// The net's.
    fn pass(&self) -> Result<Tensor, NetError>;

    /// Holds an answer of the pass against the reference.
    ///
    /// # Errors
    /// The reference's.
    fn judge(&self, answer: &Tensor) -> Result<Comparison, WorkloadError>;

    /// What it reads that is another in another run, in one piece.
    fn input(&self) -> &Tensor;
}

/// Such a pass as one CUDA graph.
pub struct ReplayedPass<P> {
    program: P,
    replay: Replay,
    /// What the last replay answered.
    answer: Tensor,
}

impl<P: FixedPass> ReplayedPass<P> {
    /// Captures the pass.
    ///
    /// # Errors
    /// Those of the pass and of [`Replay::of`].
    pub fn new(program: P) -> Result<Self, WorkloadError> {
        let first = program.pass().map_err(workload_error)?;
        let answer = first.copy().map_err(|error| workload_error(error.into()))?;
        let replay = Replay::of(answer.device(), || {
            let pass = || -> Result<(), NetError> {
                Ok(answer.slice_set(&program.pass()?.contiguous()?, 0, 0)?)
            };
            pass().map_err(workload_error)
        })?;
        Ok(Self { program, replay, answer })
    }

    fn replayed(&self) -> Result<Tensor, WorkloadError> {
        self.replay.launch()?;
        self.answer.copy().map_err(|error| workload_error(error.into()))
    }

    /// How far a replay is off the same pass launched kernel by kernel.
    fn off(&self) -> Result<(Tensor, f64), WorkloadError> {
        let replayed = self.replayed()?;
        let launched = self.program.pass().map_err(workload_error)?;
        let flat = |x: &Tensor| -> Result<Vec<f32>, WorkloadError> {
            let flat = x.to_dtype(DType::F32).and_then(|x| x.flatten_all()?.to_vec1());
            flat.map_err(|error| workload_error(error.into()))
        };
        let error = relative_error(&flat(&replayed)?, &flat(&launched)?);
        Ok((replayed, error))
    }

    /// The same on another input, which is put back.
    fn off_on_another(&self) -> Result<f64, WorkloadError> {
        let input = self.program.input();
        let kept = input.copy().map_err(|error| workload_error(error.into()))?;
        let replace = |by: candle_core::Result<Tensor>| {
            by.and_then(|by| input.slice_set(&by, 0, 0))
                .map_err(|error| workload_error(error.into()))
        };
        replace(kept.affine(-0.5, 0.0))?;
        let off = self.off();
        replace(Ok(kept))?;
        Ok(off?.1)
    }
}

impl<P: FixedPass> Program for ReplayedPass<P> {
    fn notes(&self) -> Notes {
        let mut notes = self.program.notes();
        notes.fields.push(("graph_launches", 1_usize.into()));
        notes.fields.push(("kernels", self.replay.kernels().into()));
        notes
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.replay.launch()
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let (answer, error) = self.off()?;
        let mut comparison = self.program.judge(&answer)?;
        // A replay that kept anything of its first input gives itself away on another.
        comparison.errors.extend([error, self.off_on_another()?]);
        comparison
            .what
            .push_str("; replays also against the same pass launched kernel by kernel, on this input and another");
        Ok(comparison)
    }
}
