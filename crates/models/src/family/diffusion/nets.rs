//! The nets of a model, and the texts that they are fed.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::case::Phase;
use super::prompt;
use crate::bench::noise;
use warpmark_nets::diffusion::{
    Architecture, AutoEncoder, Condition, EncodedText, PIXELS_OF_A_LATENT, TEXT_FOLDERS,
    TextEncoder, TextNumbers, Unet,
};
use warpmark_nets::reference::diffusion::Like;
use warpmark_nets::{NetError, Weights};

/// The parts of one engine.
pub(super) trait Parts {
    /// How the plain nets must go to give the same answers.
    fn like(&self) -> Like;

    /// What to know before trusting the rows of a phase.
    fn caveat(&self, phase: Phase) -> Option<&'static str>;

    /// What each encoder says of the texts.
    fn encode(&self, tokens: &Tokens) -> Result<Vec<EncodedText>, NetError>;

    /// A timestep as the `UNet` reads it.
    fn timestep(&self, timestep: f64) -> Result<Timestep, NetError>;

    /// One pass of the `UNet`.
    fn predict(
        &self,
        latents: &Tensor,
        timestep: &Timestep,
        condition: &Condition,
    ) -> Result<Tensor, NetError>;

    /// The images of latents.
    fn decode(&self, latents: &Tensor) -> Result<Tensor, NetError>;
}

/// A timestep, and its waves where an engine takes them rather than the number.
pub(super) struct Timestep {
    pub(super) number: f64,
    pub(super) waves: Option<Tensor>,
}

/// The nets of a model.
pub(super) struct Nets {
    pub(super) texts: Vec<TextEncoder>,
    pub(super) unet: Unet,
    pub(super) vae: AutoEncoder,
}

impl Parts for Nets {
    fn like(&self) -> Like {
        Like::Diffusers
    }

    fn caveat(&self, _phase: Phase) -> Option<&'static str> {
        None
    }

    fn encode(&self, tokens: &Tokens) -> Result<Vec<EncodedText>, NetError> {
        let pairs = self.texts.iter().zip(&tokens.by_encoder);
        pairs.map(|(encoder, (tokens, ends))| encoder.encode(tokens, ends)).collect()
    }

    fn timestep(&self, timestep: f64) -> Result<Timestep, NetError> {
        Ok(Timestep { number: timestep, waves: Some(self.unet.timestep(timestep)?) })
    }

    fn predict(
        &self,
        latents: &Tensor,
        timestep: &Timestep,
        condition: &Condition,
    ) -> Result<Tensor, NetError> {
        match &timestep.waves {
            Some(waves) => self.unet.forward(latents, waves, condition),
            None => self.unet.forward(latents, &self.unet.timestep(timestep.number)?, condition),
        }
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor, NetError> {
        self.vae.decode(latents)
    }
}

impl Nets {
    /// Builds the nets on loaded weights. A decoder whose activations leave the range of f16 is widened.
    pub(super) fn new(
        architecture: &Architecture,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        let weights = Weights::of(tensors);
        let texts = architecture.text.iter().zip(TEXT_FOLDERS);
        let texts = texts.map(|(numbers, name)| TextEncoder::new(numbers, &weights.at(name)));
        let unet = Unet::new(&architecture.unet, &weights.at("unet"))?;
        let latents = architecture.unet.latents;
        let vae = if architecture.vae.upcast && unet.dtype() == DType::F16 {
            let wide = widened(tensors)?;
            AutoEncoder::new(&architecture.vae, latents, &Weights::of(&wide).at("vae"))?
        } else {
            AutoEncoder::new(&architecture.vae, latents, &weights.at("vae"))?
        };
        Ok(Self { texts: texts.collect::<Result<_, _>>()?, unet, vae })
    }

    /// What so many images are to show, and after them what no text shows: `[2 · count, ..]`.
    pub(super) fn condition(
        &self,
        architecture: &Architecture,
        tokens: &Tokens,
        size: usize,
    ) -> Result<Condition, NetError> {
        let (mut states, mut pooled) = (Vec::with_capacity(self.texts.len()), None);
        for encoded in self.encode(tokens)? {
            states.push(encoded.states);
            pooled = encoded.pooled;
        }
        let added = match (architecture.unet.added, pooled) {
            (Some(_), Some(pooled)) => self.unet.added(&pooled, ids(size))?,
            _ => None,
        };
        Ok(Condition { text: Tensor::cat(&states, 2)?, added })
    }

    /// The smallest pass of all of them.
    pub(super) fn smallest(&self, architecture: &Architecture) -> Result<(), NetError> {
        let size = architecture.granularity();
        let device = self.unet.device();
        let tokens = Tokens::new(architecture, 0, 1, device)?;
        let condition = self.condition(architecture, &tokens, size)?;
        let latents = size / PIXELS_OF_A_LATENT;
        let noise = noise(0, [2, architecture.unet.latents, latents], device)?;
        let latents = noise.to_dtype(self.unet.dtype())?;
        let step = self.unet.forward(&latents, &self.unet.timestep(1.0)?, &condition)?;
        self.vae.decode(&step.narrow(0, 0, 1)?).map(drop)
    }
}

/// The decoder's tensors in f32.
fn widened(tensors: &HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>, NetError> {
    let of_decoder = tensors.iter().filter(|(name, _)| name.starts_with("vae."));
    of_decoder.map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F32)?))).collect()
}

/// The six numbers that SDXL is told of an image: its size, where it was cut out, and its size again.
pub(super) fn ids(size: usize) -> [f64; 6] {
    let size = size as f64;
    [size, size, 0.0, 0.0, size, size]
}

/// The texts of a batch, those of the images first, the empty one as often after them.
pub(super) struct Tokens {
    /// `[2 · count, positions]`, and where each text ends, `[2 · count]`.
    by_encoder: Vec<(Tensor, Tensor)>,
}

impl Tokens {
    pub(super) fn new(
        architecture: &Architecture,
        seed: u64,
        count: usize,
        device: &Device,
    ) -> Result<Self, NetError> {
        let of = |numbers: &TextNumbers| -> Result<_, NetError> {
            let images = (0..count).map(Some).chain(std::iter::repeat_n(None, count));
            let texts: Vec<Vec<u32>> =
                images.map(|image| prompt::tokens(numbers, seed, image)).collect();
            let ends: Vec<u32> = texts.iter().map(|tokens| prompt::end(tokens)).collect();
            let shape = (texts.len(), numbers.positions);
            Ok((Tensor::from_vec(texts.concat(), shape, device)?, Tensor::new(ends, device)?))
        };
        let by_encoder = architecture.text.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { by_encoder })
    }

    /// Those of the images alone.
    pub(super) fn of_images(&self) -> Result<Self, NetError> {
        let half = |tensor: &Tensor| tensor.narrow(0, 0, tensor.dim(0)? / 2)?.contiguous();
        let pair = |(tokens, ends): &(Tensor, Tensor)| Ok((half(tokens)?, half(ends)?));
        Ok(Self { by_encoder: self.by_encoder.iter().map(pair).collect::<Result<_, NetError>>()? })
    }

    /// The tokens and ends of each encoder.
    pub(super) fn pairs(&self) -> &[(Tensor, Tensor)] {
        &self.by_encoder
    }
}
