//! Matrix multiplication on a GPU by cuBLASLt, the library behind most frameworks' products.
//!
//! The library is asked for its best candidates and each of them is timed before sampling, so that the
//! row shows what the card can do and not how well the library's first guess went.

use warpmark_measure::{Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{Bytes, DeviceSpec, Seconds};

use super::choose::Effort;
use super::multiply::Multiply;
use super::session::{Cache, Case, LtSession, WORKSPACE};
use super::{Problem, capability, shapes};
use crate::data::Dtype;
use crate::{Micro, Processor, RunOptions, guess, sustained};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "cublaslt";

/// Device time for a search among the shapes of a grid. Where it runs out, the rest stay untried.
const SEARCH: Seconds = Seconds(20.0);
const EXHAUSTIVE_SEARCH: Seconds = Seconds(3600.0);

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let arithmetics = capability::arithmetics();
    arithmetics.map(|(dtype, accumulate)| group(spec, options, dtype, accumulate)).collect()
}

fn group(spec: &DeviceSpec, options: &RunOptions, dtype: Dtype, accumulate: Dtype) -> Group {
    let sides = shapes::sides(dtype, options).iter();
    let squares = sides.map(|&side| (Problem::square(dtype, accumulate, side), None));
    let mut shapes: Vec<(Problem, Option<&'static str>)> = squares.collect();
    if options.full && (dtype, accumulate) == (Dtype::F16, Dtype::F32) {
        let layers = shapes::layers(dtype, accumulate).into_iter();
        shapes.extend(layers.map(|(problem, name)| (problem, Some(name))));
    }
    let single =
        shapes.into_iter().flat_map(|(problem, layer)| single(spec, options, problem, layer));
    let mut cases: Vec<(Entry, Case)> = single.collect();
    if options.full || options.exhaustive {
        cases.extend(fastest(spec, options, dtype, accumulate));
    }
    if (dtype, accumulate) == (Dtype::F16, Dtype::F32) {
        cases.extend(sustained_product(spec, options, dtype, accumulate));
    }
    let entries = cases.iter().map(|(entry, _)| entry.clone()).collect();
    let known = cases.into_iter().map(|(entry, case)| (entry.id, case)).collect();
    let seed = options.seed;
    Group {
        name: format!("matmul {}.{} on the GPU", dtype.name(), accumulate.name()),
        entries,
        open: Box::new(move |device| Ok(Box::new(LtSession::open(device, known, seed)?))),
    }
}

/// The entries of one problem, as many as there are ways to place it in the cache.
fn single(
    spec: &DeviceSpec,
    options: &RunOptions,
    problem: Problem,
    layer: Option<&'static str>,
) -> Vec<(Entry, Case)> {
    let caveat = spec.last_level_cache.reason().map(|reason| {
        format!("the size of the last cache is unknown ({reason}), and so is whether it helped")
    });
    let size = problem.size();
    let each = |cache: Cache| {
        let name: Vec<&str> = std::iter::once(size.as_str()).chain(cache.name()).collect();
        let matrices = Bytes(problem.bytes().0 * cache.copies() as f64);
        let memory = matrices + Bytes::from_count(WORKSPACE);
        let mut entry = problem.entry(&name, ENGINE, spec, options, memory)?;
        if layer.is_some() || cache.copies() > 1 {
            // Not in the order of size, in which a full device ends a sweep.
            entry.sweep = None;
        }
        if layer.is_some() {
            entry.sampling = guess::brief_sampling(options, entry.iteration_estimate);
        }
        entry.preparation_estimate = Effort::THOROUGH.estimate(entry.iteration_estimate);
        entry.skip = capability::lacking(&problem, spec).or(entry.skip);
        let caveat = caveat.clone();
        let problems = vec![problem];
        Some((entry, Case { problems, cache, layer, search_limit: SEARCH, caveat }))
    };
    Cache::ways(problem.bytes(), spec).into_iter().filter_map(each).collect()
}

/// The entry that tells how much of its speed the card keeps, on a product that fills it.
fn sustained_product(
    spec: &DeviceSpec,
    options: &RunOptions,
    dtype: Dtype,
    accumulate: Dtype,
) -> Option<(Entry, Case)> {
    let problem = Problem::square(dtype, accumulate, 8192);
    let memory = problem.bytes() + Bytes::from_count(WORKSPACE);
    let size = problem.size();
    let mut entry = problem.entry(&[&size, sustained::NAME], ENGINE, spec, options, memory)?;
    entry.preparation_estimate = Effort::THOROUGH.estimate(entry.iteration_estimate);
    entry.skip = capability::lacking(&problem, spec).or(entry.skip);
    sustained::plan(&mut entry, options);
    let (cache, problems) = (Cache::Exceeded, vec![problem]);
    Some((entry, Case { problems, cache, layer: None, search_limit: SEARCH, caveat: None }))
}

/// The entry that searches for the fastest shape, among those that fit the device.
fn fastest(
    spec: &DeviceSpec,
    options: &RunOptions,
    dtype: Dtype,
    accumulate: Dtype,
) -> Option<(Entry, Case)> {
    let workspace = Bytes::from_count(WORKSPACE);
    let multiprocessors = spec.gpu.as_ref().and_then(|gpu| gpu.sm_count.known()).copied();
    let mut problems = shapes::grid(dtype, accumulate, options, multiprocessors);
    let square = *problems.first()?;
    let largest = |problems: &[Problem]| {
        let most =
            |elements: fn(&Problem) -> usize| problems.iter().map(elements).max().unwrap_or(0);
        let operands = (most(|p| p.m * p.k) + most(|p| p.k * p.n)) * dtype.size();
        Bytes::from_count(operands + most(|p| p.m * p.n) * square.result().size()) + workspace
    };
    // Shapes leave from the end, where the largest are, until what remains fits at once.
    while problems.len() > 1 && guess::too_large(spec, largest(&problems)).is_some() {
        problems.pop();
    }
    let mut entry = square.entry(&["best"], ENGINE, spec, options, largest(&problems))?;
    entry.sweep = None;
    entry.skip = capability::lacking(&square, spec).or(entry.skip);
    let search_limit = if options.exhaustive { EXHAUSTIVE_SEARCH } else { SEARCH };
    entry.preparation_estimate = search_estimate(&problems, spec, search_limit);
    let cache = Cache::Exceeded;
    Some((entry, Case { problems, cache, layer: None, search_limit, caveat: None }))
}

/// The time that searching these problems should take, and the algorithms of the one that is found.
fn search_estimate(problems: &[Problem], spec: &DeviceSpec, limit: Seconds) -> Seconds {
    let each = problems.iter().map(|problem| Effort::BRIEF.estimate(problem.estimate(spec)));
    let chosen = problems.first().map_or(Seconds(0.0), |problem| problem.estimate(spec));
    each.sum::<Seconds>().min(limit) + Effort::THOROUGH.estimate(chosen)
}

impl Session for LtSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let known = self.cases.iter().find(|(id, _)| *id == entry.id);
        let (id, case) = known
            .ok_or_else(|| WorkloadError::Failed(format!("{} is not of this group", entry.id)))?;
        Ok(Box::new(Multiply::new(self, id.clone(), case.clone())?))
    }
}

#[cfg(test)]
mod tests;
