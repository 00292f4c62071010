//! The parts of making an image, apart.

use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::{Description, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use super::case::Case;
use super::check::{self, compare};
use super::nets::{Nets, Parts, Timestep, Tokens};
use super::session::About;
use super::{prompt, work};
use crate::catalog::Dtype;
use crate::family::workload_error;
use crate::marks::Marks;
use crate::service::kept::Kept;
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, EncodedText, PIXELS_OF_A_LATENT};

/// The timestep of a pass that is measured alone, about the middle of the way.
pub(super) const TIMESTEP: f64 = 501.0;

/// Loaded nets with what their workloads need beside them.
pub(super) struct Bench<'a> {
    pub(super) nets: &'a Nets,
    /// What is measured: our nets or another engine's on the same weights.
    pub(super) parts: &'a dyn Parts,
    pub(super) about: &'a About,
    pub(super) marks: &'a mut Marks,
    pub(super) kept: &'a Kept,
    pub(super) id: BenchmarkId,
    pub(super) case: Case,
}

impl Bench<'_> {
    /// What the benchmark is fed: what was kept for it, or what is made now.
    pub(super) fn fed<T: 'static>(
        &self,
        make: impl FnOnce(&Self) -> Result<T, NetError>,
    ) -> Result<Rc<T>, NetError> {
        self.kept.or_make(&self.id, || make(self))
    }

    pub(super) fn tokens(&self) -> Result<Tokens, NetError> {
        let About { architecture, seed, .. } = self.about;
        Tokens::new(architecture, *seed, self.case.batch, self.nets.unet.device())
    }

    /// Noise of the batch in the dtype of the `UNet`.
    pub(super) fn noise(&self, size: usize) -> Result<Tensor, NetError> {
        let channels = self.about.architecture.unet.latents;
        let shape = [self.case.batch, channels, size / PIXELS_OF_A_LATENT];
        let noise = prompt::noise(self.about.seed, shape, self.nets.unet.device())?;
        Ok(noise.to_dtype(self.nets.unet.dtype())?)
    }

    pub(super) fn describe(&self, data: &str) -> Description {
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

    pub(super) fn begin(&mut self) {
        self.marks.begin();
    }

    pub(super) fn wait(&self) -> Result<(), WorkloadError> {
        self.nets.unet.device().synchronize().map_err(|error| workload_error(error.into()))
    }

    pub(super) fn memory(&self) -> Memory {
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
    pub(super) fn new(bench: Bench<'a>) -> Result<Self, NetError> {
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
    pub(super) fn new(bench: Bench<'a>, size: usize) -> Result<Self, NetError> {
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
    pub(super) fn new(bench: Bench<'a>, size: usize) -> Result<Self, NetError> {
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
