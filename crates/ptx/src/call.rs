//! Calls: a function stands in the place where it is called.

use std::collections::HashMap;

use super::convert;
use super::declare::Function;
use super::decode::Decoder;
use super::instruction::{Action, Instruction, Kind, NONE};
use super::operand::Register;
use super::refusal::Refusal;
use super::token::Cursor;
use super::value::{Type, Width};

/// How deep functions may call each other.
const DEPTH: usize = 8;

impl<'a> Decoder<'_, 'a> {
    /// Puts a function in the place of its call.
    pub(super) fn call(
        &mut self,
        text: &mut Cursor<'_, 'a>,
        blank: &Instruction,
    ) -> Result<(), Refusal> {
        let results = list(text)?;
        text.eat(",");
        let name = text.next()?;
        text.eat(",");
        let arguments = list(text)?;
        text.expect(";")?;
        if name == "__assertfail" {
            self.code.push(Instruction { action: Action::Assert, ..blank.clone() });
            return Ok(());
        }
        if name == "vprintf" {
            // It answers the number of arguments, at which nobody looks.
            for result in &results {
                let register = self.fresh(Width::Single);
                self.passed.insert((result, 0), register);
            }
            return Ok(());
        }
        let Some(function) = self.names.functions.get(name) else {
            return Err(text.refuse(format!("a call of {name}, which has no body")));
        };
        if self.ends.len() >= DEPTH {
            return Err(text.refuse(format!("{name} calls itself, or is called too deep")));
        }
        let Function { results: produced, parameters, at } = function;
        for (argument, parameter) in arguments.iter().zip(parameters) {
            self.pass(argument, parameter, blank);
        }
        let end = self.targets.len() as u32;
        self.targets.push(None);
        self.ends.push(end);
        self.labels.push(HashMap::new());
        let scopes = std::mem::replace(&mut self.scopes, vec![HashMap::new()]);
        let place = self.place;
        // A call under a predicate is a branch over it.
        if blank.guard != NONE {
            let unless = !blank.unless;
            self.code.push(Instruction { action: Action::Branch(end), unless, ..blank.clone() });
        }
        self.body(&mut text.from(*at))?;
        self.place = place;
        self.scopes = scopes;
        self.labels.pop();
        self.ends.pop();
        self.targets[end as usize] = Some(self.code.len() as u32);
        for (result, produced) in results.iter().zip(produced) {
            self.pass(produced, result, blank);
        }
        Ok(())
    }

    /// Copies what one parameter of a call holds to another.
    fn pass(&mut self, from: &'a str, to: &'a str, blank: &Instruction) {
        let held: Vec<(i64, Register)> = self
            .passed
            .iter()
            .filter(|((name, _), _)| *name == from)
            .map(|((_, offset), register)| (*offset, *register))
            .collect();
        for (offset, register) in held {
            let target = match self.passed.get(&(to, offset)) {
                Some(there) => *there,
                None => self.fresh(register.width),
            };
            self.passed.insert((to, offset), target);
            let run = convert::moved(Type::B64);
            let copy = Instruction {
                action: Action::Lanes(run),
                kind: Kind::Move,
                d: target.slot,
                a: register.slot,
                ..blank.clone()
            };
            self.code.push(copy);
        }
    }
}

/// Names in parentheses.
fn list<'a>(text: &mut Cursor<'_, 'a>) -> Result<Vec<&'a str>, Refusal> {
    let mut names = Vec::new();
    if text.eat("(") {
        while !text.eat(")") {
            let word = text.next()?;
            if word != "," {
                names.push(word);
            }
        }
    }
    Ok(names)
}
