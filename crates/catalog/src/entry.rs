//! One `[[model]]` as TOML has it, and the way from there to a [`Model`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use warpmark_record::{DeviceKind, DeviceSpec};

use crate::location::Text;
use crate::{Dtype, Format, Model};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) model: Vec<ModelEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelEntry {
    id: String,
    family: String,
    title: String,
    repo: String,
    revision: Option<String>,
    #[serde(default = "single_file")]
    files: Vec<String>,
    #[serde(default)]
    sha256: Vec<String>,
    tokenizer: Option<String>,
    checkpoint: Dtype,
    phases: Vec<String>,
    batches: Vec<usize>,
    suites: Suites,
    // The family's own sections, read by `Model::section`.
    architecture: toml::Table,
    inputs: toml::Table,
    expected: Option<toml::Table>,
    // Where quantised weights are.
    gguf: Option<toml::Table>,
}

fn single_file() -> Vec<String> {
    vec!["model.safetensors".to_owned()]
}

/// The formats to measure, by suite and device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suites {
    #[serde(default)]
    quick: BTreeMap<Kind, Vec<Format>>,
    #[serde(default)]
    full: BTreeMap<Kind, Vec<Format>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cpu,
    Cuda,
}

impl Suites {
    /// The formats of a suite on a device; a simulated GPU counts as a GPU.
    pub(super) fn formats(&self, full: bool, device: &DeviceSpec) -> &[Format] {
        let suite = if full { &self.full } else { &self.quick };
        let kind = match device.kind {
            DeviceKind::Cpu => Kind::Cpu,
            DeviceKind::Cuda | DeviceKind::Simulated => Kind::Cuda,
        };
        suite.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Every format that any of the suites lists.
    pub(super) fn all(&self) -> impl Iterator<Item = Format> {
        self.quick.values().chain(self.full.values()).flatten().copied()
    }
}

impl ModelEntry {
    /// The model as it stands there, nothing checked yet. `index` is the entry's among those of
    /// `source`.
    pub(super) fn into_model(self, source: &Arc<Text>, index: usize) -> Model {
        let sections = [
            ("architecture", Some(self.architecture)),
            ("inputs", Some(self.inputs)),
            ("expected", self.expected),
            ("gguf", self.gguf),
        ];
        let present = |(name, table): (_, Option<_>)| table.map(|table| (name, table));
        Model {
            id: self.id,
            family: self.family,
            title: self.title,
            repo: self.repo,
            revision: self.revision,
            files: self.files,
            sha256: self.sha256,
            tokenizer: self.tokenizer,
            checkpoint: self.checkpoint,
            phases: self.phases,
            batches: self.batches,
            suites: self.suites,
            sections: sections.into_iter().filter_map(present).collect(),
            source: Arc::clone(source),
            index,
        }
    }
}
