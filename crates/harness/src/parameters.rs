//! A benchmark of a model as its ordered parameters.

use std::collections::BTreeMap;

use warpmark_measure::Group;
use warpmark_record::{BenchmarkId, IdError, Value};

use warpmark_weights::Format;

/// A benchmark of a model as its ordered parameters, from which its id, its sweep and the fields of its
/// rows follow: `<group>/<model>/<phase>/<format>/b<batch>/<others>@<engine>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    group: &'static str,
    phase: &'static str,
    format: Option<Format>,
    engine: &'static str,
    batch: usize,
    others: Vec<Parameter>,
}

/// A segment of an id, and what it says as data.
#[derive(Debug, Clone, PartialEq)]
struct Parameter {
    segment: String,
    fields: Vec<(&'static str, Value)>,
}

impl Parameters {
    /// What every benchmark has; `format` is `None` where the weights take no part in it.
    pub fn new(
        (group, phase): (&'static str, &'static str),
        format: Option<Format>,
        engine: &'static str,
        batch: usize,
    ) -> Self {
        Self { group, phase, format, engine, batch, others: Vec::new() }
    }

    /// With one more: the segment of the id, and what it says as data.
    #[must_use]
    pub fn with<const N: usize>(
        mut self,
        segment: impl Into<String>,
        fields: [(&'static str, Value); N],
    ) -> Self {
        self.others.push(Parameter { segment: segment.into(), fields: fields.into() });
        self
    }

    /// What is computed side by side.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whose program it is.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// The id of the benchmark of a model.
    pub fn id(&self, model: &str) -> Result<BenchmarkId, IdError> {
        BenchmarkId::new(self.segments(self.group, model, Some(self.batch)), self.engine)
    }

    /// The id of a service that the benchmarks of rising batches up to `most` are together.
    pub fn served(&self, model: &str, most: usize) -> Result<BenchmarkId, IdError> {
        BenchmarkId::new(self.segments("serve", model, Some(most)), self.engine)
    }

    /// What the benchmarks have in common that run short of memory together: all but the batch.
    pub fn sweep(&self, model: &str) -> String {
        format!("{}@{}", self.segments(self.group, model, None).join("/"), self.engine)
    }

    /// Whether all else than the batch is the same.
    pub fn is_of_the_sweep(&self, other: &Self) -> bool {
        Self { batch: other.batch, ..self.clone() } == *other
    }

    /// The parameters as data.
    pub fn fields(&self, model: &str) -> BTreeMap<String, Value> {
        let format = self.format.map(|format| ("dtype", format.to_string().as_str().into()));
        let others = self.others.iter().flat_map(|parameter| parameter.fields.iter().cloned());
        [("model", model.into()), ("batch", self.batch.into())]
            .into_iter()
            .chain(format)
            .chain(others)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn segments(&self, group: &str, model: &str, batch: Option<usize>) -> Vec<String> {
        let mut segments = vec![group.to_owned(), model.to_owned(), self.phase.to_owned()];
        segments.extend(self.format.map(|format| format.to_string()));
        segments.extend(batch.map(|batch| format!("b{batch}")));
        segments.extend(self.others.iter().map(|parameter| parameter.segment.clone()));
        segments
    }
}

/// The benchmarks of a model in one format, with the parameters of each.
pub struct PlannedGroup {
    /// The benchmarks.
    pub group: Group,
    /// The parameters of each of the group's entries.
    pub parameters: Vec<Parameters>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpmark_weights::Dtype;

    fn generation(batch: usize) -> Parameters {
        Parameters::new(("text", "generate"), Some(Dtype::F16.into()), "warpmark", batch)
            .with("p128+64", [("prompt", 128usize.into()), ("tokens", 64usize.into())])
    }

    #[test]
    fn id_sweep_and_fields_follow_from_the_parameters_in_their_order() {
        let case = generation(8);
        let id = case.id("tiny").unwrap().to_string();
        assert_eq!(id, "text/tiny/generate/f16/b8/p128+64@warpmark");
        assert_eq!(case.sweep("tiny"), "text/tiny/generate/f16/p128+64@warpmark");
        let served = case.served("tiny", 32).unwrap().to_string();
        assert_eq!(served, "serve/tiny/generate/f16/b32/p128+64@warpmark");
        let fields = case.fields("tiny");
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["batch", "dtype", "model", "prompt", "tokens"]);
        assert_eq!(fields["tokens"], 64usize.into());
    }

    #[test]
    fn what_the_weights_take_no_part_in_has_no_dtype() {
        let mel = Parameters::new(("speech", "mel"), None, "warpmark", 1);
        assert_eq!(mel.id("w").unwrap().to_string(), "speech/w/mel/b1@warpmark");
        assert!(!mel.fields("w").contains_key("dtype"));
    }

    #[test]
    fn a_sweep_differs_in_nothing_but_the_batch() {
        assert!(generation(1).is_of_the_sweep(&generation(8)));
        let other = generation(8).with("x", []);
        assert!(!generation(1).is_of_the_sweep(&other));
    }
}
