//! What memory holds, as a description that is computed where somebody looks.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use crate::bytes::Bytes;
pub(crate) use crate::element::{Element, Word, word};

/// What fresh memory holds: every floating-point type's NaN, so that reading it shows.
pub(crate) const POISON: u8 = 0xFF;

/// Contents of any length that can be computed at any place.
pub(crate) trait Source: Send + Sync {
    /// Writes the bytes from `offset` on.
    fn read(&self, offset: u64, out: &mut [u8]);

    /// Whether anybody ever wrote them.
    fn is_written(&self) -> bool {
        true
    }
}

/// Writes `out`, which begins at byte `offset` of elements of `size` bytes, element by element.
pub(crate) fn by_element(offset: u64, out: &mut [u8], size: u64, element: impl Fn(u64) -> Word) {
    let mut at = 0;
    while at < out.len() {
        let place = offset + at as u64;
        let bytes = element(place / size);
        let skip = (place % size) as usize;
        let take = (size as usize - skip).min(out.len() - at);
        out[at..at + take].copy_from_slice(&bytes[skip..skip + take]);
        at += take;
    }
}

/// Memory that nobody wrote.
struct Fresh;

impl Source for Fresh {
    fn read(&self, _offset: u64, out: &mut [u8]) {
        out.fill(POISON);
    }

    fn is_written(&self) -> bool {
        false
    }
}

/// One byte, over and over: a memset.
pub(crate) struct Byte(pub(crate) u8);

impl Source for Byte {
    fn read(&self, _offset: u64, out: &mut [u8]) {
        out.fill(self.0);
    }
}

/// Sixteen bytes, over and over.
pub(crate) struct Pattern(pub(crate) [u8; 16]);

impl Source for Pattern {
    fn read(&self, offset: u64, out: &mut [u8]) {
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = self.0[(offset as usize + at) % 16];
        }
    }
}

/// The random numbers of a key, as `kernels/fill.cu` makes them.
pub(crate) struct Random {
    pub(crate) key: u64,
    pub(crate) element: Element,
}

impl Random {
    fn number(&self, index: u64) -> Word {
        let golden = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut z = self.key.wrapping_add(golden);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let centred = (z >> 40) as i32 - (1 << 23);
        let bits = (centred as f32 / 8_388_608.0).to_bits();
        // The leading bits of a number below 1, in a type with this many bits of exponent and fraction;
        // what would be subnormal is zero.
        let short = |exponents: u32, fractions: u32| {
            let sign = (bits >> 31) << (exponents + fractions);
            let offset = (1 << (exponents - 1)) - 1;
            let (exponent, fraction) = ((bits >> 23) & 0xFF, bits >> (23 - fractions));
            let normal = exponent + offset > 127;
            let kept = fraction & ((1 << fractions) - 1);
            sign | if normal { ((exponent + offset - 127) << fractions) | kept } else { 0 }
        };
        match self.element {
            Element::F32 | Element::Tf32 | Element::Tf32Even => word(&bits.to_le_bytes()),
            Element::Bf16 => word(&(bits >> 16).to_le_bytes()),
            Element::F16 => word(&short(5, 10).to_le_bytes()),
            Element::Fp8 => word(&short(4, 3).to_le_bytes()),
            Element::Int8 => word(&[(z >> 56) as u8]),
            Element::Int32 => word(&((z >> 32) as u32).to_le_bytes()),
            Element::F64 => {
                let centred = (z >> 11).cast_signed() - (1 << 52);
                (centred as f64 / f64::powi(2.0, 52)).to_le_bytes()
            }
        }
    }
}

impl Source for Random {
    fn read(&self, offset: u64, out: &mut [u8]) {
        by_element(offset, out, self.element.size(), |index| self.number(index));
    }
}

/// An f32 for each pair of f32 at the same place of two arrays.
pub(crate) struct Elementwise {
    pub(crate) a: Snapshot,
    pub(crate) b: Snapshot,
    pub(crate) map: Box<dyn Fn(f32, f32) -> f32 + Send + Sync>,
}

impl Source for Elementwise {
    fn read(&self, offset: u64, out: &mut [u8]) {
        // Whole elements around what is asked for.
        let first = offset / 4 * 4;
        let end = (offset + out.len() as u64).next_multiple_of(4);
        let mut a = vec![0; (end - first) as usize];
        let mut b = a.clone();
        self.a.read(first, &mut a);
        self.b.read(first, &mut b);
        by_element(offset, out, 4, |index| {
            let at = (index * 4 - first) as usize;
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            word(&(self.map)(number(&a), number(&b)).to_le_bytes())
        });
    }
}

/// A stretch of memory with one origin.
#[derive(Clone)]
struct Segment {
    len: u64,
    source: Arc<dyn Source>,
    /// Where in the source the stretch begins.
    from: u64,
}

impl Segment {
    fn part(&self, skip: u64, len: u64) -> Self {
        Self { len, source: Arc::clone(&self.source), from: self.from + skip }
    }
}

/// What an allocation holds: stretches from its first byte to its last, by where they begin.
pub(crate) struct Contents(BTreeMap<u64, Segment>);

impl Contents {
    /// Memory that nobody wrote yet.
    pub(crate) fn poisoned(len: u64) -> Self {
        Self(BTreeMap::from([(0, Segment { len, source: Arc::new(Fresh), from: 0 })]))
    }

    /// Lets `len` bytes at `at` hold what `source` begins with.
    pub(crate) fn write(&mut self, at: u64, len: u64, source: Arc<dyn Source>) {
        if len > 0 {
            self.clear(at, len);
            self.0.insert(at, Segment { len, source, from: 0 });
        }
    }

    /// Lets the bytes at `at` hold what other memory held, without a chain of copies.
    pub(crate) fn copy(&mut self, at: u64, what: Snapshot) {
        for (offset, segment) in what.0 {
            self.clear(at + offset, segment.len);
            self.0.insert(at + offset, segment);
        }
    }

    /// What `len` bytes at `at` hold now.
    pub(crate) fn snapshot(&self, at: u64, len: u64) -> Snapshot {
        let begin = self.0.range(..=at).next_back().map_or(at, |(start, _)| *start);
        let parts = self.0.range(begin..at + len).filter_map(|(&start, segment)| {
            let first = start.max(at);
            let end = (start + segment.len).min(at + len);
            (first < end).then(|| (first - at, segment.part(first - start, end - first)))
        });
        Snapshot(parts.collect())
    }

    /// Cuts a hole.
    fn clear(&mut self, at: u64, len: u64) {
        let begin = self.0.range(..=at).next_back().map_or(at, |(start, _)| *start);
        let touched: Vec<u64> = self.0.range(begin..at + len).map(|(start, _)| *start).collect();
        for start in touched {
            let segment = self.0.remove(&start).unwrap();
            if start < at {
                self.0.insert(start, segment.part(0, segment.len.min(at - start)));
            }
            let (end, hole) = (start + segment.len, at + len);
            if end > hole {
                self.0.insert(hole, segment.part(hole - start, end - hole));
            }
        }
    }
}

/// What a stretch of memory held at one moment; later writes do not change it.
#[derive(Clone)]
pub(crate) struct Snapshot(Vec<(u64, Segment)>);

impl Snapshot {
    /// The stretches that nobody had written, from their first byte to behind their last.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = (u64, u64)> {
        let parts = self.0.iter().filter(|(_, segment)| !segment.source.is_written());
        parts.map(|(start, segment)| (*start, start + segment.len))
    }
}

impl Source for Snapshot {
    fn read(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        let first = self.0.partition_point(|(start, segment)| start + segment.len <= offset);
        for (start, segment) in self.0[first..].iter().take_while(|(start, _)| *start < end) {
            let (from, to) = (offset.max(*start), end.min(start + segment.len));
            let part = &mut out[(from - offset) as usize..(to - offset) as usize];
            segment.source.read(segment.from + from - start, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(contents: &Contents, at: u64, len: u64) -> Vec<u8> {
        let mut out = vec![0; len as usize];
        contents.snapshot(at, len).read(0, &mut out);
        out
    }

    #[test]
    fn a_write_covers_its_stretch_and_nothing_else() {
        let mut memory = Contents::poisoned(8);
        memory.write(2, 4, Arc::new(Bytes(vec![1, 2, 3, 4])));
        memory.write(3, 1, Arc::new(Byte(9)));
        assert_eq!(bytes(&memory, 0, 8), [POISON, POISON, 1, 9, 3, 4, POISON, POISON]);
        assert_eq!(bytes(&memory, 3, 3), [9, 3, 4]);
    }

    #[test]
    fn what_nobody_wrote_is_known_after_copies_too() {
        let mut memory = Contents::poisoned(8);
        memory.write(2, 2, Arc::new(Byte(1)));
        let before = memory.snapshot(0, 4);
        memory.copy(4, before);
        let stretches: Vec<(u64, u64)> = memory.snapshot(1, 7).unwritten().collect();
        assert_eq!(stretches, [(0, 1), (3, 5)]);
    }

    #[test]
    fn a_snapshot_keeps_what_was_there() {
        let mut memory = Contents::poisoned(4);
        memory.write(0, 4, Arc::new(Byte(1)));
        let before = memory.snapshot(1, 2);
        memory.write(0, 4, Arc::new(Byte(2)));
        memory.copy(2, before);
        assert_eq!(bytes(&memory, 0, 4), [2, 2, 1, 1]);
    }

    #[test]
    fn numbers_read_apart_are_those_read_together() {
        use Element::{Bf16, F16, F32, F64, Fp8, Int8};
        for element in [F16, Bf16, F32, F64, Fp8, Int8] {
            let random = Random { key: 7, element };
            let mut whole = [0; 64];
            random.read(0, &mut whole);
            for at in 0..60_u64 {
                let mut part = [0; 3];
                random.read(at, &mut part);
                assert_eq!(part, whole[at as usize..at as usize + 3]);
            }
        }
    }

    #[test]
    fn elementwise_results_are_computed_where_they_are_read() {
        let numbers: Vec<u8> = (0..4).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let mut memory = Contents::poisoned(16);
        memory.write(0, 16, Arc::new(Bytes(numbers)));
        let (a, b) = (memory.snapshot(0, 16), memory.snapshot(0, 16));
        memory.write(0, 16, Arc::new(Elementwise { a, b, map: Box::new(|a, b| a + 2.0 * b) }));
        assert_eq!(bytes(&memory, 8, 4), 6.0_f32.to_le_bytes());
        assert_eq!(bytes(&memory, 7, 2), [3.0_f32.to_le_bytes()[3], 6.0_f32.to_le_bytes()[0]]);
    }
}
