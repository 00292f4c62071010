//! What is fed: every parser of bytes that come from elsewhere.

mod configuration;
mod hub;
mod ptx;
mod texts;
mod weights;

use std::error::Error;
use std::path::Path;

use warpmark_models::audio;
use warpmark_models::tokenizer::Tokenizer;

/// Whole inputs of a format, to be damaged.
pub(crate) type Seeds = Result<Vec<Vec<u8>>, Box<dyn Error>>;

/// A parser under test.
pub(crate) struct Target {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What the input's file is called, for parsers that look at names.
    pub(crate) file: &'static str,
    /// Files of this repository that are seeds.
    pub(crate) seeds: &'static [&'static str],
    /// Seeds that are made rather than kept.
    pub(crate) made: fn() -> Seeds,
    /// Writes what has to stand beside the input.
    pub(crate) prepare: fn(&Path) -> Result<(), Box<dyn Error>>,
    /// Parses the input, and does with the result what the suite would.
    pub(crate) feed: fn(&Path, &[u8]),
}

impl Target {
    const fn new(name: &'static str, file: &'static str, feed: fn(&Path, &[u8])) -> Self {
        Self { name, file, seeds: &[], made: || Ok(Vec::new()), prepare: |_| Ok(()), feed }
    }

    const fn seeds(self, seeds: &'static [&'static str]) -> Self {
        Self { seeds, ..self }
    }

    const fn made(self, made: fn() -> Seeds) -> Self {
        Self { made, ..self }
    }

    const fn prepare(self, prepare: fn(&Path) -> Result<(), Box<dyn Error>>) -> Self {
        Self { prepare, ..self }
    }
}

/// All of them.
pub(crate) const TARGETS: [Target; 13] = [
    Target::new("safetensors", "model.safetensors", weights::plain).made(weights::plain_seeds),
    Target::new("index", "model.safetensors.index.json", weights::plain_sharded)
        .prepare(weights::write_shards),
    Target::new("gguf", "model.gguf", weights::quantised).made(weights::quantised_seeds),
    Target::new("tokenizer", "tokenizer.json", tokenizer),
    Target::new("audio", "audio.wav", recording).seeds(&[
        "crates/audio/tests/fixtures/audio/tone.flac",
        "crates/audio/tests/fixtures/audio/tone.mp3",
    ]),
    Target::new("catalog", "models.toml", texts::catalog).seeds(&["tests/data/tiny.toml"]),
    Target::new("configuration", "config.json", configuration::configuration),
    Target::new("results", "run.jsonl", texts::results),
    Target::new("prices", "prices.toml", texts::prices).seeds(&["crates/analyze/prices.toml"]),
    Target::new("reference", "reference.toml", texts::reference)
        .seeds(&["results/reference/module-4.toml", "results/reference/requests.toml"]),
    Target::new("hub", "answer.http", hub::answer).made(hub::seeds).prepare(hub::serve),
    Target::new("filter", "filter.txt", texts::filter),
    Target::new("ptx", "kernel.ptx", ptx::kernels).seeds(&[
        "kernels/ptx/atomics.ptx",
        "kernels/ptx/cache.ptx",
        "kernels/ptx/chase.ptx",
        "kernels/ptx/fill.ptx",
        "kernels/ptx/blocking.ptx",
        "kernels/ptx/memory-1024.ptx",
        "kernels/ptx/shared.ptx",
    ]),
];

fn tokenizer(path: &Path, _: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::open(path, 64) {
        let tokens = tokenizer.encode("ab ba \u{e9}\u{4e2d}").unwrap_or_default();
        let _ = tokenizer.decode(&tokens);
        let _ = tokenizer.decode(&[0, 1, 2, 63, u32::MAX]);
    }
}

fn recording(path: &Path, _: &[u8]) {
    let _ = audio::Audio::read(path);
}
