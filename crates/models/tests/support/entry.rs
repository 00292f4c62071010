//! A `[[model]]` as tests write it: a test says what it is about, and the rest has a value.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt;

/// A `[[model]]` of a catalog.
#[derive(Clone)]
pub(crate) struct ModelEntry {
    keys: Vec<(&'static str, String)>,
    tables: Vec<(String, String)>,
}

impl ModelEntry {
    /// Of a family: `tiny`, in f32, of no suite, which is loaded and measured in a batch of one.
    pub(crate) fn of(family: &str) -> Self {
        let text = |value: &str| format!("{value:?}");
        let keys = vec![
            ("id", text("tiny")),
            ("family", text(family)),
            ("title", text("Tiny")),
            ("repo", text("none/none")),
            ("checkpoint", text("f32")),
            ("phases", "[\"load\"]".to_owned()),
            ("batches", "[1]".to_owned()),
        ];
        Self { keys, tables: Vec::new() }
    }

    /// With another name, or words for any other key whose value is a text.
    #[must_use]
    pub(crate) fn text(self, key: &'static str, value: &str) -> Self {
        self.with(key, format!("{value:?}"))
    }

    /// With a key's value as TOML has it.
    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.keys.retain(|(known, _)| *known != key);
        self.keys.push((key, value.into()));
        self
    }

    /// With `[model.<name>]` and the lines below it.
    #[must_use]
    pub(crate) fn table(mut self, name: &str, lines: &str) -> Self {
        self.tables.push((name.to_owned(), lines.to_owned()));
        self
    }
}

impl fmt::Display for ModelEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[model]]")?;
        for (key, value) in &self.keys {
            writeln!(f, "{key} = {value}")?;
        }
        if !self.tables.iter().any(|(name, _)| name.starts_with("suites")) {
            writeln!(f, "suites = {{}}")?;
        }
        for (name, lines) in &self.tables {
            writeln!(f, "[model.{name}]\n{lines}")?;
        }
        Ok(())
    }
}
