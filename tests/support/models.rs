//! Models small enough for a debug build, as entries of a catalog.

/// The tiny GPT-2 that most tests measure.
pub const TINY: &str = include_str!("../data/tiny.toml");

const LLAMA: &str = r#"
[[model]]
id = "ID"
family = "llama"
title = "ID"
repo = "warpmark/ID"
checkpoint = "f32"
phases = ["prefill"]
batches = [1]
[model.architecture]
vocabulary = 199
context = 64
width = 64
hidden = 128
layers = 2
heads = 4
key_value_heads = 2
norm_epsilon = 1e-5
rope_theta = 10000.0
tied = false
[model.inputs]
prompts = [16]
contexts = [16]
[model.suites.quick]
cpu = ["f32"]
cuda = ["f16"]
"#;

/// With windows of a second.
const WHISPER: &str = r#"
[[model]]
id = "ID"
family = "whisper"
title = "ID"
repo = "warpmark/ID"
checkpoint = "f32"
phases = ["mel", "encode", "transcribe"]
batches = [1]
[model.architecture]
mels = 12
audio_positions = 50
text_positions = 32
width = 32
heads = 4
encoder_layers = 1
decoder_layers = 1
vocabulary = 101
[model.inputs]
seconds = [1]
tokens_per_second = 4
prompt = [90]
end = 100
contexts = []
beams = [1]
[model.suites.quick]
cpu = ["f32"]
"#;

/// The tiny GPT-2 under another id, with other values of some keys.
pub fn gpt2(id: &str, changes: &[(&str, &str)]) -> String {
    entry(&TINY.replace("Tiny", id).replace("tiny", id), changes)
}

/// A Llama whose heads share keys, with other values of some keys.
pub fn llama(id: &str, changes: &[(&str, &str)]) -> String {
    entry(&LLAMA.replace("ID", id), changes)
}

/// A Whisper, with other values of some keys.
pub fn whisper(id: &str, changes: &[(&str, &str)]) -> String {
    entry(&WHISPER.replace("ID", id), changes)
}

/// An entry with other values of some keys, each of which it has once.
fn entry(template: &str, changes: &[(&str, &str)]) -> String {
    let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
    for (key, value) in changes {
        let of_key =
            |line: &&mut String| line.strip_prefix(key).is_some_and(|l| l.starts_with(" = "));
        let found: Vec<&mut String> = lines.iter_mut().filter(of_key).collect();
        assert_eq!(found.len(), 1, "lines of {key} in {template}");
        for line in found {
            *line = format!("{key} = {value}");
        }
    }
    lines.join("\n") + "\n"
}
