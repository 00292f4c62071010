use warpmark_measure::{Entry, Session};
use warpmark_record::WeightsStamp;

use super::*;
use crate::Catalog;
use crate::bench::fixture;
use crate::entry::ModelEntry;
use crate::fixture::{normal, options};
use warpmark_harness::ModelSession;

const BOTTLENECK: &str = "blocks = [1, 2, 1, 1]\nbottleneck = true\nwidth = 8\nclasses = 13";
/// The shallowest that candle-transformers has.
const PUBLISHED: &str = "blocks = [2, 2, 2, 2]\nbottleneck = false\nwidth = 64\nclasses = 5";
const INPUTS: &str = "sizes = [40, 64]";

fn model(architecture: &str, inputs: &str) -> Result<Model, CatalogError> {
    let entry = ModelEntry::of("resnet")
        .with("phases", r#"["load", "classify"]"#)
        .with("batches", "[1, 2, 16, 64]")
        .table("architecture", architecture)
        .table("inputs", inputs)
        .table("suites.quick", r#"cpu = ["f32"]"#)
        .table("suites.full", r#"cpu = ["f32", "bf16"]"#);
    Catalog::parse(&entry.to_string(), "test.toml")?.model("tiny").cloned()
}

fn own(statistics: Statistics) -> Case {
    Case { engine: OWN, statistics, batch: 2, size: 40 }
}

const CANDLES: Case = Case { engine: CANDLE, statistics: Statistics::Separate, batch: 2, size: 40 };

/// A session on seeded weights, with nets built from damaged tensors and checked against intact ones.
fn session(
    numbers: &str,
    dtype: Dtype,
    damage: impl FnOnce(&mut HashMap<String, Tensor>),
) -> ModelSession<Case> {
    let model = model(numbers, INPUTS).unwrap();
    let fill = |spec: &TensorSpec| {
        let (mean, std) = match spec.init {
            // Not exactly one and zero, so that every gain, bias and variance counts.
            Init::Ones => (1.0f32, 0.1),
            Init::Zeros => (0.0, 0.1),
            Init::Normal { std } => (0.0, std),
        };
        let tensor = normal(&spec.name, (mean, std), spec.shape.clone());
        (spec.name.clone(), tensor.to_dtype(dtype.candle()).unwrap())
    };
    let right: HashMap<_, _> = ResnetFamily.tensors(&model).unwrap().iter().map(fill).collect();
    let mut wrong = right.clone();
    damage(&mut wrong);
    let info = Info { architecture: architecture(&model).unwrap(), dtype, tensors: right };
    let cases = [own(Statistics::Folded), own(Statistics::Separate), CANDLES];
    let context = fixture::context("tiny", dtype.into(), WeightsStamp::Synthetic { seed: 7 });
    let cases = cases.map(|case| (case.parameters(dtype), case));
    fixture::on_cpu(engines(&wrong, info).unwrap(), context, cases)
}

fn entry(case: Case, dtype: Dtype) -> Entry {
    fixture::entry(case.parameters(dtype).id("tiny").unwrap())
}

#[test]
fn sound_nets_pass_their_checks_in_every_dtype_folded_or_not() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut session = session(BOTTLENECK, dtype, |_| ());
        for statistics in [Statistics::Folded, Statistics::Separate] {
            let mut workload = session.workload(&entry(own(statistics), dtype)).unwrap();
            workload.prepare(2).unwrap();
            workload.launch().unwrap();
            workload.launch().unwrap();
            workload.wait().unwrap();
            let check = workload.verify();
            let check = check.unwrap_or_else(|error| panic!("{dtype} {statistics:?}: {error}"));
            assert!(check.worst_error > 0.0, "{dtype} {statistics:?} compared nothing");
        }
    }
}

#[test]
fn candles_net_passes_the_same_checks_on_the_same_weights() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut session = session(PUBLISHED, dtype, |_| ());
        for case in [own(Statistics::Folded), CANDLES] {
            session.workload(&entry(case, dtype)).unwrap().verify().unwrap();
        }
        let row = session.workload(&entry(CANDLES, dtype)).unwrap().describe();
        assert!(row.caveats.iter().any(|caveat| caveat.contains("as published")));
    }
}

#[test]
fn a_damaged_weight_of_any_kind_fails_the_check() {
    for (name, factor) in [
        ("conv1.weight", 1.5),
        ("bn1.bias", -1.0),
        ("layer2.1.bn2.weight", 1.5),
        ("layer2.0.bn1.running_mean", -3.0),
        ("layer3.0.bn3.running_var", 3.0),
        ("layer3.0.downsample.1.running_var", 0.3),
        ("layer4.0.downsample.0.weight", 0.0),
        ("fc.weight", 1.1),
        ("fc.bias", -1.0),
    ] {
        let damage = |tensors: &mut HashMap<String, Tensor>| {
            let damaged = (&tensors[name] * factor).unwrap();
            tensors.insert(name.to_owned(), damaged);
        };
        let mut session = session(BOTTLENECK, Dtype::F32, damage);
        for statistics in [Statistics::Folded, Statistics::Separate] {
            let verdict = session.workload(&entry(own(statistics), Dtype::F32)).unwrap().verify();
            let wrong = matches!(verdict, Err(WorkloadError::WrongAnswer { .. }));
            assert!(wrong, "{name} {statistics:?}: {verdict:?}");
        }
    }
}

#[test]
fn a_weight_that_is_no_number_fails_the_check() {
    let mut session = session(BOTTLENECK, Dtype::F32, |tensors| {
        let name = "layer1.0.bn2.bias";
        let nan = (&tensors[name] * f64::NAN).unwrap();
        tensors.insert(name.to_owned(), nan);
    });
    let verdict = session.workload(&entry(own(Statistics::Folded), Dtype::F32)).unwrap().verify();
    assert!(verdict.is_err(), "{verdict:?}");
}

#[test]
fn a_row_says_what_it_measured() {
    let mut session = session(BOTTLENECK, Dtype::F32, |_| ());
    let row = session.workload(&entry(own(Statistics::Folded), Dtype::F32)).unwrap().describe();
    assert_eq!(row.id.to_string(), "vision/tiny/classify/f32/b2/s40@warpmark");
    assert_eq!(row.parameters["size"], 40usize.into());
    let items = row.work.items.unwrap();
    assert!((items.count - 2.0).abs() < 1e-12 && items.unit == ItemUnit::Image);
    let row = session.workload(&entry(own(Statistics::Separate), Dtype::F32)).unwrap().describe();
    assert_eq!(row.id.to_string(), "vision/tiny/classify/f32/b2/s40/unfolded@warpmark");
    assert_eq!(row.parameters["batch_norm"], "separate".into());
}

fn planned_ids(model: &Model, full: bool) -> Vec<String> {
    let groups = ResnetFamily.groups(model, &options(full)).unwrap();
    let entries = groups.iter().flat_map(|planned| &planned.group.entries);
    entries.map(|entry| entry.id.to_string().replace("vision/tiny/classify/", "")).collect()
}

#[test]
fn the_quick_suite_of_a_cpu_takes_the_first_size_and_small_batches() {
    let model = model(BOTTLENECK, INPUTS).unwrap();
    assert_eq!(planned_ids(&model, false), ["f32/b1/s40@warpmark", "f32/b2/s40@warpmark"]);
}

#[test]
fn the_full_suite_adds_every_batch_and_size_unfolded_nets_and_candles_where_it_has_one() {
    let narrow = planned_ids(&model(BOTTLENECK, INPUTS).unwrap(), true);
    for id in ["f32/b64/s64@warpmark", "bf16/b16/s40@warpmark", "f32/b16/s40/unfolded@warpmark"] {
        assert!(narrow.iter().any(|found| found == id), "{id} is not among {narrow:?}");
    }
    assert!(
        !narrow.iter().any(|id| id.ends_with("@candle") || id == "f32/b64/s40/unfolded@warpmark")
    );
    let published = planned_ids(&model(PUBLISHED, INPUTS).unwrap(), true);
    assert!(published.iter().any(|id| id == "f32/b16/s40@candle"), "{published:?}");
}

#[test]
fn a_service_answers_in_batches_of_the_folded_net() {
    let model = model(BOTTLENECK, INPUTS).unwrap();
    let settings = warpmark_harness::ServiceSettings { max_batch: 16, ..Default::default() };
    let offers = ResnetFamily.services(&model, &options(false), &settings).unwrap();
    let ids: Vec<String> = offers.iter().map(|offer| offer.id.to_string()).collect();
    assert_eq!(ids, ["serve/tiny/classify/f32/b16/s40@warpmark"]);
}

#[test]
fn the_shipped_model_has_the_published_size_and_arithmetic() {
    let catalog = Catalog::builtin().unwrap();
    let model = catalog.model("resnet-50").unwrap();
    // torchvision counts 25,557,032 parameters; means and variances of 26,560 channels are beside them.
    assert_eq!(model.count_parameters().unwrap(), 25_557_032 + 2 * 26_560);
    let architecture = architecture(model).unwrap();
    let case = Case { engine: OWN, statistics: Statistics::Folded, batch: 2, size: 224 };
    let flops = work(&architecture, Dtype::F32, case).flops.unwrap().0;
    // torchvision gives 4.089 billion multiplications of an image.
    assert!((flops / 2.0 / 2.0 / 1e9 - 4.089).abs() < 0.001, "{flops}");
}

#[test]
fn entries_that_no_net_can_have_are_refused_with_their_line() {
    let fault = |from: &str, to: &str| {
        let (numbers, inputs) = (BOTTLENECK.replace(from, to), INPUTS.replace(from, to));
        model(&numbers, &inputs).expect_err(to).to_string()
    };
    for (from, to, words) in [
        ("[1, 2, 1, 1]", "[]", "architecture.blocks"),
        ("[1, 2, 1, 1]", "[1, 0]", "architecture.blocks"),
        ("width = 8", "width = 0", "architecture.width"),
        ("width = 8", "width = 100000", "architecture.width"),
        ("classes = 13", "classes = 0", "architecture.classes"),
        ("[40, 64]", "[]", "inputs.sizes"),
        ("[40, 64]", "[0]", "inputs.sizes"),
        ("[40, 64]", "[100000]", "4096"),
    ] {
        let error = fault(from, to);
        assert!(error.contains(words) && error.contains("test.toml:"), "{error}");
    }
}
