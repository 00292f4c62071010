//! Kernels by their own text, beside their models.
//!
//! A model computes nothing before somebody looks, so that it answers for arrays of any size; the text is
//! right by nature. Where a launch is small enough both run, and what they leave in memory has to be the
//! same. A kernel without a model runs by its text alone.

use std::sync::Arc;

use super::{Launch, Model};
use crate::contents::{Snapshot, Source};
use crate::profile::Work;
use warpmark_ptx::{Counts, DeviceMemory, Fault, Findings, Kernel, Limits, Outcome, View};

/// Instructions of lanes that the text of a kernel that has a model is run for, in each process.
pub(crate) const BUDGET: u64 = 20_000_000;

/// What a launch of a text costs of that at least: a host that launches as fast as it can is held up a few
/// dozen times, and not in what is timed.
const LEAST: u64 = 500_000;

/// What a page of memory that a launch touches costs of it: bringing it costs as much as so many instructions, and a
/// walk through a large table does little else.
const OF_A_PAGE: u64 = 1000;

/// Instructions after which a kernel without a model is taken not to end.
const ENDLESS: u64 = 1 << 33;

/// Bytes of a stretch that are compared at most.
const MOST_COMPARED: u64 = 64 << 20;

/// Memory as the text leaves it: what it wrote over what was there.
struct Before {
    written: Vec<(u64, Vec<u8>)>,
    /// Allocations, by where they begin.
    snapshots: Vec<(u64, Snapshot)>,
}

impl Before {
    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        if let Some((start, held)) =
            self.snapshots.iter().filter(|(start, _)| *start <= at).max_by_key(|(start, _)| *start)
        {
            held.read(at - start, &mut bytes);
        }
        for (from, written) in &self.written {
            let (first, end) = (at.max(*from), (at + len).min(from + written.len() as u64));
            if first < end {
                let (to, part) = ((first - at) as usize, (first - from) as usize);
                let count = (end - first) as usize;
                bytes[to..to + count].copy_from_slice(&written[part..part + count]);
            }
        }
        bytes
    }
}

/// Arguments as the kernel finds them: each where it belongs.
pub(super) fn parameters(code: &Kernel, arguments: &[Vec<u8>]) -> Vec<u8> {
    let end = code.parameters.last().map_or(0, |last| last.at + last.bytes);
    let mut bytes = vec![0; end];
    for (parameter, argument) in code.parameters.iter().zip(arguments) {
        bytes[parameter.at..parameter.at + argument.len()].copy_from_slice(argument);
    }
    bytes
}

/// What came of a launch.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) findings: Findings,
    /// What the text did.
    pub(crate) counts: Counts,
    /// What is spent of the kernel's budget.
    pub(crate) spent: u64,
}

impl Launch<'_> {
    /// Does what the kernel does, and takes the time that its text counts. `left` is what may still be
    /// spent on the text of a kernel that has a model.
    pub(crate) fn run(&mut self, left: u64) -> (Result<Work, u32>, Ran) {
        let code = Arc::clone(&self.entry.code);
        let Some(model) = self.model() else { return self.by_text(&code) };
        let waits = super::waits_for_the_host(&self.entry.name);
        let seconds = if waits { 0.0 } else { self.estimated_seconds(&code) };
        let (result, ran) = self.by_model(&code, model, left);
        (result.map(|()| Work::lasting(seconds)), ran)
    }

    /// Does what the kernel's model says, and looks whether the text says the same if that is not too much.
    fn by_model(&mut self, code: &Kernel, model: Model, left: u64) -> (Result<(), u32>, Ran) {
        let fits = self.least(code) <= left && !super::waits_for_the_host(&self.entry.name);
        if !fits || code.refuses(&self.geometry, &self.limits(left)).is_some() {
            return (model(self), Ran::default());
        }
        self.beside_its_model(code, model, left)
    }

    /// Whether the kernel has a text and no model.
    pub(crate) fn has_text_alone(&self) -> bool {
        self.model().is_none()
    }

    /// Instructions of a launch that comes through the text once, where it has no loop.
    fn least(&self, code: &Kernel) -> u64 {
        let threads = self.blocks().saturating_mul(self.threads());
        threads.saturating_mul(code.straight())
    }

    pub(crate) fn limits(&self, instructions: u64) -> Limits {
        let multiprocessors = self.profile.sm_count;
        let shared = self.entry.most_shared();
        Limits { multiprocessors, shared, instructions, clocks: self.clocks }
    }

    pub(super) fn by_text(&mut self, code: &Kernel) -> (Result<Work, u32>, Ran) {
        let (limits, parameters) = (self.limits(ENDLESS), parameters(code, &self.arguments));
        let mut view = View::new(self.memory);
        let Outcome { counts, findings, stopped } =
            code.run(&mut view, self.geometry, limits, &parameters);
        view.commit();
        let result = stopped.and_then(Fault::error);
        let work = Work::lasting(self.seconds(&counts));
        (result.map_or(Ok(work), Err), Ran { findings, counts, spent: 0 })
    }

    /// The model's answer stands; the text says whether it is right.
    fn beside_its_model(
        &mut self,
        code: &Kernel,
        model: Model,
        left: u64,
    ) -> (Result<(), u32>, Ran) {
        let (limits, parameters) = (self.limits(left), parameters(code, &self.arguments));
        let mut view = View::new(self.memory);
        let Outcome { counts, mut findings, stopped } =
            code.run(&mut view, self.geometry, limits, &parameters);
        let (written, pages) = (view.written(), view.pages());
        drop(view);
        let spent = counts.lanes.max(LEAST) + OF_A_PAGE * pages as u64;
        // It is only too long, and the model answers alone.
        if stopped == Some(Fault::Endless) {
            let ran = Ran { findings: Findings::default(), counts, spent };
            return (model(self), ran);
        }
        let before = Before { written, snapshots: self.pointed_to() };
        self.memory.written = Some(Vec::new());
        let result = model(self);
        let modelled = self.memory.written.take().unwrap_or_default();
        let result = stopped.and_then(Fault::error).map_or(result, Err);
        let stretches = before.written.iter().map(|(at, bytes)| (*at, bytes.len() as u64));
        let differs =
            stretches.chain(modelled).find_map(|(at, len)| self.differs(&before, at, len));
        if let Some(place) = differs.filter(|_| result.is_ok()) {
            findings.differs_from_its_model(&self.entry.name, place);
        }
        (result, Ran { findings, counts, spent })
    }

    /// What the allocations hold that the arguments point into.
    fn pointed_to(&self) -> Vec<(u64, Snapshot)> {
        let extents = self.pointers().into_iter().filter_map(|pointer| self.memory.extent(pointer));
        extents.filter_map(|(at, len)| Some((at, self.memory.snapshot(at, len).ok()?))).collect()
    }

    /// The first byte of a stretch in which memory, as the model left it, is not what the text makes of it.
    fn differs(&self, before: &Before, at: u64, len: u64) -> Option<u64> {
        let len = len.min(MOST_COMPARED);
        let mut modelled = vec![0; len as usize];
        self.memory.snapshot(at, len).ok()?.read(0, &mut modelled);
        let expected = before.bytes(at, len);
        let places = expected.iter().zip(&modelled).enumerate().filter(|(_, (a, b))| a != b);
        let mut places = places.map(|(index, _)| at + index as u64);
        places.find(|place| !self.is_a_clock(*place))
    }

    /// Whether a byte tells how long the kernel took, on which text and model cannot agree.
    fn is_a_clock(&self, place: u64) -> bool {
        self.entry.name == "chase_walk" && (8..24).contains(&place.wrapping_sub(self.u64(1)))
    }
}
