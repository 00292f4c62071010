//! Greedy decoding and beam search over several clips at once.
//!
//! Beams are rows of the decoder's batch, those of a clip beside each other. Each step chooses on the
//! host: the logits of every row come to it, and the best continuations of a clip are the highest sums of
//! log-probabilities over all its beams. A transcript that ends leaves its beam to the next best one; a
//! clip is done when as many have ended as it has beams and none that goes on can pass them. Scores are
//! divided by the length, as transformers does with its length penalty of 1.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{Cross, Whisper};
use crate::NetError;

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Beams of a clip; 1 is greedy decoding.
    pub beams: usize,
    /// Tokens written after the prompt at most.
    pub tokens: usize,
    /// The token that ends a transcript; `None` goes on to the last of the tokens.
    pub end: Option<u32>,
}

/// A transcript of one clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Its tokens after the prompt, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Whether it was ended by the model's own choice.
    pub ended: bool,
    /// The sum of its tokens' log-probabilities.
    pub log_probability: f64,
}

/// A beam that goes on.
#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    score: f64,
}

/// What is chosen in one step.
#[derive(Clone, Copy)]
struct Choice {
    score: f64,
    beam: usize,
    token: u32,
}

/// One clip's search.
struct Clip {
    running: Vec<Beam>,
    ended: Vec<Transcript>,
    done: bool,
}

/// Writes the transcripts of encoded clips after a prompt, and calls `written` whenever every clip has
/// one more token on the host.
pub fn transcribe(
    net: &Whisper,
    cross: &Cross,
    prompt: &[u32],
    plan: Plan,
    written: &mut dyn FnMut(),
) -> Result<Vec<Transcript>, NetError> {
    let Plan { beams, tokens, .. } = plan;
    let clips = cross.clips();
    let capacity = prompt.len() + tokens;
    let mut cache = net.cache(clips, capacity)?;
    let prompts = Tensor::from_vec(prompt.repeat(clips), (clips, prompt.len()), net.device())?;
    let logits = net.read(&prompts, &mut cache, cross)?;
    let mut search: Vec<Clip> = (0..clips).map(|_| Clip::new(beams)).collect();
    // All beams of a clip begin from its one prompt.
    let mut parents = advance(&mut search, &logits, 1, plan)?;
    written();
    if beams > 1 {
        let mut wide = net.cache(clips * beams, capacity)?;
        let origins: Vec<u32> = (0..clips as u32).flat_map(|clip| vec![clip; beams]).collect();
        wide.take(&cache, &Tensor::new(origins, net.device())?)?;
        cache = wide;
    }
    for step in 1..tokens {
        if search.iter().all(|clip| clip.done) {
            break;
        }
        if step > 1 && beams > 1 {
            cache.reorder(&Tensor::new(parents, net.device())?)?;
        }
        let last: Vec<u32> = search.iter().flat_map(Clip::last_tokens).collect();
        let last = Tensor::from_vec(last, (clips * beams, 1), net.device())?;
        let logits = net.read(&last, &mut cache, cross)?;
        parents = advance(&mut search, &logits, beams, plan)?;
        written();
    }
    Ok(search.into_iter().map(Clip::best).collect())
}

/// Takes every clip one token further from the logits of `rows` rows a clip. Returns the row that each
/// beam goes on from.
fn advance(
    search: &mut [Clip],
    logits: &Tensor,
    rows: usize,
    plan: Plan,
) -> Result<Vec<u32>, NetError> {
    let vocabulary = logits.dim(1)?;
    // Some of the best may end a transcript; beams must be left to go on.
    let wanted = if plan.end.is_some() { 2 * plan.beams } else { plan.beams };
    let logits = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let best: Vec<Vec<Choice>> = logits
        .par_chunks(vocabulary)
        .enumerate()
        .map(|(row, logits)| highest(logits, row % rows, wanted))
        .collect();
    let mut parents = Vec::with_capacity(search.len() * plan.beams);
    for (index, clip) in search.iter_mut().enumerate() {
        let first = index * plan.beams;
        let from = clip.choose(&best[index * rows..(index + 1) * rows], plan);
        parents.extend(from.into_iter().map(|beam| (first + beam) as u32));
    }
    Ok(parents)
}

/// The most likely tokens of a row, the highest first, with their log-probabilities.
fn highest(logits: &[f32], beam: usize, count: usize) -> Vec<Choice> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    for (token, logit) in logits.iter().enumerate() {
        if best.len() < count || *logit > best[best.len() - 1].0 {
            // After its equals: the lowest token wins a tie.
            let place = best.partition_point(|(other, _)| *other >= *logit);
            best.insert(place, (*logit, token as u32));
            best.truncate(count);
        }
    }
    let top = best.first().map_or(0.0, |(logit, _)| *logit);
    let sum: f64 = logits.chunks(1024).map(|part| f64::from(powers(part, top))).sum();
    let norm = f64::from(top) + sum.ln();
    let choice =
        |(logit, token): (f32, u32)| Choice { score: f64::from(logit) - norm, beam, token };
    best.into_iter().map(choice).collect()
}

fn powers(logits: &[f32], top: f32) -> f32 {
    logits.iter().map(|logit| (logit - top).exp()).sum()
}

impl Clip {
    fn new(beams: usize) -> Self {
        Self {
            running: vec![Beam { tokens: Vec::new(), score: 0.0 }],
            ended: Vec::with_capacity(beams),
            done: false,
        }
    }

    /// The last token of each beam.
    fn last_tokens(&self) -> impl Iterator<Item = u32> {
        self.running.iter().map(|beam| beam.tokens.last().copied().unwrap_or(0))
    }

    /// Goes on with the best continuations of the beams, and returns the beam that each comes from.
    fn choose(&mut self, best: &[Vec<Choice>], plan: Plan) -> Vec<usize> {
        let mut choices: Vec<Choice> = best.iter().flatten().copied().collect();
        for choice in &mut choices {
            choice.score += self.running[choice.beam].score;
        }
        choices.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut next = Vec::with_capacity(plan.beams);
        let mut from = Vec::with_capacity(plan.beams);
        for (rank, choice) in choices.into_iter().enumerate() {
            let beam = &self.running[choice.beam];
            if Some(choice.token) == plan.end {
                // An ending that is not among the best is none.
                if rank < plan.beams && !self.done {
                    self.ended.push(Transcript {
                        tokens: beam.tokens.clone(),
                        ended: true,
                        log_probability: choice.score,
                    });
                }
                continue;
            }
            if next.len() == plan.beams {
                break;
            }
            let tokens = beam.tokens.iter().copied().chain([choice.token]).collect();
            next.push(Beam { tokens, score: choice.score });
            from.push(choice.beam);
        }
        self.running = next;
        self.done = self.done || self.is_done(plan);
        from
    }

    /// Whether no beam that goes on can pass those that have ended.
    fn is_done(&mut self, plan: Plan) -> bool {
        self.ended.sort_by(|a, b| b.rank().total_cmp(&a.rank()));
        self.ended.truncate(plan.beams);
        if plan.beams == 1 {
            return !self.ended.is_empty();
        }
        let going_on = self
            .running
            .first()
            .map_or(f64::NEG_INFINITY, |beam| beam.score / beam.tokens.len().max(1) as f64);
        self.ended.len() == plan.beams
            && self.ended.last().is_some_and(|worst| worst.rank() >= going_on)
    }

    fn best(self) -> Transcript {
        let running = self.running.into_iter().map(|beam| Transcript {
            tokens: beam.tokens,
            ended: false,
            log_probability: beam.score,
        });
        // What has not ended counts only where nothing better has.
        let candidates: Vec<Transcript> =
            if self.done { self.ended } else { self.ended.into_iter().chain(running).collect() };
        let best = candidates.into_iter().max_by(|a, b| a.rank().total_cmp(&b.rank()));
        best.unwrap_or(Transcript { tokens: Vec::new(), ended: false, log_probability: 0.0 })
    }
}

impl Transcript {
    /// The score by which transcripts of different lengths are ranked; the end counts as a token.
    fn rank(&self) -> f64 {
        self.log_probability / (self.tokens.len() + usize::from(self.ended)).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_logits_come_first_and_their_probabilities_are_those_of_a_softmax() {
        let logits = [0.5f32, 2.0, -1.0, 2.0, 1.0];
        let best = highest(&logits, 3, 3);
        assert_eq!(best.iter().map(|c| c.token).collect::<Vec<_>>(), [1, 3, 4]);
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        assert!((best[2].score - (1.0 - sum.ln())).abs() < 1e-6);
        assert!(best.iter().all(|choice| choice.beam == 3));
    }

    fn choices(of: &[(f64, usize, u32)]) -> Vec<Vec<Choice>> {
        let choice = |&(score, beam, token): &(f64, usize, u32)| Choice { score, beam, token };
        vec![of.iter().map(choice).collect()]
    }

    #[test]
    fn a_transcript_that_ends_leaves_its_beam_to_the_next_best() {
        let plan = Plan { beams: 2, tokens: 9, end: Some(0) };
        let mut clip = Clip::new(2);
        let from = clip.choose(&choices(&[(-0.1, 0, 0), (-0.5, 0, 7), (-0.9, 0, 8)]), plan);
        assert_eq!(from, [0, 0]);
        assert_eq!(clip.last_tokens().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(clip.ended.len(), 1);
        assert!(!clip.done, "one of two beams has ended");
        clip.choose(&choices(&[(-0.1, 1, 0), (-0.2, 0, 0), (-3.0, 0, 5), (-4.0, 1, 5)]), plan);
        assert!(clip.done, "two have ended, and the others are far behind");
        let best = clip.best();
        assert!(best.ended && best.tokens.is_empty(), "{best:?}");
    }

    #[test]
    fn greedy_decoding_ends_with_the_first_end() {
        let plan = Plan { beams: 1, tokens: 9, end: Some(0) };
        let mut clip = Clip::new(1);
        clip.choose(&choices(&[(-0.1, 0, 4), (-0.5, 0, 7)]), plan);
        assert!(!clip.done);
        clip.choose(&choices(&[(-0.1, 0, 0), (-0.5, 0, 7)]), plan);
        assert!(clip.done);
        assert_eq!(clip.best().tokens, [4]);
    }
}
