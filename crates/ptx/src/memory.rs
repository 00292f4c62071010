//! Instructions that access memory: loads, stores, atomic operations and parameters.

use super::convert;
use super::decode::Decoder;
use super::instruction::{Access, Action, Atomic, Form, Instruction, Kind, NONE, Space};
use super::operand::{Operand, Refused};
use super::value::{Type, Width};

pub(super) const ATOMICS: [(&str, Atomic); 10] = [
    ("add", Atomic::Add),
    ("min", Atomic::Min),
    ("max", Atomic::Max),
    ("and", Atomic::And),
    ("or", Atomic::Or),
    ("xor", Atomic::Xor),
    ("exch", Atomic::Exchange),
    ("cas", Atomic::CompareExchange),
    ("inc", Atomic::Increment),
    ("dec", Atomic::Decrement),
];

/// Hints and scopes that change nothing here: caches, and how far an order is seen.
const HINTS: [&str; 22] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "cv",
    "lu",
    "wb",
    "wt",
    "weak",
    "gpu",
    "cta",
    "sys",
    "cluster",
    "noftz",
    "L1::evict_last",
    "L1::evict_first",
    "L1::no_allocate",
    "L1::evict_normal",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L1::evict_unchanged",
];

impl<'a> Decoder<'_, 'a> {
    pub(super) fn memory(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Option<Instruction>, Refused> {
        let [first, second] = operands else { return Err("it takes two operands".to_owned()) };
        let stores = form.base == "st";
        let (value, address) = if stores { (second, first) } else { (first, second) };
        let kind = form.only().ok_or("it has no type")?;
        let lanes = form.take_one(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1);
        let single = [value.clone()];
        let values = if let Operand::Vector(values) = value { &values[..] } else { &single };
        if values.len() != lanes {
            return Err(format!("{} registers for {lanes} elements", values.len()));
        }
        if form.take("param") || form.take("param::entry") || form.take("param::func") {
            return self.parameter(kind, stores, values, address, made);
        }
        let (volatile, relaxed) = (form.take("volatile"), form.take("relaxed"));
        let (acquires, releases) = (form.take("acquire"), form.take("release"));
        let space = space(form);
        for hint in HINTS {
            form.take(hint);
        }
        let meets = volatile || relaxed || acquires || releases;
        let (bytes, signed) = (kind.size(), kind.is_signed());
        let access = Access { space, bytes, signed, meets, releases, acquires };
        made.kind = match space {
            Space::Shared => Kind::Shared,
            Space::Local => Kind::Local,
            _ => Kind::Global,
        };
        (made.a, made.offset) = self.address(address)?;
        let mut list = Vec::new();
        for each in values {
            list.push(if stores { self.stored(each, kind)? } else { self.loaded(each, kind)? });
        }
        // A register that is wider than what is loaded takes the rest too.
        let wide = values.iter().any(|each| is_wide(each)) && kind.size() < 8 && !stores;
        made.list = list.into();
        made.action = if stores { Action::Store(access) } else { Action::Load(access) };
        made.d = u32::from(wide);
        Ok(Some(made))
    }

    /// Where an element that is stored lies: a wider register gives its lowest bits.
    fn stored(&mut self, operand: &Operand<'a>, kind: Type) -> Result<u32, Refused> {
        match operand {
            Operand::Register(register) if register.width == Width::Double && kind.size() < 8 => {
                Ok(register.slot)
            }
            other => self.source(other, kind),
        }
    }

    /// Where an element is loaded to: into a register of its width, or a wider one.
    fn loaded(&mut self, operand: &Operand<'a>, kind: Type) -> Result<u32, Refused> {
        match operand {
            Operand::Register(register) if register.width == Width::Double && kind.size() < 8 => {
                Ok(register.slot)
            }
            other => self.target(other, kind),
        }
    }

    /// A parameter of the kernel, or of a call, which is a register.
    fn parameter(
        &mut self,
        kind: Type,
        stores: bool,
        values: &[Operand<'a>],
        address: &Operand<'a>,
        mut made: Instruction,
    ) -> Result<Option<Instruction>, Refused> {
        let Operand::Address { base: None, symbol: Some(name), offset } = address else {
            return Err("a parameter whose place is computed".to_owned());
        };
        made.kind = Kind::Move;
        if let (false, Some(begin)) = (stores, self.parameters.get(name)) {
            made.offset = begin + offset;
            let mut list = Vec::new();
            for each in values {
                list.push(self.loaded(each, kind)?);
            }
            made.d = u32::from(values.iter().any(is_wide) && kind.size() < 8);
            made.list = list.into();
            let access = Access::plain(Space::Generic, kind.size());
            made.action = Action::Parameter(Access { signed: kind.is_signed(), ..access });
            return Ok(Some(made));
        }
        for (index, value) in (0..).zip(values) {
            let key = (*name, offset + index * i64::from(kind.size()));
            let place = match (self.passed.get(&key), stores) {
                (Some(register), _) => *register,
                (None, true) => self.fresh(Width::Double),
                (None, false) => return Err(format!("nothing was passed as {name}+{}", key.1)),
            };
            self.passed.insert(key, place);
            let run = convert::moved(kind);
            let (d, a) = if stores {
                (place.slot, self.source(value, kind)?)
            } else {
                (self.target(value, kind)?, place.slot)
            };
            self.code.push(Instruction { action: Action::Lanes(run), d, a, ..made.clone() });
        }
        Ok(None)
    }

    pub(super) fn atomic(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        let kind = form.only().ok_or("it has no type")?;
        let gives = form.base == "atom";
        form.take("relaxed");
        let both = form.take("acq_rel");
        let (acquires, releases) = (form.take("acquire") || both, form.take("release") || both);
        let space = space(form);
        let operation = form.take_one(&ATOMICS).ok_or("it does not say what")?;
        for hint in HINTS {
            form.take(hint);
        }
        let values = operands.get(usize::from(gives)..).unwrap_or_default();
        let (address, values) = values.split_first().ok_or("it has no address")?;
        let needed = if operation == Atomic::CompareExchange { 2 } else { 1 };
        if values.len() != needed {
            return Err(format!("{} values where {needed} belong", values.len()));
        }
        made.d =
            if gives { self.target(&operands[0], kind)? } else { self.fresh(kind.width()).slot };
        (made.a, made.offset) = self.address(address)?;
        made.b = self.source(&values[0], kind)?;
        made.c = values.get(1).map_or(Ok(NONE), |value| self.source(value, kind))?;
        let access =
            Access { space, bytes: kind.size(), signed: false, meets: true, releases, acquires };
        made.action = Action::Atomic(access, operation, kind);
        made.kind = Kind::Atomic;
        if !super::atomic::is_known(operation, kind) {
            return Err("this form of it is not known".to_owned());
        }
        Ok(made)
    }
}

fn space(form: &mut Form<'_>) -> Space {
    let spaces = [
        ("global", Space::Global),
        ("const", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("local", Space::Local),
    ];
    form.take_one(&spaces).unwrap_or(Space::Generic)
}

fn is_wide(operand: &Operand<'_>) -> bool {
    matches!(operand, Operand::Register(register) if register.width == Width::Double)
}
