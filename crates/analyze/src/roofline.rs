//! Rows against limits: the card's datasheet, the datasheet at the clock the card ran at, and the best that
//! was measured on this device in this run.
//!
//! For a row with `F` operations and `B` bytes, a roof of `P` FLOP/s and `W` B/s allows no time below
//! `max(F / P, B / W)` (Williams, Waterman and Patterson, *Roofline*, 2009). The share of a resource is
//! the rate reached over the roof's rate; the larger share belongs to the resource that the roof says
//! is the bottleneck. A limit that nobody knows gives no share. A share above 1 means that the counted
//! work or the limit is wrong: it is reported as it is and marked as a contradiction.
//!
//! # What bounds a row
//!
//! The first rule that holds:
//!
//! 1. **transfer**: the stages that move data into place (`read_s`, `host_to_device_s`) take more than
//!    [`STAGE_MAJORITY`] of the wall time.
//! 2. **host**: the device's clock stood still for more than [`HOST_BOUND`] of the wall time, or the
//!    device was done as soon as the last launch was queued ([`crate::rates::STARVED`]).
//! 3. **compute** or **bandwidth** (of a load: **transfer**): the larger share of the roof is at least [`NEAR`]. The
//!    roof is the first that knows every resource the row counts: measured, at the row's clock,
//!    datasheet. Where none knows all of them, the same holds for a single share.
//! 4. **neither**: every resource the row counts is known, and none is near its limit.
//! 5. **unknown**: a limit is missing, or the row counts no work.

use std::collections::BTreeMap;
use std::fmt;

use warpmark_record::{
    BytesPerSecond, FlopsPerSecond, Hertz, Outcome, Record, Run, Samples, Value,
};

use crate::rates::Rates;

/// From this share of a limit on, a row counts as bound by it.
pub const NEAR: f64 = 0.5;
/// Above this share of the wall time without the device, the host bounds a row.
pub const HOST_BOUND: f64 = 0.25;
/// Above this share of the wall time, a kind of stage bounds a row.
pub const STAGE_MAJORITY: f64 = 0.5;

/// Which limit a share is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// The datasheet figure of the card.
    Datasheet,
    /// The datasheet figure at the mean clock while the row ran; bandwidth is the datasheet's.
    DatasheetAtClock,
    /// What this run measured: the best matmul of the same arithmetic; for memory rows the best memory row, for
    /// models the best that only reads, for loads the best copy to the device.
    Measured,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Datasheet => "datasheet",
            Self::DatasheetAtClock => "datasheet-at-clock",
            Self::Measured => "measured",
        })
    }
}

/// What a limit is a limit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Operations per second.
    Compute,
    /// Memory traffic per second.
    Bandwidth,
    /// Bytes from the host's memory to the device's per second.
    Transfer,
}

/// What keeps a row from being faster; see the module for the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The arithmetic units.
    Compute,
    /// The memory.
    Bandwidth,
    /// The host that feeds the device.
    Host,
    /// Moving data into place.
    Transfer,
    /// Neither compute nor bandwidth is near its limit: the row waits, has too little parallel work, or
    /// leaves the device idle for a reason of its own.
    Neither,
    /// Not enough is known.
    Unknown,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Compute => "compute",
            Self::Bandwidth => "bandwidth",
            Self::Host => "host",
            Self::Transfer => "transfer",
            Self::Neither => "neither",
            Self::Unknown => "unknown",
        })
    }
}

impl From<Resource> for Bound {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::Compute => Self::Compute,
            Resource::Bandwidth => Self::Bandwidth,
            Resource::Transfer => Self::Transfer,
        }
    }
}

/// A rate as a share of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Which limit.
    pub limit: Limit,
    /// Of what.
    pub resource: Resource,
    /// The limit itself, in FLOP/s or B/s.
    pub peak: f64,
    /// The rate over the limit; not clipped.
    pub share: f64,
}

impl Share {
    /// Whether the share says that the work was counted wrongly or that the limit is none.
    pub fn is_contradiction(&self) -> bool {
        // The row that set the measured peak has a share of 1 but for rounding.
        self.share > 1.0 + 1e-9
    }
}

/// How a row stands to its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Operations per byte of traffic, where the row counts both.
    pub intensity: Option<f64>,
    /// The share of every limit that is known.
    pub shares: Vec<Share>,
    /// What bounds the row.
    pub bound: Bound,
}

impl Placement {
    /// The share to print where there is room for one: of the limit that is hardest to argue with (datasheet,
    /// then that at its clock, then measured), the resource that is nearest to it.
    pub fn headline(&self) -> Option<&Share> {
        let limit = self.shares.iter().map(|share| share.limit).min()?;
        self.larger(limit)
    }

    /// The shares that cannot be.
    pub fn contradictions(&self) -> impl Iterator<Item = &Share> {
        self.shares.iter().filter(|share| share.is_contradiction())
    }

    fn of(&self, limit: Limit) -> impl Iterator<Item = &Share> {
        self.shares.iter().filter(move |share| share.limit == limit)
    }

    fn larger(&self, limit: Limit) -> Option<&Share> {
        self.of(limit).max_by(|a, b| a.share.total_cmp(&b.share))
    }
}

/// The limits of one device in one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    datasheet_peaks: BTreeMap<String, FlopsPerSecond>,
    /// The clock of each theoretical peak, as far as the datasheet tells.
    datasheet_clocks: BTreeMap<String, f64>,
    datasheet_bandwidth: Option<BytesPerSecond>,
    measured_peaks: BTreeMap<String, FlopsPerSecond>,
    measured_bandwidth: Option<BytesPerSecond>,
    /// The best of the memory rows that read and do not write.
    measured_reading: Option<BytesPerSecond>,
    /// The best copy from the host to the device.
    measured_transfer: Option<BytesPerSecond>,
}

impl Limits {
    /// The limits that a run's line and measured rows give.
    pub fn of<'a>(run: Option<&Run>, rows: impl Iterator<Item = (&'a Record, &'a Rates)>) -> Self {
        let mut limits = Self::default();
        let gpu = run.and_then(|run| run.device.gpu.as_ref());
        if let Some(datasheet) = gpu.and_then(|gpu| gpu.datasheet.known()) {
            let peaks = datasheet.peaks.iter().map(|(name, peak)| (name.clone(), peak.value));
            limits.datasheet_peaks = peaks.collect();
            let clocks =
                datasheet.peaks.keys().filter_map(|name| Some((name, datasheet.clock_of(name)?)));
            limits.datasheet_clocks = clocks.map(|(name, clock)| (name.clone(), clock.0)).collect();
            limits.datasheet_bandwidth =
                datasheet.bandwidth.as_ref().map(|bandwidth| bandwidth.value);
        }
        for (record, rates) in rows {
            limits.learn(record, rates);
        }
        limits
    }

    fn learn(&mut self, record: &Record, rates: &Rates) {
        if record.id.group() != "micro" || record.outcome != Outcome::Measured {
            return;
        }
        let subject = record.id.subject();
        if let ("matmul" | "intensity", Some(arithmetic), Some(rate)) =
            (subject, arithmetic(record), rates.flops)
        {
            let best = self.measured_peaks.entry(arithmetic).or_insert(rate);
            *best = best.max(rate);
        }
        if let ("memory" | "intensity", Some(rate)) = (subject, rates.bytes) {
            raise(&mut self.measured_bandwidth, rate);
            if only_reads(record) {
                raise(&mut self.measured_reading, rate);
            }
        }
        let to_device = record.id.segments().get(2).is_some_and(|direction| direction == "h2d");
        if let ("transfer", true, Some(rate)) = (subject, to_device, rates.bytes) {
            raise(&mut self.measured_transfer, rate);
        }
    }

    /// The best matmul rate of an arithmetic such as `f16/f32` in this run.
    pub fn measured_peak(&self, arithmetic: &str) -> Option<FlopsPerSecond> {
        self.measured_peaks.get(arithmetic).copied()
    }

    /// The best matmul rate of each arithmetic in this run.
    pub fn measured_peaks(&self) -> impl Iterator<Item = (&str, FlopsPerSecond)> {
        self.measured_peaks.iter().map(|(name, peak)| (name.as_str(), *peak))
    }

    /// The best memory rate of this run.
    pub fn measured_bandwidth(&self) -> Option<BytesPerSecond> {
        self.measured_bandwidth
    }

    /// The best rate at which this run read memory without writing any. Models read their weights and write next to
    /// nothing, and stores may be faster or slower than loads: this is what their bytes are read against.
    pub fn measured_reading(&self) -> Option<BytesPerSecond> {
        self.measured_reading
    }

    /// The best rate of this run's copies from the host to the device.
    pub fn measured_transfer(&self) -> Option<BytesPerSecond> {
        self.measured_transfer
    }

    /// Places a row of the run that the limits are of.
    pub fn place(&self, record: &Record, rates: &Rates) -> Placement {
        let work = &record.work;
        let both = work.flops.zip(work.bytes).filter(|(_, bytes)| bytes.0 > 0.0);
        let mut placement = Placement {
            intensity: both.map(|(flops, bytes)| flops.0 / bytes.0),
            shares: self.shares(record, rates),
            bound: Bound::Unknown,
        };
        placement.bound = bound(rates, &placement);
        placement
    }

    fn shares(&self, record: &Record, rates: &Rates) -> Vec<Share> {
        if record.id.group() == "load" {
            return self.of_load(record, rates).into_iter().collect();
        }
        if moves_other_bytes(record) {
            return Vec::new();
        }
        let own = if record.id.group() == "micro" {
            self.measured_bandwidth
        } else {
            self.measured_reading
        };
        let arithmetic = arithmetic(record);
        let datasheet =
            arithmetic.as_deref().and_then(|name| self.datasheet_peaks.get(name)).copied();
        let scale = self.clock_scale(arithmetic.as_deref(), record);
        let measured = arithmetic.as_deref().and_then(|name| self.measured_peak(name));
        let at_clock = datasheet.zip(scale).map(|(peak, scale)| peak * scale);
        let mut shares = Vec::new();
        // The memory's clock is fixed while a card works, so its bandwidth stays at the datasheet's.
        for (limit, compute, bandwidth) in [
            (Limit::Datasheet, datasheet, self.datasheet_bandwidth),
            (
                Limit::DatasheetAtClock,
                at_clock,
                self.datasheet_bandwidth.filter(|_| self.knows_clock(record)),
            ),
            (Limit::Measured, measured, own),
        ] {
            let compute = rates.flops.zip(compute).map(|(rate, peak)| (rate.0, peak.0));
            let bandwidth = rates.bytes.zip(bandwidth).map(|(rate, peak)| (rate.0, peak.0));
            for (resource, pair) in [(Resource::Compute, compute), (Resource::Bandwidth, bandwidth)]
            {
                let pair = pair.filter(|(_, peak)| *peak > 0.0);
                shares.extend(pair.map(|(rate, peak)| Share {
                    limit,
                    resource,
                    peak,
                    share: rate / peak,
                }));
            }
        }
        shares
    }

    /// A load as a share of the best copy to the device, where its bytes cross the bus as they lie in the files:
    /// what is converted on its way has another size there.
    fn of_load(&self, record: &Record, rates: &Rates) -> Option<Share> {
        let of = |name: &str| record.parameters.get(name).map(ToString::to_string);
        let (rate, peak) = rates.bytes.zip(self.measured_transfer)?;
        let whole = of("checkpoint").is_some() && of("checkpoint") == of("dtype");
        (whole && peak.0 > 0.0).then(|| Share {
            limit: Limit::Measured,
            resource: Resource::Transfer,
            peak: peak.0,
            share: rate.0 / peak.0,
        })
    }

    /// How the clock at which a row ran lies to the one that the peak of its arithmetic is stated for.
    fn clock_scale(&self, arithmetic: Option<&str>, record: &Record) -> Option<f64> {
        let mean = settled_clock(record)?;
        let stated = self.datasheet_clocks.get(arithmetic?).filter(|clock| **clock > 0.0)?;
        Some(mean.0 / stated)
    }

    /// Whether it is known at which clock a row ran, and at which a card with a datasheet is stated.
    fn knows_clock(&self, record: &Record) -> bool {
        settled_clock(record).is_some() && !self.datasheet_clocks.is_empty()
    }
}

/// The mean SM clock while the samples of a row were taken: that which the device itself counted, else that
/// of the sensors, which see it ten times a second and between the samples too.
pub fn settled_clock(record: &Record) -> Option<Hertz> {
    let counted = record.samples.as_ref().and_then(Samples::sm_clock);
    counted.or_else(|| record.telemetry.as_ref()?.sm_clock_mean.known().copied())
}

fn raise(best: &mut Option<BytesPerSecond>, rate: BytesPerSecond) {
    *best = Some(best.map_or(rate, |known| known.max(rate)));
}

/// Whether a row on memory reads and writes nothing: the operation `read`, and the sweep of the intensity, which
/// reads an array once.
fn only_reads(record: &Record) -> bool {
    record.id.subject() == "intensity"
        || record.parameters.get("operation").is_some_and(|name| name.to_string() == "read")
}

/// Whether the bytes of a micro benchmark are not those of device memory: other ones than these measure caches,
/// shared memory and the bus.
fn moves_other_bytes(record: &Record) -> bool {
    record.id.group() == "micro"
        && !matches!(record.id.subject(), "matmul" | "memory" | "intensity")
}

/// The arithmetic of a row as datasheets key it: operand type over accumulate type.
///
/// Rows of whole models do not name the accumulate type; frameworks accumulate in f32 unless told
/// otherwise (f64 for f64 operands, int32 for int8), and so it is read.
pub fn arithmetic(record: &Record) -> Option<String> {
    let text = |name: &str| match record.parameters.get(name) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    // Products of quantised weights multiply integers of 8 bits.
    let dtype = match text("dtype")? {
        "q8_0" | "q4_k_m" => "int8",
        other => other,
    };
    let accumulate = text("accumulate").unwrap_or(match dtype {
        "f64" => "f64",
        "int8" => "int32",
        _ => "f32",
    });
    Some(format!("{dtype}/{accumulate}"))
}

fn bound(rates: &Rates, placement: &Placement) -> Bound {
    let moving: f64 = ["read_s", "host_to_device_s"]
        .iter()
        .filter_map(|stage| rates.stages.get(*stage))
        .map(|stage| stage.0)
        .sum();
    if moving > STAGE_MAJORITY * rates.wall.0 {
        return Bound::Transfer;
    }
    let waited = rates.host_share.is_some_and(|share| share > HOST_BOUND);
    if waited || rates.is_paced_by_the_host() {
        return Bound::Host;
    }
    let counted = usize::from(rates.flops.is_some()) + usize::from(rates.bytes.is_some());
    let complete = [Limit::Measured, Limit::DatasheetAtClock, Limit::Datasheet]
        .into_iter()
        .find(|limit| counted > 0 && placement.of(*limit).count() == counted);
    let nearest = match complete {
        Some(limit) => placement.larger(limit),
        None => placement.shares.iter().max_by(|a, b| a.share.total_cmp(&b.share)),
    };
    match nearest {
        Some(share) if share.share >= NEAR => share.resource.into(),
        // What files give is no limit that is known.
        Some(share) if share.resource == Resource::Transfer => Bound::Unknown,
        _ if complete.is_some() => Bound::Neither,
        _ => Bound::Unknown,
    }
}

#[cfg(test)]
#[path = "roofline_tests.rs"]
mod tests;
