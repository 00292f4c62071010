//! A net once more, from the formulas in f64: a whole sequence at a time, without a cache and without a
//! kernel. Only keys and values are rounded, as the cache keeps them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use warpmark_measure::WorkloadError;

use crate::testing::numbers;
use crate::{Activation, Checkpoint, Dtype, NormKind, Part, Positions, Shape, Tensor};

/// Made-up weights of a shape, the same for a seed.
pub(crate) struct Made {
    pub(crate) shape: Shape,
    pub(crate) dtype: Dtype,
    pub(crate) seed: u64,
    /// What was widened already.
    known: RefCell<HashMap<Part, Rc<Values>>>,
}

/// The weights of a part, and its bias.
struct Values {
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
}

impl Made {
    pub(crate) fn new(shape: Shape, dtype: Dtype, seed: u64) -> Self {
        Self { shape, dtype, seed, known: RefCell::default() }
    }

    /// Rows and columns of a part, and whether it has a bias.
    fn extents(&self, part: Part) -> (usize, usize, bool) {
        let s = &self.shape;
        let biased = s.activation != Activation::Swiglu;
        let layer = s.norm == NormKind::Layer;
        match part {
            Part::Embedding | Part::Head => (s.vocabulary, s.width, false),
            Part::Positions => match s.positions {
                Positions::Learned(count) => (count, s.width, false),
                Positions::Rotary(_) => (0, s.width, false),
            },
            Part::AttentionNorm(_) | Part::FeedForwardNorm(_) | Part::LastNorm => {
                (1, s.width, layer)
            }
            Part::Qkv(_) => ((s.heads + 2 * s.key_value_heads) * s.head_width, s.width, biased),
            Part::Output(_) => (s.width, s.heads * s.head_width, biased),
            Part::Up(_) => {
                (if s.activation == Activation::Swiglu { 2 } else { 1 } * s.hidden, s.width, biased)
            }
            Part::Down(_) => (s.width, s.hidden, biased),
        }
    }

    fn bits(&self, part: Part, what: u64, count: usize, scale: f32, around: f32) -> Vec<u16> {
        let number = match part {
            Part::Embedding => 1,
            Part::Positions => 2,
            Part::LastNorm => 3,
            Part::Head => 4,
            Part::AttentionNorm(layer) => 10 + 6 * layer as u64,
            Part::Qkv(layer) => 11 + 6 * layer as u64,
            Part::Output(layer) => 12 + 6 * layer as u64,
            Part::FeedForwardNorm(layer) => 13 + 6 * layer as u64,
            Part::Up(layer) => 14 + 6 * layer as u64,
            Part::Down(layer) => 15 + 6 * layer as u64,
        };
        let all = numbers(self.seed * 1000 + 2 * number + what, count);
        all.into_iter().map(|number| self.dtype.bits(around + scale * number)).collect()
    }

    fn values(&self, part: Part) -> Rc<Values> {
        let make = || {
            let Tensor { weight, bias } = self.read(part).unwrap();
            let wide = |bits: Vec<u16>| -> Vec<f64> {
                bits.into_iter().map(|bits| f64::from(self.dtype.value(bits))).collect()
            };
            Rc::new(Values { weight: wide(weight), bias: bias.map(wide) })
        };
        Rc::clone(self.known.borrow_mut().entry(part).or_insert_with(make))
    }

    fn product(&self, x: &[f64], part: Part) -> Vec<f64> {
        let values = self.values(part);
        let rows = values.weight.chunks(x.len());
        let sums = rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
        match &values.bias {
            Some(bias) => sums.zip(bias).map(|(sum, bias)| sum + bias).collect(),
            None => sums.collect(),
        }
    }

    fn norm(&self, x: &[f64], part: Part) -> Vec<f64> {
        let values = self.values(part);
        let count = x.len() as f64;
        let mean = if values.bias.is_some() { x.iter().sum::<f64>() / count } else { 0.0 };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (square + f64::from(self.shape.epsilon)).sqrt();
        let normal = x.iter().zip(&values.weight).map(|(x, weight)| (x - mean) * scale * weight);
        match &values.bias {
            Some(bias) => normal.zip(bias).map(|(normal, bias)| normal + bias).collect(),
            None => normal.collect(),
        }
    }

    fn turned(&self, head: &[f64], position: usize) -> Vec<f64> {
        let Positions::Rotary(frequencies) = &self.shape.positions else { return head.to_vec() };
        let half = head.len() / 2;
        let mut out = head.to_vec();
        for (pair, frequency) in frequencies.iter().enumerate() {
            let angle = f64::from(position as f32 * *frequency as f32);
            out[pair] = head[pair] * angle.cos() - head[pair + half] * angle.sin();
            out[pair + half] = head[pair + half] * angle.cos() + head[pair] * angle.sin();
        }
        out
    }

    /// The logits after each of the last `count` tokens of a sequence.
    pub(crate) fn logits(&self, tokens: &[u32], count: usize) -> Vec<Vec<f64>> {
        let s = &self.shape;
        let table = self.values(Part::Embedding);
        let mut xs: Vec<Vec<f64>> = tokens
            .iter()
            .map(|token| table.weight[*token as usize * s.width..][..s.width].to_vec())
            .collect();
        if matches!(s.positions, Positions::Learned(_)) {
            let places = self.values(Part::Positions);
            for (x, place) in xs.iter_mut().zip(places.weight.chunks(s.width)) {
                x.iter_mut().zip(place).for_each(|(x, place)| *x += place);
            }
        }
        for layer in 0..s.layers {
            let mixed = self.attention(&xs, layer);
            for (x, mixed) in xs.iter_mut().zip(mixed) {
                add(x, &self.product(&mixed, Part::Output(layer)));
                let normal = self.norm(x, Part::FeedForwardNorm(layer));
                let hidden = self.activated(&self.product(&normal, Part::Up(layer)));
                add(x, &self.product(&hidden, Part::Down(layer)));
            }
        }
        let head = if s.tied { Part::Embedding } else { Part::Head };
        let last = xs[tokens.len() - count..].iter();
        last.map(|x| self.product(&self.norm(x, Part::LastNorm), head)).collect()
    }

    fn activated(&self, x: &[f64]) -> Vec<f64> {
        match self.shape.activation {
            Activation::Swiglu => {
                x.chunks(2).map(|pair| pair[0] / (1.0 + (-pair[0]).exp()) * pair[1]).collect()
            }
            Activation::GeluTanh => x.iter().map(|x| gelu_tanh(*x)).collect(),
            Activation::GeluErf => {
                x.iter().map(|x| 0.5 * x * (1.0 + erf(x / 2_f64.sqrt()))).collect()
            }
        }
    }

    fn attention(&self, xs: &[Vec<f64>], layer: usize) -> Vec<Vec<f64>> {
        let s = &self.shape;
        let width = s.head_width;
        let rounded = |x: f64| f64::from(self.dtype.value(self.dtype.bits(x as f32)));
        let qkv: Vec<Vec<f64>> = xs
            .iter()
            .map(|x| self.product(&self.norm(x, Part::AttentionNorm(layer)), Part::Qkv(layer)))
            .collect();
        let key = |at: usize, head: usize| -> Vec<f64> {
            let key = &qkv[at][(s.heads + head) * width..][..width];
            self.turned(key, at).into_iter().map(rounded).collect()
        };
        let value = |at: usize, head: usize| -> Vec<f64> {
            let value = &qkv[at][(s.heads + s.key_value_heads + head) * width..][..width];
            value.iter().map(|x| rounded(*x)).collect()
        };
        let mut all = Vec::new();
        for (at, own) in qkv.iter().enumerate() {
            let mut mixed = Vec::new();
            for head in 0..s.heads {
                let shared = head / (s.heads / s.key_value_heads);
                let query = self.turned(&own[head * width..][..width], at);
                let scores: Vec<f64> = (0..=at)
                    .map(|other| {
                        let dot: f64 =
                            query.iter().zip(key(other, shared)).map(|(q, k)| q * k).sum();
                        dot / (width as f64).sqrt()
                    })
                    .collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let powers: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                let sum: f64 = powers.iter().sum();
                let mut mixture = vec![0.0; width];
                for (other, power) in powers.iter().enumerate() {
                    let value = value(other, shared);
                    mixture.iter_mut().zip(value).for_each(|(m, v)| *m += power / sum * v);
                }
                mixed.extend(mixture);
            }
            all.push(mixed);
        }
        all
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

/// By its series (Abramowitz and Stegun 7.1.6); far out it is 1 to the last digit.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

impl Checkpoint for Made {
    fn read(&self, part: Part) -> Result<Tensor, WorkloadError> {
        let (rows, columns, biased) = self.extents(part);
        let norm =
            matches!(part, Part::AttentionNorm(_) | Part::FeedForwardNorm(_) | Part::LastNorm);
        let (scale, around) = match part {
            _ if norm => (0.3, 1.0),
            Part::Embedding | Part::Positions => (1.0, 0.0),
            _ => (1.7 / (columns as f32).sqrt(), 0.0),
        };
        let length = if norm { columns } else { rows };
        Ok(Tensor {
            weight: self.bits(part, 0, rows * columns, scale, around),
            bias: biased.then(|| self.bits(part, 1, length, 0.2, 0.0)),
        })
    }
}
