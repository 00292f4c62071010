//! Parts of registers, products on tensor cores, and copies that go on by themselves.

use std::sync::LazyLock;

use half::f16;

use super::decode::Decoder;
use super::instruction::{Action, Form, Instruction, Kind, Lanes, NONE, Product};
use super::operand::Operand;
use super::value::{ALL, Row, Type, Value, lanes_of};

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

/// Where an element of a fragment lies, in the order of PTX: rows by groups of four lanes.
///
/// For A and D a register holds a row of 8 by the lane's quad; for B a column.
fn element(rows: usize, per_word: usize, lane: usize, word: usize, part: usize) -> (usize, usize) {
    let (group, within) = (lane / 4, lane % 4);
    // The words of a fragment go down eight rows first, and then to the right.
    let down = if rows == 16 { word % 2 } else { 0 };
    let right = if rows == 16 { word / 2 } else { word };
    (group + 8 * down, within * per_word + part + 4 * per_word * right)
}

/// A fragment as a matrix of numbers, row by row; transposed, column by column.
fn gather(
    rows: &[Row],
    list: &[u32],
    (height, width): (usize, usize),
    kind: Type,
    transposed: bool,
) -> Vec<f64> {
    match kind {
        Type::F16 => gather_by(rows, list, (height, width), kind, transposed, f16_number),
        Type::Bf16 => gather_by(rows, list, (height, width), kind, transposed, |bits| {
            f64::from(f32::from_bits(bits << 16))
        }),
        Type::F32 => gather_by(rows, list, (height, width), kind, transposed, |bits| {
            f64::from(f32::from_bits(bits))
        }),
        Type::S8 => gather_by(rows, list, (height, width), kind, transposed, |bits| {
            f64::from((bits as u8).cast_signed())
        }),
        Type::U8 => {
            gather_by(rows, list, (height, width), kind, transposed, |bits| f64::from(bits as u8))
        }
        _ => gather_by(rows, list, (height, width), kind, transposed, |bits| {
            f64::from(bits.cast_signed())
        }),
    }
}

/// The same, with one loop for each type.
#[inline(always)]
fn gather_by(
    rows: &[Row],
    list: &[u32],
    (height, width): (usize, usize),
    kind: Type,
    transposed: bool,
    number: impl Fn(u32) -> f64,
) -> Vec<f64> {
    let per_word = (4 / kind.size() as usize).max(1);
    let (down, right) = if transposed { (1, height) } else { (width, 1) };
    let mut matrix = vec![0.0; height * width];
    for (word, slot) in list.iter().enumerate() {
        for (lane, bits) in rows[*slot as usize].iter().enumerate() {
            for part in 0..per_word {
                let (row, column) = position(height, per_word, kind, lane, word, part);
                matrix[row * down + column * right] =
                    number(bits >> (8 * kind.size() as usize * part));
            }
        }
    }
    matrix
}

/// The number that the lower half of a word is.
fn f16_number(bits: u32) -> f64 {
    /// Conversions are looked up: there are as many halves as a tensor core's operand has in a few products.
    static NUMBERS: LazyLock<Box<[f32]>> =
        LazyLock::new(|| (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect());
    f64::from(NUMBERS[bits as usize & 0xFFFF])
}

/// Results of 32 bits lie two beside each other, as halves do.
fn position(
    height: usize,
    per_word: usize,
    kind: Type,
    lane: usize,
    word: usize,
    part: usize,
) -> (usize, usize) {
    if kind.size() < 4 {
        return element(height, per_word, lane, word, part);
    }
    let (group, within) = (lane / 4, lane % 4);
    (group + 8 * (word / 2), within * 2 + word % 2)
}

/// The most columns of a product: each `mma` has eight.
const COLUMNS: usize = 8;

/// Multiplies the fragments of a warp: every sum is exact and rounded once, where a tensor core cuts bits
/// off on the way.
pub(super) fn multiply(rows: &mut [Row], i: &Instruction, product: &Product) {
    let Product { m, n, k, a, b, d, saturates } = *product;
    let (results, left) = (words(m, n, d), words(m, k, a));
    let right = words(n, k, b);
    let (d_list, rest) = i.list.split_at(results);
    let (a_list, rest) = rest.split_at(left);
    let (b_list, c_list) = rest.split_at(right);
    let first = gather(rows, a_list, (m, k), a, false);
    // B lies by columns: its fragment is that of its transpose.
    let second = gather(rows, b_list, (n, k), b, true);
    let mut sums = gather(rows, c_list, (m, n), d, false);
    for (sums, first) in sums.chunks_exact_mut(n).zip(first.chunks_exact(k)) {
        // All columns together, each of them in the order of k.
        let mut dots = [-0.0; COLUMNS];
        let dots = &mut dots[..n];
        for (x, second) in first.iter().zip(second.chunks_exact(n)) {
            for (dot, y) in dots.iter_mut().zip(second) {
                *dot += x * y;
            }
        }
        for (sum, dot) in sums.iter_mut().zip(dots) {
            *sum += *dot;
        }
    }
    let per_word = (4 / d.size() as usize).max(1);
    for (word, slot) in d_list.iter().enumerate() {
        let lanes = std::array::from_fn(|lane| {
            (0..per_word).fold(0, |bits, part| {
                let (row, column) = position(m, per_word, d, lane, word, part);
                bits | stored(d, sums[row * n + column], saturates)
                    << (8 * d.size() as usize * part)
            })
        });
        u32::write(rows, *slot, lanes, ALL);
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
