//! Bad input gets a clear error with the value, the place and the next step, and a code that is not 0.

use std::path::{Path, PathBuf};

use crate::support::models::{TINY, llama, whisper};
use crate::support::records::{decode, write};
use crate::support::{Ran, World};

/// Runs with a changed catalog.
fn with_catalog(from: &str, to: &str) -> Ran {
    assert!(TINY.contains(from), "{from:?} is not in the catalog");
    let world = World::new();
    let path = world.write("models.toml", &TINY.replacen(from, to, 1));
    world.run(&["run", "--device", "cpu", "--dry-run", "--models", path.to_str().unwrap()])
}

#[test]
fn a_catalog_with_a_fault_is_refused_with_its_line() {
    with_catalog("family = \"gpt2\"", "family = \"gtp2\"").exits(70).says(&[
        "models.toml:5",
        "gtp2",
        "gpt2",
    ]);
    with_catalog("layers = 2", "layers = \"two\"").exits(70).says(&["models.toml:17", "two"]);
    with_catalog("layers = 2", "layers = 0").exits(70).says(&["models.toml:17", "layers"]);
    with_catalog("width = 64", "width = 64000000000").exits(70).says(&["models.toml:16", "width"]);
    with_catalog("revision = \"0000", "revision = \"main").exits(70).says(&["models.toml:8", "40"]);
    with_catalog("checkpoint", "chekpoint").exits(70).says(&["models.toml:9", "chekpoint"]);
    with_catalog("[[model]]", "[[model]\n").exits(70).says(&["models.toml:3"]);
    with_catalog("family = \"gpt2\"\n", "").exits(70).says(&["family"]);
    let world = World::new();
    let path = world.write("models.toml", &format!("{TINY}\n{TINY}"));
    world
        .run(&["models", "--models", path.to_str().unwrap()])
        .exits(70)
        .says(&["\"tiny\"", "line 4"]);
}

#[test]
fn a_missing_file_or_folder_is_named() {
    let world = World::new();
    world.run(&["models", "--models", "none.toml"]).exits(70).says(&["none.toml"]);
    world.run(&["run", "--weights", "/no/such/folder"]).exits(70).says(&[
        "/no/such/folder",
        "synthetic",
        "hub",
    ]);
    world.run(&["report", "no.jsonl"]).exits(70).says(&["no.jsonl"]);
    world.run(&["report"]).exits(70).says(&["results", "warpmark run"]);
    world.run(&["compare", "a.jsonl", "b.jsonl"]).exits(70).says(&["a.jsonl"]);
}

#[test]
fn weights_of_a_file_or_for_several_models_are_refused_with_what_to_give() {
    let world = World::new();
    let file = world.write("model.safetensors", "");
    let dry = |weights: &Path, filter: &[&str]| {
        let weights = weights.to_str().unwrap();
        world
            .run(&[&["run", "--device", "cpu", "--dry-run", "--weights", weights], filter].concat())
    };
    dry(&file, &[]).exits(70).says(&["is a file", "--filter"]);
    let folder = file.parent().unwrap();
    dry(folder, &[]).exits(70).says(&["weights of one model", "models are selected", "--filter"]);
    world.write(
        "config.json",
        r#"{"model_type": "gpt2", "n_embd": 1024, "n_head": 16, "n_layer": 24, "n_positions": 1024,
            "vocab_size": 50257}"#,
    );
    let full = ["--suite", "full"];
    dry(folder, &full).exits(70).says(&["that of gpt2-355m", "--filter gpt2-355m/"]);
    dry(folder, &[&full[..], &["--filter", "gpt2-355m"]].concat()).exits(0);
    dry(folder, &["--filter", "micro/memory"]).exits(0);
}

/// A command on the tiny GPT-2 and the listener, with audio.
fn listening(world: &World, verb: &[&str], audio: &Path) -> Ran {
    let models = world.write("models.toml", &(whisper("listener", &[]) + TINY));
    let (models, audio) = (models.to_str().unwrap(), audio.to_str().unwrap());
    let options = ["--device", "cpu", "--models", models, "--audio", audio];
    world.run(&[verb, &options].concat())
}

/// A WAV file of so many seconds in which something is heard.
fn wav(
    world: &World,
    name: &str,
    (rate, channels, bits): (u32, u16, u16),
    seconds: u32,
) -> PathBuf {
    let frame = u32::from(channels * bits / 8);
    let size = seconds * rate * frame;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + size).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * frame).to_le_bytes());
    file.extend((frame as u16).to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(size.to_le_bytes());
    // A saw of 251 bytes a tooth: tones enough in every format.
    file.extend((0..size).map(|at| (at % 251) as u8));
    let path = world.path(name);
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn audio_that_cannot_be_used_fails_its_rows_and_the_run_goes_on() {
    let world = World::new();
    let text = world.write("talk.txt", "what was said");
    let ran = listening(&world, &["run", "--filter", "listener,prefill"], &text);
    ran.exits(1).says(&["talk.txt", "WAV, FLAC or MP3", "the rest is measured"]);
    let recording = warpmark_record::store::read(&world.results()[0]).unwrap();
    let mut failed = 0;
    for row in &recording.rows {
        if row.id.to_string().contains("/file") {
            let outcome = serde_json::to_string(&row.outcome).unwrap();
            assert!(outcome.contains("failed") && outcome.contains("give a WAV"), "{outcome}");
            failed += 1;
        } else {
            assert_eq!(row.outcome, warpmark_record::Outcome::Measured, "{}", row.id);
        }
    }
    assert_eq!((failed, recording.rows.len()), (2, 4), "mel and transcribe; encode and prefill");
    let empty = world.write("empty.wav", "");
    let ran = listening(&world, &["verify", "--filter", "listener"], &empty);
    ran.exits(1).says(&["empty.wav", "no audio"]);
    assert!(ran.stdout.contains("1 right, 2 wrong"), "{}", ran.stdout);
}

#[test]
fn stereo_eight_bits_and_ninety_six_kilohertz_are_converted_and_work() {
    let world = World::new();
    let formats = [("stereo", (16_000, 2, 16)), ("8", (16_000, 1, 8)), ("96", (96_000, 1, 16))];
    for (name, format) in formats {
        let audio = wav(&world, &format!("{name}.wav"), format, 2);
        let ran = listening(&world, &["verify", "--filter", "listener"], &audio);
        assert!(ran.exits(0).stdout.contains("3 right, 0 wrong"), "{name}: {}", ran.stdout);
    }
}

#[test]
fn an_hour_of_audio_is_left_out_on_a_cpu_with_the_time_it_would_take() {
    let world = World::new();
    let hour = wav(&world, "hour.wav", (16_000, 1, 8), 3600);
    let plan = ["run", "--device", "cpu", "--dry-run", "--filter", "whisper-tiny", "--audio"];
    let ran = world.run(&[&plan[..], &[hour.to_str().unwrap()]].concat());
    let text = &ran.exits(0).stdout;
    let row = text.lines().find(|line| line.contains("transcribe/f32/b1/file/greedy")).unwrap();
    assert!(row.contains("skipped: one iteration would take some"), "{text}");
    assert!(row.contains("on a CPU, the longest are 30"), "{text}");
    let other = text.lines().find(|line| line.contains("encode/f32/b1@warpmark")).unwrap();
    assert!(!other.contains("skipped"), "{text}");
}

#[test]
fn a_path_to_no_audio_and_a_text_without_audio_are_refused() {
    let world = World::new();
    let run = |arguments: &[&str]| {
        world.run(&[&["run", "--device", "cpu", "--dry-run"], arguments].concat())
    };
    run(&["--audio", "none.wav"]).exits(70).says(&["none.wav"]);
    run(&["--reference-text", "talk.txt"]).exits(64).says(&["--audio"]);
}

#[test]
fn a_device_that_does_not_exist_is_an_error_and_no_other_is_taken() {
    let world = World::new();
    let ran = world.run(&["run", "--device", "cuda:97", "--filter", "memory"]);
    ran.exits(70).says(&["cuda", "--device cpu"]);
    assert!(world.results().is_empty());
    world.run(&["run", "--device", "gpu"]).exits(64).says(&["gpu", "cuda:"]);
    world.run(&["run", "--device", "cuda:x"]).exits(64).says(&["cuda:x"]);
}

#[test]
fn wrong_usage_exits_with_64_and_help_with_0() {
    let world = World::new();
    world.run(&[]).exits(64);
    world.run(&["bake"]).exits(64);
    world.run(&["run", "--budget", "soon"]).exits(64).says(&["soon", "10m"]);
    world.run(&["run", "--filter", "a,,b"]).exits(64).says(&["empty part"]);
    world.run(&["--help"]).exits(0);
    world.run(&["run", "--help"]).exits(0);
    world.run(&["--version"]).exits(0);
}

#[test]
fn a_filter_that_selects_nothing_is_an_error() {
    let world = World::new();
    let ran = world.run(&["run", "--device", "cpu", "--filter", "nothing"]);
    ran.exits(64).says(&["selects no benchmark", "--dry-run"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named_with_the_way_out() {
    let world = World::new();
    let file = world.write("file", "");
    let mut run = world.tiny_run();
    run.env("WARPMARK_CACHE", file.join("below"));
    // What needs no cache is measured all the same; these all need it.
    Ran::of(run.output().unwrap()).exits(1).says(&["below", "WARPMARK_CACHE"]);
}

#[test]
fn a_results_folder_that_cannot_be_written_is_named_before_anything_is_measured() {
    let world = World::new();
    let file = world.write("file", "");
    let mut run = world.tiny_run();
    run.arg("--results").arg(file.join("below"));
    Ran::of(run.output().unwrap()).exits(70).says(&["below"]);
}

#[test]
fn a_checkpoint_of_another_architecture_fails_its_rows_and_the_run_goes_on() {
    let world = World::new();
    let models = world
        .write("models.toml", &(llama("other", &[("hidden", "96"), ("contexts", "[]")]) + TINY));
    let models = models.to_str().unwrap();
    let fetched = world.run(&["fetch", "tiny", "--weights", "synthetic", "--models", models]);
    let path = fetched.exits(0).stdout.lines().nth(1).unwrap().trim().to_owned();
    let folder = world.path("weights");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(path, folder.join("model.safetensors")).unwrap();
    let weights = folder.to_str().unwrap();
    let filter = ["--filter", "prefill", "--device", "cpu"];
    let source = ["--weights", weights, "--models", models];
    let ran = world.run(&[&["run"][..], &filter, &source].concat());
    ran.exits(1);
    let recording = warpmark_record::store::read(&world.results()[0]).unwrap();
    let of = |model: &str| {
        let id = format!("text/{model}/prefill/f32/b1/p16@warpmark");
        recording.rows.iter().find(|row| row.id.to_string() == id).unwrap()
    };
    let failed = serde_json::to_string(of("other")).unwrap();
    assert!(failed.contains("failed") && failed.contains("of another model?"), "{failed}");
    assert!(failed.contains("model.embed_tokens.weight"), "{failed}");
    assert_eq!(of("tiny").outcome, warpmark_record::Outcome::Measured);
}

/// The folder of the small fixture models of diffusion.
fn diffusion_fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/models/tests/fixtures/diffusion")
}

/// A world with the small model `v1` beside the tiny GPT-2, and a folder with the weights of both.
fn world_of_diffusion() -> World {
    const PARTS: [&str; 3] = [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ];
    let world = World::new();
    let entries = std::fs::read_to_string(diffusion_fixtures().join("models.toml")).unwrap();
    let quick = "suites = { quick = { cpu = [\"f32\"] } }";
    let entries = entries.replacen("suites = {}", quick, 1);
    let models = world.write("models.toml", &format!("{entries}{TINY}"));
    let models = models.to_str().unwrap();
    let fetched = world.run(&["fetch", "tiny", "--weights", "synthetic", "--models", models]);
    let tiny = fetched.exits(0).stdout.lines().nth(1).unwrap().trim().to_owned();
    for part in PARTS {
        let target = world.path("weights").join(part);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(diffusion_fixtures().join("v1").join(part), target).unwrap();
    }
    std::fs::copy(tiny, world.path("weights").join("model.safetensors")).unwrap();
    world
}

/// Runs both models, of which the second must be measured, and hands out the row of the first with the
/// exit code.
fn run_of_diffusion(world: &World) -> (Option<i32>, warpmark_record::Record) {
    let (models, weights) = (world.path("models.toml"), world.path("weights"));
    let filter = ["--filter", "v1/text/f32/b1,tiny/prefill", "--device", "cpu"];
    let source = ["--weights", weights.to_str().unwrap(), "--models", models.to_str().unwrap()];
    let ran = world.run(&[&["run"][..], &filter, &source].concat());
    let recording = warpmark_record::store::read(&world.results()[0]).unwrap();
    let of = |start: &str| {
        recording.rows.iter().find(|row| row.id.to_string().starts_with(start)).unwrap().clone()
    };
    assert_eq!(of("text/tiny/prefill/f32/b1").outcome, warpmark_record::Outcome::Measured);
    (ran.code, of("image/v1/text/f32/b1"))
}

/// What is done to a file of a world's weights.
type Damage = fn(&World, &str);

/// Adds a tensor to a safetensors file.
fn add_tensor(path: &Path, name: &str) {
    let bytes = std::fs::read(path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let (header, data) = rest.split_at(length);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    header[name] = serde_json::json!({
        "dtype": "F16", "shape": [1], "data_offsets": [data.len(), data.len() + 2]
    });
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], &header, data, &[0, 0]].concat()).unwrap();
}

#[test]
fn a_diffusion_checkpoint_that_cannot_be_fails_its_rows_and_the_run_goes_on() {
    let (code, intact) = run_of_diffusion(&world_of_diffusion());
    assert_eq!(code, Some(0));
    assert_eq!(intact.outcome, warpmark_record::Outcome::Measured);
    let unet = "weights/unet/diffusion_pytorch_model.safetensors";
    let damages: [(&str, Damage, [&str; 2]); 3] = [
        (
            "an extra tensor",
            |world, unet| add_tensor(&world.path(unet), "adapter.weight"),
            ["unet.adapter.weight", "belong to no part of the model"],
        ),
        (
            "a missing shard",
            |world, unet| std::fs::remove_file(world.path(unet)).unwrap(),
            ["it has no unet/diffusion_pytorch_model.safetensors", "fetch what is missing"],
        ),
        (
            "another architecture",
            |world, unet| {
                let other = unet.replace("weights", "v2");
                std::fs::copy(diffusion_fixtures().join(other), world.path(unet)).unwrap();
            },
            ["unet/diffusion_pytorch_model.safetensors", "checkpoint of another"],
        ),
    ];
    for (what, damage, parts) in damages {
        let world = world_of_diffusion();
        damage(&world, unet);
        let (code, row) = run_of_diffusion(&world);
        assert_eq!(code, Some(1), "{what}");
        let row = serde_json::to_string(&row).unwrap();
        for part in ["failed"].into_iter().chain(parts) {
            assert!(row.contains(part), "{what}: {part} is not in {row}");
        }
    }
}

#[test]
fn an_image_size_or_a_list_that_cannot_be_is_refused_with_its_line() {
    let entries = std::fs::read_to_string(diffusion_fixtures().join("models.toml")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(entries.contains(from), "{from:?} is not in the catalog");
        let world = World::new();
        let path = world.write("models.toml", &entries.replacen(from, to, 1));
        world.run(&["run", "--device", "cpu", "--dry-run", "--models", path.to_str().unwrap()])
    };
    with("unet = [64]", "unet = [100]").exits(70).says(&["models.toml:", "100", "multiple of 32"]);
    with("unet = [64]", "unet = []").exits(70).says(&["models.toml:", "inputs.unet = []"]);
    with("steps = [2]", "steps = []").exits(70).says(&["models.toml:", "inputs.steps = []"]);
    with("batches = [1, 2]", "batches = []").exits(70).says(&["models.toml:", "batches = []"]);
}

#[test]
fn a_prompt_over_the_context_or_an_empty_batch_is_refused_with_its_line() {
    with_catalog("prompts = [16]", "prompts = [65]").exits(70).says(&["models.toml:", "65", "64"]);
    with_catalog("contexts = [16]", "contexts = [49]").exits(70).says(&["models.toml:", "1 to 48"]);
    with_catalog("batches = [1, 2]", "batches = [0, 2]")
        .exits(70)
        .says(&["models.toml:", "from 1"]);
}

#[test]
fn an_unknown_model_is_answered_with_the_known_ones() {
    World::new().run(&["fetch", "gpt5"]).exits(70).says(&["gpt5", "gpt2-124m"]);
}

#[test]
fn results_that_are_torn_new_or_broken_are_said_to_be_so() {
    let world = World::new();
    Ran::of(world.tiny_run().output().unwrap()).exits(0);
    let file = world.results().remove(0);
    let text = std::fs::read_to_string(&file).unwrap();
    let name = file.to_str().unwrap();

    std::fs::write(&file, &text[..text.len() - 40]).unwrap();
    let torn = world.run(&["report", name]);
    torn.exits(0).says(&[]);
    // Where the line breaks depends on the length of the path.
    let shown = torn.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["prefill/f32/b1", ".jsonl:6: the line is torn"] {
        assert!(shown.contains(part), "{part} is missing:\n{}", torn.stdout);
    }

    std::fs::write(&file, text.replace("\"schema\":1,", "\"schema\":99,")).unwrap();
    world.run(&["report", name]).exits(70).says(&[":1:", "99", "update warpmark"]);

    let mut lines: Vec<&str> = text.lines().collect();
    lines[3] = "{\"kind\":\"row\",\"schema\":1}";
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    world.run(&["report", name]).exits(70).says(&[":4:"]);
}

#[test]
fn names_with_control_characters_do_not_reach_the_terminal() {
    let world = World::new();
    Ran::of(world.tiny_run().output().unwrap()).exits(0);
    let file = world.results().remove(0);
    let text = std::fs::read_to_string(&file).unwrap();
    let hostile = "\\u001b[31mred|<script>alert(1)</script>";
    let (head, tail) = text.split_once("\"name\":\"").unwrap();
    let rest = tail.split_once('"').unwrap().1;
    std::fs::write(&file, format!("{head}\"name\":\"{hostile}\"{rest}")).unwrap();
    let name = file.to_str().unwrap();
    for format in ["terminal", "markdown", "csv"] {
        let shown = world.run(&["report", name, "--format", format]);
        shown.exits(0);
        assert!(!shown.stdout.contains('\u{1b}'), "{format}: {:?}", shown.stdout);
    }
    let markdown = world.run(&["report", name, "--format", "markdown"]);
    assert!(!markdown.stdout.contains("<script>"), "{}", markdown.stdout);
}

const DECODE: &str = "text/gpt2-124m/decode/f16/b1/c128@warpmark";

/// A run of a card with a row, changed: `from` stands in its lines once or more.
fn changed(world: &World, from: &str, to: &str) -> String {
    let path = write(world, "one", "t4", &[decode(DECODE, 1, 0.01)]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn clocks_from_the_future_or_of_no_time_are_warned_of_with_their_line_and_trouble_nobody() {
    for (time, says) in [
        ("2999-01-01T00:00:00Z", "still to come"),
        ("99999-01-01T00:00:00Z", "no time"),
        ("-1", "no time"),
        ("", "no time"),
    ] {
        let world = World::new();
        let name = changed(&world, "2026-11-21T23:31:00Z", time);
        for format in ["terminal", "markdown", "csv", "json", "html"] {
            let shown = world.run(&["report", &name, "--format", format]);
            let told = if format == "csv" { &shown.stderr } else { &shown.stdout };
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains("one.jsonl:2:") && told.contains(says), "{format}: {told}");
            shown.exits(0).says(&[]);
        }
        for verb in [&["compare", &name, &name][..], &["tune"], &["cost"], &["report", "--index"]] {
            world.run(verb).exits(0).says(&[]);
        }
    }
}

#[test]
fn times_that_cannot_be_are_refused_with_their_line_by_every_verb_that_reads() {
    for (to, says) in [
        ("\"warm_up_s\":-1.0", "warm_up_s is -1"),
        ("\"warm_up_s\":NaN", ":2:"),
        ("\"warm_up_s\":1e999", "out of range"),
        ("\"warm_up_s\":null", "null"),
    ] {
        let world = World::new();
        let name = changed(&world, "\"warm_up_s\":1.0", to);
        let merged = world.path("merged.jsonl");
        for verb in [
            &["report", &name][..],
            &["compare", &name, &name],
            &["tune", &name],
            &["cost", &name],
            &["rank", &name],
        ] {
            world.run(verb).exits(70).says(&["one.jsonl:2:", says]);
        }
        // What can be read is merged, and the rest is said.
        let merge = world.run(&["merge", &name, "--output", merged.to_str().unwrap()]);
        merge.exits(1).says(&["one.jsonl:2:", says]);
    }
}

#[test]
fn rows_that_stand_twice_are_left_out_and_named() {
    let world = World::new();
    let row = || decode(DECODE, 1, 0.01);
    let path = write(&world, "one", "t4", &[row(), row(), row()]);
    let name = path.to_str().unwrap();
    let shown = world.run(&["report", name]);
    for line in ["one.jsonl:3:", "one.jsonl:4:"] {
        assert!(shown.exits(0).stdout.contains(line), "{line}: {}", shown.stdout);
    }
    let csv = world.run(&["report", name, "--format", "csv"]);
    csv.exits(0).says(&["one.jsonl:3:", "one.jsonl:4:", "has a row for"]);
    assert_eq!(csv.stdout.lines().count(), 2, "{}", csv.stdout);
}

/// What a row takes is what this test bounds; how many there may be is bounded where they are read.
#[cfg(target_os = "linux")]
#[test]
fn many_lines_take_a_bounded_amount_of_memory_each() {
    use std::fmt::Write as _;

    const ROWS: usize = 5_000;
    let world = World::new();
    let path = write(&world, "one", "t4", &[decode(DECODE, 1, 0.01)]);
    let text = std::fs::read_to_string(&path).unwrap();
    let (run, row) = text.split_once('\n').unwrap();
    let mut many = format!("{run}\n");
    for at in 0..ROWS {
        let id = format!("text/gpt2-124m/decode/f16/b1/c128/r{at}@warpmark");
        write!(many, "{}", row.replace(DECODE, &id)).unwrap();
    }
    std::fs::write(&path, many).unwrap();
    for format in ["csv", "terminal", "html"] {
        // In kibibytes, the program's own code included.
        let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", 256 << 10);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_warpmark"), "report"]);
        shell.arg(&path).args(["--format", format]).current_dir(world.path(""));
        let ran = Ran::of(shell.output().unwrap());
        ran.exits(0).says(&[]);
        assert!(ran.stdout.matches("c128/r").count() >= ROWS, "{format}");
    }
}

#[test]
fn messages_quote_foreign_text_of_any_length_in_a_few_lines() {
    let long = "x".repeat(100_000);
    for (from, to) in [
        ("family = \"gpt2\"", format!("family = \"{long}\"")),
        ("id = \"tiny\"", format!("id = \"{long}\"")),
        ("revision = \"0000", format!("revision = \"{long}")),
        ("repo = \"", format!("repo = \"{long}")),
        ("checkpoint", format!("{long} = 1\ncheckpoint")),
        ("layers = 2", format!("layers = \"{long}\"")),
    ] {
        let ran = with_catalog(from, &to);
        ran.exits(70).says(&["models.toml:"]);
        assert!(ran.stderr.len() < 3000, "{from}: {} bytes", ran.stderr.len());
    }
    let world = World::new();
    for arguments in [
        &["run", "--device", "cpu", "--filter", &long][..],
        &["run", "--device", &long],
        &["fetch", &long],
        &["report", &long],
        &["compare", &long, &long],
        &[&long],
    ] {
        let ran = world.run(arguments);
        assert!(matches!(ran.code, Some(64 | 70)), "{:?}", ran.code);
        assert!(ran.stderr.len() < 3000, "{} bytes: {}", ran.stderr.len(), &ran.stderr[..3000]);
    }
}

/// Runs it with an end, after which it would have waited for ever.
fn within_seconds(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.args(arguments);
    Ran::of(world.launched_by(&["timeout", "60"], &command).output().unwrap())
}

#[test]
fn what_never_ends_is_not_read_to_its_end_and_pipes_are_not_waited_for() {
    let world = World::new();
    let pipe = |name: &str| {
        let path = world.path(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path.to_str().unwrap().to_owned()
    };
    let record = write(&world, "one", "t4", &[decode(DECODE, 1, 0.01)]);
    let record = record.to_str().unwrap();
    for (arguments, says) in [
        (&["models", "--models", "/dev/zero"][..], "longer than 16 MiB"),
        (&["models", "--models", &pipe("models.toml")], "named pipe"),
        (&["cost", record, "--prices", "/dev/zero"], "longer than 16 MiB"),
        (&["cost", record, "--prices", &pipe("prices.toml")], "named pipe"),
        (&["report", "/dev/zero"], "longer than 64 MiB"),
        (&["report", &pipe("run.jsonl")], "named pipe"),
        (&["compare", record, &pipe("other.jsonl")], "named pipe"),
        (&["report", record, "--format", "csv", "--output", &pipe("out")], "nobody reads"),
    ] {
        within_seconds(&world, arguments).exits(70).says(&[says]);
    }
    // What a shell hands over is a pipe as well, and is read.
    let script = "cat \"$1\" | \"$0\" report /dev/stdin";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_warpmark"), record]);
    Ran::of(shell.output().unwrap()).exits(0);
}

#[test]
fn weights_and_tokenizers_that_never_end_fail_their_rows() {
    let world = World::new();
    let models = world.write("models.toml", TINY);
    for (name, target) in [("zero", Some("/dev/zero")), ("pipe", None)] {
        let path = world.path(name).join("model.safetensors");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        if let Some(target) = target {
            std::os::unix::fs::symlink(target, &path).unwrap();
        } else {
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        }
        let (folder, models) = (world.path(name), models.to_str().unwrap());
        let source = ["--weights", folder.to_str().unwrap(), "--models", models];
        let verify = ["verify", "--device", "cpu", "--filter", "tiny/prefill"];
        let ran = within_seconds(&world, &[&verify[..], &source].concat());
        ran.exits(1).says(&["model.safetensors"]);
    }
}

#[test]
fn a_records_file_of_an_editor_that_marks_texts_is_read() {
    let world = World::new();
    let path = write(&world, "one", "t4", &[decode(DECODE, 1, 0.01)]);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    let ran = world.run(&["report", path.to_str().unwrap()]);
    assert!(ran.exits(0).stdout.contains("decode/f16"), "{}", ran.stdout);
}

#[test]
fn a_build_for_ab_that_records_nothing_is_named() {
    let world = World::new();
    world.run(&["ab", "true", "true"]).exits(70).says(&["true recorded nothing in round 1"]);
}
