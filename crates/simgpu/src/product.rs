//! A matrix product, computed where somebody looks.

use crate::contents::{Element, Snapshot, Source, Word, by_element};

/// Entries asked for at once, from which on reading both operands whole is cheaper than element by
/// element.
const MANY: usize = 256;

/// A matrix in memory, column after column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) element: Element,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    /// Elements from one column to the next.
    pub(crate) leading: u64,
}

impl Layout {
    /// Bytes from the first element to the last.
    pub(crate) fn bytes(&self) -> u64 {
        ((self.columns - 1) * self.leading + self.rows) * self.element.size()
    }

    /// Bytes of the elements themselves.
    pub(crate) fn traffic(&self) -> f64 {
        self.rows as f64 * self.columns as f64 * self.element.size() as f64
    }
}

/// An operand: a matrix, what it held, and whether its transpose is meant.
pub(crate) struct Operand {
    pub(crate) layout: Layout,
    pub(crate) what: Snapshot,
    pub(crate) transposed: bool,
}

impl Operand {
    fn place(&self, row: u64, column: u64) -> u64 {
        let (row, column) = if self.transposed { (column, row) } else { (row, column) };
        column * self.layout.leading + row
    }

    fn element(&self, row: u64, column: u64) -> f64 {
        let size = self.layout.element.size();
        let mut bytes = Word::default();
        self.what.read(self.place(row, column) * size, &mut bytes[..size as usize]);
        self.layout.element.decode(&bytes)
    }

    fn whole(&self) -> Vec<f64> {
        let mut bytes = vec![0; self.layout.bytes() as usize];
        self.what.read(0, &mut bytes);
        let elements = bytes.chunks(self.layout.element.size() as usize);
        elements.map(|bytes| self.layout.element.decode(bytes)).collect()
    }
}

/// `alpha · A · B + beta · C`, summed in f64 and rounded once, which is within every accumulator's
/// error.
pub(crate) struct Product {
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    /// What is added; nothing is kept alive of a result that is only overwritten.
    pub(crate) c: Option<Operand>,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    /// The length of the sums.
    pub(crate) inner: u64,
    /// How the result lies in memory.
    pub(crate) d: Layout,
    /// What lay there before between the columns, where there is something between them.
    pub(crate) before: Option<Snapshot>,
}

impl Product {
    fn finished(&self, sum: f64, row: u64, column: u64) -> Word {
        let kept = self.c.as_ref().map_or(0.0, |c| self.beta * c.element(row, column));
        self.d.element.encode(self.alpha * sum + kept)
    }

    fn entry(&self, row: u64, column: u64) -> Word {
        let products = (0..self.inner).map(|i| self.a.element(row, i) * self.b.element(i, column));
        self.finished(products.sum(), row, column)
    }

    fn read_with(&self, offset: u64, out: &mut [u8], entry: impl Fn(u64, u64) -> Word) {
        let size = self.d.element.size();
        by_element(offset, out, size, |index| {
            let (row, column) = (index % self.d.leading, index / self.d.leading);
            if row < self.d.rows {
                return entry(row, column);
            }
            let mut bytes = Word::default();
            if let Some(before) = &self.before {
                before.read(index * size, &mut bytes[..size as usize]);
            }
            bytes
        });
    }
}

impl Source for Product {
    fn read(&self, offset: u64, out: &mut [u8]) {
        if out.len() <= MANY * self.d.element.size() as usize {
            return self.read_with(offset, out, |row, column| self.entry(row, column));
        }
        let (a, b) = (self.a.whole(), self.b.whole());
        self.read_with(offset, out, |row, column| {
            let products = (0..self.inner)
                .map(|i| a[self.a.place(row, i) as usize] * b[self.b.place(i, column) as usize]);
            self.finished(products.sum(), row, column)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::{Bytes, Contents};
    use std::sync::Arc;

    fn operand(rows: u64, columns: u64, numbers: &[f32], transposed: bool) -> Operand {
        let layout = Layout { element: Element::F32, rows, columns, leading: rows };
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut memory = Contents::poisoned(layout.bytes());
        memory.write(0, layout.bytes(), Arc::new(Bytes(bytes)));
        Operand { layout, what: memory.snapshot(0, layout.bytes()), transposed }
    }

    fn numbers(product: &Product) -> Vec<f32> {
        let mut bytes = vec![0; product.d.bytes() as usize];
        product.read(0, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn products_agree_with_those_by_hand_in_every_orientation() {
        // A = [1 3; 2 4], B = [5 7; 6 8] by columns; AB = [23 31; 34 46].
        for (first, second) in [(false, false), (true, false), (false, true), (true, true)] {
            let a = if first { [1.0, 3.0, 2.0, 4.0] } else { [1.0, 2.0, 3.0, 4.0] };
            let b = if second { [5.0, 7.0, 6.0, 8.0] } else { [5.0, 6.0, 7.0, 8.0] };
            let (a, b) = (operand(2, 2, &a, first), operand(2, 2, &b, second));
            let c = operand(2, 2, &[1.0; 4], false);
            let d = Layout { leading: 3, ..c.layout };
            let c = Some(c);
            let before = Some(operand(5, 1, &[9.0; 5], false).what);
            let product = Product { a, b, c, alpha: 1.0, beta: 2.0, inner: 2, d, before };
            assert_eq!(numbers(&product), [25.0, 36.0, 9.0, 33.0, 48.0]);
        }
    }

    #[test]
    fn many_entries_at_once_are_those_one_by_one() {
        let side = 20;
        let ramp: Vec<f32> = (0..side * side).map(|i| (i % 7) as f32 - 3.0).collect();
        let matrix = || operand(side, side, &ramp, false);
        let d = matrix().layout;
        let product = Product {
            a: matrix(),
            b: matrix(),
            c: None,
            alpha: 1.0,
            beta: 0.0,
            inner: side,
            d,
            before: None,
        };
        let mut one = [0; 4];
        product.read(4 * 123, &mut one);
        assert_eq!(numbers(&product)[123].to_bits(), u32::from_le_bytes(one));
    }
}
