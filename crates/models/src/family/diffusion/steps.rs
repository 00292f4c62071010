//! The parts of making an image, apart.

use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::WorkloadError;

use super::check;
use super::nets::{Timestep, Tokens};
use super::setting::Setting;
use crate::bench::{Comparison, FixedPass, Notes, Program};
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, EncodedText};

/// The timestep of a pass that is measured alone, about the middle of the way.
pub(super) const TIMESTEP: f64 = 501.0;

/// What all programs here have in common: what they run, and how their answer is checked.
macro_rules! program {
    ($program:ident, $data:expr) => {
        impl Program for $program<'_> {
            fn notes(&self) -> Notes {
                self.setting.notes($data)
            }

            fn launch(&mut self) -> Result<(), WorkloadError> {
                self.run().map(drop).map_err(workload_error)
            }

            fn compare(&mut self) -> Result<Comparison, WorkloadError> {
                self.check().map_err(workload_error)
            }
        }
    };
}

/// The text encoders: one iteration encodes a text for each image.
pub(super) struct Encoding<'a> {
    setting: Setting<'a>,
    tokens: Rc<Tokens>,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(setting: Setting<'a>) -> Result<Self, NetError> {
        Ok(Self { tokens: setting.bench.fed(|| setting.tokens()?.of_images())?, setting })
    }

    fn run(&self) -> Result<Vec<EncodedText>, NetError> {
        self.setting.parts.encode(&self.tokens)
    }

    fn check(&self) -> Result<Comparison, NetError> {
        let encoded = self.run()?;
        let texts = check::texts(&self.setting, &encoded)?;
        let what = "encoded texts of the first and the last image, against each text alone in f32";
        Ok(check::comparison(&self.setting, what, vec![texts]))
    }
}

program!(Encoding, "another text for each image, words drawn evenly from the vocabulary");

/// One pass of the `UNet` with guidance: two rows for each image, one with its text and one with none.
pub(super) struct Step<'a> {
    setting: Setting<'a>,
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
    pub(super) fn new(setting: Setting<'a>, size: usize) -> Result<Self, NetError> {
        let fed = setting.bench.fed(|| {
            let noise = setting.noise(size)?;
            Ok(Noisy {
                latents: Tensor::cat(&[&noise, &noise], 0)?,
                timestep: setting.parts.timestep(TIMESTEP)?,
                condition: setting.nets.condition(
                    &setting.info.architecture,
                    &setting.tokens()?,
                    size,
                )?,
            })
        })?;
        Ok(Self { setting, fed, size })
    }

    fn run(&self) -> Result<Tensor, NetError> {
        let Noisy { latents, timestep, condition } = &*self.fed;
        self.setting.parts.predict(latents, timestep, condition)
    }

    fn check(&self) -> Result<Comparison, NetError> {
        self.judged(&self.run()?)
    }

    fn judged(&self, predicted: &Tensor) -> Result<Comparison, NetError> {
        let asked =
            check::Asked { setting: self.setting, condition: &self.fed.condition, size: self.size };
        let step = asked.predictions("step", (&self.fed.latents, TIMESTEP), predicted)?;
        let what = "the first image's prediction with its text and the last one's with none, against the \
                    plain net one at a time in f32";
        Ok(check::comparison(&self.setting, what, vec![step]))
    }
}

program!(
    Step,
    "noise, and another text for each image; two rows an image, one with its text and one with none"
);

/// From latents to pixels.
pub(super) struct Decoding<'a> {
    setting: Setting<'a>,
    latents: Rc<Tensor>,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(setting: Setting<'a>, size: usize) -> Result<Self, NetError> {
        // Latents of real images have about this spread before they are scaled.
        let latents = setting
            .bench
            .fed(|| Ok((setting.noise(size)? * setting.info.architecture.vae.scaling)?))?;
        Ok(Self { setting, latents })
    }

    fn run(&self) -> Result<Tensor, NetError> {
        self.setting.parts.decode(&self.latents)
    }

    fn check(&self) -> Result<Comparison, NetError> {
        self.judged(&self.run()?)
    }

    fn judged(&self, images: &Tensor) -> Result<Comparison, NetError> {
        let image = check::images(&self.setting, &self.latents, images)?;
        let what = "the last image, against the plain decoder in f32";
        Ok(check::comparison(&self.setting, what, vec![image]))
    }
}

program!(Decoding, "noise of the spread of latents");

/// Programs whose pass can be captured, and what each reads.
macro_rules! fixed_pass {
    ($program:ident, $input:expr) => {
        impl FixedPass for $program<'_> {
            fn pass(&self) -> Result<Tensor, NetError> {
                self.run()
            }

            fn judge(&self, answer: &Tensor) -> Result<Comparison, WorkloadError> {
                self.judged(answer).map_err(workload_error)
            }

            fn input(&self) -> &Tensor {
                let input: fn(&Self) -> &Tensor = $input;
                input(self)
            }
        }
    };
}

fixed_pass!(Step, |step| &step.fed.latents);
fixed_pass!(Decoding, |decoding| &decoding.latents);
