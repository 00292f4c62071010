//! The parts of making an image apart, and all of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::{Clock, Description, WallClock, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use super::check::{self, compare};
use super::inputs::Case;
use super::nets::{Nets, Parts, Timestep, Tokens};
use super::session::About;
use super::{prompt, work};
use crate::catalog::Dtype;
use crate::family::workload_error;
use crate::marks::Marks;
use crate::net::NetError;
use crate::net::diffusion::{Condition, EncodedText, PIXELS_OF_A_LATENT, Schedule, Scheduler};
use crate::service::kept::Kept;

/// The timestep of a pass that is measured alone, about the middle of the way.
pub(super) const TIMESTEP: f64 = 501.0;

/// Loaded nets with what their workloads need beside them.
pub(super) struct Bench<'a> {
    pub(super) nets: &'a Nets,
    /// What is measured: our nets or another engine's on the same weights.
    pub(super) parts: &'a dyn Parts,
    pub(super) about: &'a About,
    pub(super) marks: &'a mut Marks,
    pub(super) kept: &'a mut Kept,
    pub(super) id: BenchmarkId,
    pub(super) case: Case,
}

impl Bench<'_> {
    /// What the benchmark is fed: what was kept for it, or what is made now.
    fn fed<T: 'static>(
        &mut self,
        make: impl FnOnce(&Self) -> Result<T, NetError>,
    ) -> Result<Rc<T>, NetError> {
        let mut kept = std::mem::take(self.kept);
        let fed = kept.or_make(&self.id, || make(self));
        *self.kept = kept;
        fed
    }

    fn tokens(&self) -> Result<Tokens, NetError> {
        let About { architecture, seed, .. } = self.about;
        Tokens::new(architecture, *seed, self.case.batch, self.nets.unet.device())
    }

    /// Noise of the batch in the dtype of the `UNet`.
    fn noise(&self, size: usize) -> Result<Tensor, NetError> {
        let channels = self.about.architecture.unet.latents;
        let shape = [self.case.batch, channels, size / PIXELS_OF_A_LATENT];
        let noise = prompt::noise(self.about.seed, shape, self.nets.unet.device())?;
        Ok(noise.to_dtype(self.nets.unet.dtype())?)
    }

    fn describe(&self, data: &str) -> Description {
        let About { architecture, model, dtype, stamp, seed, .. } = self.about;
        let mut caveats = Vec::new();
        caveats.extend(self.parts.caveat(self.case.phase).map(str::to_owned));
        if self.nets.unet.device().is_cpu() && *dtype != Dtype::F32 {
            caveats.push(format!("on this CPU, {dtype} is widened to f32 to be multiplied"));
        }
        if work::is_upcast(architecture, *dtype) {
            caveats
                .push("the decoder runs in f32: its activations leave the range of f16".to_owned());
        }
        Description {
            id: self.id.clone(),
            parameters: self.case.parameters(model, *dtype),
            work: work::work(architecture, *dtype, self.case),
            data: Some(format!("{data}, seed {seed}")),
            weights: Some(stamp.clone()),
            caveats,
        }
    }

    fn begin(&mut self) {
        self.marks.begin();
    }

    fn wait(&self) -> Result<(), WorkloadError> {
        self.nets.unet.device().synchronize().map_err(|error| workload_error(error.into()))
    }

    fn memory(&self) -> Memory {
        self.marks.read(self.about.weight_bytes)
    }
}

/// What all workloads here have in common: what they run, and how their answer is checked.
macro_rules! workload {
    ($workload:ident, $data:expr) => {
        impl Workload for $workload<'_> {
            fn describe(&self) -> Description {
                self.bench.describe($data)
            }

            fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
                self.bench.begin();
                Ok(())
            }

            fn launch(&mut self) -> Result<(), WorkloadError> {
                self.run().map(drop).map_err(workload_error)
            }

            fn wait(&mut self) -> Result<(), WorkloadError> {
                self.bench.wait()
            }

            fn verify(&mut self) -> Result<Check, WorkloadError> {
                self.check()
            }

            fn memory(&mut self) -> Option<Memory> {
                Some(self.bench.memory())
            }
        }
    };
}

/// The text encoders: one iteration encodes a text for each image.
pub(super) struct Encoding<'a> {
    bench: Bench<'a>,
    tokens: Rc<Tokens>,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(mut bench: Bench<'a>) -> Result<Self, NetError> {
        Ok(Self { tokens: bench.fed(|bench| bench.tokens()?.of_images())?, bench })
    }

    fn run(&self) -> Result<Vec<EncodedText>, NetError> {
        self.bench.parts.encode(&self.tokens)
    }

    fn check(&self) -> Result<Check, WorkloadError> {
        let encoded = self.run().map_err(workload_error)?;
        let like = self.bench.parts.like();
        let errors = check::texts(self.bench.about, like, &encoded, self.bench.case.batch);
        let what = "encoded texts of the first and the last image, against each text alone in f32";
        compare(self.bench.about.dtype, what, errors)
    }
}

workload!(Encoding, "another text for each image, words drawn evenly from the vocabulary");

/// One pass of the `UNet` with guidance: two rows for each image, one with its text and one with none.
pub(super) struct Step<'a> {
    bench: Bench<'a>,
    fed: Rc<Noisy>,
    size: usize,
}

/// What one pass of the `UNet` reads.
struct Noisy {
    latents: Tensor,
    timestep: Timestep,
    condition: Condition,
}

impl<'a> Step<'a> {
    pub(super) fn new(mut bench: Bench<'a>, size: usize) -> Result<Self, NetError> {
        let fed = bench.fed(|bench| {
            let noise = bench.noise(size)?;
            Ok(Noisy {
                latents: Tensor::cat(&[&noise, &noise], 0)?,
                timestep: bench.parts.timestep(TIMESTEP)?,
                condition: bench.nets.condition(
                    &bench.about.architecture,
                    &bench.tokens()?,
                    size,
                )?,
            })
        })?;
        Ok(Self { bench, fed, size })
    }

    fn run(&self) -> Result<Tensor, NetError> {
        let Noisy { latents, timestep, condition } = &*self.fed;
        self.bench.parts.predict(latents, timestep, condition)
    }

    fn check(&self) -> Result<Check, WorkloadError> {
        let predicted = self.run().map_err(workload_error)?;
        let asked = check::Asked {
            about: self.bench.about,
            like: self.bench.parts.like(),
            condition: &self.fed.condition,
            size: self.size,
            batch: self.bench.case.batch,
        };
        let errors = asked.predictions(&self.fed.latents, TIMESTEP, &predicted);
        let what = "the first image's prediction with its text and the last one's with none, against the \
                    plain net one at a time in f32";
        compare(self.bench.about.dtype, what, errors)
    }
}

workload!(
    Step,
    "noise, and another text for each image; two rows an image, one with its text and one with none"
);

/// From latents to pixels.
pub(super) struct Decoding<'a> {
    bench: Bench<'a>,
    latents: Rc<Tensor>,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(mut bench: Bench<'a>, size: usize) -> Result<Self, NetError> {
        // Latents of real images have about this spread before they are scaled.
        let latents =
            bench.fed(|bench| Ok((bench.noise(size)? * bench.about.architecture.vae.scaling)?))?;
        Ok(Self { bench, latents })
    }

    fn run(&self) -> Result<Tensor, NetError> {
        self.bench.parts.decode(&self.latents)
    }

    fn check(&self) -> Result<Check, WorkloadError> {
        let images = self.run().map_err(workload_error)?;
        let errors = check::images(self.bench.about, &self.latents, &images);
        let what = "the last image, against the plain decoder in f32";
        compare(self.bench.about.dtype, what, errors)
    }
}

workload!(Decoding, "noise of the spread of latents");

/// From texts to pixels.
pub(super) struct Generation<'a> {
    bench: Bench<'a>,
    fed: Rc<Ingredients>,
    size: usize,
    scheduler: Scheduler,
    schedule: Schedule,
    phases: BTreeMap<String, f64>,
    steps: Vec<f64>,
}

/// What images are made of.
struct Ingredients {
    tokens: Tokens,
    noise: Tensor,
    timesteps: Vec<Timestep>,
}

/// The latents before each step that is looked at, what is predicted from them, and the image.
struct Trace {
    condition: Condition,
    looked_at: Vec<(usize, Tensor, Tensor, Tensor)>,
    latents: Tensor,
    images: Tensor,
}

impl<'a> Generation<'a> {
    pub(super) fn new(
        mut bench: Bench<'a>,
        size: usize,
        scheduler: Scheduler,
        schedule: Schedule,
    ) -> Result<Self, NetError> {
        let fed = bench.fed(|bench| {
            let steps = schedule.steps.iter();
            let timesteps = steps.map(|step| bench.parts.timestep(step.timestep));
            Ok(Ingredients {
                tokens: bench.tokens()?,
                noise: bench.noise(size)?,
                timesteps: timesteps.collect::<Result<_, _>>()?,
            })
        })?;
        Ok(Self {
            bench,
            fed,
            size,
            scheduler,
            schedule,
            phases: BTreeMap::new(),
            steps: Vec::new(),
        })
    }

    fn condition(&self) -> Result<Condition, NetError> {
        self.bench.nets.condition(&self.bench.about.architecture, &self.fed.tokens, self.size)
    }

    /// The latents behind a step, and what was predicted for both rows of each image.
    fn step(
        &self,
        index: usize,
        latents: &Tensor,
        condition: &Condition,
    ) -> Result<(Tensor, Tensor), NetError> {
        let step = &self.schedule.steps[index];
        let seen = (latents * step.input)?;
        let seen = Tensor::cat(&[&seen, &seen], 0)?;
        let predicted = self.bench.parts.predict(&seen, &self.fed.timesteps[index], condition)?;
        let batch = self.bench.case.batch;
        let (with, without) = (predicted.narrow(0, 0, batch)?, predicted.narrow(0, batch, batch)?);
        let guided = (&without + ((with - &without)? * self.bench.about.guidance)?)?;
        let next = ((latents * step.keep)? + (guided * step.add)?)?;
        Ok((next, predicted))
    }

    fn trace(&self) -> Result<Trace, NetError> {
        let condition = self.condition()?;
        let mut latents = (&self.fed.noise * self.schedule.start)?;
        let last = self.schedule.steps.len() - 1;
        let mut looked_at = Vec::new();
        for index in 0..=last {
            let (next, predicted) = self.step(index, &latents, &condition)?;
            if index == 0 || index == last {
                looked_at.push((index, latents, predicted, next.clone()));
            }
            latents = next;
        }
        let images = self.bench.parts.decode(&latents)?;
        Ok(Trace { condition, looked_at, latents, images })
    }

    /// One whole generation. Each part and each step is waited for, as by a caller that shows how far an
    /// image is.
    fn generate(&mut self) -> Result<(), WorkloadError> {
        let mut clock = WallClock::default();
        clock.start().map_err(WorkloadError::failed)?;
        let condition = self.condition().map_err(workload_error)?;
        let mut latents = (&self.fed.noise * self.schedule.start)
            .map_err(|error| workload_error(error.into()))?;
        let text = self.finish(&mut clock)?;
        let mut denoise = 0.0;
        for index in 0..self.schedule.steps.len() {
            clock.start().map_err(WorkloadError::failed)?;
            latents = self.step(index, &latents, &condition).map_err(workload_error)?.0;
            let time = self.finish(&mut clock)?;
            self.steps.push(time);
            denoise += time;
        }
        clock.start().map_err(WorkloadError::failed)?;
        self.bench.parts.decode(&latents).map_err(workload_error)?;
        let decode = self.finish(&mut clock)?;
        self.phases = BTreeMap::from([
            ("text_s".to_owned(), text),
            ("denoise_s".to_owned(), denoise),
            ("decode_s".to_owned(), decode),
        ]);
        Ok(())
    }

    /// Waits for what was begun with the clock, and says how long it took.
    fn finish(&self, clock: &mut WallClock) -> Result<f64, WorkloadError> {
        self.bench.wait()?;
        Ok(clock.finish().map_err(WorkloadError::failed)?.wall.0)
    }
}

impl Workload for Generation<'_> {
    fn describe(&self) -> Description {
        let mut description =
            self.bench.describe("noise, and another text for each image, both kept throughout");
        let guidance = self.bench.about.guidance;
        let guidance = guidance.to_string();
        description.parameters.insert("guidance".to_owned(), guidance.as_str().into());
        description
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.steps.clear();
        self.bench.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.generate()
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    /// The whole way recomputed would take as long as all steps of the plain net. The texts, the first and
    /// the last step and the decoder are held against it instead, each from what the one before it gave.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let trace = self.trace().map_err(workload_error)?;
        let about = self.bench.about;
        let asked = check::Asked {
            about,
            like: self.bench.parts.like(),
            condition: &trace.condition,
            size: self.size,
            batch: self.bench.case.batch,
        };
        let errors = || -> Result<Vec<f64>, NetError> {
            let mut errors = check::images(about, &trace.latents, &trace.images)?;
            errors.extend(asked.condition_errors()?);
            for (index, before, predicted, next) in &trace.looked_at {
                let step = &self.schedule.steps[*index];
                let seen = (before * step.input)?;
                let seen = Tensor::cat(&[&seen, &seen], 0)?;
                errors.extend(asked.predictions(&seen, step.timestep, predicted)?);
                let following = self.schedule.steps.get(index + 1);
                let step = (step, following, self.schedule.steps.len());
                errors.extend(asked.next(self.scheduler, step, (before, predicted), next)?);
            }
            Ok(errors)
        };
        let what = "texts, the first and the last step and the last image, each against the plain net in \
                    f32 from what the part before it gave";
        compare(about.dtype, what, errors())
    }

    fn phases(&mut self) -> BTreeMap<String, f64> {
        self.phases.clone()
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        BTreeMap::from([("time_of_step_s".to_owned(), std::mem::take(&mut self.steps))])
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}
