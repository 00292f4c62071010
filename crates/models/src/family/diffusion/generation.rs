//! From texts to pixels, the whole way.

use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::{Clock, WallClock, WorkloadError};

use super::check;
use super::nets::{Timestep, Tokens};
use super::setting::Setting;
use crate::bench::{Comparison, Held, Notes, Program};
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, Schedule, Scheduler};

/// Whole images: one iteration makes the batch.
pub(super) struct Generation<'a> {
    setting: Setting<'a>,
    fed: Rc<Ingredients>,
    size: usize,
    scheduler: Scheduler,
    schedule: Schedule,
    stages: BTreeMap<String, f64>,
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
        setting: Setting<'a>,
        size: usize,
        scheduler: Scheduler,
        schedule: Schedule,
    ) -> Result<Self, NetError> {
        let fed = setting.bench.fed(|| {
            let steps = schedule.steps.iter();
            let timesteps = steps.map(|step| setting.parts.timestep(step.timestep));
            Ok(Ingredients {
                tokens: setting.tokens()?,
                noise: setting.noise(size)?,
                timesteps: timesteps.collect::<Result<_, _>>()?,
            })
        })?;
        Ok(Self {
            setting,
            fed,
            size,
            scheduler,
            schedule,
            stages: BTreeMap::new(),
            steps: Vec::new(),
        })
    }

    fn condition(&self) -> Result<Condition, NetError> {
        self.setting.nets.condition(&self.setting.info.architecture, &self.fed.tokens, self.size)
    }

    /// The latents after a step, and what was predicted for both rows of each image.
    fn step(
        &self,
        index: usize,
        latents: &Tensor,
        condition: &Condition,
    ) -> Result<(Tensor, Tensor), NetError> {
        let step = &self.schedule.steps[index];
        let seen = (latents * step.input)?;
        let seen = Tensor::cat(&[&seen, &seen], 0)?;
        let predicted = self.setting.parts.predict(&seen, &self.fed.timesteps[index], condition)?;
        let batch = self.setting.case.batch;
        let (with, without) = (predicted.narrow(0, 0, batch)?, predicted.narrow(0, batch, batch)?);
        let guided = (&without + ((with - &without)? * self.setting.info.guidance)?)?;
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
        let images = self.setting.parts.decode(&latents)?;
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
        self.setting.parts.decode(&latents).map_err(workload_error)?;
        let decode = self.finish(&mut clock)?;
        self.stages = BTreeMap::from([
            ("text_s".to_owned(), text),
            ("denoise_s".to_owned(), denoise),
            ("decode_s".to_owned(), decode),
        ]);
        Ok(())
    }

    /// Waits for what was begun with the clock, and says how long it took.
    fn finish(&self, clock: &mut WallClock) -> Result<f64, WorkloadError> {
        self.setting.bench.context.wait()?;
        Ok(clock.finish().map_err(WorkloadError::failed)?.wall.0)
    }
}

impl Program for Generation<'_> {
    fn notes(&self) -> Notes {
        let mut notes =
            self.setting.notes("noise, and another text for each image, both kept throughout");
        let guidance = self.setting.info.guidance;
        let guidance = guidance.to_string();
        notes.fields.push(("guidance", guidance.as_str().into()));
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.steps.clear();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.generate()
    }

    /// The whole way recomputed would take as long as all steps of the plain net. The texts, the first and
    /// the last step and the decoder are held against it instead, each from what the one before it gave.
    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let trace = self.trace().map_err(workload_error)?;
        let setting = self.setting;
        let asked = check::Asked { setting, condition: &trace.condition, size: self.size };
        let parts = || -> Result<Vec<Held>, NetError> {
            let mut parts = vec![check::images(&setting, &trace.latents, &trace.images)?];
            parts.push(asked.condition()?);
            for (index, before, predicted, next) in &trace.looked_at {
                let names = if *index == 0 { ["first", "second"] } else { ["last", "after it"] };
                let step = &self.schedule.steps[*index];
                let seen = (before * step.input)?;
                let seen = Tensor::cat(&[&seen, &seen], 0)?;
                parts.push(asked.predictions(names[0], (&seen, step.timestep), predicted)?);
                let following = self.schedule.steps.get(index + 1);
                let step = (step, following, self.schedule.steps.len());
                let latents = (before, predicted, next);
                parts.push(asked.next(names[1], self.scheduler, step, latents)?);
            }
            Ok(parts)
        };
        let what = "texts, the first and the last step and the last image, each against the plain net in \
                    f32 from what the part before it gave";
        Ok(check::comparison(&setting, what, parts().map_err(workload_error)?))
    }

    fn stages(&mut self) -> BTreeMap<String, f64> {
        self.stages.clone()
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        BTreeMap::from([("time_of_step_s".to_owned(), std::mem::take(&mut self.steps))])
    }
}
