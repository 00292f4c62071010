//! What follows from one row alone: time, rates, the host's share.

use std::collections::BTreeMap;
use std::fmt;

use warpmark_record::stats::{self, Interval};
use warpmark_record::{
    Burst, BytesPerSecond, FlopsPerSecond, ItemsPerSecond, Outcome, Record, Samples, Seconds,
};

/// The confidence of every interval in a report.
pub const CONFIDENCE: f64 = 0.95;

/// Below this share of the wall time after the last launch, the device has had to wait for launches. A
/// device that is kept busy has up to a thousand launches before it then, which is a tenth of a sample
/// even where they are short.
pub const STARVED: f64 = 0.02;

/// Times and rates of a measured row, all per iteration and by the row's own clock (the device's where
/// there is one).
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Samples.
    pub samples: usize,
    /// The median time of an iteration.
    pub time: Seconds,
    /// The exact order-statistic interval of the median, in seconds; `None` below 6 samples.
    pub interval: Option<Interval>,
    /// The scaled median absolute deviation.
    pub spread: Seconds,
    /// The median wall time of an iteration; the same as `time` where the wall is the only clock.
    pub wall: Seconds,
    /// Operations per second, where the work counts any.
    pub flops: Option<FlopsPerSecond>,
    /// Memory traffic per second, where the work counts any.
    pub bytes: Option<BytesPerSecond>,
    /// Items per second, where the work counts any.
    pub items: Option<ItemsPerSecond>,
    /// The share of the wall time in which the device's clock did not run: 1 - device / wall. `None`
    /// without a device clock. It does not see pauses between two kernels of one iteration, which the
    /// device's clock counts as its own.
    pub host_share: Option<f64>,
    /// The median of the host's time to launch an iteration, without the wait for it. `None` without a
    /// device clock.
    pub launch: Option<Seconds>,
    /// The median share of a sample's wall time that was left when everything was launched. Next to
    /// nothing is left where the device had to wait for each launch. `None` without a device clock and
    /// where the device was blocked.
    pub backlog: Option<f64>,
    /// The median time of an iteration in the burst after a rest, where the row has one.
    pub burst: Option<Seconds>,
    /// The relative change from the first third of the samples to the last.
    pub drift: Option<f64>,
    /// Samples outside Tukey's fences.
    pub outliers: usize,
    /// The median time of each stage of an iteration.
    pub stages: BTreeMap<String, Seconds>,
}

/// The rate that matters for a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MainRate {
    /// Items, as for models.
    Items(ItemsPerSecond),
    /// Operations, as for matmul.
    Flops(FlopsPerSecond),
    /// Traffic, as for memory.
    Bytes(BytesPerSecond),
}

impl MainRate {
    /// The bare number per second.
    pub fn get(self) -> f64 {
        match self {
            Self::Items(items) => items.rate,
            Self::Flops(flops) => flops.0,
            Self::Bytes(bytes) => bytes.0,
        }
    }
}

impl fmt::Display for MainRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Items(items) => items.fmt(f),
            Self::Flops(flops) => flops.fmt(f),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl Rates {
    /// The figures of a row; `None` when it was not measured, or when its median time is 0 (the clock
    /// did not resolve it) so that no rate can be had.
    pub fn of(record: &Record) -> Option<Self> {
        if record.outcome != Outcome::Measured {
            return None;
        }
        let samples = record.samples.as_ref()?;
        let times = samples.per_iteration();
        let walls = samples.wall_per_iteration();
        let time = stats::median(&times).filter(|time| *time > 0.0).map(Seconds)?;
        let wall = Seconds(stats::median(&walls)?);
        // Launches and work do not overlap where the device was blocked.
        let device_clock = samples.device_s.is_some() && !samples.blocked;
        let work = &record.work;
        Some(Self {
            samples: times.len(),
            time,
            interval: stats::median_interval(&times, CONFIDENCE),
            spread: Seconds(stats::mad(&times)?),
            wall,
            flops: work.flops.map(|flops| flops / time),
            bytes: work.bytes.map(|bytes| bytes / time),
            items: work.items.map(|items| items / time),
            host_share: (device_clock && wall.0 > 0.0).then(|| 1.0 - time.ratio(wall)),
            launch: launch(samples),
            backlog: if samples.blocked { None } else { backlog(samples) },
            burst: samples.burst.as_ref().and_then(Burst::median).filter(|burst| burst.0 > 0.0),
            drift: stats::drift(&times),
            outliers: stats::outliers(&times)?,
            stages: stages(samples),
        })
    }

    /// Items where there are any, else operations, else traffic. A load is rated by its bytes: "0.4
    /// loads a second" says nothing that its time does not.
    pub fn main(&self, record: &Record) -> Option<MainRate> {
        let bytes = self.bytes.map(MainRate::Bytes);
        if record.id.group() == "load" && bytes.is_some() {
            return bytes;
        }
        self.items.map(MainRate::Items).or(self.flops.map(MainRate::Flops)).or(bytes)
    }

    /// The main rate in the burst after a rest, where the row has one.
    pub fn burst_rate(&self, record: &Record) -> Option<MainRate> {
        let faster = self.time.ratio(self.burst?);
        Some(match self.main(record)? {
            MainRate::Items(items) => {
                MainRate::Items(ItemsPerSecond { rate: items.rate * faster, ..items })
            }
            MainRate::Flops(flops) => MainRate::Flops(flops * faster),
            MainRate::Bytes(bytes) => MainRate::Bytes(bytes * faster),
        })
    }

    /// Whether the device was done as soon as the last launch was queued, so that the pace measured is
    /// the host's.
    pub fn is_paced_by_the_host(&self) -> bool {
        self.backlog.is_some_and(|backlog| backlog < STARVED)
    }

    /// Half the width of the interval as a share of the median.
    pub fn relative_half_width(&self) -> Option<f64> {
        self.interval.map(|interval| interval.relative_half_width(self.time.0))
    }
}

fn launch(samples: &Samples) -> Option<Seconds> {
    let each = samples.launch_s.as_ref()?.iter().zip(&samples.iterations);
    let each: Vec<f64> = each.map(|(time, n)| time / (*n).max(1) as f64).collect();
    stats::median(&each).map(Seconds)
}

fn backlog(samples: &Samples) -> Option<f64> {
    let each = samples.launch_s.as_ref()?.iter().zip(&samples.wall_s);
    let each: Vec<f64> = each.map(|(launch, wall)| 1.0 - launch / wall.max(1e-12)).collect();
    stats::median(&each)
}

fn stages(samples: &Samples) -> BTreeMap<String, Seconds> {
    let per_iteration = |totals: &[f64]| {
        let each: Vec<f64> =
            totals.iter().zip(&samples.iterations).map(|(s, n)| s / (*n).max(1) as f64).collect();
        stats::median(&each).map(Seconds)
    };
    let medians = samples.stages.iter();
    medians.filter_map(|(name, totals)| Some((name.clone(), per_iteration(totals)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn rates_are_work_over_the_median_device_time() {
        let mut row = fixture::matmul("f16", 1000, 1e-3);
        let samples = row.samples.as_mut().unwrap();
        samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * 0.75).collect());
        let rates = Rates::of(&row).unwrap();
        assert!((rates.flops.unwrap().0 - 2e9 / 0.75e-3).abs() < 1e9);
        assert!((rates.host_share.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(rates.bytes, None);
    }

    #[test]
    fn without_a_device_clock_the_host_share_is_unknown() {
        let rates = Rates::of(&fixture::memory("triad", 1e9, 0.1)).unwrap();
        assert_eq!(rates.host_share, None);
        assert_eq!(rates.time, rates.wall);
    }

    #[test]
    fn a_time_that_the_clock_did_not_resolve_gives_no_rate() {
        let mut row = fixture::memory("triad", 1e9, 0.1);
        row.samples.as_mut().unwrap().wall_s.fill(0.0);
        assert_eq!(Rates::of(&row), None);
    }

    #[test]
    fn a_load_is_rated_by_bytes_and_a_model_by_items() {
        let load = fixture::load(5e8, 0.5);
        let rates = Rates::of(&load).unwrap();
        assert_eq!(rates.main(&load).unwrap().to_string(), "1.00 GB/s");
        assert_eq!(rates.stages["read_s"], Seconds(0.2));
        let decode = fixture::decode("f32", 0.04);
        assert_eq!(Rates::of(&decode).unwrap().main(&decode).unwrap().to_string(), "25.0 tok/s");
    }
}
