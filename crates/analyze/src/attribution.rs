//! The same step of a model under every engine that ran it: what the device and the host each took of its time.
//!
//! Engines launch the same mathematics as a thousand kernels, as some dozens, or as one graph, and a wall time
//! alone does not tell a slow card from a host that feeds it slowly. Here both clocks stand side by side, with
//! the kernels of a step and the share of the bandwidth at which this very card was seen to read.

use warpmark_record::{Record, Seconds, Value};

use crate::rates::{MainRate, Rates};
use crate::roofline::{Bound, Limit, Placement, Resource};
use crate::{RowAnalysis, RunAnalysis};

/// Phases whose iteration is one step of fixed shape: a token of every sequence, a pass of a UNet.
const STEPS: [&str; 2] = ["decode", "unet"];

/// A step, and the engines that took it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution<'a> {
    /// The id without its engine: `text/gpt2-124m/decode/f16/b1/c128`.
    pub step: String,
    /// Two engines or more, the slowest by the wall first.
    pub engines: Vec<EngineStep<'a>>,
}

/// A step under one engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineStep<'a> {
    /// The engine's name.
    pub engine: &'a str,
    /// The median wall time.
    pub wall: Seconds,
    /// The median time by the device's own clock, its waits between two kernels included; `None` without one.
    pub device: Option<Seconds>,
    /// The share of the wall time in which the device's clock stood still; see [`Rates::host_share`].
    pub host_share: Option<f64>,
    /// Whether the device was done as soon as the last launch was queued: its time then is the host's pace.
    pub paced_by_host: bool,
    /// Kernels of a step, where the engine counts them.
    pub kernels: Option<u64>,
    /// Launches by the host for these kernels: 1 for a graph. As many as there are kernels, if nothing else is
    /// said.
    pub launches: Option<u64>,
    /// The rate of the row.
    pub rate: Option<MainRate>,
    /// The share of the bandwidth at which this run read the device's memory; `None` where it was not measured.
    pub of_reading: Option<f64>,
    /// What bounds it.
    pub bound: Option<Bound>,
}

impl<'a> Attribution<'a> {
    /// Every step of a run that two engines or more took, in the order in which they were recorded.
    pub fn of(run: &'a RunAnalysis<'_>) -> Vec<Self> {
        let mut steps: Vec<Self> = Vec::new();
        for row in &run.rows {
            let id = &row.record.id;
            let is_step = id.segments().get(2).is_some_and(|phase| STEPS.contains(&phase.as_str()));
            if !is_step || matches!(id.group(), "micro" | "load") {
                continue;
            }
            let Some(found) = row.rates.as_ref().map(|rates| EngineStep::of(row, rates)) else {
                continue;
            };
            let path = id.path();
            match steps.iter_mut().find(|known| known.step == path) {
                Some(known) => known.engines.push(found),
                None => steps.push(Self { step: path, engines: vec![found] }),
            }
        }
        steps
            .retain(|step| step.engines.iter().any(|other| other.engine != step.engines[0].engine));
        for step in &mut steps {
            step.engines.sort_by(|a, b| b.wall.0.total_cmp(&a.wall.0));
        }
        steps
    }

    /// The longest wall time of its engines.
    pub fn longest(&self) -> Seconds {
        Seconds(self.engines.iter().map(|engine| engine.wall.0).fold(0.0, f64::max))
    }
}

impl<'a> EngineStep<'a> {
    fn of(row: &'a RowAnalysis<'_>, rates: &Rates) -> Self {
        let record: &'a Record = row.record;
        let kernels = count(record, "kernels");
        let samples = record.samples.as_ref();
        Self {
            engine: record.id.engine(),
            wall: rates.wall,
            device: samples.and_then(|samples| samples.device_s.as_ref()).map(|_| rates.time),
            host_share: rates.host_share,
            paced_by_host: rates.is_paced_by_the_host(),
            kernels,
            launches: count(record, "graph_launches").or(kernels),
            rate: rates.main(record),
            of_reading: row.placement.as_ref().and_then(of_reading),
            bound: row.placement.as_ref().map(|placement| placement.bound),
        }
    }

    /// The time in which the device worked or waited for its next kernel, and the rest of the wall time; the whole
    /// wall where it is the only clock.
    pub fn split(&self) -> (Seconds, Seconds) {
        let device = self.device.map_or(self.wall, |device| device.min(self.wall));
        (device, self.wall - device)
    }
}

fn count(record: &Record, name: &str) -> Option<u64> {
    match record.parameters.get(name) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

fn of_reading(placement: &Placement) -> Option<f64> {
    let shares = placement.shares.iter();
    shares
        .filter(|share| share.limit == Limit::Measured && share.resource == Resource::Bandwidth)
        .map(|share| share.share)
        .next()
}

#[cfg(test)]
#[path = "attribution_tests.rs"]
mod tests;
