//! A model that is loaded once, and its cases as workloads.

use std::collections::BTreeMap;

use warpmark_measure::{Description, Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use crate::context::{BenchContext, Context};
use crate::device::{check_host_memory, check_sticky_error};
use crate::engine::{Engine, Program};
use crate::parameters::Parameters;

type Build<C> = Box<dyn FnOnce() -> Result<Box<dyn Engine<Case = C>>, WorkloadError>>;

/// The engines of a loaded model, each built for the first case that asks for it.
pub struct Engines<C>(Vec<(&'static str, Slot<C>)>);

enum Slot<C> {
    Unbuilt(Option<Build<C>>),
    Built(Box<dyn Engine<Case = C>>),
}

impl<C> Engines<C> {
    /// One that is built already.
    pub fn of(name: &'static str, engine: impl Engine<Case = C> + 'static) -> Self {
        Self(vec![(name, Slot::Built(Box::new(engine)))])
    }

    /// With another that is built when a case first asks for it.
    #[must_use]
    pub fn or<E: Engine<Case = C> + 'static>(
        mut self,
        name: &'static str,
        build: impl FnOnce() -> Result<E, WorkloadError> + 'static,
    ) -> Self {
        let build: Build<C> = Box::new(move || Ok(Box::new(build()?)));
        self.0.push((name, Slot::Unbuilt(Some(build))));
        self
    }

    fn get(&mut self, name: &str) -> Result<&mut dyn Engine<Case = C>, WorkloadError> {
        let slot = self.0.iter_mut().find(|(known, _)| *known == name);
        let (_, slot) =
            slot.ok_or_else(|| WorkloadError::Failed(format!("there is no engine {name}")))?;
        if let Slot::Unbuilt(build) = slot {
            let build = build.take().ok_or_else(|| {
                WorkloadError::Failed(format!("the engine {name} could not be built"))
            })?;
            *slot = Slot::Built(build()?);
        }
        match slot {
            Slot::Built(engine) => Ok(engine.as_mut()),
            Slot::Unbuilt(_) => Err(WorkloadError::Failed(format!("the engine {name} is gone"))),
        }
    }
}

/// A case of a group, by its id.
pub struct Case<C> {
    /// Its id.
    pub id: BenchmarkId,
    /// What id and fields follow from.
    pub parameters: Parameters,
    /// What its family's engines are asked for.
    pub of_family: C,
}

/// A loaded model, from which the workloads of its cases are made.
pub struct ModelSession<C> {
    /// What runs the cases.
    pub engines: Engines<C>,
    /// What the cases share.
    pub context: Context,
    /// The cases.
    pub cases: Vec<Case<C>>,
}

impl<C: Copy> Session for ModelSession<C> {
    fn check_sticky_error(&mut self) -> Result<(), WorkloadError> {
        check_sticky_error(&self.context.device)
    }

    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let Self { engines, context, cases } = self;
        let known = cases.iter().find(|known| known.id == entry.id).ok_or_else(|| {
            let model = &context.model;
            WorkloadError::Failed(format!("{} is not a benchmark of {model}", entry.id))
        })?;
        let engine = engines.get(known.parameters.engine())?;
        if context.device.is_cpu() && context.card.is_none() {
            let needed = engine.host_memory(known.of_family);
            check_host_memory(&format!("the caches and activations of {}", known.id), needed)?;
        }
        let bench = BenchContext { context, id: &known.id, parameters: &known.parameters };
        let program = engine.prepare(known.of_family, bench)?;
        Ok(Box::new(Measured { bench, program }))
    }

    fn keep_inputs(&mut self) {
        self.context.inputs.begin();
    }
}

/// A prepared case as a workload.
struct Measured<'a> {
    bench: BenchContext<'a>,
    program: Box<dyn Program + 'a>,
}

impl Workload for Measured<'_> {
    fn describe(&self) -> Description {
        let BenchContext { context, id, parameters } = self.bench;
        let notes = self.program.notes();
        let mut fields = parameters.fields(&context.model);
        fields.extend(notes.fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Description {
            id: id.clone(),
            parameters: fields,
            work: notes.work,
            data: Some(notes.data),
            weights: Some(context.stamp.clone()),
            caveats: notes.caveats,
        }
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.program.reset()?;
        self.bench.context.begin_peak();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.program.launch()
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.context.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        self.program.compare()?.verdict()
    }

    fn stages(&mut self) -> BTreeMap<String, f64> {
        self.program.stages()
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        self.program.distributions()
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.context.memory())
    }
}
