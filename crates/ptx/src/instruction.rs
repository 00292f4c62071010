//! A decoded instruction, and the functions that arithmetic is made of.

use super::value::{Row, Type, Value, each, pairs};

/// No register.
pub(super) const NONE: u32 = u32::MAX;

/// What an instruction does to the registers of a warp, in the lanes of the mask.
pub(super) type Lanes = fn(&mut [Row], &Instruction, u32);

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Global,
    Shared,
    Local,
    /// Whichever the address says.
    Generic,
}

/// An access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "an instruction says each of them or does not")]
pub(super) struct Access {
    pub(super) space: Space,
    /// Bytes of an element.
    pub(super) bytes: u32,
    /// Whether a narrow element is extended by its sign.
    pub(super) signed: bool,
    /// Whether it may meet another thread's access, as atomic and volatile ones may.
    pub(super) meets: bool,
    /// Whether what was written before it is seen by whoever reads it.
    pub(super) releases: bool,
    /// Whether what the writer wrote before is seen after it.
    pub(super) acquires: bool,
}

impl Access {
    /// One that nothing is special about.
    pub(super) fn plain(space: Space, bytes: u32) -> Self {
        Self { space, bytes, signed: false, meets: false, releases: false, acquires: false }
    }
}

/// What an atomic operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Atomic {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
    Increment,
    Decrement,
}

/// From where a lane takes a value in a shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What the lanes of a warp agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vote {
    Ballot,
    Any,
    All,
    Uniform,
    /// `match.any`: the lanes that have the same value.
    Match,
    /// `redux`: one value of all.
    Reduce(Atomic, Type),
}

/// Which clock is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Cycles,
    CyclesHigh,
    Nanoseconds,
}

/// A product of small matrices on tensor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Type,
    pub(super) b: Type,
    pub(super) d: Type,
    /// Integers: results beyond the type stop at its end.
    pub(super) saturates: bool,
}

impl Product {
    /// Its place in [`super::counts::PRODUCTS`].
    pub(super) fn arithmetic(&self) -> usize {
        match (self.a, self.d) {
            (Type::F16, Type::F16) => 1,
            (Type::F16, _) => 0,
            (Type::Bf16, _) => 2,
            _ => 3,
        }
    }

    /// Multiplications and additions.
    pub(super) fn operations(&self) -> u64 {
        2 * (self.m * self.n * self.k) as u64
    }
}

/// What an instruction does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Lanes(Lanes),
    /// To the instruction of this index.
    Branch(u32),
    Return,
    Barrier,
    SyncWarp,
    Fence,
    Nothing,
    Trap,
    Assert,
    Clock(Clock),
    /// Bytes of the parameters at `offset`.
    Parameter(Access),
    Load(Access),
    Store(Access),
    Atomic(Access, Atomic, Type),
    Shuffle(Shuffle),
    Vote(Vote),
    ActiveMask,
    Multiply(Product),
    /// `ldmatrix`; whether its addresses are generic, and whether it transposes.
    LoadMatrix(bool, bool),
    /// `cp.async` of so many bytes.
    CopyAsync(u32),
    CommitCopies,
    /// Until no more than so many groups are under way.
    AwaitCopies(u32),
}

/// What it counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Arithmetic and comparison of integers, and bits.
    Integer,
    /// Arithmetic in f32 and in halves.
    Float,
    /// Arithmetic in f64.
    Double,
    /// What special function units compute: reciprocals, roots, exponentials, sines.
    Special,
    /// Between number types.
    Convert,
    /// Between registers.
    Move,
    /// Branches, calls, returns.
    Control,
    /// Loads and stores of device memory.
    Global,
    /// Loads and stores of shared memory.
    Shared,
    /// Loads and stores of local memory.
    Local,
    /// Atomic operations, fences.
    Atomic,
    /// Barriers.
    Barrier,
    /// Shuffles and votes.
    Exchange,
    /// Products of tensor cores.
    Matrix,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Integer,
        Self::Float,
        Self::Double,
        Self::Special,
        Self::Convert,
        Self::Move,
        Self::Control,
        Self::Global,
        Self::Shared,
        Self::Local,
        Self::Atomic,
        Self::Barrier,
        Self::Exchange,
        Self::Matrix,
    ];
}

/// Where in the source an instruction comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) line: u32,
    /// The line of the PTX.
    pub(super) ptx: u32,
}

/// One instruction. Operands are the first rows of registers.
#[derive(Debug, Clone)]
pub(super) struct Instruction {
    pub(super) action: Action,
    pub(super) kind: Kind,
    pub(super) d: u32,
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) c: u32,
    /// The predicate under which it runs.
    pub(super) guard: u32,
    /// Whether it runs where the predicate is false.
    pub(super) unless: bool,
    /// The registers of a vector, and operands beyond the third.
    pub(super) list: Box<[u32]>,
    /// Added to the address.
    pub(super) offset: i64,
    /// Whether it is the first to need what was loaded from device memory before it.
    pub(super) waits: bool,
    pub(super) place: Place,
}

/// Arithmetic as it is found by its form.
pub(super) struct Alu {
    pub(super) run: Lanes,
    pub(super) to: Type,
    pub(super) from: Vec<Type>,
}

impl Alu {
    /// An operation whose operands are of one type.
    pub(super) fn uniform(kind: Type, operands: usize, run: Lanes) -> Self {
        Self { run, to: kind, from: vec![kind; operands] }
    }
}

/// An operation on one operand.
#[inline(always)]
pub(super) fn one<A: Value, D: Value>(
    rows: &mut [Row],
    i: &Instruction,
    mask: u32,
    f: impl Fn(A) -> D,
) {
    let a = A::read(rows, i.a);
    D::write(rows, i.d, each(&a, f), mask);
}

/// An operation on two operands.
#[inline(always)]
pub(super) fn two<A: Value, B: Value, D: Value>(
    rows: &mut [Row],
    i: &Instruction,
    mask: u32,
    f: impl Fn(A, B) -> D,
) {
    let (a, b) = (A::read(rows, i.a), B::read(rows, i.b));
    D::write(rows, i.d, pairs(&a, &b, f), mask);
}

/// An operation on three operands.
#[inline(always)]
pub(super) fn three<A: Value, B: Value, C: Value, D: Value>(
    rows: &mut [Row],
    i: &Instruction,
    mask: u32,
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b, c) = (A::read(rows, i.a), B::read(rows, i.b), C::read(rows, i.c));
    let mut out = [D::default(); 32];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = f(a[lane], b[lane], c[lane]);
    }
    D::write(rows, i.d, out, mask);
}

/// An instruction's name, taken apart. What nobody has taken when it is decoded is not understood.
#[derive(Debug, Clone)]
pub(super) struct Form<'a> {
    pub(super) name: &'a str,
    pub(super) base: &'a str,
    pub(super) types: Vec<Type>,
    words: Vec<&'a str>,
}

impl<'a> Form<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        let mut parts = name.split('.');
        let base = parts.next().unwrap_or_default();
        let (mut types, mut words) = (Vec::new(), Vec::new());
        for word in parts {
            match Type::named(word) {
                Some(kind) => types.push(kind),
                None => words.push(word),
            }
        }
        Self { name, base, types, words }
    }

    /// Takes a word out, if it is there.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let place = self.words.iter().position(|each| *each == word);
        place.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes the first that is there, and gives what stands beside it.
    pub(super) fn take_one<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| self.take(word)).map(|(_, value)| *value)
    }

    /// The only type.
    pub(super) fn only(&self) -> Option<Type> {
        <[Type; 1]>::try_from(&self.types[..]).ok().map(|[kind]| kind)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.words.is_empty()
    }
}
