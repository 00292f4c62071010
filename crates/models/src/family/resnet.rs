//! Residual nets that classify images: `ResNet`-18 to 152.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::Tensor;
use candle_nn::{Func, Module, VarBuilder};
use candle_transformers::models::resnet as published;
use serde::Deserialize;
use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, Flops, ItemUnit, Items, Seconds, Work};

use super::Family;
use crate::bench::estimate::{guess, sampling, too_long_for_a_cpu};
use crate::bench::{
    Allowed, BenchContext, Comparison, Context, Engine, Engines, Notes, Parameters, Plan, Planned,
    PlannedGroup, Program, error, finite, noise, sampled,
};
use crate::catalog::{CatalogError, Dtype, Model};
use crate::configuration::{self, ConfigurationError, Find};
use crate::engine::{CANDLE, OWN, unsupported, workload_error};
use crate::options::RunOptions;
use crate::weights::{Init, Loaded, TensorNames, TensorSpec};
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::resnet::logits as logits_of;
use warpmark_nets::resnet::{Architecture, COLORS, ConvolutionShape, Resnet, Statistics};
use warpmark_nets::{NetError, Weights};

#[cfg(test)]
mod tests;

/// Residual nets in all their depths.
pub struct ResnetFamily;

/// How far logits in f32 may be off, relative to the largest: they differ by the order of their sums.
const F32_TOLERANCE: f64 = 1e-4;

/// Pixels of a side, at most.
const LARGEST: usize = 4096;

/// The largest batch of the quick suite on a CPU, which is bound by arithmetic from the first image on.
const QUICK_CPU_BATCH: usize = 2;

/// `[model.inputs]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    /// Pixels of a side.
    sizes: Vec<usize>,
}

/// One benchmark of a model in one dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    /// Whose net.
    engine: &'static str,
    /// Where our own net has the statistics of its batch normalisations.
    statistics: Statistics,
    /// Images side by side.
    batch: usize,
    /// Pixels of a side.
    size: usize,
}

impl Case {
    /// `vision/<model>/classify/<dtype>/b<batch>/s<pixels>@<engine>`
    fn parameters(self, dtype: Dtype) -> Parameters {
        let parameters =
            Parameters::new(("vision", "classify"), Some(dtype.into()), self.engine, self.batch)
                .with(format!("s{}", self.size), [("size", self.size.into())]);
        if self.engine == OWN && self.statistics == Statistics::Separate {
            return parameters.with("unfolded", [("batch_norm", "separate".into())]);
        }
        parameters
    }
}

impl Family for ResnetFamily {
    fn name(&self) -> &'static str {
        "resnet"
    }

    fn group(&self) -> &'static str {
        "vision"
    }

    fn phases(&self) -> &'static [&'static str] {
        &["classify"]
    }

    fn check(&self, model: &Model) -> Result<(), CatalogError> {
        let Architecture { blocks, width, classes, .. } = architecture(model)?;
        let counts = [("width", width, 4096), ("classes", classes, 1_000_000)];
        for (name, count, most) in counts {
            if !(1..=most).contains(&count) {
                let advice = format!("must be from 1 to {most}");
                return Err(model.invalid(&format!("architecture.{name}"), count, advice));
            }
        }
        if !(1..=8).contains(&blocks.len())
            || !blocks.iter().all(|count| (1..=1000).contains(count))
        {
            let advice = "the blocks of 1 to 8 stages, from 1 to 1000 in each";
            return Err(model.invalid("architecture.blocks", format!("{blocks:?}"), advice));
        }
        let Inputs { sizes } = model.section("inputs")?;
        if sizes.is_empty() && model.has_phase("classify") {
            let advice = "list at least one, or leave \"classify\" out of the phases";
            return Err(model.invalid("inputs.sizes", "[]", advice));
        }
        match sizes.iter().find(|size| !(1..=LARGEST).contains(*size)) {
            Some(size) => Err(model.invalid(
                "inputs.sizes",
                size,
                format!("must be from 1 to {LARGEST} pixels"),
            )),
            None => Ok(()),
        }
    }

    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError> {
        self.check(model)?;
        let architecture = architecture(model)?;
        let bottleneck = architecture.bottleneck;
        let tensors = architecture.tensors();
        let tensors =
            tensors.map_err(|error| model.invalid("architecture", &model.id, error.to_string()))?;
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            init: init(&name, &shape, bottleneck),
            name,
            shape,
        };
        Ok(tensors.into_iter().map(spec).collect())
    }

    fn tensor_names(&self) -> TensorNames {
        // Batches seen in training.
        TensorNames { ignored: &["*.num_batches_tracked"], ..TensorNames::default() }
    }

    fn check_configuration(
        &self,
        model: &Model,
        find: &Find<'_>,
    ) -> Result<(), ConfigurationError> {
        match find("config.json")? {
            Some(found) => configuration::resnet::compare(model, &architecture(model)?, &found),
            None => Ok(()),
        }
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let run = || -> Result<(), NetError> {
            let net =
                Resnet::new(&architecture, &Weights::of(&weights.tensors), Statistics::Folded)?;
            let image = Tensor::zeros((1, COLORS, 32, 32), net.dtype(), net.device())?;
            net.forward(&image)?;
            Ok(net.device().synchronize()?)
        };
        run().map_err(workload_error)
    }

    fn groups(
        &self,
        model: &Model,
        options: &RunOptions,
    ) -> Result<Vec<PlannedGroup>, CatalogError> {
        let architecture = architecture(model)?;
        let mut groups = Vec::new();
        for dtype in options.dtypes(model) {
            // Folded weights beside those as loaded, from which answers are checked.
            let weights = model.weight_spec(dtype.into())?.held() * 2.0;
            let plan = Plan { model, options, format: dtype.into(), weights };
            let cases = cases(model, &architecture, options)?;
            let planned =
                cases.into_iter().map(|case| planned(&architecture, options, dtype, case));
            let architecture = architecture.clone();
            groups.extend(plan.group(planned.collect(), move |opened| {
                opened.context.weights = weights;
                let tensors = std::mem::take(&mut opened.loaded.tensors);
                engines(&tensors.clone(), Info { architecture, dtype, tensors })
            })?);
        }
        Ok(groups)
    }
}

/// The entry's architecture.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    model.section("architecture")
}

/// The benchmarks of a model in the order in which they run: ours, and in the full suite the same
/// without folding and candle's where it has such a net. The quick suite takes the first size.
fn cases(
    model: &Model,
    architecture: &Architecture,
    options: &RunOptions,
) -> Result<Vec<Case>, CatalogError> {
    /// Others than our own folded net are measured up to this batch.
    const MOST_BESIDE: usize = 32;
    let Inputs { sizes } = model.section("inputs")?;
    let quick_on_a_cpu = !options.full && options.spec.gpu.is_none();
    let programs =
        [(OWN, Statistics::Folded), (OWN, Statistics::Separate), (CANDLE, Statistics::Separate)];
    let mut cases = Vec::new();
    for &size in &sizes[..sizes.len().min(if options.full { usize::MAX } else { 1 })] {
        for (engine, statistics) in
            programs.into_iter().take(if options.full { usize::MAX } else { 1 })
        {
            let offered = engine == OWN || published_net(architecture).is_some();
            let fits = |batch: &usize| {
                let most = if statistics == Statistics::Folded { usize::MAX } else { MOST_BESIDE };
                offered && *batch <= most && !(quick_on_a_cpu && *batch > QUICK_CPU_BATCH)
            };
            let batches = model.batches.iter().copied().filter(fits);
            cases.extend(batches.map(|batch| Case { engine, statistics, batch, size }));
        }
    }
    cases.retain(|_| model.has_phase("classify"));
    Ok(cases)
}

fn planned(
    architecture: &Architecture,
    options: &RunOptions,
    dtype: Dtype,
    case: Case,
) -> Planned<Case> {
    /// A convolution is four (its columns, a product, their layout, a bias), and something follows.
    const KERNELS: usize = 5;
    let work = work(architecture, dtype, case);
    let kernels = KERNELS * architecture.convolutions().len();
    let iteration = guess(&work, kernels, dtype, &options.spec);
    let on_cpu = options.spec.gpu.is_none();
    let skip = if on_cpu && case.engine == CANDLE && dtype == Dtype::Bf16 {
        Some("candle multiplies no bf16 matrices on a CPU".to_owned())
    } else {
        too_long_for_a_cpu(&options.spec, iteration).or_else(|| unsupported(&options.spec, dtype))
    };
    Planned {
        case,
        parameters: case.parameters(dtype),
        iteration,
        preparation: Seconds(0.0),
        memory: activations(architecture, dtype, case),
        sampling: sampling(options.full, iteration),
        skip,
    }
}

/// What one iteration does: the multiplications and additions of convolutions and classifier; weights
/// once, images and logits.
fn work(architecture: &Architecture, dtype: Dtype, case: Case) -> Work {
    let classifier = (architecture.features() * architecture.classes) as f64;
    let (mut products, mut weights) = (classifier, classifier);
    for shape in architecture.convolutions() {
        let own = (shape.inputs * shape.outputs * shape.kernel.pow(2)) as f64;
        products += own * pixels(shape, case.size);
        weights += own;
    }
    let batch = case.batch as f64;
    let image = (COLORS * case.size.pow(2) + architecture.classes) as f64;
    Work {
        flops: Some(Flops(2.0 * batch * products)),
        bytes: Some(Bytes((weights + batch * image) * dtype.bytes() as f64)),
        items: Some(Items { count: batch, unit: ItemUnit::Image }),
    }
}

/// Pixels that a convolution writes of each channel.
fn pixels(shape: ConvolutionShape, size: usize) -> f64 {
    (size.div_ceil(shape.reduction) as f64).powi(2)
}

/// The largest activations alive at once: what a convolution reads, its columns and what it writes, and
/// what waits beside a block.
fn activations(architecture: &Architecture, dtype: Dtype, case: Case) -> Bytes {
    let of = |shape: ConvolutionShape| {
        let written = pixels(shape, case.size);
        let read = written * shape.stride.pow(2) as f64;
        let columns = written * (shape.inputs * shape.kernel.pow(2)) as f64;
        let waiting = read * (shape.inputs.max(shape.outputs)) as f64;
        read * shape.inputs as f64 + columns + 2.0 * written * shape.outputs as f64 + waiting
    };
    let largest = architecture.convolutions().into_iter().map(of).fold(0.0, f64::max);
    Bytes(largest * (case.batch * dtype.bytes()) as f64)
}

/// Convolutions of a spread that what follows keeps, those that end a block at a third of it, so that
/// activations stay finite in f16 through all blocks; means and biases that no check can miss.
fn init(name: &str, shape: &[usize], bottleneck: bool) -> Init {
    let ends_a_block = if bottleneck { "conv3.weight" } else { "conv2.weight" };
    match shape {
        [_] if name.ends_with("running_mean") || name.ends_with("bias") => {
            Init::Normal { std: 0.1 }
        }
        [_] => Init::Ones,
        _ => {
            let part =
                if name.ends_with(ends_a_block) { 1.0 / 3.0 } else { std::f32::consts::SQRT_2 };
            let inputs: usize = shape[1..].iter().product();
            Init::Normal { std: part / (inputs.max(1) as f32).sqrt() }
        }
    }
}

/// What is known of a loaded model, and what its checks start from.
struct Info {
    architecture: Architecture,
    dtype: Dtype,
    tensors: HashMap<String, Tensor>,
}

/// The nets of an engine.
enum Nets {
    Own { folded: Resnet, separate: Resnet },
    Candle(Func<'static>),
}

impl Nets {
    fn forward(&self, statistics: Statistics, images: &Tensor) -> Result<Tensor, NetError> {
        match (self, statistics) {
            (Self::Own { folded, .. }, Statistics::Folded) => folded.forward(images),
            (Self::Own { separate, .. }, Statistics::Separate) => separate.forward(images),
            (Self::Candle(net), _) => Ok(net.forward(images)?),
        }
    }
}

type Build = for<'a> fn(usize, VarBuilder<'a>) -> candle_core::Result<Func<'a>>;

/// candle-transformers' net of that architecture, if it has one.
fn published_net(architecture: &Architecture) -> Option<Build> {
    match (architecture.width, architecture.bottleneck, architecture.blocks.as_slice()) {
        (64, false, [2, 2, 2, 2]) => Some(published::resnet18),
        (64, false, [3, 4, 6, 3]) => Some(published::resnet34),
        (64, true, [3, 4, 6, 3]) => Some(published::resnet50),
        (64, true, [3, 4, 23, 3]) => Some(published::resnet101),
        (64, true, [3, 8, 36, 3]) => Some(published::resnet152),
        _ => None,
    }
}

/// Our nets on loaded tensors, and candle's on the same, made by the first case that asks for it.
fn engines(tensors: &HashMap<String, Tensor>, info: Info) -> Result<Engines<Case>, WorkloadError> {
    let info = Rc::new(info);
    let build = |statistics| {
        Resnet::new(&info.architecture, &Weights::of(tensors), statistics).map_err(workload_error)
    };
    let nets =
        Nets::Own { folded: build(Statistics::Folded)?, separate: build(Statistics::Separate)? };
    let own = Classifier { nets, info: Rc::clone(&info) };
    let tensors = tensors.clone();
    Ok(Engines::of(OWN, own).or(CANDLE, move || {
        let name = "fc.bias";
        let some =
            tensors.get(name).ok_or_else(|| workload_error(NetError::Missing(name.to_owned())))?;
        let (dtype, device) = (some.dtype(), some.device().clone());
        let Some(build) = published_net(&info.architecture) else {
            return Err(WorkloadError::Unsupported(
                "candle-transformers has no such net".to_owned(),
            ));
        };
        let builder = VarBuilder::from_tensors(tensors, dtype, &device);
        let net = build(info.architecture.classes, builder)
            .map_err(|error| workload_error(error.into()))?;
        Ok(Classifier { nets: Nets::Candle(net), info })
    }))
}

/// A loaded model as an engine.
struct Classifier {
    nets: Nets,
    info: Rc<Info>,
}

impl Engine for Classifier {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        activations(&self.info.architecture, self.info.dtype, case)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let make = || {
            let Context { seed, device, .. } = bench.context;
            Ok(noise(*seed, [case.batch, COLORS, case.size], device)?
                .to_dtype(self.info.dtype.candle())?)
        };
        let images = bench.fed(make).map_err(workload_error)?;
        Ok(Box::new(Classification { nets: &self.nets, info: &self.info, bench, case, images }))
    }
}

/// One forward pass of a batch of images.
struct Classification<'a> {
    nets: &'a Nets,
    info: &'a Info,
    bench: BenchContext<'a>,
    case: Case,
    images: Rc<Tensor>,
}

impl Classification<'_> {
    fn run(&self) -> Result<Tensor, NetError> {
        self.nets.forward(self.case.statistics, &self.images)
    }

    fn check(&self) -> Result<Comparison, NetError> {
        let format = self.bench.context.format;
        let allowed = Allowed::of(format, F32_TOLERANCE, 0.0);
        let logits = self.run()?;
        let (mut errors, mut plain_errors) = (vec![finite(&logits)?], Vec::new());
        for index in sampled(self.case.batch) {
            let image = self.images.narrow(0, index, 1)?;
            let plain = |rounding| logits_of(&self.info.tensors, &image, rounding);
            let exact = plain(Rounding::Exact)?;
            errors.push(error(&logits.narrow(0, index, 1)?, &exact)?);
            if let Some(rounding) = allowed.rounding() {
                plain_errors.push(error(&plain(rounding)?, &exact)?);
            }
        }
        let what =
            "logits of the first and the last image, against the plain net one at a time in f32";
        let what = format!("{what}{}", allowed.words(format));
        Ok(Comparison { what, errors, tolerance: allowed.tolerance(plain_errors) })
    }
}

impl Program for Classification<'_> {
    fn notes(&self) -> Notes {
        let own = match (self.case.engine, self.case.statistics) {
            (CANDLE, _) => {
                Some("candle-transformers as published: batch normalisations are not folded")
            }
            (_, Statistics::Separate) => {
                Some("each batch normalisation is a product and a sum of its own")
            }
            (_, Statistics::Folded) => None,
        };
        Notes {
            work: work(&self.info.architecture, self.info.dtype, self.case),
            data: format!(
                "noise of variance 1, another for each image, seed {}",
                self.bench.context.seed
            ),
            caveats: own
                .map(str::to_owned)
                .into_iter()
                .chain(self.bench.context.widened())
                .collect(),
            fields: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.run().map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        self.check().map_err(workload_error)
    }
}
