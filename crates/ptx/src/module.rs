//! A module: what PTX says outside the bodies of its kernels.

use std::collections::BTreeMap;

use super::declare::{Function, Names, Variable, parameters, variable};
use super::decode::Decoder;
use super::instruction::{Action, Instruction, Kind};
use super::refusal::Refusal;
use super::special::{Constant, Special};
use super::token::{Cursor, tokens};

/// The newest PTX that is read.
const NEWEST: (u32, u32) = (9, 9);

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Where it begins among the bytes of all.
    pub at: usize,
    /// Its size.
    pub bytes: usize,
    /// Whether the kernel uses it as an address of device memory.
    pub pointer: bool,
}

/// A kernel that can be run.
#[derive(Debug, Default)]
pub struct Kernel {
    /// Its name, as the text has it.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    pub(super) code: Vec<Instruction>,
    pub(super) rows: u32,
    pub(super) constants: Vec<(u32, u64)>,
    pub(super) specials: Vec<(u32, Special)>,
    /// Bytes of shared memory that it always has; dynamic ones begin behind them.
    pub shared: u32,
    /// Bytes of local memory that each thread has.
    pub local: u32,
    /// The most threads a block may have, by `__launch_bounds__`.
    pub most_threads: Option<u32>,
    /// Source files by their numbers.
    pub(super) files: BTreeMap<u32, String>,
}

/// A module whose kernels are decoded.
#[derive(Debug, Default)]
pub struct Module {
    /// The architecture that it was compiled for: 90 for `sm_90`.
    pub target: u32,
    /// The version of PTX, as (9, 0).
    pub version: (u32, u32),
    /// Its kernels, in the order of the text.
    pub kernels: Vec<Kernel>,
}

impl Module {
    /// Reads a module. `place` gives each variable of device memory an address; it is told its alignment
    /// and what it holds.
    pub fn read(text: &str, mut place: impl FnMut(u32, Vec<u8>) -> u64) -> Result<Self, Refusal> {
        let words = tokens(text)?;
        let mut names = Names::default();
        let mut module = Self::default();
        let mut files = BTreeMap::new();
        let mut entries = Vec::new();
        let mut cursor = Cursor::new(&words);
        while !cursor.is_at_end() {
            match cursor.next()? {
                ".version" => module.version = version(&mut cursor)?,
                ".target" => module.target = target(&mut cursor)?,
                ".address_size" => {
                    if cursor.next()? != "64" {
                        return Err(cursor.refuse("addresses of 32 bits"));
                    }
                }
                ".visible" | ".extern" | ".weak" | ".common" | ";" => {}
                ".shared" => {
                    let found = variable(&mut cursor)?;
                    names.shared.insert(found.name, found);
                }
                ".global" | ".const" => {
                    let found = variable(&mut cursor)?;
                    let address = place(found.align, found.contents());
                    names.globals.insert(found.name, address);
                }
                ".file" => {
                    let number = cursor.count()?;
                    files.insert(number, cursor.next()?.trim_matches('"').to_owned());
                    while cursor.eat(",") {
                        cursor.count()?;
                    }
                }
                ".section" => {
                    cursor.next()?;
                    cursor.skip_block()?;
                }
                ".func" => function(&mut cursor, &mut names)?,
                ".entry" => entries.push(entry(&mut cursor)?),
                ".pragma" => cursor.skip_past(";")?,
                other => return Err(cursor.refuse(format!("the directive {other} is not known"))),
            }
        }
        if module.version == (0, 0) || module.target == 0 {
            return Err(Refusal::new(1, "it names no version or no target"));
        }
        for entry in entries {
            module.kernels.push(entry.decode(&cursor, &names, &files)?);
        }
        Ok(module)
    }
}

fn version(cursor: &mut Cursor<'_, '_>) -> Result<(u32, u32), Refusal> {
    let word = cursor.next()?;
    let parts = word
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let version = parts.ok_or_else(|| cursor.refuse(format!("the version {word}")))?;
    if version > NEWEST {
        let (major, minor) = NEWEST;
        let refusal = cursor.refuse(format!("version {word} is newer than {major}.{minor}"));
        return Err(refusal.of_a_newer_version());
    }
    Ok(version)
}

fn target(cursor: &mut Cursor<'_, '_>) -> Result<u32, Refusal> {
    let word = cursor.next()?;
    let number = word
        .strip_prefix("sm_")
        .map(|rest| rest.trim_end_matches(|c: char| c.is_ascii_lowercase()));
    let target = number.and_then(|number| number.parse().ok());
    while cursor.eat(",") {
        cursor.next()?;
    }
    target.ok_or_else(|| cursor.refuse(format!("the target {word}")))
}

fn function<'a>(cursor: &mut Cursor<'_, 'a>, names: &mut Names<'a>) -> Result<(), Refusal> {
    let of = |list: Vec<Variable<'a>>| list.into_iter().map(|each| each.name).collect();
    let results = of(parameters(cursor)?);
    let name = cursor.next()?;
    let parameters = of(parameters(cursor)?);
    while !matches!(cursor.peek(), "{" | ";") {
        cursor.next()?;
    }
    if !cursor.eat(";") {
        names.functions.insert(name, Function { results, parameters, at: cursor.at });
        cursor.skip_block()?;
    }
    Ok(())
}

/// A kernel before its body is decoded.
struct Entry<'a> {
    name: &'a str,
    parameters: Vec<Variable<'a>>,
    most_threads: Option<u32>,
    at: usize,
}

fn entry<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Entry<'a>, Refusal> {
    let name = cursor.next()?;
    let parameters = parameters(cursor)?;
    let mut most_threads = None;
    while cursor.peek() != "{" {
        match cursor.next()? {
            ".maxntid" | ".reqntid" => {
                let mut product = cursor.count()?;
                while cursor.eat(",") {
                    product = product.saturating_mul(cursor.count()?);
                }
                most_threads = Some(product);
            }
            ".minnctapersm" | ".maxnreg" | ".maxnctapersm" => drop(cursor.count()?),
            ".pragma" => cursor.skip_past(";")?,
            other => return Err(cursor.refuse(format!("the directive {other} of {name}"))),
        }
    }
    let at = cursor.at;
    cursor.skip_block()?;
    Ok(Entry { name, parameters, most_threads, at })
}

impl<'a> Entry<'a> {
    fn decode(
        self,
        cursor: &Cursor<'_, 'a>,
        names: &Names<'a>,
        files: &BTreeMap<u32, String>,
    ) -> Result<Kernel, Refusal> {
        let mut decoder = Decoder::new(names);
        let (mut parameters, mut end) = (Vec::new(), 0);
        for parameter in &self.parameters {
            let at = usize::next_multiple_of(end, parameter.align as usize);
            end = at + parameter.bytes as usize;
            decoder.parameters.insert(parameter.name, at as i64);
            let (bytes, pointer) = (parameter.bytes as usize, parameter.pointer);
            parameters.push(Parameter { at, bytes, pointer });
        }
        let in_kernel = |refusal: Refusal| refusal.of(self.name);
        decoder.body(&mut cursor.from(self.at)).map_err(in_kernel)?;
        let code = decoder.finish().map_err(in_kernel)?;
        mark_pointers(&code, &mut parameters);
        let dynamic = decoder.dynamic;
        let shared =
            dynamic.map_or(decoder.shared, |align| decoder.shared.next_multiple_of(align.max(16)));
        let bits = |constant: &Constant| match *constant {
            Constant::Bits(bits) => bits,
            Constant::Dynamic(offset) => u64::from(shared).wrapping_add_signed(offset),
        };
        Ok(Kernel {
            name: self.name.to_owned(),
            parameters,
            code,
            rows: decoder.rows,
            constants: decoder.constants.iter().map(|(value, slot)| (*slot, bits(value))).collect(),
            specials: decoder.specials.iter().map(|(special, slot)| (*slot, *special)).collect(),
            shared,
            local: decoder.local,
            most_threads: self.most_threads,
            files: files.clone(),
        })
    }
}

/// A parameter that is loaded into a register which an address is made of is a pointer.
fn mark_pointers(code: &[Instruction], parameters: &mut [Parameter]) {
    for load in code {
        let (Action::Parameter(access), [register]) = (load.action, &load.list[..]) else {
            continue;
        };
        if access.bytes != 8 {
            continue;
        }
        let used = code.iter().any(|other| match other.action {
            Action::Load(_) | Action::Store(_) | Action::Atomic(..) => other.a == *register,
            // `cvta.to.global` is the only move from one double register to another that compilers
            // make of a parameter.
            Action::Lanes(_) => other.kind == Kind::Move && other.a == *register,
            _ => false,
        });
        let at = usize::try_from(load.offset).unwrap_or(usize::MAX);
        if let Some(parameter) = parameters.iter_mut().find(|each| each.at == at && each.bytes == 8)
        {
            parameter.pointer |= used;
        }
    }
}
