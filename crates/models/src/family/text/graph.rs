//! Decode of our own nets as one CUDA graph a token: what candle launches for a step is captured once and replayed.
//!
//! Nothing of a captured step may depend on a number of the host's, or a replay would silently compute an earlier step
//! again: tokens and positions are tensors, which the step itself moves on, and every position of the cache is in view.
//! Each check follows a whole window of replays beside steps that are launched one by one, and then a second prompt.

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;
use warpmark_record::agreement::relative_error;

use super::check::check;
use super::engine::{TextEngine, build};
use super::lm::{Memory as _, OnDeviceLm};
use super::parts::Parts;
use super::steps::CHECKED_STEPS;
use super::work::{FILL, Numbers};
use super::{Case, Implementation, Inputs, Phase, WINDOW, planned};
use crate::bench::{
    BenchContext, Comparison, Engine, Engines, Notes, Plan, Planned, PlannedGroup, Program,
};
use crate::catalog::{CatalogError, Model};
use crate::engine::{GRAPH, Replay, compiled_kernels, workload_error};
use crate::options::RunOptions;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;
use warpmark_nets::kv_cache::Cache;

/// Steps of the window whose replay is held against the same step launched one by one.
const COMPARED: [usize; 3] = [0, WINDOW / 2, WINDOW - 1];

/// The decode benchmarks of a model that suit the options, a group for each format that is not quantised; none without
/// a GPU and candle's kernels for it.
pub(in crate::family) fn groups<N: OnDeviceLm>(
    model: &Model,
    numbers: &Numbers,
    options: &RunOptions,
    implementation: &'static Implementation<N>,
) -> Result<Vec<PlannedGroup>, CatalogError> {
    let mut groups = Vec::new();
    if options.spec.gpu.is_none() || compiled_kernels().is_none() {
        return Ok(groups);
    }
    let inputs = Inputs::of(model, numbers.context)?;
    let mut cases = inputs.cases(model, options);
    cases.retain(|case| case.phase == Phase::Decode);
    let positions = inputs.longest();
    for format in options.formats(model).into_iter().filter(|format| format.plain().is_some()) {
        let weights = super::work::weight_bytes(numbers, format.compute());
        let plan = Plan { model, options, format, weights };
        let all: Vec<Planned<Case>> =
            cases.iter().map(|&case| planned(&plan, numbers, case, implementation)).collect();
        let (model, numbers) = (model.clone(), *numbers);
        groups.extend(plan.group(all, move |opened| {
            let program = (numbers, implementation);
            let (net, info, reference) = build(&model, positions, program, opened)?;
            Ok(Engines::of(GRAPH, Replayed(TextEngine::new(net, info, reference))))
        })?);
    }
    Ok(groups)
}

/// The engine: that of the net, whose prompts it reads, with its decoding captured.
struct Replayed<N: OnDeviceLm>(TextEngine<N>);

impl<N: OnDeviceLm> Engine for Replayed<N> {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        self.0.host_memory(case)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let filled = self.0.fill(case.batch, case.length).map_err(workload_error)?;
        let (tokens, memory, net, info, reference) = self.0.lent(filled);
        let parts = Parts { net, info, context: bench.context, reference, case };
        let step = Step::new(parts.net, &tokens, case.length).map_err(workload_error)?;
        Ok(Box::new(Decode::new(parts, memory, step)?))
    }
}

/// What a captured step reads and writes, which stays where it is.
struct Step {
    /// After the prompts: what is fed first, and where.
    first: (Tensor, Tensor),
    /// The tokens that are fed, and their positions, `[batch]` of u32.
    tokens: Tensor,
    positions: Tensor,
    ones: Tensor,
    /// `[batch, vocabulary]`, of the last step; made by the first.
    logits: Option<Tensor>,
}

impl Step {
    fn new<N: OnDeviceLm>(net: &N, tokens: &[u32], context: usize) -> Result<Self, NetError> {
        let device = net.device();
        let make = |values: Vec<u32>| Tensor::new(values, device);
        let positions = vec![context as u32; tokens.len()];
        Ok(Self {
            first: (make(tokens.to_vec())?, make(positions.clone())?),
            tokens: make(tokens.to_vec())?,
            positions: make(positions)?,
            ones: make(vec![1; tokens.len()])?,
            logits: None,
        })
    }

    /// What is captured: everything on the device, and nothing but copies into what stays is left of it.
    fn run<N: OnDeviceLm>(&mut self, net: &N, cache: &Cache) -> Result<(), NetError> {
        let logits = net.decode_on_device(&self.tokens, &self.positions, cache)?;
        match &self.logits {
            Some(kept) => kept.slice_set(&logits, 0, 0)?,
            None => self.logits = Some(logits.copy()?),
        }
        self.tokens.slice_set(&argmax(&logits)?, 0, 0)?;
        Ok(self.positions.slice_set(&(&self.positions + &self.ones)?, 0, 0)?)
    }

    fn go_back(&self) -> Result<(), NetError> {
        let (tokens, positions) = &self.first;
        self.tokens.slice_set(tokens, 0, 0)?;
        Ok(self.positions.slice_set(positions, 0, 0)?)
    }

    /// To the first position of the window, with whatever token comes next.
    fn rewind(&self) -> Result<(), NetError> {
        Ok(self.positions.slice_set(&self.first.1, 0, 0)?)
    }
}

/// Writing: one iteration is one launch of the graph, a token of every sequence.
struct Decode<'a, N: OnDeviceLm> {
    parts: Parts<'a, N>,
    memory: &'a mut Cache,
    step: Step,
    replay: Replay,
    /// Steps since the window's first position.
    done: usize,
}

impl<'a, N: OnDeviceLm> Decode<'a, N> {
    fn new(
        parts: Parts<'a, N>,
        memory: &'a mut Cache,
        mut step: Step,
    ) -> Result<Self, WorkloadError> {
        let net = parts.net;
        let replay = Replay::of(net.device(), || {
            // Each of these goes one position on, and all lie in the window.
            step.run(net, memory).map_err(workload_error)
        })?;
        step.go_back().map_err(workload_error)?;
        Ok(Self { parts, memory, step, replay, done: 0 })
    }

    fn go_back(&mut self) -> Result<(), WorkloadError> {
        self.done = 0;
        self.step.go_back().map_err(workload_error)
    }

    fn logits(&self) -> Result<Tensor, NetError> {
        match &self.step.logits {
            Some(logits) => Ok(logits.copy()?),
            None => Err(NetError::Candle(candle_core::Error::msg("no step was captured"))),
        }
    }

    /// Replays the steps of a window from the prompts on: the logits after each, and the tokens fed to it.
    fn follow(&mut self, steps: usize) -> Result<Vec<(Tensor, Vec<u32>)>, WorkloadError> {
        self.go_back()?;
        let mut followed = Vec::with_capacity(steps);
        for _ in 0..steps {
            let fed = self.step.tokens.to_vec1().map_err(|error| workload_error(error.into()))?;
            self.launch()?;
            followed.push((self.logits().map_err(workload_error)?, fed));
        }
        Ok(followed)
    }

    /// How far the replays are off the same steps launched one by one, on the same tokens.
    fn against_launches(&mut self, followed: &[(Tensor, Vec<u32>)]) -> Result<Vec<f64>, NetError> {
        self.memory.rewind(self.parts.case.length);
        let mut errors = Vec::new();
        let flat = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        for (at, (replayed, fed)) in followed.iter().enumerate() {
            let tokens = Tensor::new(fed.as_slice(), self.parts.net.device())?.unsqueeze(1)?;
            let launched = self.parts.net.read(&tokens, self.memory)?;
            if COMPARED.contains(&at) {
                errors.push(relative_error(&flat(replayed)?, &flat(&launched)?));
            }
        }
        Ok(errors)
    }

    /// Lets the sequences from `first` on read their prompts in place of those that are there.
    fn read(&mut self, first: usize) -> Result<(), NetError> {
        let Case { batch, length, .. } = self.parts.case;
        let (net, info) = (self.parts.net, self.parts.info);
        let mut tokens = Vec::with_capacity(batch);
        while tokens.len() < batch {
            let count = FILL.min(batch - tokens.len());
            let mut part = net.memory(count, length + WINDOW)?;
            let prompts = info.prompts(first + tokens.len(), count, length, net.device())?;
            let logits = net.read(&prompts, &mut part)?;
            self.memory.take_over(tokens.len(), &part, count)?;
            tokens.extend(argmax(&logits)?.to_vec1::<u32>()?);
        }
        let tokens = Tensor::new(tokens, net.device())?;
        Ok(self.step.first.0.slice_set(&tokens, 0, 0)?)
    }

    /// Holds the first steps against the plain net; `first` is the first sequence's number.
    fn check(
        &mut self,
        followed: &[(Tensor, Vec<u32>)],
        first: usize,
    ) -> Result<Comparison, WorkloadError> {
        let checked = &followed[..CHECKED_STEPS];
        let logits: Vec<Tensor> = checked.iter().map(|(logits, _)| logits.clone()).collect();
        let Parts { info, reference, case, .. } = &mut self.parts;
        check(reference, info.format, &logits, |sequence| {
            let mut tokens = info.prompt(first + sequence, case.length);
            tokens.extend(checked.iter().map(|(_, fed)| fed[sequence]));
            tokens
        })
    }
}

impl<N: OnDeviceLm> Program for Decode<'_, N> {
    fn notes(&self) -> Notes {
        let from = self.parts.case.length;
        let to = from + WINDOW - 1;
        let mut notes = self.parts.notes_of_net(&format!(
            "; then each sequence's own most likely tokens, at positions {from} to {to}"
        ));
        notes.fields.push(("graph_launches", 1_usize.into()));
        notes.fields.push(("kernels", self.replay.kernels().into()));
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.go_back()
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        if self.done == WINDOW {
            self.step.rewind().map_err(workload_error)?;
            self.done = 0;
        }
        self.done += 1;
        self.replay.launch()
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let followed = self.follow(WINDOW)?;
        let mut comparison = self.check(&followed, 0)?;
        let errors = self.against_launches(&followed).map_err(workload_error)?;
        comparison.errors.extend(errors);
        // A replay that kept anything of the first prompt gives itself away on another.
        let other = self.parts.case.batch;
        self.read(other).map_err(workload_error)?;
        let followed = self.follow(CHECKED_STEPS)?;
        let second = self.check(&followed, other)?;
        comparison.errors.extend(second.errors);
        comparison.tolerance = comparison.tolerance.min(second.tolerance);
        self.read(0).map_err(workload_error)?;
        self.go_back()?;
        comparison.what.push_str(
            "; replays also against the same steps launched one by one, at the first, a middle and the last \
             position, and once more after another prompt",
        );
        Ok(comparison)
    }
}
