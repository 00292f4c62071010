//! A module of many kernels, of which a program launches few: each is decoded when it is asked for.

use std::collections::HashMap;
use std::ops::Range;

use super::module::{Kernel, Module};
use super::refusal::Refusal;

/// A module whose kernels are decoded one by one.
#[derive(Debug)]
pub struct Library {
    text: String,
    /// What stands between the kernels, in order.
    around: Vec<Range<usize>>,
    /// The kernels' texts, in order, and the line ends in each.
    kernels: Vec<(Range<usize>, usize)>,
    /// Which of them has a name.
    named: HashMap<String, usize>,
    /// Where the module's variables lie.
    addresses: Vec<u64>,
    /// The architecture that it was compiled for: 90 for `sm_90`.
    pub target: u32,
    /// The version of PTX, as (9, 0).
    pub version: (u32, u32),
}

impl Library {
    /// Reads all but the kernels. `place` gives each variable of device memory an address; it is told its
    /// alignment and what it holds.
    pub fn read(text: String, mut place: impl FnMut(u32, Vec<u8>) -> u64) -> Result<Self, Refusal> {
        let (mut around, mut kernels, mut named) = (Vec::new(), Vec::new(), HashMap::new());
        let mut behind = 0;
        for (name, range) in entries(&text)? {
            let lines = text[range.clone()].bytes().filter(|byte| *byte == b'\n').count();
            around.push(behind..range.start);
            behind = range.end;
            named.insert(name.to_owned(), kernels.len());
            kernels.push((range, lines));
        }
        around.push(behind..text.len());
        let mut library = Self {
            text,
            around,
            kernels,
            named,
            addresses: Vec::new(),
            target: 0,
            version: (0, 0),
        };
        let mut addresses = Vec::new();
        let module = Module::read(&library.part(None), |align, bytes| {
            let address = place(align, bytes);
            addresses.push(address);
            address
        })?;
        (library.target, library.version) = (module.target, module.version);
        library.addresses = addresses;
        Ok(library)
    }

    /// The kernels' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Decodes a kernel; `None` where the module has none of that name.
    pub fn kernel(&self, name: &str) -> Option<Result<Kernel, Refusal>> {
        let index = *self.named.get(name)?;
        let mut addresses = self.addresses.iter().copied();
        let module = Module::read(&self.part(Some(index)), |_, _| addresses.next().unwrap_or(0));
        module.map(|module| module.kernels.into_iter().next()).transpose()
    }

    /// The text with at most one of its kernels, whose lines keep their numbers.
    fn part(&self, kernel: Option<usize>) -> String {
        let mut part = String::new();
        for (index, around) in self.around.iter().enumerate() {
            part.push_str(&self.text[around.clone()]);
            match self.kernels.get(index) {
                Some((range, _)) if kernel == Some(index) => {
                    part.push_str(&self.text[range.clone()]);
                }
                Some((_, lines)) => part.extend(std::iter::repeat_n('\n', *lines)),
                None => {}
            }
        }
        part
    }
}

/// The kernels of a text: their names, and where they stand from the line of their `.entry` to their last
/// brace.
fn entries(text: &str) -> Result<Vec<(&str, Range<usize>)>, Refusal> {
    let bytes = text.as_bytes();
    let (mut found, mut open, mut depth) = (Vec::new(), None, 0_usize);
    let (mut at, mut line_start) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => line_start = at + 1,
            b'/' if bytes[at..].starts_with(b"//") => {
                at +=
                    bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'"' => {
                at +=
                    bytes[at + 1..].iter().position(|byte| *byte == b'"').map_or(0, |len| len + 1);
            }
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if let (0, Some((name, start))) = (depth, open) {
                    found.push((name, start..at + 1));
                    open = None;
                }
            }
            b'.' if depth == 0 && bytes[at..].starts_with(b".entry") => {
                let rest = text[at + ".entry".len()..].trim_start();
                let end = rest.find(|c: char| c == '(' || c == '{' || c.is_ascii_whitespace());
                open = Some((&rest[..end.unwrap_or(rest.len())], line_start));
            }
            _ => {}
        }
        at += 1;
    }
    match open {
        Some((name, _)) => Err(Refusal::new(0, "the text ends in the middle").of(name)),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ".version 8.4\n.target sm_80\n.address_size 64\n.global .align 4 .b8 table[8];\n\
        .visible .func (.param .b32 r) twice(.param .b32 a)\n{\n.reg .b32 %r<3>;\nld.param.u32 %r1, [a];\n\
        add.u32 %r2, %r1, %r1;\nst.param.u32 [r], %r2;\nret;\n}\n\
        .visible .entry one(.param .u64 out)\n{\n// a brace in a comment: }\n{ ret; }\n}\n\
        .global .u32 other;\n.weak .entry two()\n.maxntid 32, 1, 1\n{\n.reg .b32 %r<3>;\n\
        ld.global.u32 %r1, [other];\nfrobnicate.u32 %r2, %r1;\nret;\n}\n";

    #[test]
    fn kernels_are_decoded_when_they_are_asked_for_and_variables_are_placed_once() {
        let mut placed = Vec::new();
        let library = Library::read(TEXT.to_owned(), |_, bytes| {
            placed.push(bytes.len());
            4096
        });
        let library = library.unwrap();
        assert_eq!((placed, library.target, library.version), (vec![8, 4], 80, (8, 4)));
        let mut names: Vec<&str> = library.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["one", "two"]);
        let one = library.kernel("one").unwrap().unwrap();
        assert_eq!((one.name.as_str(), one.parameters.len()), ("one", 1));
        assert!(library.kernel("three").is_none());
    }

    #[test]
    fn a_kernel_that_is_not_known_is_refused_with_its_line_in_the_whole_text() {
        let library = Library::read(TEXT.to_owned(), |_, _| 4096).unwrap();
        let refusal = library.kernel("two").unwrap().unwrap_err().to_string();
        let line = 1 + TEXT.lines().position(|line| line.starts_with("frobnicate")).unwrap();
        assert!(refusal.starts_with(&format!("PTX line {line}, kernel two: ")), "{refusal}");
    }

    #[test]
    fn a_torn_text_is_refused_and_so_is_a_newer_one() {
        let torn = Library::read(TEXT[..TEXT.len() - 3].to_owned(), |_, _| 0).unwrap_err();
        assert!(torn.to_string().contains("kernel two: the text ends"), "{torn}");
        let newer = TEXT.replace(".version 8.4", ".version 99.0");
        assert!(Library::read(newer, |_, _| 0).unwrap_err().newer);
    }
}
