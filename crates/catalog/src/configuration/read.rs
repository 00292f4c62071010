//! One configuration, and how its keys are read.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigurationError;
use warpmark_record::source;
use warpmark_weights::{WeightsError, git_lfs};

/// The longest configuration that is read; those with a thousand labels have 50 KiB.
const MOST: u64 = 4 << 20;

/// No count of a net is larger.
const LARGEST: u64 = 1 << 31;

/// A configuration as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    pub(super) path: PathBuf,
    keys: Map<String, Value>,
}

/// A setting that a family does not compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Its key.
    pub key: String,
    /// Its value, as JSON.
    pub value: String,
    /// What is computed.
    pub computed: String,
}

impl Configuration {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let file = source::open(path).map_err(WeightsError::io("open", path))?;
        let mut text = Vec::new();
        file.take(MOST + 1).read_to_end(&mut text).map_err(WeightsError::io("read", path))?;
        git_lfs::refuse_pointer_text(&text, path)?;
        let malformed =
            |problem: String| ConfigurationError::Malformed { path: path.to_owned(), problem };
        if text.len() as u64 > MOST {
            return Err(malformed("it is longer than 4 MiB, which no configuration is".to_owned()));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(keys)) => Ok(Self::of(path.to_owned(), keys)),
            Ok(_) => Err(malformed("it is no table of keys and values".to_owned())),
            Err(error) => Err(malformed(error.to_string())),
        }
    }

    /// A configuration of these keys.
    pub fn of(path: PathBuf, keys: Map<String, Value>) -> Self {
        Self { path, keys }
    }

    /// The value of a key; `None` where it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there and null, which is a choice where its default is another one.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(Value::is_null)
    }

    /// A table below a key, as a configuration of its own.
    pub(super) fn table(&self, key: &str) -> Option<Self> {
        let keys = self.get(key)?.as_object()?.clone();
        Some(Self { path: self.path.clone(), keys })
    }

    /// Whether a value is a table of its own.
    pub(super) fn has_tables(&self) -> bool {
        self.keys.values().any(Value::is_object)
    }

    /// A key's value for a message, as JSON and not much of it.
    pub(super) fn shown(&self, key: &str) -> Option<String> {
        const SHOWN: usize = 200;
        let value = self.keys.get(key)?.to_string();
        let long = value.chars().count() > SHOWN;
        Some(if long { value.chars().take(SHOWN).chain("...".chars()).collect() } else { value })
    }

    /// A setting that is not computed.
    pub(super) fn unsupported(&self, key: &str, computed: impl Into<String>) -> Unsupported {
        let value = self.shown(key).unwrap_or_else(|| "(absent)".to_owned());
        Unsupported { key: key.to_owned(), value, computed: computed.into() }
    }

    /// Refuses a key whose value, or `absent` where it has none, is not among those that are computed.
    pub(super) fn only(
        &self,
        key: &str,
        absent: impl Into<Value>,
        computed: &[Value],
    ) -> Result<(), Unsupported> {
        let absent = absent.into();
        let value = self.get(key).unwrap_or(&absent);
        if computed.iter().any(|computed| same(value, computed)) {
            return Ok(());
        }
        let names: Vec<String> = computed.iter().map(Value::to_string).collect();
        let mut unsupported = self.unsupported(key, names.join(" or "));
        if self.get(key).is_none() {
            unsupported.value = format!("{absent}, its default");
        }
        Err(unsupported)
    }

    /// Refuses every one of these keys that is there and neither null nor false nor neutral.
    pub(super) fn none_of(&self, keys: &[&str]) -> Result<(), Unsupported> {
        match keys
            .iter()
            .find(|key| self.get(key).is_some_and(|value| *value != Value::Bool(false)))
        {
            Some(key) => Err(self.unsupported(key, "nothing of the kind")),
            None => Ok(()),
        }
    }

    /// A whole number.
    pub(super) fn count(&self, key: &str, absent: usize) -> Result<usize, Unsupported> {
        Ok(self.optional_count(key)?.unwrap_or(absent))
    }

    /// A whole number; `None` where the key is absent or null.
    pub(super) fn optional_count(&self, key: &str) -> Result<Option<usize>, Unsupported> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match as_count(value) {
            Some(count) => Ok(Some(count)),
            None => Err(self.unsupported(key, "a whole number from 0 to 2147483648")),
        }
    }

    /// A list of whole numbers.
    pub(super) fn counts(&self, key: &str, absent: &[usize]) -> Result<Vec<usize>, Unsupported> {
        let Some(value) = self.get(key) else { return Ok(absent.to_vec()) };
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let counts: Option<Vec<usize>> = list.iter().map(as_count).collect();
        counts
            .filter(|counts| (1..=MOST_LISTED).contains(&counts.len()))
            .ok_or_else(|| self.unsupported(key, "a list of whole numbers"))
    }

    /// A whole number for each of so many: a list of as many, or one for all of them.
    pub(super) fn count_of_each(
        &self,
        key: &str,
        (absent, of): (usize, usize),
    ) -> Result<Vec<usize>, Unsupported> {
        match self.get(key) {
            Some(Value::Array(_)) => {
                let counts = self.counts(key, &[])?;
                if counts.len() == of {
                    return Ok(counts);
                }
                Err(self.unsupported(key, format!("one whole number, or a list of {of}")))
            }
            _ => Ok(vec![self.count(key, absent)?; of]),
        }
    }

    /// A finite number.
    pub(super) fn number(&self, key: &str, absent: f64) -> Result<f64, Unsupported> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| self.unsupported(key, "a number")),
        }
    }

    /// A list of finite numbers; `None` where the key is absent or null.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, Unsupported> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers: Option<Vec<f64>> =
            list.iter().map(|number| number.as_f64().filter(|number| number.is_finite())).collect();
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.unsupported(key, "a list of numbers")),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str, absent: bool) -> Result<bool, Unsupported> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => value.as_bool().ok_or_else(|| self.unsupported(key, "true or false")),
        }
    }

    /// A word.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The text of a key; `None` where it is absent or of another type.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.word(key)
    }

    /// The words of a list.
    pub(super) fn words(&self, key: &str, absent: &[&str]) -> Result<Vec<String>, Unsupported> {
        let Some(value) = self.get(key) else {
            return Ok(absent.iter().map(|&word| word.to_owned()).collect());
        };
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let words: Option<Vec<String>> =
            list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
        words
            .filter(|words| words.len() <= MOST_LISTED)
            .ok_or_else(|| self.unsupported(key, "a list of words"))
    }
}

/// The longest list of resolutions or layers.
const MOST_LISTED: usize = 1000;

fn as_count(value: &Value) -> Option<usize> {
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=LARGEST as f64).contains(&number)).then_some(number as u64)
    })?;
    usize::try_from(whole).ok().filter(|_| whole <= LARGEST)
}

/// Whether two values are one: numbers within what a decimal may lose.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => close(a, b),
        _ => a == b,
    }
}

/// Whether two numbers are one within what f32 and a decimal may lose.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}
