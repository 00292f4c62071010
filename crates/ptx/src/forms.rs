//! Instructions: what a name and its operands make.

use super::convert;
use super::decode::Decoder;
use super::instruction::{Action, Alu, Form, Instruction, Kind, NONE};
use super::operand::{Operand, Refused, Register, fitting};
use super::special::Constant;
use super::value::{Type, Width};
use super::{compare, float, integer};

impl<'a> Decoder<'_, 'a> {
    /// The first row of a value of a type.
    pub(super) fn source(&mut self, operand: &Operand<'a>, kind: Type) -> Result<u32, Refused> {
        match operand {
            Operand::Register(register) => fitting(*register, kind),
            Operand::Inverted(register) if kind == Type::Pred => {
                let inverted = self.fresh(Width::Predicate).slot;
                let mut form = Form::new("not.pred");
                let alu = integer::find(&mut form).ok_or("a predicate that is turned round")?;
                let blank = self.blank(Action::Lanes(alu.run), Kind::Integer);
                self.code.push(Instruction { d: inverted, a: register.slot, ..blank });
                Ok(inverted)
            }
            Operand::Number(bits) if kind == Type::Pred => {
                let all = if *bits == 0 { 0 } else { u64::from(u32::MAX) };
                Ok(self.constant(Constant::Bits(all)))
            }
            Operand::Number(bits) => Ok(self.constant(Constant::Bits(*bits))),
            Operand::Symbol(name, offset) => {
                let constant = self.symbol(name).ok_or_else(|| format!("no variable {name}"))?;
                Ok(self.constant(moved(constant, *offset)))
            }
            other => Err(format!("the operand {other:?} of type {kind:?}")),
        }
    }

    /// The first row of what takes a result of a type.
    pub(super) fn target(&mut self, operand: &Operand<'a>, kind: Type) -> Result<u32, Refused> {
        match operand {
            Operand::Register(register) => fitting(*register, kind),
            Operand::Sink => Ok(self.fresh(kind.width()).slot),
            other => Err(format!("the result {other:?} of type {kind:?}")),
        }
    }

    /// The register and the offset of an address.
    pub(super) fn address(&mut self, operand: &Operand<'a>) -> Result<(u32, i64), Refused> {
        let Operand::Address { base, symbol, offset } = operand else {
            return Err(format!("the address {operand:?}"));
        };
        match (base, symbol) {
            // An address of 32 bits, as those of shared memory may be, is made one of 64.
            (Some(base), _) if base.width == Width::Single => {
                let wide = self.fresh(Width::Double).slot;
                let mut form = Form::new("cvt.u64.u32");
                let (alu, _) = convert::find(&mut form).ok_or("an address of 32 bits")?;
                let blank = self.blank(Action::Lanes(alu.run), Kind::Convert);
                self.code.push(Instruction { d: wide, a: base.slot, ..blank });
                Ok((wide, *offset))
            }
            (Some(base), _) if base.width == Width::Double => Ok((base.slot, *offset)),
            (Some(_), _) => Err("a predicate as an address".to_owned()),
            (None, Some(name)) => {
                let constant = self.symbol(name).ok_or_else(|| format!("no variable {name}"))?;
                Ok((self.constant(constant), *offset))
            }
            (None, None) => Ok((self.constant(Constant::Bits(0)), *offset)),
        }
    }

    /// An instruction without operands and predicate.
    fn blank(&self, action: Action, kind: Kind) -> Instruction {
        Instruction {
            action,
            kind,
            d: NONE,
            a: NONE,
            b: NONE,
            c: NONE,
            guard: NONE,
            unless: false,
            list: Box::default(),
            offset: 0,
            waits: false,
            place: self.place,
        }
    }

    /// Adds what a name and its operands say to the code.
    pub(super) fn instruction(
        &mut self,
        name: &'a str,
        operands: &[Operand<'a>],
        blank: Instruction,
    ) -> Result<(), Refused> {
        let mut form = Form::new(name);
        let made = match form.base {
            "ld" | "ldu" | "st" => self.memory(&mut form, operands, blank)?,
            "atom" | "red" => Some(self.atomic(&mut form, operands, blank)?),
            "shfl" | "vote" | "activemask" | "match" | "redux" => {
                Some(self.exchange(&mut form, operands, blank)?)
            }
            "bar" | "barrier" | "membar" | "fence" | "nanosleep" | "prefetch" | "trap"
            | "brkpt" => Some(self.order(&mut form, operands, blank)?),
            "mma" | "ldmatrix" | "cp" => Some(self.matrices(&mut form, operands, blank)?),
            "mov"
                if operands.iter().any(|o| matches!(o, Operand::Vector(_) | Operand::Name(_))) =>
            {
                Some(self.packed(&mut form, operands, blank)?)
            }
            _ => Some(self.arithmetic(&mut form, operands, blank)?),
        };
        if !form.is_spent() {
            return Err("this form of it is not known".to_owned());
        }
        self.code.extend(made);
        Ok(())
    }

    fn arithmetic(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        let (kind, alu) = self.find(form, &mut made).ok_or("it is not known")?;
        let (first, rest) = operands.split_first().ok_or("it has no operands")?;
        if let Operand::Pair(holds, fails) = first {
            return self.both(&alu, (*holds, *fails), rest, made);
        }
        if rest.len() != alu.from.len() {
            return Err(format!("{} operands where {} belong", rest.len(), alu.from.len()));
        }
        let mut slots = Vec::new();
        for (operand, kind) in rest.iter().zip(&alu.from) {
            // A conversion takes the lower bits of a wider register.
            let narrow = kind.size() < 8 && form.base == "cvt";
            let slot = match operand {
                Operand::Register(register) if narrow && register.width == Width::Double => {
                    register.slot
                }
                other => self.source(other, *kind)?,
            };
            slots.push(slot);
        }
        made.d = self.target(first, alu.to)?;
        made.a = slots.first().copied().unwrap_or(NONE);
        made.b = slots.get(1).copied().unwrap_or(NONE);
        made.c = slots.get(2).copied().unwrap_or(NONE);
        if made.list.is_empty() {
            made.list = slots.iter().skip(3).copied().collect();
        }
        (made.action, made.kind) = (Action::Lanes(alu.run), kind);
        Ok(made)
    }

    /// `setp` with two results: where the comparison holds, and where it does not.
    fn both(
        &mut self,
        alu: &Alu,
        (holds, fails): (Register, Register),
        rest: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        if alu.to != Type::Pred || rest.len() != alu.from.len() {
            return Err("two results".to_owned());
        }
        made.d = fitting(holds, Type::Pred)?;
        made.a = self.source(&rest[0], alu.from[0])?;
        made.b = self.source(&rest[1], alu.from[1])?;
        (made.action, made.kind) = (Action::Lanes(alu.run), Kind::Integer);
        self.code.push(made.clone());
        let not = integer::find(&mut Form::new("not.pred")).ok_or("two results")?;
        let action = Action::Lanes(not.run);
        Ok(Instruction { action, d: fitting(fails, Type::Pred)?, a: made.d, ..made })
    }

    /// The arithmetic of a form, and what it counts as.
    fn find(&mut self, form: &mut Form<'_>, made: &mut Instruction) -> Option<(Kind, Alu)> {
        if form.base == "mov" || form.base == "cvt" || form.base == "cvta" {
            let kind = if form.base == "cvt" { Kind::Convert } else { Kind::Move };
            let (alu, conversion) = convert::find(form)?;
            if let Some(conversion) = conversion {
                made.offset = conversion.packed()?;
            }
            return Some((kind, alu));
        }
        if let Some(alu) = compare::find(form) {
            return Some((Kind::Integer, alu));
        }
        if let Some(alu) = float::find(&mut form.clone()) {
            // Found once more, now that the form is known to be its.
            let kind = kind_of_float(form, &alu);
            float::find(form);
            return Some((kind, alu));
        }
        let alu = integer::find(form)?;
        let carries = form.name.contains(".cc") || matches!(form.base, "addc" | "subc" | "madc");
        if carries {
            let slot = self.carry.unwrap_or_else(|| self.fresh(Width::Predicate).slot);
            self.carry = Some(slot);
            made.list = Box::from([slot]);
        }
        Some((Kind::Integer, alu))
    }
}

/// What an instruction in floating point counts as.
fn kind_of_float(form: &Form<'_>, alu: &Alu) -> Kind {
    match form.base {
        "rcp" | "rsqrt" | "sqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "div" => Kind::Special,
        _ if alu.to == Type::F64 => Kind::Double,
        _ => Kind::Float,
    }
}

fn moved(constant: Constant, by: i64) -> Constant {
    match constant {
        Constant::Bits(at) => Constant::Bits(at.wrapping_add_signed(by)),
        Constant::Dynamic(at) => Constant::Dynamic(at + by),
    }
}
