//! The bodies of kernels: names become registers, words become instructions, calls become the function.

use std::collections::HashMap;

use super::declare::{Names, variable};
use super::instruction::{Action, Instruction, Kind, NONE, Place};
use super::operand::{Operand, Register};
use super::refusal::Refusal;
use super::special::{Constant, Special};
use super::token::{Cursor, number};
use super::value::{Type, Width};
use super::waits;

/// What the body of a kernel is turned into, while that goes on.
pub(super) struct Decoder<'m, 'a> {
    pub(super) names: &'m Names<'a>,
    /// The kernel's parameters, by name: where they begin.
    pub(super) parameters: HashMap<&'a str, i64>,
    pub(super) scopes: Vec<HashMap<String, Register>>,
    /// Parameters of calls, by name and offset.
    pub(super) passed: HashMap<(&'a str, i64), Register>,
    pub(super) constants: HashMap<Constant, u32>,
    pub(super) specials: HashMap<Special, u32>,
    symbols: HashMap<&'a str, u64>,
    pub(super) labels: Vec<HashMap<&'a str, u32>>,
    /// Where each label stands.
    pub(super) targets: Vec<Option<u32>>,
    pub(super) code: Vec<Instruction>,
    pub(super) rows: u32,
    pub(super) shared: u32,
    pub(super) local: u32,
    /// The alignment of dynamic shared memory, if it is named.
    pub(super) dynamic: Option<u32>,
    pub(super) carry: Option<u32>,
    /// The label behind the function that is being called.
    pub(super) ends: Vec<u32>,
    pub(super) place: Place,
}

impl<'m, 'a> Decoder<'m, 'a> {
    pub(super) fn new(names: &'m Names<'a>) -> Self {
        Self {
            names,
            parameters: HashMap::new(),
            scopes: vec![HashMap::new()],
            passed: HashMap::new(),
            constants: HashMap::new(),
            specials: HashMap::new(),
            symbols: HashMap::new(),
            labels: vec![HashMap::new()],
            targets: Vec::new(),
            code: Vec::new(),
            rows: 0,
            shared: 0,
            local: 0,
            dynamic: None,
            carry: None,
            ends: Vec::new(),
            place: Place::default(),
        }
    }

    /// A register that nothing else uses.
    pub(super) fn fresh(&mut self, width: Width) -> Register {
        let slot = self.rows;
        self.rows += width.rows();
        Register { slot, width }
    }

    /// The first row of a constant.
    pub(super) fn constant(&mut self, value: Constant) -> u32 {
        if let Some(slot) = self.constants.get(&value) {
            return *slot;
        }
        let slot = self.fresh(Width::Double).slot;
        self.constants.insert(value, slot);
        slot
    }

    /// The register of a name.
    pub(super) fn register(&mut self, name: &str) -> Option<Register> {
        if let Some(found) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return Some(*found);
        }
        if name == "WARP_SZ" {
            let slot = self.constant(Constant::Bits(32));
            return Some(Register { slot, width: Width::Single });
        }
        let special = Special::named(name)?;
        if let Some(slot) = self.specials.get(&special) {
            return Some(Register { slot: *slot, width: Width::Single });
        }
        let register = self.fresh(Width::Single);
        self.specials.insert(special, register.slot);
        Some(register)
    }

    /// The address of a variable.
    pub(super) fn symbol(&mut self, name: &'a str) -> Option<Constant> {
        if let Some(address) = self.symbols.get(name) {
            return Some(Constant::Bits(*address));
        }
        if let Some(variable) = self.names.shared.get(name) {
            if variable.bytes == 0 {
                self.dynamic = Some(self.dynamic.unwrap_or(1).max(variable.align));
                return Some(Constant::Dynamic(0));
            }
            let at = self.shared.next_multiple_of(variable.align);
            self.shared = at + variable.bytes;
            self.symbols.insert(name, u64::from(at));
            return Some(Constant::Bits(u64::from(at)));
        }
        self.names.globals.get(name).map(|address| Constant::Bits(*address))
    }

    fn label(&mut self, name: &'a str) -> u32 {
        let fresh = self.targets.len() as u32;
        let scope = self.labels.last_mut().expect("a kernel has a scope of labels");
        let label = *scope.entry(name).or_insert(fresh);
        if label == fresh {
            self.targets.push(None);
        }
        label
    }

    /// Decodes a whole body, from its opening brace on.
    pub(super) fn body(&mut self, text: &mut Cursor<'_, 'a>) -> Result<(), Refusal> {
        text.expect("{")?;
        let mut depth = 1;
        while depth > 0 {
            self.place.ptx = text.line();
            let word = text.next()?;
            match word {
                "{" => {
                    depth += 1;
                    self.scopes.push(HashMap::new());
                }
                "}" => {
                    depth -= 1;
                    if depth > 0 {
                        self.scopes.pop();
                    }
                }
                ".reg" => {
                    let kind = text.next()?;
                    self.registers(text, kind)?;
                }
                _ if word.starts_with(".reg.") => self.registers(text, &word[".reg".len()..])?,
                ".shared" | ".local" => self.variable(text, word)?,
                ".param" => {
                    variable(text)?;
                    text.expect(";")?;
                }
                ".loc" => self.location(text)?,
                ".pragma" | ".file" | ".branchtargets" => text.skip_past(";")?,
                ";" => {}
                _ if text.eat(":") => {
                    let label = self.label(word);
                    self.targets[label as usize] = Some(self.code.len() as u32);
                }
                _ => self.guarded(text, word)?,
            }
        }
        Ok(())
    }

    /// `.reg .b32 %r<5>, %x;`
    fn registers(&mut self, text: &mut Cursor<'_, 'a>, word: &str) -> Result<(), Refusal> {
        let kind = Type::named(word.trim_start_matches('.'));
        let width = kind.ok_or_else(|| text.refuse(format!("registers of type {word}")))?.width();
        loop {
            let name = text.next()?;
            if text.eat("<") {
                let count = text.count()?;
                text.expect(">")?;
                if count > 1 << 16 {
                    return Err(text.refuse(format!("{count} registers")));
                }
                for index in 0..count {
                    self.declare(format!("{name}{index}"), width);
                }
            } else {
                self.declare(name.to_owned(), width);
            }
            if !text.eat(",") {
                return text.expect(";");
            }
        }
    }

    fn declare(&mut self, name: String, width: Width) {
        let register = self.fresh(width);
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, register);
        }
    }

    fn variable(&mut self, text: &mut Cursor<'_, 'a>, space: &str) -> Result<(), Refusal> {
        let variable = variable(text)?;
        text.expect(";")?;
        let used = if space == ".shared" { &mut self.shared } else { &mut self.local };
        let at = used.next_multiple_of(variable.align);
        let end = at.checked_add(variable.bytes).filter(|end| *end <= 1 << 24);
        *used = end.ok_or_else(|| text.refuse(format!("{} is too large", variable.name)))?;
        self.symbols.insert(variable.name, u64::from(at));
        Ok(())
    }

    /// `.loc file line column`, with what it was inlined into behind it. A line of 0 is none of the
    /// source's.
    fn location(&mut self, text: &mut Cursor<'_, 'a>) -> Result<(), Refusal> {
        let (file, line) = (text.count()?, text.count()?);
        text.count()?;
        if line > 0 {
            (self.place.file, self.place.line) = (file, line);
        }
        if text.eat(",") {
            text.next()?;
            text.next()?;
            if text.eat("+") {
                text.count()?;
            }
            text.expect(",")?;
            text.next()?;
            (0..3).try_for_each(|_| text.count().map(drop))?;
        }
        Ok(())
    }

    /// An instruction, and the predicate before it.
    fn guarded(&mut self, text: &mut Cursor<'_, 'a>, first: &'a str) -> Result<(), Refusal> {
        let (mut guard, mut unless, mut name) = (NONE, false, first);
        if first == "@" {
            unless = text.eat("!");
            let word = text.next()?;
            let predicate =
                self.register(word).filter(|register| register.width == Width::Predicate);
            guard = predicate
                .ok_or_else(|| text.refuse(format!("no predicate is called {word}")))?
                .slot;
            name = text.next()?;
        }
        let blank = Instruction {
            action: Action::Nothing,
            kind: Kind::Control,
            d: NONE,
            a: NONE,
            b: NONE,
            c: NONE,
            guard,
            unless,
            list: Box::default(),
            offset: 0,
            waits: false,
            place: self.place,
        };
        match name.split('.').next().unwrap_or_default() {
            "bra" => {
                let label = text.next()?;
                let label = self.label(label);
                text.expect(";")?;
                self.code.push(Instruction { action: Action::Branch(label), ..blank });
                Ok(())
            }
            "call" => self.call(text, &blank),
            "ret" | "exit" => {
                text.expect(";")?;
                let action = match self.ends.last() {
                    Some(end) if name.starts_with("ret") => Action::Branch(*end),
                    _ => Action::Return,
                };
                self.code.push(Instruction { action, ..blank });
                Ok(())
            }
            _ => {
                let mut operands = Vec::new();
                while !text.eat(";") {
                    if !text.eat(",") {
                        let operand = self.operand(text);
                        let operand = operand.map_err(|refusal| refusal.in_instruction(name));
                        operands.push(operand?);
                    }
                }
                self.instruction(name, &operands, blank).map_err(|what| {
                    Refusal::new(self.place.ptx, format!("instruction {name}: {what}"))
                })
            }
        }
    }

    pub(super) fn operand(&mut self, text: &mut Cursor<'_, 'a>) -> Result<Operand<'a>, Refusal> {
        if text.eat("{") {
            let mut parts = Vec::new();
            while !text.eat("}") {
                if !text.eat(",") {
                    parts.push(self.operand(text)?);
                }
            }
            return Ok(Operand::Vector(parts));
        }
        if text.eat("[") {
            let word = text.next()?;
            let offset = offset(text)?;
            text.expect("]")?;
            if let Some(base) = self.register(word) {
                return Ok(Operand::Address { base: Some(base), symbol: None, offset });
            }
            return Ok(match number(word) {
                Some(at) => Operand::Address {
                    base: None,
                    symbol: None,
                    offset: offset.wrapping_add(at.cast_signed()),
                },
                None => Operand::Address { base: None, symbol: Some(word), offset },
            });
        }
        let (negative, inverted) = (text.eat("-"), text.eat("!"));
        let word = text.next()?;
        if let Some(bits) = number(word) {
            return Ok(Operand::Number(if negative { bits.wrapping_neg() } else { bits }));
        }
        if word == "_" {
            return Ok(Operand::Sink);
        }
        match self.register(word) {
            Some(register) if inverted => Ok(Operand::Inverted(register)),
            Some(first) if text.eat("|") => {
                let second = text.next()?;
                let found = self.register(second);
                let found = found.ok_or_else(|| text.refuse(format!("no register {second}")))?;
                Ok(Operand::Pair(first, found))
            }
            Some(register) => Ok(Operand::Register(register)),
            None if word.starts_with('%') => Ok(Operand::Name(word)),
            None => Ok(Operand::Symbol(word, offset(text)?)),
        }
    }

    /// Lets branches point to instructions, and gives the code; its last instruction ends the kernel.
    pub(super) fn finish(&mut self) -> Result<Vec<Instruction>, Refusal> {
        let mut code = std::mem::take(&mut self.code);
        let last = Instruction {
            action: Action::Return,
            kind: Kind::Control,
            guard: NONE,
            d: NONE,
            a: NONE,
            b: NONE,
            c: NONE,
            unless: false,
            list: Box::default(),
            offset: 0,
            waits: false,
            place: self.place,
        };
        code.push(last);
        for instruction in &mut code {
            if let Action::Branch(target) = &mut instruction.action {
                let found = self.targets.get(*target as usize).copied().flatten();
                *target = found.ok_or_else(|| {
                    Refusal::new(instruction.place.ptx, "a branch to a label that is not there")
                })?;
            }
        }
        waits::mark(&mut code);
        Ok(code)
    }
}

/// What follows a base: `+4`, `+-4`, `-4` or nothing.
fn offset(text: &mut Cursor<'_, '_>) -> Result<i64, Refusal> {
    let plus = text.eat("+");
    let minus = text.eat("-");
    if !plus && !minus {
        return Ok(0);
    }
    let word = text.next()?;
    let bits = number(word).ok_or_else(|| text.refuse(format!("the offset {word}")))?.cast_signed();
    Ok(if minus { bits.wrapping_neg() } else { bits })
}
