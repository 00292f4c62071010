//! Sequences of a loaded net: reading their prompts, and writing one token of each as one graph.

mod buffers;
mod sizes;
mod step;

use warpmark_cuda::Graph;
use warpmark_measure::WorkloadError;

use crate::kernels::MOST_BY_VECTORS;
use crate::net::Net;
use crate::prefill::Prefill;
use crate::timing::Timer;
use buffers::Buffers;
pub(crate) use sizes::Sizes;
use step::{LibraryProducts, Products};

/// Rounds in which the ways of a step are timed against each other, and steps of each.
const ROUNDS: usize = 3;
const STEPS: usize = 4;

/// Sequences side by side, what they are worked on with, and where they stand.
pub(crate) struct Sequences<'a> {
    pub(crate) net: &'a Net,
    pub(crate) buffers: Buffers,
    pub(crate) sizes: Sizes,
    pub(crate) batch: usize,
    pub(crate) capacity: usize,
    /// Where writing begins, and after which position it begins again.
    pub(crate) window: (usize, usize),
}

/// A way to make a step, captured.
struct Way {
    graph: Graph,
    products: Products,
    /// The least that a step took when the ways were timed.
    seconds: Option<f64>,
}

/// A pass over the prompts, captured.
struct Reading {
    graph: Graph,
    /// What the graph's launches point to.
    _prefill: Prefill,
}

/// What multiplies in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiplied {
    /// Whatever is the faster, measured.
    Measured,
    /// Kernels of our own.
    ByKernels,
    /// cuBLASLt.
    ByLibrary,
}

/// Sequences of a net, and the graph that writes one token of each.
pub struct Decoder<'a> {
    sequences: Sequences<'a>,
    /// The way that steps are made, and the others that were tried; none where nothing is to be written.
    ways: Vec<Way>,
    /// How prompts are read at once, or why they are not.
    reading: Result<Reading, String>,
    /// The first token that each sequence writes.
    first: Vec<u32>,
}

impl<'a> Decoder<'a> {
    /// Reads the prompts, all of the same length, and is ready to write: up to `spare` tokens, after which it goes
    /// back to the end of the prompts. The faster way to multiply is found by measuring.
    ///
    /// # Errors
    /// What no kernel takes, memory that is not there, a token that is none, or the driver's refusal.
    pub fn new(net: &'a Net, prompts: &[Vec<u32>], spare: usize) -> Result<Self, WorkloadError> {
        Self::multiplied(net, prompts, spare, Multiplied::Measured)
    }

    /// The same with products made in one way.
    ///
    /// # Errors
    /// As [`Decoder::new`], and where nothing multiplies so.
    pub fn multiplied(
        net: &'a Net,
        prompts: &[Vec<u32>],
        spare: usize,
        how: Multiplied,
    ) -> Result<Self, WorkloadError> {
        let context = prompts.first().map_or(0, Vec::len);
        let (batch, capacity) = (prompts.len(), context + spare);
        net.shape.check(batch, capacity)?;
        if context == 0 || prompts.iter().any(|prompt| prompt.len() != context) {
            let what = "prompts have one length, which is not 0";
            return Err(WorkloadError::Failed(what.to_owned()));
        }
        let sizes = Sizes::of(&net.shape, (batch, capacity), net.multiprocessors);
        let buffers = Buffers::new(net, &sizes, (batch, capacity))?;
        let window = (context, capacity);
        let sequences = Sequences { net, buffers, sizes, batch, capacity, window };
        let mut decoder = Self {
            sequences,
            ways: Vec::new(),
            reading: Err("nothing was read".to_owned()),
            first: Vec::new(),
        };
        decoder.write_prompts(prompts)?;
        decoder.reading = decoder.capture_reading()?;
        if spare > 0 {
            decoder.capture_steps(how)?;
        } else {
            decoder.can_prefill()?;
        }
        decoder.read(prompts)?;
        Ok(decoder)
    }

    /// Reads prompts in the place of the ones before.
    ///
    /// # Errors
    /// As [`Decoder::new`]: of the same number and length.
    pub fn read(&mut self, prompts: &[Vec<u32>]) -> Result<(), WorkloadError> {
        self.write_prompts(prompts)?;
        if self.reading.is_ok() {
            self.prefill()?;
        } else {
            // Token by token, each fed by the prompt.
            let first: Vec<u32> = prompts.iter().filter_map(|all| all.first().copied()).collect();
            self.go_to(0, &first)?;
            (0..self.sequences.window.0).try_for_each(|_| self.step())?;
        }
        self.first = self.tokens()?;
        Ok(())
    }

    fn write_prompts(&mut self, prompts: &[Vec<u32>]) -> Result<(), WorkloadError> {
        let Sequences { net, buffers, batch, capacity, window, .. } = &mut self.sequences;
        let vocabulary = net.shape.vocabulary;
        let wrong = prompts.iter().flatten().find(|token| **token as usize >= vocabulary);
        if let Some(token) = wrong {
            return Err(WorkloadError::Failed(format!("token {token} of {vocabulary}")));
        }
        if prompts.len() != *batch || prompts.iter().any(|prompt| prompt.len() != window.0) {
            let what = format!("{batch} prompts of {} tokens are read here", window.0);
            return Err(WorkloadError::Failed(what));
        }
        let mut words = vec![-1_i32; *batch * *capacity];
        for (prompt, to) in prompts.iter().zip(words.chunks_mut(*capacity)) {
            for (token, to) in prompt.iter().zip(to) {
                *to = token.cast_signed();
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        buffers.prompts.write(&net.stream, &bytes)
    }

    /// Captures the pass over the prompts, or says why there is none.
    fn capture_reading(&self) -> Result<Result<Reading, String>, WorkloadError> {
        let Self { sequences, .. } = self;
        if let Err(reason) = &sequences.net.many {
            return Ok(Err(reason.clone()));
        }
        let prefill = match Prefill::new(sequences) {
            Ok(prefill) => prefill,
            Err(WorkloadError::Unsupported(reason)) => return Ok(Err(reason)),
            Err(error) => return Err(error),
        };
        let graph = self.captured(|| prefill.enqueue(sequences))?;
        Ok(Ok(Reading { graph, _prefill: prefill }))
    }

    /// Captures a step in each way that there is, the fastest of them first.
    fn capture_steps(&mut self, how: Multiplied) -> Result<(), WorkloadError> {
        let Sequences { net, batch, window, .. } = &self.sequences;
        let by_kernels = how != Multiplied::ByLibrary && *batch <= MOST_BY_VECTORS;
        let by_library = how != Multiplied::ByKernels && net.many.is_ok();
        if !by_kernels && !by_library {
            let reason = net.many.as_ref().err().map_or("it was not asked", String::as_str);
            return Err(WorkloadError::Unsupported(format!(
                "a batch of {batch}: kernels of our own multiply {MOST_BY_VECTORS} at the most, and for more \
                 {reason}"
            )));
        }
        let place = window.0;
        self.go_to(place, &vec![0; *batch])?;
        let mut ways = Vec::new();
        if by_kernels {
            ways.push(self.way(Products::Own)?);
        }
        if by_library {
            match LibraryProducts::new(&self.sequences) {
                Ok(products) => ways.push(self.way(Products::Library(Box::new(products)))?),
                // The library has no algorithm, and our own kernels do.
                Err(WorkloadError::Unsupported(_)) if by_kernels => {}
                Err(error) => return Err(error),
            }
        }
        if ways.len() > 1 {
            self.contest(&mut ways)?;
            ways.sort_by(|a, b| {
                a.seconds.partial_cmp(&b.seconds).unwrap_or(std::cmp::Ordering::Equal)
            });
        }
        self.ways = ways;
        Ok(())
    }

    fn way(&self, products: Products) -> Result<Way, WorkloadError> {
        let graph = self.captured(|| self.sequences.step(&products))?;
        Ok(Way { graph, products, seconds: None })
    }

    /// Times steps of each way, in rounds of alternating direction.
    fn contest(&self, ways: &mut [Way]) -> Result<(), WorkloadError> {
        let timer = Timer::new(&self.sequences.net.stream)?;
        for _ in 0..ROUNDS {
            for way in &mut *ways {
                let seconds = timer.time(STEPS, || way.graph.launch())? / STEPS as f64;
                way.seconds = Some(way.seconds.map_or(seconds, |least| least.min(seconds)));
            }
            ways.reverse();
        }
        Ok(())
    }

    /// A graph of launches.
    fn captured(
        &self,
        enqueue: impl Fn() -> Result<(), WorkloadError>,
    ) -> Result<Graph, WorkloadError> {
        let net = self.sequences.net;
        // Once by themselves: a kernel that is launched for the first time may be loaded then, which no
        // capture takes.
        enqueue()?;
        net.wait()?;
        let graph = Graph::capture(&net.stream, enqueue)?;
        graph.upload()?;
        Ok(graph)
    }

    /// Whether prompts are read at once.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with the reason why they are not.
    pub fn can_prefill(&self) -> Result<(), WorkloadError> {
        match &self.reading {
            Ok(_) => Ok(()),
            Err(reason) => Err(WorkloadError::Unsupported(reason.clone())),
        }
    }

    /// Enqueues one pass over the prompts: their keys and values, the logits of their last tokens, and the tokens
    /// that follow.
    ///
    /// # Errors
    /// Prompts are not read at once here, or the driver refuses.
    pub fn prefill(&mut self) -> Result<(), WorkloadError> {
        match &self.reading {
            Ok(reading) => reading.graph.launch(),
            Err(reason) => Err(WorkloadError::Unsupported(reason.clone())),
        }
    }

    /// Enqueues one step: the tokens that were chosen are read, and the next are chosen from the logits
    /// after them.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn step(&mut self) -> Result<(), WorkloadError> {
        match self.ways.first() {
            Some(way) => way.graph.launch(),
            None => Err(WorkloadError::Failed("there is no room for another token".to_owned())),
        }
    }

    /// Kernels of a step: five to nine a layer, and a few beside.
    pub fn kernels(&self) -> usize {
        let Sequences { net, sizes, .. } = &self.sequences;
        self.ways.first().map_or(0, |way| {
            let (of_a_layer, beside) = way.products.kernels(sizes.attention.parts);
            beside + of_a_layer * net.shape.layers
        })
    }

    /// What multiplies in a step: `kernels` of our own, or `cublaslt`.
    pub fn products(&self) -> &'static str {
        match self.ways.first().map(|way| &way.products) {
            Some(Products::Own) => "kernels",
            Some(Products::Library(_)) | None => "cublaslt",
        }
    }

    /// How that was chosen, where there was a choice to be made.
    pub fn choice(&self) -> Option<String> {
        let name = |way: &Way| match way.products {
            Products::Own => "kernels of our own",
            Products::Library(_) => "cuBLASLt",
        };
        match (&self.ways[..], &self.sequences.net.many) {
            ([chosen, other, ..], _) => {
                let micro = |way: &Way| way.seconds.unwrap_or_default() * 1e6;
                Some(format!(
                    "products by {}: {:.1} us a step when both were tried, and {:.1} us by {}",
                    name(chosen),
                    micro(chosen),
                    micro(other),
                    name(other)
                ))
            }
            ([only], Err(reason)) => Some(format!("products by {}: {reason}", name(only))),
            _ => None,
        }
    }

    /// Goes back to the end of the prompts.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn reset(&mut self) -> Result<(), WorkloadError> {
        let first = self.first.clone();
        self.go_to(self.sequences.window.0, &first)
    }

    /// The tokens that the next step reads.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn tokens(&self) -> Result<Vec<u32>, WorkloadError> {
        let Sequences { net, buffers, batch, .. } = &self.sequences;
        let mut bytes = vec![0; 4 * batch];
        buffers.tokens.read(&net.stream, 0, &mut bytes)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The logits of the last step or pass, those of each sequence: `[batch][vocabulary]`.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>, WorkloadError> {
        let Sequences { net, buffers, batch, .. } = &self.sequences;
        let mut bytes = vec![0; buffers.logits.bytes()];
        buffers.logits.read(&net.stream, 0, &mut bytes)?;
        let words = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
        let all: Vec<f32> = words.collect();
        let rows = all.chunks(all.len() / batch);
        Ok(rows.map(|row| row[..net.shape.vocabulary].to_vec()).collect())
    }

    fn go_to(&mut self, position: usize, tokens: &[u32]) -> Result<(), WorkloadError> {
        let Sequences { net, buffers, batch, .. } = &mut self.sequences;
        let bytes = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let positions = vec![position as u32; *batch];
        buffers.positions.write(&net.stream, &bytes(&positions))?;
        buffers.tokens.write(&net.stream, &bytes(tokens))
    }
}

#[cfg(test)]
#[path = "decoder_floors.rs"]
mod floors;
#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
