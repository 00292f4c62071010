//! Sessions on made-up weights, for the tests of every family.

use warpmark_harness::{Case, ModelSession};
use warpmark_measure::Entry;
use warpmark_record::{BenchmarkId, Bytes, Seconds, WeightsStamp};

use super::{Context, Engines, Parameters, PeakMemory, estimate};
use crate::catalog::Format;

/// A session on made-up weights on the CPU.
pub(crate) fn on_cpu<C: Copy>(
    engines: Engines<C>,
    context: Context,
    cases: impl IntoIterator<Item = (Parameters, C)>,
) -> ModelSession<C> {
    let named = |(parameters, case): (Parameters, C)| Case {
        id: parameters.id(&context.model).unwrap(),
        parameters,
        of_family: case,
    };
    let cases = cases.into_iter().map(named).collect();
    ModelSession { engines, context, cases }
}

/// What the cases of a model share on the CPU, seed 7.
pub(crate) fn context(model: &str, format: Format, stamp: WeightsStamp) -> Context {
    let held = (stamp, Bytes(0.0));
    let device = candle_core::Device::Cpu;
    Context::new(model.to_owned(), (format, 7), held, device, PeakMemory::host())
}

/// An entry as a plan has it.
pub(crate) fn entry(id: BenchmarkId) -> Entry {
    Entry {
        id,
        sampling: estimate::sampling(false, Seconds(0.001)),
        iteration_estimate: Seconds(0.001),
        preparation_estimate: Seconds(0.0),
        memory_estimate: Bytes(0.0),
        sweep: None,
        skip: None,
    }
}
