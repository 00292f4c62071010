//! Loading holds little more than its result, for every family: from one file, from shards, as it is stored
//! and converted. One test alone in its process, whose resident set is what is looked at.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/entry.rs"]
mod entry;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use entry::ModelEntry;
use warpmark_device::resident;
use warpmark_models::weights::{self, Cache, Quiet, Source, WeightFiles};
use warpmark_models::{Catalog, Dtype, Model};
use warpmark_record::{Bytes, Field};

/// The buffer through which weights are converted.
const STAGE: f64 = 16.0 * 1024.0 * 1024.0;

/// The numbers of some 60 MB of each family in f32, so that neither the buffer nor the program hides
/// what is held twice, and what it is fed.
const NUMBERS: [(&str, &str, &str); 4] = [
    (
        "gpt2",
        "vocabulary = 2000\ncontext = 64\nwidth = 512\nlayers = 5\nheads = 8",
        "prompts = [8]\ncontexts = [8]",
    ),
    (
        "llama",
        "vocabulary = 2000\ncontext = 64\nwidth = 512\nhidden = 1536\nlayers = 4\nheads = 8\n\
         key_value_heads = 8\nnorm_epsilon = 1e-5\nrope_theta = 10000.0\ntied = false",
        "prompts = [8]\ncontexts = [8]",
    ),
    (
        "whisper",
        "mels = 80\naudio_positions = 1500\ntext_positions = 448\nwidth = 512\nheads = 8\n\
         encoder_layers = 2\ndecoder_layers = 2\nvocabulary = 2000",
        "seconds = [5]\ntokens_per_second = 3\nprompt = [1]\nend = 2\ncontexts = [8]\nbeams = [1]",
    ),
    (
        "resnet",
        "blocks = [2, 2, 4, 2]\nbottleneck = true\nwidth = 64\nclasses = 1000",
        "sizes = [32]",
    ),
];

/// The parts of a diffusion model of that size.
const DIFFUSION: [(&str, &str); 4] = [
    (
        "architecture.unet",
        "latents = 4\nchannels = [64, 128]\nlayers = 1\ntransformers = [1, 0]\n\
         middle_transformers = 1\nheads = [8, 8]\ntext_width = 512\nlinear_projection = false\n\
         groups = 16",
    ),
    (
        "architecture.vae",
        "channels = [32, 32, 64, 64]\nlayers = 1\ngroups = 16\nscaling = 0.18215\nupcast = false\n\
         [[model.architecture.text]]\nvocabulary = 2000\npositions = 77\nwidth = 512\nlayers = 4\n\
         heads = 8\nhidden = 2048\nactivation = \"gelu\"\noutput = \"last\"",
    ),
    (
        "architecture.scheduler",
        "prediction = \"epsilon\"\nddim_spacing = \"leading\"\neuler_spacing = \"leading\"\noffset = 1",
    ),
    (
        "inputs",
        "unet = [64]\nvae = [64]\ngenerate = [64]\nsteps = [2]\nschedulers = [\"ddim\"]\nguidance = 7.5",
    ),
];

/// A model of each family, called by its name.
fn models() -> Catalog {
    let shards = r#"["one.safetensors", "two.safetensors"]"#;
    let entry = |family| ModelEntry::of(family).text("id", family);
    let entries = NUMBERS.map(|(family, numbers, inputs)| {
        entry(family).with("files", shards).table("architecture", numbers).table("inputs", inputs)
    });
    let folders =
        r#"["unet/model.safetensors", "vae/model.safetensors", "text_encoder/model.safetensors"]"#;
    let diffusion = entry("diffusion").with("files", folders);
    let diffusion =
        DIFFUSION.iter().fold(diffusion, |entry, (name, lines)| entry.table(name, lines));
    let text: String = entries.iter().chain([&diffusion]).map(ModelEntry::to_string).collect();
    Catalog::parse(&text, "models.toml").unwrap()
}

fn known(bytes: &Field<Bytes>) -> f64 {
    bytes.known().unwrap().get()
}

/// Loads the files and looks at the most that was resident meanwhile, above what was before.
fn load(model: &Model, files: &WeightFiles, dtype: Dtype) -> HashMap<String, Tensor> {
    let specs = model.family().tensors(model).unwrap();
    resident::reset_peak().unwrap();
    let start = known(&resident::now());
    let loaded = files.load(&specs, dtype.candle(), &Device::Cpu).unwrap();
    let held = known(&resident::peak()) - start;
    let result = loaded.tensors.values();
    let result: usize = result.map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum();
    let result = result as f64;
    let what = format!("{} as {dtype} from {} files", model.id, files.paths().len());
    assert!(result > 1.5 * STAGE, "{what}: {result:e} bytes are too few to see anything");
    // Small tensors may find room that the allocator kept.
    assert!(held >= 0.8 * result, "{what}: {held:e} of {result:e} bytes were seen");
    let most = 1.2 * result + if dtype == Dtype::F32 { 0.0 } else { STAGE };
    assert!(held <= most, "{what}: {held:e} bytes were held for {result:e}");
    loaded.tensors
}

/// Writes tensors as the files that the entry lists: components by their names, shards by halves.
fn write(folder: &Path, model: &Model, tensors: HashMap<String, Tensor>) {
    let half = tensors.len() / 2;
    let mut files: HashMap<String, HashMap<String, Tensor>> = HashMap::new();
    for (index, (name, tensor)) in
        tensors.into_iter().collect::<BTreeMap<_, _>>().into_iter().enumerate()
    {
        let of_component = model.files.iter().find_map(|file| {
            let component = file.split_once('/')?.0;
            Some((file, name.strip_prefix(component)?.strip_prefix('.')?))
        });
        let (file, name) =
            of_component.unwrap_or((&model.files[usize::from(index >= half)], name.as_str()));
        files.entry(file.clone()).or_default().insert(name.to_owned(), tensor);
    }
    for (file, tensors) in files {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        candle_core::safetensors::save(&tensors, path).unwrap();
    }
}

/// The allocator's variable, from which on it maps each block apart and gives it back when it is freed: what
/// it kept for later would hide what a load takes.
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";

#[test]
fn a_load_holds_at_most_a_fifth_more_than_its_result_in_every_family() {
    if std::env::var_os(THRESHOLD).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let ran = again.env(THRESHOLD, "131072").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    if let Err(error) = resident::reset_peak() {
        panic!("the high-water mark cannot be reset here: {error}");
    }
    let catalog = models();
    for model in catalog.models() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let specs = model.family().tensors(model).unwrap();
        let source = Source::Synthetic { seed: 1 };
        let files = weights::locate(
            &model.checkpoint_in(Dtype::F32).unwrap(),
            &specs,
            &source,
            &cache,
            &Quiet,
        )
        .unwrap();
        // The first touches the program's own pages, and is not looked at.
        drop(files.load(&specs, Dtype::F16.candle(), &Device::Cpu).unwrap());
        drop(load(model, &files, Dtype::F16));
        let tensors = load(model, &files, Dtype::F32);
        let shards = folder.path().join("shards");
        write(&shards, model, tensors);
        let source = Source::Folder(shards);
        let files = weights::locate(
            &model.checkpoint_in(Dtype::F32).unwrap(),
            &specs,
            &source,
            &cache,
            &Quiet,
        )
        .unwrap();
        assert_eq!(files.paths().len(), model.files.len());
        for dtype in [Dtype::F16, Dtype::F32] {
            drop(load(model, &files, dtype));
        }
    }
}
