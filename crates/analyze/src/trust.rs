//! What a reader must know before trusting a number, derived from what stands beside it.

mod caveat;

use std::collections::BTreeSet;

use warpmark_record::load_test::Arrivals;
use warpmark_record::{ClockKind, DeviceKind, HostLoad, LoadTest, Outcome, Record, Run, Seconds};

pub use caveat::Caveat;

use crate::RowAnalysis;
use crate::rates::Rates;
use crate::roofline::{Placement, Resource};

/// Half the width of the interval as a share of the median, above which it is called wide.
pub const WIDE_INTERVAL: f64 = 0.05;
/// The change from the first third of the samples to the last, above which it is called drift.
pub const DRIFT: f64 = 0.05;
/// The share of samples outside Tukey's fences, above which they are mentioned.
pub const OUTLIERS: f64 = 0.1;
/// How far the lowest clock may lie below the mean one.
pub const CLOCK_DROP: f64 = 0.1;
/// How much longer the device's time may be than the wall's: two clocks never agree to the last digit.
pub const CLOCK_DISAGREEMENT: f64 = 0.02;
/// The share of a window that the load generator may take for itself.
pub const GENERATOR: f64 = 0.01;
/// How far the answers of an open loop may lag the questions.
pub const OVERLOADED: f64 = 0.05;
/// How far burst and sustained speed may lie apart before both are told.
pub const BURST: f64 = 0.02;
/// How far NVML's count of the process may lie from the sum of the others, as a share of it, and in bytes:
/// both round to pages of 2 MiB, and a few of them belong to the driver.
pub const MEMORY_DISAGREEMENT: (f64, f64) = (0.05, 64.0 * 1024.0 * 1024.0);
/// The share of the host's cores that may have been busy with other work, when the run began or while samples
/// were taken.
pub const BUSY_HOST: f64 = 0.25;
/// The share of the time that a hypervisor may give to its other guests while samples are taken.
pub const STOLEN: f64 = 0.02;

/// What holds for one row.
pub fn of_row(
    record: &Record,
    rates: Option<&Rates>,
    placement: Option<&Placement>,
) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    if record.outcome == Outcome::Measured {
        match rates {
            Some(rates) => {
                of_times(rates, &mut caveats);
                of_launches(record, rates, &mut caveats);
                of_burst(record, rates, &mut caveats);
            }
            None if record.load_test.is_none() => caveats.push(Caveat::Unresolved),
            None => {}
        }
        of_samples(record, &mut caveats);
        if let Some(load) = &record.load_test {
            of_load(load, &mut caveats);
        }
        of_telemetry(record, &mut caveats);
        caveats.extend(record.host.iter().flat_map(of_host));
        caveats.extend(of_memory(record));
    }
    for share in placement.into_iter().flat_map(Placement::contradictions) {
        let what = match share.resource {
            Resource::Compute => "compute",
            Resource::Bandwidth => "bandwidth",
            Resource::Transfer => "transfer",
        };
        let text = format!("{:.0} % of the {} {what} limit", share.share * 100.0, share.limit);
        caveats.push(Caveat::AboveLimit(text));
    }
    caveats.extend(record.caveats.iter().cloned().map(Caveat::Recorded));
    caveats
}

fn of_load(load: &LoadTest, caveats: &mut Vec<Caveat>) {
    let share = load.passes.generator_s / load.window_s;
    if share > GENERATOR {
        caveats.push(Caveat::Generator(share));
    }
    if let Arrivals::Open { rate, .. } = load.arrivals
        && load.rate() < (1.0 - OVERLOADED) * rate
    {
        caveats.push(Caveat::Overloaded { asked: rate, answered: load.rate() });
    }
}

fn of_samples(record: &Record, caveats: &mut Vec<Caveat>) {
    let Some(samples) = &record.samples else {
        return;
    };
    if !samples.converged {
        caveats.push(Caveat::NotConverged);
    }
    if !samples.slow_clock.is_empty() {
        let (slow, samples) = (samples.slow_clock.len(), samples.wall_s.len());
        caveats.push(Caveat::SlowClock { slow, samples });
    }
    if record.check.is_none() {
        caveats.push(Caveat::NotChecked);
    }
    if samples.clock == ClockKind::Fake {
        caveats.push(Caveat::FakeClock);
    }
}

fn of_times(rates: &Rates, caveats: &mut Vec<Caveat>) {
    if let Some(drift) = rates.drift.filter(|drift| drift.abs() > DRIFT) {
        caveats.push(Caveat::Drift(drift));
    }
    match rates.relative_half_width() {
        None => caveats.push(Caveat::NoInterval { samples: rates.samples }),
        Some(half) if half > WIDE_INTERVAL => caveats.push(Caveat::WideInterval(half)),
        Some(_) => {}
    }
    if rates.outliers as f64 > OUTLIERS * rates.samples as f64 {
        let Rates { outliers, samples, .. } = *rates;
        caveats.push(Caveat::Outliers { outliers, samples });
    }
    if let Some(share) = rates.host_share.filter(|share| *share < -CLOCK_DISAGREEMENT) {
        caveats.push(Caveat::ClocksDisagree(-share));
    }
}

fn of_launches(record: &Record, rates: &Rates, caveats: &mut Vec<Caveat>) {
    let blocked = record.samples.as_ref().is_some_and(|samples| samples.blocked);
    if let Some(launch) = rates.launch.filter(|launch| blocked && *launch > rates.time) {
        caveats.push(Caveat::HostSlower { launch, device: rates.time });
    }
    // A load is the host's work to a large part, and its stages say which.
    if rates.is_paced_by_the_host() && record.id.group() != "load" {
        caveats.push(Caveat::PacedByHost);
    }
}

fn of_burst(record: &Record, rates: &Rates, caveats: &mut Vec<Caveat>) {
    let burst = record.samples.as_ref().and_then(|samples| samples.burst.as_ref());
    if let Some((burst, time)) = burst.zip(rates.burst)
        && let Some(rate) = rates.burst_rate(record)
    {
        let faster = rates.time.ratio(time) - 1.0;
        if faster.abs() > BURST {
            let (rate, load) = (rate.to_string(), Seconds(burst.load_s));
            caveats.push(Caveat::Burst { rate, faster, rest: Seconds(burst.rest_s), load });
        }
    }
}

fn of_telemetry(record: &Record, caveats: &mut Vec<Caveat>) {
    let Some(telemetry) = &record.telemetry else {
        return;
    };
    if let Some(causes) = telemetry.throttle_causes.known().filter(|causes| !causes.is_empty()) {
        let causes = causes.iter().map(|(cause, count)| (cause.clone(), *count)).collect();
        let marked = record.samples.iter().flat_map(|samples| samples.throttled.values().flatten());
        let marked = marked.collect::<BTreeSet<_>>().len();
        let samples = record.samples.as_ref().map_or(0, |samples| samples.wall_s.len());
        let readings = telemetry.readings;
        caveats.push(Caveat::Throttled { causes, readings, marked, samples });
    }
    if let Some(others) = telemetry.other_processes.known().filter(|others| **others > 0) {
        caveats.push(Caveat::OtherProcesses(*others));
    }
    caveats.extend(telemetry.warnings.iter().cloned().map(Caveat::Recorded));
    let clocks = telemetry.sm_clock_min.known().zip(telemetry.sm_clock_mean.known());
    if let Some((least, mean)) = clocks
        && least.0 < (1.0 - CLOCK_DROP) * mean.0
    {
        caveats.push(Caveat::ClockChanged(least.ratio(*mean)));
    }
}

/// Whether the host had other things to do meanwhile.
fn of_host(host: &HostLoad) -> impl Iterator<Item = Caveat> {
    let HostLoad { cores, others, stolen } = *host;
    let busy =
        (others > BUSY_HOST * f64::from(cores)).then_some(Caveat::BusyMeanwhile { others, cores });
    busy.into_iter().chain((stolen > STOLEN).then_some(Caveat::Stolen(stolen)))
}

/// Whether the counts of a GPU's memory contradict each other.
fn of_memory(record: &Record) -> Option<Caveat> {
    let counts = record.memory.as_ref()?.device.as_ref()?;
    let (counted, told) = (counts.accounted()?, *counts.process.known()?);
    let (share, bytes) = MEMORY_DISAGREEMENT;
    let apart = (counted - told).get().abs();
    (apart > bytes.max(share * told.get())).then_some(Caveat::MemoryDisagrees { counted, told })
}

/// What holds for all rows of a run, which are given beside it.
pub fn of_run(run: Option<&Run>, rows: &[RowAnalysis<'_>]) -> Vec<Caveat> {
    let Some(run) = run else {
        return vec![Caveat::RunUnknown];
    };
    let mut caveats = Vec::new();
    if run.device.kind == DeviceKind::Simulated {
        caveats.push(Caveat::Simulated);
    }
    if run.build.profile == "debug" || run.build.profile == "dev" {
        caveats.push(Caveat::Unoptimised(run.build.profile.clone()));
    }
    let others = run.device.gpu.as_ref().and_then(|gpu| gpu.other_processes.known());
    if let Some(n) = others.filter(|n| **n > 0) {
        caveats.push(Caveat::OtherProcesses(*n));
    }
    caveats.extend(tenants_unknown(run, rows));
    let cores = run.host.cores;
    let busy = run.host.busy_cores.as_ref().unwrap_or(&run.host.load_average);
    if let Some(load) = busy.known()
        && *load > BUSY_HOST * f64::from(cores)
    {
        caveats.push(Caveat::BusyHost { load: *load, cores });
    }
    let hypervisor =
        run.device.cpu.as_ref().is_some_and(|cpu| cpu.virtualised.known() == Some(&true));
    match run.host.container.known().filter(|container| !container.is_empty()) {
        Some(container) => caveats.push(Caveat::Virtualised(container.clone())),
        None if hypervisor => caveats.push(Caveat::Virtualised("under a hypervisor".to_owned())),
        None => {}
    }
    caveats
}

/// Whether nobody could tell who else is on the card: the reason is one for all rows, and said once.
fn tenants_unknown(run: &Run, rows: &[RowAnalysis<'_>]) -> Option<Caveat> {
    let gpu = run.device.gpu.as_ref()?;
    let mut looks =
        rows.iter().filter_map(|row| Some(&row.record.telemetry.as_ref()?.other_processes));
    // Rows tell more than the look before them, when this process was not on the card yet.
    let first = looks.clone().next().unwrap_or(&gpu.other_processes);
    let reason = first.reason()?.to_owned();
    looks.all(|look| look.known().is_none()).then_some(Caveat::TenantsUnknown(reason))
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
