use candle_core::DType;
use warpmark_measure::{Entry, Session, WorkloadError};
use warpmark_record::WeightsStamp;

use super::case::{Case, Engine, Phase};
use super::nets::Tokens;
use super::*;
use crate::bench::{fixture, noise};
use crate::fixture::{normal, options};
use warpmark_harness::ModelSession;
use warpmark_nets::diffusion::Scheduler;

const FIXTURES: &str = include_str!("../../../tests/fixtures/diffusion/models.toml");

/// The small models of the fixtures.
fn catalog() -> crate::Catalog {
    crate::Catalog::parse(FIXTURES, "models.toml").unwrap()
}

/// The same with channels for 32 groups, the only ones that candle's `UNet` has.
fn wide_catalog() -> crate::Catalog {
    let wide = [
        ("channels = [4, 8, 8]", "channels = [32, 64, 64]"),
        ("channels = [8, 8]", "channels = [32, 32]"),
        ("channels = [4, 4, 8, 8]", "channels = [32, 32, 64, 64]"),
        ("groups = 2", "groups = 32"),
    ];
    let text = wide.iter().fold(FIXTURES.to_owned(), |text, (from, to)| text.replace(from, to));
    crate::Catalog::parse(&text, "models.toml").unwrap()
}

const GENERATE: Phase = Phase::Generate { size: 32, steps: 3, scheduler: Scheduler::Euler };
const PHASES: [Phase; 4] =
    [Phase::Text, Phase::Unet { size: 64 }, Phase::Vae { size: 32 }, GENERATE];

/// What candle's nets are asked for, and for how many images; they have the text encoders of the published
/// sizes alone.
const PUBLISHED: [(Phase, usize); 2] =
    [(Phase::Unet { size: 64 }, 2), (Phase::Vae { size: 32 }, 1)];

/// A session on seeded weights, with nets built from damaged tensors and checked against intact ones.
fn session(
    id: &str,
    dtype: Dtype,
    damage: impl FnOnce(&mut HashMap<String, Tensor>),
) -> ModelSession<Case> {
    session_of(&catalog(), id, dtype, damage)
}

/// Numbers and seeded weights of a model.
fn seeded(
    catalog: &crate::Catalog,
    id: &str,
    dtype: Dtype,
) -> (Architecture, HashMap<String, Tensor>) {
    let model = catalog.model(id).unwrap();
    let fill = |spec: &TensorSpec| {
        let (mean, std) = match spec.init {
            // Not exactly one and zero, so that every gain and bias counts.
            Init::Ones => (1.0f32, 0.1),
            Init::Zeros => (0.0, 0.1),
            Init::Normal { std } => (0.0, std.max(0.1)),
        };
        let tensor = normal(&spec.name, (mean, std), spec.shape.clone());
        (spec.name.clone(), tensor.to_dtype(dtype.candle()).unwrap())
    };
    let specs = DiffusionFamily.tensors(model).unwrap();
    (architecture(model).unwrap(), specs.iter().map(fill).collect())
}

fn session_of(
    catalog: &crate::Catalog,
    id: &str,
    dtype: Dtype,
    damage: impl FnOnce(&mut HashMap<String, Tensor>),
) -> ModelSession<Case> {
    let (architecture, right) = seeded(catalog, id, dtype);
    let mut wrong = right.clone();
    damage(&mut wrong);
    let own = PHASES.map(|phase| (phase, 2, Engine::Own));
    let others = PUBLISHED.map(|(phase, batch)| (phase, batch, Engine::Candle));
    let cases = own.into_iter().chain(others);
    let cases = cases.map(|(phase, batch, engine)| Case { phase, batch, engine });
    let tolerances = RefCell::default();
    let info = ModelInfo { architecture, guidance: 7.5, dtype, tensors: right, tolerances };
    let engines = engines(&wrong, info.into()).unwrap();
    let context = fixture::context(id, dtype.into(), WeightsStamp::Synthetic { seed: 7 });
    fixture::on_cpu(engines, context, cases.map(|case| (case.parameters(dtype), case)))
}

fn entry_of(id: &str, phase: Phase, dtype: Dtype) -> Entry {
    entry_on(id, dtype, Case { phase, batch: 2, engine: Engine::Own })
}

fn entry_on(id: &str, dtype: Dtype, case: Case) -> Entry {
    fixture::entry(case.parameters(dtype).id(id).unwrap())
}

#[test]
fn sound_nets_pass_their_checks_in_every_dtype_and_version() {
    for id in ["v1", "v2", "xl"] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let mut session = session(id, dtype, |_| ());
            for phase in PHASES {
                let mut workload = session.workload(&entry_of(id, phase, dtype)).unwrap();
                workload.prepare(2).unwrap();
                workload.launch().unwrap();
                workload.launch().unwrap();
                workload.wait().unwrap();
                let check = workload.verify();
                let check = check.unwrap_or_else(|error| panic!("{id} {dtype} {phase:?}: {error}"));
                assert!(check.worst_error > 0.0, "{id} {dtype} {phase:?} compared nothing");
            }
        }
    }
}

#[test]
fn passes_of_a_service_find_their_texts_made() {
    let entry = entry_of("v1", Phase::Text, Dtype::F32);
    for keeps in [true, false] {
        let mut session = session("v1", Dtype::F32, |_| ());
        if keeps {
            session.keep_inputs();
        }
        session.workload(&entry).unwrap().verify().unwrap();
        // Texts that are made from here on are others, which the check knows.
        session.context.seed += 1;
        let again = session.workload(&entry).unwrap().verify();
        assert_eq!(again.is_err(), keeps, "{again:?}");
    }
}

#[test]
fn a_wrong_weight_fails_the_checks_of_what_it_is_in() {
    let weights = [
        ("text_encoder.text_model.encoder.layers.1.self_attn.out_proj.bias", [0, 3]),
        ("unet.up_blocks.1.resnets.1.conv2.bias", [1, 3]),
        ("vae.decoder.mid_block.attentions.0.to_out.0.bias", [2, 3]),
    ];
    for (name, phases) in weights {
        let mut session = session("v1", Dtype::F32, |tensors| {
            let tensor = tensors.get_mut(name).unwrap();
            *tensor = (tensor.affine(-3.0, 0.0)).unwrap();
        });
        for (index, phase) in PHASES.into_iter().enumerate() {
            let entry = entry_of("v1", phase, Dtype::F32);
            let found = session.workload(&entry).unwrap().verify();
            if phases.contains(&index) {
                assert!(
                    matches!(found, Err(WorkloadError::WrongAnswer { .. })),
                    "{name} {phase:?}: {found:?}"
                );
            } else {
                found.unwrap();
            }
        }
    }
}

#[test]
fn candle_s_nets_pass_the_same_checks_with_its_own_formulas_and_say_whose_they_are() {
    for id in ["v1", "v2"] {
        for dtype in [Dtype::F32, Dtype::F16] {
            let mut session = session_of(&wide_catalog(), id, dtype, |_| ());
            for (phase, batch) in PUBLISHED {
                let case = Case { phase, batch, engine: Engine::Candle };
                let entry = entry_on(id, dtype, case);
                let mut workload = session.workload(&entry).unwrap();
                workload.prepare(1).unwrap();
                workload.launch().unwrap();
                workload.wait().unwrap();
                let check = workload.verify();
                let check = check.unwrap_or_else(|error| panic!("{id} {dtype} {phase:?}: {error}"));
                assert!(check.worst_error > 0.0, "{id} {dtype} {phase:?} compared nothing");
                let row = workload.describe();
                assert!(row.id.to_string().ends_with("@candle"), "{}", row.id);
                assert!(row.caveats.iter().any(|caveat| caveat.contains("candle-transformers")));
            }
        }
    }
}

#[test]
fn a_wrong_weight_fails_the_checks_of_candle_s_nets_too() {
    for (name, index) in [
        ("unet.up_blocks.1.resnets.1.conv2.bias", 0),
        ("vae.decoder.mid_block.attentions.0.to_out.0.bias", 1),
    ] {
        let mut session = session_of(&wide_catalog(), "v1", Dtype::F32, |tensors| {
            let tensor = tensors.get_mut(name).unwrap();
            *tensor = tensor.affine(-3.0, 0.0).unwrap();
        });
        for (at, (phase, batch)) in PUBLISHED.into_iter().enumerate() {
            let case = Case { phase, batch, engine: Engine::Candle };
            let entry = entry_on("v1", Dtype::F32, case);
            let found = session.workload(&entry).unwrap().verify();
            let wrong = matches!(found, Err(WorkloadError::WrongAnswer { .. }));
            assert_eq!(wrong, at == index, "{name} {phase:?}: {found:?}");
        }
    }
}

#[test]
fn candle_s_nets_are_in_the_full_suite_alone_and_sdxl_has_none() {
    let catalog = shipped();
    let of = |id: &str, full| -> Vec<String> {
        let model = catalog.model(id).unwrap();
        let spec = crate::fixture::device_spec(warpmark_record::DeviceKind::Cuda);
        let options = RunOptions { dtypes: Some(vec![Dtype::F32]), spec, ..options(full) };
        let groups = DiffusionFamily.groups(model, &options).unwrap().into_iter();
        let ids =
            groups.flat_map(|planned| planned.group.entries).map(|entry| entry.id.to_string());
        ids.filter(|id| id.ends_with("@candle")).collect()
    };
    let parts = ["text/f32/b1@", "unet/f32/b1/", "unet/f32/b4/", "vae/f32/b1/"];
    for id in ["sd-1.5", "sd-2.1"] {
        assert!(of(id, false).is_empty(), "{id}");
        let full = of(id, true);
        let has = |part: &&str| full.iter().any(|id| id.contains(*part));
        assert!(parts.iter().all(has) && full.len() == 5, "{full:?}");
    }
    assert!(of("sdxl-1.0", true).is_empty());
    // Its UNet has other groups than candle's.
    let numbers = architecture(catalog.model("sd-small").unwrap()).unwrap();
    assert!(candle::offers(&numbers, Phase::Vae { size: 256 }, 1));
    assert!(!candle::offers(&numbers, Phase::Unet { size: 256 }, 1));
}

#[test]
fn candle_s_nets_are_skipped_in_bf16_on_a_cpu_with_the_reason() {
    let catalog = shipped();
    let model = catalog.model("sd-small").unwrap();
    let options = RunOptions { dtypes: Some(vec![Dtype::Bf16]), ..options(true) };
    let groups = DiffusionFamily.groups(model, &options).unwrap().into_iter();
    for entry in groups.flat_map(|planned| planned.group.entries) {
        let theirs = entry.id.to_string().ends_with("@candle");
        let reason = entry.skip.unwrap_or_default();
        assert_eq!(theirs, reason.contains("no bf16 matrices on a CPU"), "{}: {reason}", entry.id);
    }
}

#[test]
fn candle_s_text_encoder_answers_as_ours_does() {
    let catalog = shipped();
    let model = catalog.model("sd-small").unwrap();
    let architecture = architecture(model).unwrap();
    let specs = DiffusionFamily.tensors(model).unwrap();
    let fill = |spec: &TensorSpec| {
        let device = &candle_core::Device::Cpu;
        let tensor = match spec.init {
            Init::Normal { std } if spec.name.starts_with("text_encoder.") => {
                Ok(normal(&spec.name, (0.0, std), spec.shape.clone()))
            }
            Init::Ones => Tensor::ones(spec.shape.clone(), DType::F32, device),
            _ => Tensor::zeros(spec.shape.clone(), DType::F32, device),
        };
        (spec.name.clone(), tensor.unwrap())
    };
    let tensors: HashMap<String, Tensor> = specs.iter().map(fill).collect();
    let nets = Nets::new(&architecture, &tensors).unwrap();
    let published = Published::new(&architecture, &tensors).unwrap();
    let tokens = Tokens::new(&architecture, 7, 1, &candle_core::Device::Cpu).unwrap();
    let tokens = tokens.of_images().unwrap();
    let flat = |parts: &dyn nets::Parts| {
        let states = &parts.encode(&tokens).unwrap()[0].states;
        states.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (found, expected) = (flat(&published), flat(&nets));
    assert!(expected.iter().any(|state| state.abs() > 0.1), "the text says nothing");
    let off = warpmark_record::agreement::relative_error(&found, &expected);
    assert!(off <= 1e-4, "{off:e}");
}

#[test]
fn a_generation_tells_its_parts_apart_and_says_what_it_was() {
    let mut session = session("xl", Dtype::F32, |_| ());
    let entry = entry_of("xl", GENERATE, Dtype::F32);
    let mut workload = session.workload(&entry).unwrap();
    workload.prepare(1).unwrap();
    workload.launch().unwrap();
    let stages = workload.stages();
    assert!(["text_s", "denoise_s", "decode_s"].iter().all(|part| stages[*part] > 0.0));
    workload.launch().unwrap();
    let steps = &workload.distributions()["time_of_step_s"];
    assert_eq!(steps.len(), 6, "three steps of each of two images");
    let last: f64 = steps[3..].iter().sum();
    assert!((last - workload.stages()["denoise_s"]).abs() <= 1e-9, "{steps:?}");
    workload.verify().unwrap();
    workload.prepare(1).unwrap();
    workload.launch().unwrap();
    assert_eq!(workload.distributions()["time_of_step_s"].len(), 3, "checks have none");
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "image/xl/generate/f32/b2/s32/n3/euler@warpmark");
    assert_eq!(row.parameters["steps"], 3usize.into());
    assert_eq!(row.work.items.map(|items| items.count), Some(2.0));
}

/// The committed models.
fn shipped() -> crate::Catalog {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models.toml");
    crate::Catalog::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap()
}

#[test]
fn shipped_models_have_their_published_numbers_of_parameters() {
    // Of UNet, decoder and text encoders; from the files of the repositories.
    for (id, unet) in
        [("sd-1.5", 859_520_964), ("sd-2.1", 865_910_724), ("sdxl-1.0", 2_567_463_684)]
    {
        let catalog = shipped();
        let model = catalog.model(id).unwrap();
        let tensors = DiffusionFamily.tensors(model).unwrap();
        let of = |part: &str| -> u64 {
            let of_part = tensors.iter().filter(|spec| spec.name.starts_with(part));
            of_part.map(|spec| spec.elements().unwrap()).sum()
        };
        assert_eq!(of("unet."), unet, "{id}");
        // The decoder with its first convolution, which has 20 numbers of 49,490,199.
        assert_eq!(of("vae."), 49_490_199, "{id}");
    }
}

#[test]
fn a_pass_of_stable_diffusion_at_512_pixels_does_its_published_work() {
    let catalog = shipped();
    let architecture = architecture(catalog.model("sd-1.5").unwrap()).unwrap();
    // Published counts of multiply-adds lie around 0.40e12 with attention, two FLOPs each.
    let flops = work::unet_flops(&architecture, 512);
    assert!((0.74e12..0.86e12).contains(&flops), "{flops:e}");
}

#[test]
fn a_decoder_that_is_widened_reads_its_weights_in_f32() {
    let catalog = shipped();
    let bytes = |id: &str, dtype| {
        let architecture = architecture(catalog.model(id).unwrap()).unwrap();
        let phase = Phase::Vae { size: 512 };
        let case = Case { phase, batch: 1, engine: Engine::Own };
        work::work(&architecture, dtype, case).bytes.unwrap().0
    };
    // SDXL's is the same net as 1.5's, and leaves the range of f16.
    assert!((bytes("sdxl-1.0", Dtype::F16) / bytes("sd-1.5", Dtype::F16) - 2.0).abs() < 1e-9);
    assert!((bytes("sdxl-1.0", Dtype::Bf16) / bytes("sd-1.5", Dtype::Bf16) - 1.0).abs() < 1e-9);
}

#[test]
fn sizes_steps_and_guidance_that_cannot_be_are_refused_with_their_line() {
    let text = FIXTURES;
    let with = |from: &str, to: &str| {
        let catalog = crate::Catalog::parse(&text.replace(from, to), "models.toml");
        catalog.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let error = with("unet = [64]", "unet = [60]");
    assert!(error.contains("inputs.unet = 60") && error.contains("multiple of 32"), "{error}");
    assert!(error.contains("models.toml:"), "{error}");
    assert!(with("vae = [32]", "vae = [0]").contains("inputs.vae = 0"));
    for (key, value) in [("unet", "64"), ("vae", "32"), ("generate", "32"), ("steps", "2")] {
        let error = with(&format!("\n{key} = [{value}]"), &format!("\n{key} = []"));
        assert!(error.contains(&format!("inputs.{key} = []")), "{key}: {error}");
        assert!(error.contains("models.toml:"), "{error}");
    }
    let error = with("schedulers = [\"ddim\", \"euler\"]", "schedulers = []");
    assert!(error.contains("inputs.schedulers = []"), "{error}");
    assert!(with("batches = [1, 2]", "batches = []").contains("batches = []"));
    let none = text.replace("\nunet = [64]", "\nunet = []").replace("\"unet\", ", "");
    assert!(crate::Catalog::parse(&none, "models.toml").is_ok(), "a phase that is not asked for");
    assert!(with("steps = [2]", "steps = [1001]").contains("inputs.steps = 1001"));
    assert!(with("guidance = 7.5", "guidance = nan").contains("inputs.guidance"));
    assert!(with("\"euler\"]", "\"karras\"]").contains("karras"));
    assert!(with("text_width = 12", "text_width = 13").contains("text_width = 13"));
    assert!(with("heads = [2, 2, 2]", "heads = [2, 2]").contains("architecture.unet.heads"));
    assert!(with("heads = [2, 2, 2]", "heads = [3, 3, 3]").contains("do not divide"));
    assert!(with("pooled_width = 10", "pooled_width = 11").is_empty(), "both are one number");
    assert!(
        with("time_width = 8\npooled_width = 10", "time_width = 8\npooled_width = 9")
            .contains("added.pooled_width = 9")
    );
}

#[test]
fn the_quick_suite_takes_one_image_and_the_full_one_all_sizes_steps_and_schedulers() {
    let ids = |full| -> Vec<String> {
        let catalog = shipped();
        let groups = DiffusionFamily.groups(catalog.model("sd-1.5").unwrap(), &options(full));
        let groups = groups.unwrap().into_iter();
        groups.flat_map(|planned| planned.group.entries).map(|entry| entry.id.to_string()).collect()
    };
    assert!(ids(false).is_empty(), "on a CPU it is not in the quick suite");
    let full = ids(true);
    for id in [
        "image/sd-1.5/text/f32/b1@warpmark",
        "image/sd-1.5/unet/f32/b1/s768@warpmark",
        "image/sd-1.5/generate/f32/b1/s512/n50/euler@warpmark",
    ] {
        assert!(full.iter().any(|have| have == id), "{id} is not among {full:?}");
    }
}

#[test]
fn a_batch_has_the_answers_of_its_images_alone() {
    let (architecture, tensors) = seeded(&catalog(), "xl", Dtype::F32);
    let nets = Nets::new(&architecture, &tensors).unwrap();
    let device = nets.unet.device();
    let run = |count: usize| {
        let tokens = Tokens::new(&architecture, 7, count, device).unwrap();
        let condition = nets.condition(&architecture, &tokens, 32).unwrap();
        let noise = noise(7, [count, 4, 4], device).unwrap();
        let both = Tensor::cat(&[&noise, &noise], 0).unwrap();
        let timestep = nets.unet.timestep(5.0).unwrap();
        nets.unet.forward(&both, &timestep, &condition).unwrap()
    };
    let (one, three) = (run(1), run(3));
    for (row, of_three) in [(0, 0), (1, 3)] {
        let flat = |tensor: &Tensor, row| {
            let row = tensor.get(row).unwrap().to_dtype(DType::F32).unwrap();
            row.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let off =
            warpmark_record::agreement::relative_error(&flat(&three, of_three), &flat(&one, row));
        assert!(off <= 1e-5, "row {row}: {off:e}");
    }
}
