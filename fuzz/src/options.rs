//! What the command line asks for.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::targets::{TARGETS, Target};

/// One run.
pub(crate) struct Options {
    pub(crate) targets: Vec<&'static Target>,
    /// Inputs for each target.
    pub(crate) inputs: u64,
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
}

/// What this process is to do.
pub(crate) enum Mode {
    /// Start a child for each target, and watch it.
    Search,
    /// Be that child, from the input of that number on; the input at work is kept in the file.
    Child { target: &'static Target, first: u64, scratch: PathBuf },
    /// Feed one file to the one target named.
    File(PathBuf),
}

impl Options {
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { targets: Vec::new(), inputs: 10_000, seed: 1, mode: Mode::Search };
        let (mut child, mut first) = (None, 0);
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let word = word.to_string_lossy().into_owned();
            let mut value = |name: &str| words.next().ok_or(format!("{name} wants a value"));
            match word.as_str() {
                "--inputs" => options.inputs = number(&value("--inputs")?)?,
                "--seed" => options.seed = number(&value("--seed")?)?,
                "--first" => first = number(&value("--first")?)?,
                "--file" => options.mode = Mode::File(value("--file")?.into()),
                "--child" => child = Some(PathBuf::from(value("--child")?)),
                name => options.targets.push(target(name)?),
            }
        }
        if let Some(scratch) = child {
            let target = options.targets.first().copied().ok_or("--child wants a target")?;
            options.mode = Mode::Child { target, first, scratch };
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.iter().collect();
        }
        Ok(options)
    }
}

fn number(word: &OsString) -> Result<u64, String> {
    let text = word.to_string_lossy().replace('_', "");
    text.parse().map_err(|_| format!("{text} is no whole number"))
}

fn target(name: &str) -> Result<&'static Target, String> {
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        format!("{name:?} is no target; there are {}", known.join(", "))
    })
}
