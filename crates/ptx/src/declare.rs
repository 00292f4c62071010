//! Declarations: variables of the state spaces, functions, and lists of parameters.

use std::collections::HashMap;

use super::refusal::Refusal;
use super::token::{Cursor, number};
use super::value::Type;

/// A variable of one of the state spaces.
#[derive(Debug, Clone)]
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    pub(super) align: u32,
    /// 0 for an array whose length the launch gives.
    pub(super) bytes: u32,
    pub(super) pointer: bool,
    first: Vec<u8>,
}

/// A function: its parameters' names, and where its body stands.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub(super) results: Vec<&'a str>,
    pub(super) parameters: Vec<&'a str>,
    pub(super) at: usize,
}

/// What bodies may name.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) functions: HashMap<&'a str, Function<'a>>,
    pub(super) shared: HashMap<&'a str, Variable<'a>>,
    /// Addresses of variables in device memory.
    pub(super) globals: HashMap<&'a str, u64>,
}

impl Variable<'_> {
    pub(super) fn contents(&self) -> Vec<u8> {
        let mut bytes = self.first.clone();
        bytes.resize(self.bytes as usize, 0);
        bytes
    }
}

/// `.align 16 .b8 name[4] = {1, 2}`, behind the state space.
pub(super) fn variable<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Variable<'a>, Refusal> {
    let (mut align, mut size, mut pointer) = (1, None, false);
    let name = loop {
        match cursor.next()? {
            ".align" => align = cursor.count()?,
            ".ptr" => pointer = true,
            ".global" | ".const" | ".shared" | ".local" | ".attribute" => {}
            ".v2" => size = Some(2),
            ".v4" => size = Some(4),
            word => match word.strip_prefix('.') {
                Some(kind) => {
                    let kind = Type::named(kind);
                    let kind = kind.ok_or_else(|| cursor.refuse(format!("the type {word}")))?;
                    size = Some(size.unwrap_or(1) * kind.size());
                }
                None => break word,
            },
        }
    };
    let size = size.ok_or_else(|| cursor.refuse(format!("{name} has no type")))?;
    let mut count = 1_u32;
    while cursor.eat("[") {
        if cursor.eat("]") {
            count = 0;
        } else {
            count = count.saturating_mul(cursor.count()?);
            cursor.expect("]")?;
        }
    }
    let mut first = Vec::new();
    if cursor.eat("=") {
        initial(cursor, size, &mut first)?;
    }
    let bytes = size.checked_mul(count).filter(|bytes| *bytes <= 1 << 30);
    let bytes = bytes.ok_or_else(|| cursor.refuse(format!("{name} is too large")))?;
    if !align.is_power_of_two() {
        return Err(cursor.refuse(format!("{name} is aligned to {align}")));
    }
    Ok(Variable { name, align: align.max(size.next_power_of_two().min(8)), bytes, pointer, first })
}

fn initial(cursor: &mut Cursor<'_, '_>, size: u32, bytes: &mut Vec<u8>) -> Result<(), Refusal> {
    let (mut depth, mut negative) = (0, false);
    loop {
        match cursor.next()? {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => {}
            "-" => {
                negative = true;
                continue;
            }
            word => {
                let bits = number(word);
                let bits = bits.ok_or_else(|| cursor.refuse(format!("the first value {word}")))?;
                let bits = if negative { bits.wrapping_neg() } else { bits };
                bytes.extend_from_slice(&bits.to_le_bytes()[..(size as usize).min(8)]);
                negative = false;
            }
        }
        if depth == 0 {
            return Ok(());
        }
    }
}

/// Parameters in parentheses.
pub(super) fn parameters<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Vec<Variable<'a>>, Refusal> {
    let mut found = Vec::new();
    if cursor.eat("(") {
        while !cursor.eat(")") {
            if cursor.eat(",") {
                continue;
            }
            cursor.expect(".param")?;
            found.push(variable(cursor)?);
        }
    }
    Ok(found)
}
