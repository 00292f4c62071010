//! candle's kernels on the CPU: those that a language model launches. Numbers are computed in f64 and
//! rounded once, which is within what the real kernels may be off.
//!
//! Arguments as in candle-kernels 0.11.1: `numel`, the number of dimensions, then the dimensions and the
//! strides of each operand on the device, or null where everything is contiguous.

use std::sync::Arc;

use super::{ASSERT, Launch, traffic};
use crate::contents::{Bytes, Element, Source};
use crate::profile::Work;

const NOT_SUPPORTED: u32 = 801;
const ILLEGAL_ADDRESS: u32 = 700;

/// Runs a kernel of candle's by its name, an operation and one or two types: `badd_f16`, `cast_f16_f32`.
/// `None` if it has no model.
pub(super) fn run(launch: &mut Launch<'_>) -> Option<Result<Work, u32>> {
    let name = launch.entry.name.clone();
    let (rest, last) = name.rsplit_once('_')?;
    let element = Element::of_candle(last)?;
    if let Some((operation, first)) = rest.rsplit_once('_')
        && let Some(other) = Element::of_candle(first)
    {
        return match operation {
            "cast" => Some(launch.unary(other, element, |x| truncated(x, element))),
            "is" => Some(launch.index_select(other, element)),
            "s" => Some(launch.scatter(other, element)),
            "where" => Some(launch.choose(other, element)),
            _ => None,
        };
    }
    if let Some(map) = unary(rest) {
        return Some(launch.unary(element, element, map));
    }
    if let Some(map) = binary(rest) {
        return Some(launch.binary(element, element, map));
    }
    if let Some(map) = comparison(rest) {
        return Some(launch.binary(element, Element::Uint8, move |x, y| f64::from(map(&x, &y))));
    }
    Some(match rest {
        "affine" => launch.affine(element),
        "upowf" => launch.power(element),
        "fill" => launch.fill_with(element),
        "const_set" => launch.const_set(element),
        "copy2d" => launch.copy2d(element),
        "softmax" => launch.softmax(element),
        "layernorm" => launch.norm(element, true),
        "rmsnorm" => launch.norm(element, false),
        "fast_sum" | "fast_sum_small" => launch.reduce(element, element, |row| row.iter().sum()),
        "fast_max" => launch.reduce(element, element, |row| best(row, f64::gt).1),
        "fast_min" => launch.reduce(element, element, |row| best(row, f64::lt).1),
        "fast_argmax" => launch.reduce(element, Element::Uint32, |row| best(row, f64::gt).0),
        "fast_argmin" => launch.reduce(element, Element::Uint32, |row| best(row, f64::lt).0),
        _ => return None,
    })
}

/// Casts to integers cut the fraction off.
fn truncated(x: f64, to: Element) -> f64 {
    match to {
        Element::Uint8 | Element::Uint32 | Element::Int32 | Element::Int64 => x.trunc(),
        _ => x,
    }
}

fn unary(operation: &str) -> Option<fn(f64) -> f64> {
    Some(match operation {
        "ucopy" => |x| x,
        "uneg" => |x| -x,
        "urecip" => f64::recip,
        "uexp" => f64::exp,
        "ulog" => f64::ln,
        "usin" => f64::sin,
        "ucos" => f64::cos,
        "utanh" => f64::tanh,
        "uabs" => f64::abs,
        "usqr" => |x| x * x,
        "usqrt" => f64::sqrt,
        "urelu" => |x| x.max(0.0),
        "usigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "usilu" => |x| x / (1.0 + (-x).exp()),
        "ugelu" => |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        },
        _ => return None,
    })
}

fn binary(operation: &str) -> Option<fn(f64, f64) -> f64> {
    Some(match operation {
        "badd" => |x, y| x + y,
        "bsub" => |x, y| x - y,
        "bmul" => |x, y| x * y,
        "bdiv" => |x, y| x / y,
        "bmaximum" => f64::max,
        "bminimum" => f64::min,
        _ => return None,
    })
}

fn comparison(operation: &str) -> Option<fn(&f64, &f64) -> bool> {
    Some(match operation {
        "eq" => f64::eq,
        "ne" => f64::ne,
        "lt" => f64::lt,
        "le" => f64::le,
        "gt" => f64::gt,
        "ge" => f64::ge,
        _ => return None,
    })
}

/// The first of a row that none is better than: its index and itself.
fn best(row: &[f64], better: impl Fn(&f64, &f64) -> bool) -> (f64, f64) {
    let mut found = (0, row[0]);
    for (index, x) in row.iter().enumerate() {
        if better(x, &found.1) {
            found = (index, *x);
        }
    }
    (found.0 as f64, found.1)
}

impl Launch<'_> {
    /// `count` elements from an address on.
    fn numbers(&self, at: u64, count: u64, element: Element) -> Result<Vec<f64>, u32> {
        let len = count * element.size();
        let mut bytes = vec![0; len as usize];
        self.memory.snapshot(at, len)?.read(0, &mut bytes);
        Ok(bytes.chunks(element.size() as usize).map(|bytes| element.decode(bytes)).collect())
    }

    /// The elements at these places behind an address.
    fn gathered(&self, at: u64, places: &[u64], element: Element) -> Result<Vec<f64>, u32> {
        let count = places.iter().max().map_or(0, |last| last + 1);
        let all = self.numbers(at, count, element)?;
        Ok(places.iter().map(|place| all[*place as usize]).collect())
    }

    fn write_numbers(
        &mut self,
        at: u64,
        numbers: impl IntoIterator<Item = f64>,
        element: Element,
    ) -> Result<u64, u32> {
        let size = element.size() as usize;
        let mut bytes = Vec::new();
        for number in numbers {
            bytes.extend_from_slice(&element.encode(number)[..size]);
        }
        let len = bytes.len() as u64;
        if len > 0 {
            self.store(at, len, Arc::new(Bytes(bytes)))?;
        }
        Ok(len)
    }

    /// Where the elements of operand `which` lie, by the first three arguments.
    fn places(&self, which: u64) -> Result<Vec<u64>, u32> {
        self.places_of(self.u64(0), self.u64(1), self.u64(2), which)
    }

    /// Where `count` elements lie, by their dimensions with the strides of each operand behind them.
    fn places_of(
        &self,
        count: u64,
        dimensions: u64,
        info: u64,
        which: u64,
    ) -> Result<Vec<u64>, u32> {
        if info == 0 {
            return Ok((0..count).collect());
        }
        let sizes = self.words(info, dimensions)?;
        let strides = self.words(info + 8 * dimensions * (which + 1), dimensions)?;
        if sizes.contains(&0) {
            return Err(ILLEGAL_ADDRESS);
        }
        let place = |mut index: u64| {
            let mut place = 0;
            for (size, stride) in sizes.iter().zip(&strides).rev() {
                place += index % size * stride;
                index /= size;
            }
            place
        };
        Ok((0..count).map(place).collect())
    }

    fn words(&self, at: u64, count: u64) -> Result<Vec<u64>, u32> {
        let mut bytes = vec![0; 8 * count as usize];
        self.memory.snapshot(at, 8 * count)?.read(0, &mut bytes);
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    fn unary(&mut self, from: Element, to: Element, map: impl Fn(f64) -> f64) -> Result<Work, u32> {
        self.unary_of([3, 4], from, to, map)
    }

    /// The same, with the arguments that are the operand and the result.
    fn unary_of(
        &mut self,
        [input, output]: [usize; 2],
        from: Element,
        to: Element,
        map: impl Fn(f64) -> f64,
    ) -> Result<Work, u32> {
        let (input, output) = (self.u64(input), self.u64(output));
        let numbers = if input == 0 {
            self.numbers(output, self.u64(0), from)?
        } else {
            self.gathered(input, &self.places(0)?, from)?
        };
        let written = self.write_numbers(output, numbers.into_iter().map(map), to)?;
        Ok(traffic(written + self.u64(0) * from.size()))
    }

    fn affine(&mut self, element: Element) -> Result<Work, u32> {
        let (factor, summand) =
            (element.decode(&self.arguments[5]), element.decode(&self.arguments[6]));
        self.unary(element, element, move |x| x * factor + summand)
    }

    fn power(&mut self, element: Element) -> Result<Work, u32> {
        let exponent = element.decode(&self.arguments[3]);
        self.unary_of([4, 5], element, element, move |x| x.powf(exponent))
    }

    fn binary(
        &mut self,
        from: Element,
        to: Element,
        map: impl Fn(f64, f64) -> f64,
    ) -> Result<Work, u32> {
        let a = self.gathered(self.u64(3), &self.places(0)?, from)?;
        let b = self.gathered(self.u64(4), &self.places(1)?, from)?;
        let results = a.into_iter().zip(b).map(|(a, b)| map(a, b));
        let written = self.write_numbers(self.u64(5), results, to)?;
        Ok(traffic(written + 2 * self.u64(0) * from.size()))
    }

    /// `ids ? t : f`.
    fn choose(&mut self, ids: Element, element: Element) -> Result<Work, u32> {
        let ids = self.gathered(self.u64(3), &self.places(0)?, ids)?;
        let t = self.gathered(self.u64(4), &self.places(1)?, element)?;
        let f = self.gathered(self.u64(5), &self.places(2)?, element)?;
        let results = ids.iter().zip(t.iter().zip(&f));
        let results: Vec<f64> =
            results.map(|(id, (t, f))| if *id == 0.0 { *f } else { *t }).collect();
        let written = self.write_numbers(self.u64(6), results, element)?;
        Ok(traffic(3 * written))
    }

    fn fill_with(&mut self, element: Element) -> Result<Work, u32> {
        let (count, value) = (self.u64(2), element.decode(&self.arguments[1]));
        let numbers = std::iter::repeat_n(value, count as usize);
        self.write_numbers(self.u64(0), numbers, element).map(traffic)
    }

    /// One value in every element of a view.
    fn const_set(&mut self, element: Element) -> Result<Work, u32> {
        let (value, output) = (element.decode(&self.arguments[3]), self.u64(4));
        if self.u64(2) == 0 {
            let numbers = std::iter::repeat_n(value, self.u64(0) as usize);
            return self.write_numbers(output, numbers, element).map(traffic);
        }
        for place in self.places(0)? {
            self.write_numbers(output + place * element.size(), [value], element)?;
        }
        Ok(traffic(self.u64(0) * element.size()))
    }

    /// Rows of one pitch into rows of another.
    fn copy2d(&mut self, element: Element) -> Result<Work, u32> {
        let (from, to, size) = (self.u64(0), self.u64(1), element.size());
        let [rows, columns, pitch_from, pitch_to] =
            [2, 3, 4, 5].map(|argument| u64::from(self.u32(argument)));
        let len = columns * size;
        for row in (0..rows).filter(|_| len > 0) {
            let what = self.memory.snapshot(from + row * pitch_from * size, len)?;
            let (contents, offset) = self.memory.contents(to + row * pitch_to * size, len)?;
            contents.copy(offset, what);
        }
        Ok(traffic(2 * rows * len))
    }

    /// Rows by index; the largest index of its type means zeros.
    fn index_select(&mut self, ids: Element, element: Element) -> Result<Work, u32> {
        let [left, size, count, right] = [6, 7, 8, 9].map(|argument| self.u64(argument));
        // The layout is that of the indices.
        if !self.places_of(count, self.u64(1), self.u64(2), 0)?.into_iter().eq(0..count) {
            return Err(NOT_SUPPORTED);
        }
        let ids = self.numbers(self.u64(3), count, ids)?;
        if ids.iter().any(|id| *id < 0.0 || *id >= size as f64) {
            return Err(ASSERT);
        }
        let all = self.numbers(self.u64(4), left * size * right, element)?;
        let mut results = Vec::new();
        for block in 0..left {
            for id in &ids {
                let start = ((block * size + *id as u64) * right) as usize;
                results.extend_from_slice(&all[start..start + right as usize]);
            }
        }
        let written = self.write_numbers(self.u64(5), results, element)?;
        Ok(traffic(2 * written))
    }

    /// Numbers to places by index. The real kernel passes over the largest index of its type, which nobody asks
    /// for: it is refused like any other that is too large.
    fn scatter(&mut self, ids: Element, element: Element) -> Result<Work, u32> {
        let [left, from, to, right] = [3, 4, 5, 6].map(|argument| self.u64(argument));
        let count = left * from * right;
        let ids = self.numbers(self.u64(0), count, ids)?;
        let numbers = self.numbers(self.u64(1), count, element)?;
        let mut all = self.numbers(self.u64(2), left * to * right, element)?;
        for (at, (id, number)) in (0..count).zip(ids.into_iter().zip(numbers)) {
            if id < 0.0 || id >= to as f64 {
                return Err(ASSERT);
            }
            let block = at / (from * right);
            all[((block * to + id as u64) * right + at % right) as usize] = number;
        }
        let held = self.write_numbers(self.u64(2), all, element)?;
        Ok(traffic(2 * held * from / to.max(1)))
    }

    fn reduce(
        &mut self,
        from: Element,
        to: Element,
        reduce: impl Fn(&[f64]) -> f64,
    ) -> Result<Work, u32> {
        // The smaller kernel is told the number of results, the others that of the operands.
        let row = self.u64(1);
        let count = if self.entry.name.starts_with("fast_sum_small") {
            self.u64(0) * row
        } else {
            self.u64(0)
        };
        let (dimensions, info) = (self.u64(2), self.u64(3));
        let places = self.places_of(count, dimensions, info, 0)?;
        let numbers = self.gathered(self.u64(4), &places, from)?;
        let results: Vec<f64> = numbers.chunks(row as usize).map(reduce).collect();
        let written = self.write_numbers(self.u64(5), results, to)?;
        Ok(traffic(written + count * from.size()))
    }

    fn softmax(&mut self, element: Element) -> Result<Work, u32> {
        let columns = u64::from(self.u32(2));
        let mut numbers = self.numbers(self.u64(0), self.blocks() * columns, element)?;
        for row in numbers.chunks_mut(columns as usize) {
            let largest = best(row, f64::gt).1;
            for x in row.iter_mut() {
                *x = (*x - largest).exp();
            }
            let sum: f64 = row.iter().sum();
            for x in row.iter_mut() {
                *x /= sum;
            }
        }
        let written = self.write_numbers(self.u64(1), numbers, element)?;
        Ok(traffic(2 * written))
    }

    /// Layer norm (centred), or the root-mean-square norm, which has no bias.
    fn norm(&mut self, element: Element, centred: bool) -> Result<Work, u32> {
        let at = if centred { 4 } else { 3 };
        let columns = u64::from(self.u32(at));
        let epsilon = f64::from(self.f32(at + 2));
        let vector = |launch: &Self, at: u64, neutral: f64| match at {
            0 => Ok(vec![neutral; columns as usize]),
            at => launch.numbers(at, columns, element),
        };
        let weight = vector(self, self.u64(2), 1.0)?;
        let bias = vector(self, if centred { self.u64(3) } else { 0 }, 0.0)?;
        let mut numbers = self.numbers(self.u64(0), self.blocks() * columns, element)?;
        for row in numbers.chunks_mut(columns as usize) {
            let n = row.len() as f64;
            let mean = if centred { row.iter().sum::<f64>() / n } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for (x, (weight, bias)) in row.iter_mut().zip(weight.iter().zip(&bias)) {
                *x = (*x - mean) * scale * weight + bias;
            }
        }
        let written = self.write_numbers(self.u64(1), numbers, element)?;
        Ok(traffic(2 * written))
    }
}

#[cfg(test)]
#[path = "candle_tests.rs"]
mod tests;
