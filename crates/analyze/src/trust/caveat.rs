//! The reason for a warning about a number, and their words.

use std::fmt;

use warpmark_record::row::SLOW_CLOCK;
use warpmark_record::{Bytes, Seconds};

use super::{BUSY_HOST, CLOCK_DROP, DRIFT, OUTLIERS, STOLEN, WIDE_INTERVAL};

const HOST_SLOWER: &str = "the host takes longer to launch this than the device to run it; launches were \
                           queued beforehand, so that the time is the device's own";

const MEMORY_DISAGREES: &str = "the counts of the card's memory do not add up to what NVML tells of this \
                                process";

/// A reason for a warning about a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Caveat {
    /// Sampling began before times had converged.
    NotConverged,
    /// Times moved while sampling; the relative change.
    Drift(f64),
    /// The median is known only to within this share.
    WideInterval(f64),
    /// Too few samples for an interval.
    NoInterval {
        /// How many there are.
        samples: usize,
    },
    /// Many samples lie far from the rest.
    Outliers {
        /// How many.
        outliers: usize,
        /// Of how many.
        samples: usize,
    },
    /// The card held its clocks down.
    Throttled {
        /// The causes, in NVML's words, with the number of readings that showed each.
        causes: Vec<(String, u32)>,
        /// How many readings there were.
        readings: u32,
        /// How many samples were taken meanwhile.
        marked: usize,
        /// Of how many.
        samples: usize,
    },
    /// Samples were taken at a clock far below the card's highest.
    SlowClock {
        /// How many.
        slow: usize,
        /// Of how many.
        samples: usize,
    },
    /// The host launches more slowly than the device works; the row's times are the device's alone.
    HostSlower {
        /// What the host takes to launch an iteration.
        launch: Seconds,
        /// What the device takes to run it.
        device: Seconds,
    },
    /// The device waited for the host's launches.
    PacedByHost,
    /// The first speed after a rest is not the one that is kept.
    Burst {
        /// The rate in the burst.
        rate: String,
        /// How much faster that is than the row's.
        faster: f64,
        /// The rest before it.
        rest: Seconds,
        /// The load between it and the first sample.
        load: Seconds,
    },
    /// The SM clock fell while sampling; its lowest value as a share of its mean.
    ClockChanged(f64),
    /// Counts of the memory do not add up to what NVML tells of the process.
    MemoryDisagrees {
        /// The sum of the counts.
        counted: Bytes,
        /// What NVML tells.
        told: Bytes,
    },
    /// The answer was not checked.
    NotChecked,
    /// The device's clock ran longer than the wall's, by this share.
    ClocksDisagree(f64),
    /// A share of a limit is above 1.
    AboveLimit(String),
    /// The median time is 0.
    Unresolved,
    /// The times are a test's.
    FakeClock,
    /// What the measuring program wrote into the row.
    Recorded(String),
    /// Other processes held memory on the card.
    OtherProcesses(u32),
    /// It cannot be told whether other processes use the card, and why.
    TenantsUnknown(String),
    /// The host had other work to do.
    BusyHost {
        /// Cores busy with it when the run began, or the load average of a record that lacks them.
        load: f64,
        /// Its cores.
        cores: u32,
    },
    /// Other processes kept cores busy while the samples were taken.
    BusyMeanwhile {
        /// Cores busy with it, on average.
        others: f64,
        /// The cores of the host.
        cores: u32,
    },
    /// A hypervisor gave this share of the time to its other guests.
    Stolen(f64),
    /// A hypervisor or container lies between program and machine.
    Virtualised(String),
    /// The program was built without optimisation.
    Unoptimised(String),
    /// The device is a simulation.
    Simulated,
    /// The load generator took this share of the window.
    Generator(f64),
    /// More was asked than could be answered.
    Overloaded {
        /// Requests a second.
        asked: f64,
        /// Answers a second.
        answered: f64,
    },
    /// The run's line is missing.
    RunUnknown,
}

impl Caveat {
    /// The caveat without the row's own figure, so that the same warning about many rows is one footnote.
    /// Figures that a table shows beside the row are not repeated in it.
    pub fn without_figure(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        match self {
            Self::Drift(_) => {
                format!("times drifted by more than {} while sampling", percent(DRIFT))
            }
            Self::WideInterval(_) => {
                format!("the median is known to no better than ±{}", percent(WIDE_INTERVAL))
            }
            Self::ClockChanged(_) => {
                format!("the SM clock fell below {} of its mean", percent(1.0 - CLOCK_DROP))
            }
            Self::HostSlower { .. } => HOST_SLOWER.to_owned(),
            Self::BusyMeanwhile { .. } => format!(
                "other work kept more than {} of the host's cores busy while samples were taken",
                percent(BUSY_HOST)
            ),
            Self::Stolen(_) => format!(
                "the hypervisor gave more than {} of the time to other guests while samples were taken",
                percent(STOLEN)
            ),
            Self::MemoryDisagrees { .. } => MEMORY_DISAGREES.to_owned(),
            Self::Outliers { .. } => {
                format!("more than {} of the samples are outliers", percent(OUTLIERS))
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| format!("{:.1} %", share * 100.0);
        match self {
            Self::NotConverged => f.write_str("times had not converged when sampling began"),
            Self::Drift(by) => write!(f, "times drifted by {:+.1} % while sampling", by * 100.0),
            Self::WideInterval(half) => write!(f, "the median is known to ±{} only", percent(half)),
            Self::NoInterval { samples } => {
                write!(f, "{samples} samples are too few for an interval")
            }
            Self::Outliers { outliers, samples } => {
                write!(f, "{outliers} of {samples} samples are outliers")
            }
            Self::Throttled { causes, readings, marked, samples } => {
                let causes: Vec<String> =
                    causes.iter().map(|(cause, n)| format!("{cause} ({n}/{readings})")).collect();
                let causes = causes.join(", ");
                write!(f, "the card held its clocks down: {causes}, in {marked} of {samples} samples")
            }
            Self::SlowClock { slow, samples } => {
                let share = SLOW_CLOCK * 100.0;
                write!(f, "{slow} of {samples} samples below {share:.0} % of the card's highest clock")
            }
            Self::HostSlower { launch, device } => {
                write!(f, "{HOST_SLOWER}: {launch} against {device}")
            }
            Self::PacedByHost => f.write_str(
                "the device waited for the host's launches: it was done as soon as the last one came",
            ),
            Self::Burst { rate, faster, rest, load } => write!(
                f,
                "{rate} in its first second after a rest of {rest}, {:+.1} %; the row is what it kept \
                 after {load} more",
                faster * 100.0
            ),
            Self::ClockChanged(share) => {
                write!(f, "the SM clock fell to {} of its mean", percent(share))
            }
            Self::NotChecked => f.write_str("the answer was not checked"),
            Self::ClocksDisagree(by) => {
                write!(f, "the device clock ran {} longer than the wall clock", percent(by))
            }
            Self::AboveLimit(what) => {
                write!(f, "{what}: that cannot be, so the counted work or the limit is wrong")
            }
            Self::Unresolved => {
                f.write_str("the clock did not resolve an iteration: its time is 0")
            }
            Self::Generator(share) => {
                write!(f, "the load generator took {} of the window for itself", percent(share))
            }
            Self::Overloaded { asked, answered } => write!(
                f,
                "{asked:.3} requests a second were asked and {answered:.3} answered: the queue grew \
                 as long as the window lasted, and its times say no more than that"
            ),
            Self::FakeClock => f.write_str("the times come from a test's clock"),
            Self::Recorded(text) => f.write_str(text),
            Self::MemoryDisagrees { .. }
            | Self::OtherProcesses(_)
            | Self::TenantsUnknown(_)
            | Self::BusyHost { .. }
            | Self::BusyMeanwhile { .. }
            | Self::Stolen(_)
            | Self::Virtualised(_)
            | Self::Unoptimised(_)
            | Self::Simulated
            | Self::RunUnknown => self.of_surroundings(f),
        }
    }
}

impl Caveat {
    /// The words of what is no matter of the row's own times.
    fn of_surroundings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryDisagrees { counted, told } => write!(
                f,
                "pool, graphs, context and libraries add up to {}, and NVML tells {} of this process: \
                 memory was taken that no mark counts, or another process came or went",
                counted.binary(),
                told.binary()
            ),
            Self::OtherProcesses(1) => f.write_str("another process held memory on the card"),
            Self::OtherProcesses(n) => write!(f, "{n} other processes held memory on the card"),
            Self::TenantsUnknown(reason) => {
                write!(f, "whether other processes used the card is unknown: {reason}")
            }
            Self::BusyHost { load, cores } => write!(
                f,
                "the host was busy with other work when the run began: {load:.1} of {cores} cores"
            ),
            Self::BusyMeanwhile { others, cores } => write!(
                f,
                "other work kept {others:.1} of {cores} cores busy while samples were taken"
            ),
            Self::Stolen(share) => write!(
                f,
                "the hypervisor gave {:.1} % of the time to other guests while samples were taken",
                share * 100.0
            ),
            Self::Virtualised(what) => write!(f, "virtualised: {what}"),
            Self::Unoptimised(profile) => write!(
                f,
                "built with the `{profile}` profile: only release builds measure the device"
            ),
            Self::Simulated => {
                f.write_str("the device is simulated: its figures prove nothing about hardware")
            }
            Self::RunUnknown => {
                f.write_str("the run's own line is missing: device, host and build are unknown")
            }
            _ => Ok(()),
        }
    }
}
