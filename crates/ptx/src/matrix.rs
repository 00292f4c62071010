//! Parts of registers, products on tensor cores, and copies that go on by themselves.

use super::decode::Decoder;
use super::instruction::{Action, Form, Instruction, Kind, Lanes, NONE, Product};
use super::operand::Operand;
use super::value::{Row, Type, Value, each, lanes_of};

/// A register as parts, the lowest first.
pub(super) fn split(part: Type) -> Lanes {
    fn of(rows: &mut [Row], i: &Instruction, mask: u32, bits: u32) {
        let wide = i.list.len() as u32 * bits == 64;
        let whole = if wide { u64::read(rows, i.a) } else { u32::read(rows, i.a).map(u64::from) };
        for (index, slot) in (0..).zip(&i.list) {
            let keep = u64::MAX >> (64 - bits);
            u32::write(rows, *slot, whole.map(|x| (x >> (index * bits) & keep) as u32), mask);
        }
    }
    match part {
        Type::B8 => |rows, i, mask| of(rows, i, mask, 8),
        Type::B16 => |rows, i, mask| of(rows, i, mask, 16),
        _ => |rows, i, mask| of(rows, i, mask, 32),
    }
}

/// A register of parts, the lowest first.
pub(super) fn join(part: Type) -> Lanes {
    fn of(rows: &mut [Row], i: &Instruction, mask: u32, bits: u32) {
        let mut whole = [0_u64; 32];
        for (index, slot) in (0..).zip(&i.list) {
            let part = u32::read(rows, *slot);
            for (whole, part) in whole.iter_mut().zip(part) {
                *whole |= (u64::from(part) & (u64::MAX >> (64 - bits))) << (index * bits);
            }
        }
        if i.list.len() as u32 * bits == 64 {
            u64::write(rows, i.d, whole, mask);
        } else {
            u32::write(rows, i.d, whole.map(|x| x as u32), mask);
        }
    }
    match part {
        Type::B8 => |rows, i, mask| of(rows, i, mask, 8),
        Type::B16 => |rows, i, mask| of(rows, i, mask, 16),
        _ => |rows, i, mask| of(rows, i, mask, 32),
    }
}

impl<'a> Decoder<'_, 'a> {
    /// `mma`, `ldmatrix` and `cp.async`.
    pub(super) fn matrices(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, String> {
        made.kind = Kind::Matrix;
        match form.base {
            "mma" => self.product(form, operands, made),
            "ldmatrix" => {
                let shape = ["sync", "aligned", "m8n8"].map(|word| form.take(word));
                if shape != [true; 3] || form.only() != Some(Type::B16) {
                    return Err("its shape is not known".to_owned());
                }
                let count = form.take_one(&[("x1", 1), ("x2", 2), ("x4", 4)]).ok_or("its count")?;
                let generic = !(form.take("shared") | form.take("shared::cta"));
                let [to, from] = operands else { return Err("it takes two operands".to_owned()) };
                made.list = self.parts(to, Type::B32)?.into();
                if made.list.len() != count {
                    return Err(format!("{} registers for {count} matrices", made.list.len()));
                }
                (made.a, made.offset) = self.address(from)?;
                made.action = Action::LoadMatrix(generic, form.take("trans"));
                Ok(made)
            }
            _ => self.copies(form, operands, made),
        }
    }

    fn copies(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, String> {
        if !form.take("async") {
            return Err("it is not known".to_owned());
        }
        if form.take("commit_group") {
            made.action = Action::CommitCopies;
        } else if form.take("wait_all") {
            made.action = Action::AwaitCopies(0);
            made.offset = 1;
        } else if form.take("wait_group") {
            let [Operand::Number(groups)] = operands else { return Err("its count".to_owned()) };
            made.action = Action::AwaitCopies(*groups as u32);
        } else {
            let words = ["shared", "shared::cta", "global"].map(|word| form.take(word));
            let way = form.take("ca") | form.take("cg");
            for hint in ["L2::64B", "L2::128B", "L2::256B"] {
                form.take(hint);
            }
            let (Some([to, from, Operand::Number(bytes)]), true) =
                (operands.get(..3), way && words[2])
            else {
                return Err("its operands".to_owned());
            };
            if !matches!(bytes, 4 | 8 | 16) {
                return Err(format!("{bytes} bytes"));
            }
            let (to, shift) = self.address(to)?;
            let (from, offset) = self.address(from)?;
            (made.d, made.a, made.offset) = (to, from, offset);
            // The bytes that are read; the rest becomes zero.
            made.c = operands.get(3).map_or(Ok(NONE), |size| self.source(size, Type::U32))?;
            let shift = self.constant(super::special::Constant::Bits(shift.cast_unsigned()));
            made.list = Box::from([shift]);
            made.action = Action::CopyAsync(*bytes as u32);
        }
        Ok(made)
    }

    fn parts(&mut self, operand: &Operand<'a>, kind: Type) -> Result<Vec<u32>, String> {
        match operand {
            Operand::Vector(parts) => parts.iter().map(|part| self.source(part, kind)).collect(),
            other => Ok(vec![self.source(other, kind)?]),
        }
    }

    fn product(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, String> {
        const SHAPES: [(&str, [usize; 3]); 6] = [
            ("m16n8k8", [16, 8, 8]),
            ("m16n8k16", [16, 8, 16]),
            ("m16n8k32", [16, 8, 32]),
            ("m8n8k16", [8, 8, 16]),
            ("m8n8k4", [8, 8, 4]),
            ("m16n8k4", [16, 8, 4]),
        ];
        let words = ["sync", "aligned", "row", "col"].map(|word| form.take(word));
        let [m, n, k] = form.take_one(&SHAPES).ok_or("its shape is not known")?;
        let saturates = form.take("satfinite");
        let [d, a, b, c] = <[Type; 4]>::try_from(&form.types[..]).map_err(|_| "its types")?;
        let narrow = [Type::S8, Type::U8].contains(&a) && [Type::S8, Type::U8].contains(&b);
        let known = match (m, k) {
            (16, 8) => a == b && a == Type::F16 || a == b && a == Type::Bf16 && d == Type::F32,
            (16, 16) => {
                narrow && d == Type::S32
                    || a == b && (a == Type::F16 || a == Type::Bf16 && d == Type::F32)
            }
            (16, 32) | (8, 16) => narrow && d == Type::S32,
            _ => false,
        };
        let result = if narrow { d == Type::S32 } else { d == Type::F32 || d == Type::F16 };
        if words != [true; 4] || !known || !result || c != d {
            return Err("its shape or its types are not known".to_owned());
        }
        let product = Product { m, n, k, a, b, d, saturates };
        let [to, left, right, add] = operands else {
            return Err("it takes four operands".to_owned());
        };
        let mut list = Vec::new();
        let expected = [
            m * n * 4 / if d == Type::F16 { 2 } else { 1 } / 128,
            m * k * a.size() as usize / 128,
            k * n * b.size() as usize / 128,
            0,
        ];
        let expected = [expected[0], expected[1], expected[2], expected[0]];
        for (operand, count) in [to, left, right, add].into_iter().zip(expected) {
            let parts = self.parts(operand, Type::B32)?;
            if parts.len() != count.max(1) {
                return Err(format!("{} registers where {count} belong", parts.len()));
            }
            list.extend(parts);
        }
        made.list = list.into();
        made.action = Action::Multiply(product);
        Ok(made)
    }
}

/// Columns of a product: each `mma` has eight.
const COLUMNS: usize = 8;

/// Calls for each element of a fragment in the order of PTX, with its row, its column and its number. A register holds
/// four bytes of a row in each lane: rows go by groups of four lanes, words first eight rows down where there are
/// sixteen, then to the right.
#[inline(always)]
fn each_element<const HEIGHT: usize>(
    rows: &[Row],
    list: &[u32],
    kind: Type,
    mut tell: impl FnMut(usize, usize, f64),
) {
    for (word, slot) in list.iter().enumerate() {
        let row = &rows[*slot as usize];
        let (down, right) = if HEIGHT == 16 { (8 * (word % 2), word / 2) } else { (0, word) };
        match kind {
            Type::F16 => halves(row, (down, 8 * right), f16_number, &mut tell),
            Type::Bf16 => {
                halves(row, (down, 8 * right), bf16_number, &mut tell);
            }
            Type::S8 | Type::U8 => {
                let number = |byte: u8| {
                    if kind == Type::S8 { f64::from(byte.cast_signed()) } else { f64::from(byte) }
                };
                for (lane, bits) in row.iter().enumerate() {
                    let column = 4 * (lane % 4) + 16 * right;
                    for (part, byte) in bits.to_le_bytes().into_iter().enumerate() {
                        tell(lane / 4 + down, column + part, number(byte));
                    }
                }
            }
            _ => {
                for (lane, bits) in row.iter().enumerate() {
                    let (down, column) = of_result(lane, word);
                    let number = if kind == Type::F32 {
                        f64::from(f32::from_bits(*bits))
                    } else {
                        f64::from(bits.cast_signed())
                    };
                    tell(down, column, number);
                }
            }
        }
    }
}

/// Two halves in each lane.
#[inline(always)]
fn halves(
    row: &Row,
    (down, right): (usize, usize),
    number: impl Fn(u16) -> f32,
    tell: &mut impl FnMut(usize, usize, f64),
) {
    let low = each(row, |bits| f64::from(number(bits as u16)));
    let high = each(row, |bits| f64::from(number((bits >> 16) as u16)));
    for (lane, (low, high)) in low.into_iter().zip(high).enumerate() {
        let (down, right) = (lane / 4 + down, 2 * (lane % 4) + right);
        tell(down, right, low);
        tell(down, right + 1, high);
    }
}

/// Where a result of 32 bits lies: two beside each other, as halves do.
fn of_result(lane: usize, word: usize) -> (usize, usize) {
    (lane / 4 + 8 * (word / 2), lane % 4 * 2 + word % 2)
}

/// A half's number, without a branch, so that it is made of many at once.
#[inline(always)]
fn f16_number(bits: u16) -> f32 {
    /// 2¹¹²: what the two exponents' zeros differ by.
    const SHIFT: f32 = f32::from_bits(239 << 23);
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    let scaled = (f32::from_bits(magnitude) * SHIFT).to_bits();
    // Infinities and what is no number keep the largest exponent.
    let number = if magnitude < 0x7C00 << 13 { scaled } else { magnitude | 0x7F80_0000 };
    f32::from_bits(number | u32::from(bits >> 15) << 31)
}

#[inline(always)]
fn bf16_number(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Multiplies the fragments of a warp: every sum is exact and rounded once, where a tensor core cuts bits
/// off on the way.
pub(super) fn multiply(rows: &mut [Row], i: &Instruction, product: &Product) {
    // The shapes that the decoder lets through.
    match (product.m, product.k) {
        (16, 8) => shaped::<16, 8>(rows, i, product),
        (16, 16) => shaped::<16, 16>(rows, i, product),
        (16, _) => shaped::<16, 32>(rows, i, product),
        _ => shaped::<8, 16>(rows, i, product),
    }
}

fn shaped<const M: usize, const K: usize>(rows: &mut [Row], i: &Instruction, product: &Product) {
    let Product { a, b, d, saturates, .. } = *product;
    let (d_list, rest) = i.list.split_at(words(M, COLUMNS, d));
    let (a_list, rest) = rest.split_at(words(M, K, a));
    let (b_list, c_list) = rest.split_at(words(K, COLUMNS, b));
    let mut first = [[0.0; K]; M];
    each_element::<M>(rows, a_list, a, |row, column, x| first[row][column] = x);
    // B lies by columns: its fragment is that of its transpose.
    let mut second = [[0.0; COLUMNS]; K];
    each_element::<COLUMNS>(rows, b_list, b, |column, row, x| second[row][column] = x);
    let mut sums = [[0.0; COLUMNS]; M];
    each_element::<M>(rows, c_list, d, |row, column, x| sums[row][column] = x);
    add_products(&first, &second, &mut sums);
    for (word, slot) in d_list.iter().enumerate() {
        rows[*slot as usize] = if d == Type::F16 {
            let (down, right) =
                if M == 16 { (8 * (word % 2), 8 * (word / 2)) } else { (0, 8 * word) };
            std::array::from_fn(|lane| {
                let (row, column) = (lane / 4 + down, 2 * (lane % 4) + right);
                let half = |part: usize| stored(d, sums[row][column + part], saturates);
                half(0) | half(1) << 16
            })
        } else {
            std::array::from_fn(|lane| {
                let (row, column) = of_result(lane, word);
                stored(d, sums[row][column], saturates)
            })
        };
    }
}

/// Adds the product of two matrices, each of its sums in the order of `K`. Processors differ in how many columns they
/// take at once, and in nothing that is computed.
fn add_products<const M: usize, const K: usize>(
    first: &[[f64; K]; M],
    second: &[[f64; COLUMNS]; K],
    sums: &mut [[f64; COLUMNS]; M],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has it.
        return unsafe { add_products_in_eights(first, second, sums) };
    }
    add_products_in_turn(first, second, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_products_in_eights<const M: usize, const K: usize>(
    first: &[[f64; K]; M],
    second: &[[f64; COLUMNS]; K],
    sums: &mut [[f64; COLUMNS]; M],
) {
    add_products_in_turn(first, second, sums);
}

#[inline(always)]
fn add_products_in_turn<const M: usize, const K: usize>(
    first: &[[f64; K]; M],
    second: &[[f64; COLUMNS]; K],
    sums: &mut [[f64; COLUMNS]; M],
) {
    for (sums, first) in sums.iter_mut().zip(first) {
        let mut dots = [-0.0; COLUMNS];
        for (x, second) in first.iter().zip(second) {
            for (dot, y) in dots.iter_mut().zip(second) {
                *dot += x * y;
            }
        }
        for (sum, dot) in sums.iter_mut().zip(dots) {
            *sum += dot;
        }
    }
}

fn words(height: usize, width: usize, kind: Type) -> usize {
    height * width * kind.size() as usize / 128
}

fn stored(kind: Type, x: f64, saturates: bool) -> u32 {
    match kind {
        Type::F32 => (x as f32).to_bits(),
        Type::F16 => u32::from(super::nearest::f16_from_f64(x).to_bits()),
        _ if saturates => (x as i32).cast_unsigned(),
        _ => x as i64 as u32,
    }
}

/// What `ldmatrix` gives each lane: matrix `index`, of eight rows of 16 bytes that lanes `8 * index` on
/// point to.
pub(super) fn fragment(lines: &[[u8; 16]; 8], transposed: bool) -> Row {
    let half = |row: usize, column: usize| {
        u32::from(u16::from_le_bytes([lines[row][2 * column], lines[row][2 * column + 1]]))
    };
    std::array::from_fn(|lane| {
        let (group, within) = (lane / 4, 2 * (lane % 4));
        if transposed {
            half(within, group) | half(within + 1, group) << 16
        } else {
            half(group, within) | half(group, within + 1) << 16
        }
    })
}

/// Whether all lanes are there, as an operation of the whole warp needs.
pub(super) fn is_whole(mask: u32) -> bool {
    lanes_of(!mask).next().is_none()
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn halves_are_the_numbers_that_they_are() {
        for bits in 0..=u16::MAX {
            let pairs = [
                (f16_number(bits), f16::from_bits(bits).to_f32()),
                (bf16_number(bits), bf16::from_bits(bits).to_f32()),
            ];
            for (made, number) in pairs {
                let same = made.to_bits() == number.to_bits() || made.is_nan() && number.is_nan();
                assert!(same, "{bits:04x}: {made} and not {number}");
            }
        }
    }
}
