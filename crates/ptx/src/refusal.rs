//! Why a text is not a module that can be run.

use std::fmt;

/// Why a text is not a module that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    line: u32,
    kernel: Option<String>,
    what: String,
    /// Whether it is the version of the text that is too new.
    pub newer: bool,
}

impl Refusal {
    pub(super) fn new(line: u32, what: impl Into<String>) -> Self {
        Self { line, kernel: None, what: what.into(), newer: false }
    }

    /// The same, of an instruction.
    pub(super) fn in_instruction(self, name: &str) -> Self {
        Self { what: format!("instruction {name}: {}", self.what), ..self }
    }

    /// The same, of a text whose version is too new.
    pub(super) fn of_a_newer_version(self) -> Self {
        Self { newer: true, ..self }
    }

    /// The same, of a kernel.
    pub(super) fn of(self, kernel: &str) -> Self {
        Self { kernel: Some(kernel.to_owned()), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}", self.line)?;
        if let Some(kernel) = &self.kernel {
            write!(f, ", kernel {kernel}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Refusal {}
