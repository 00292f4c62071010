//! What a reader must know before trusting a number, derived from what stands beside it.

mod caveat;

use warpmark_record::load::Arrivals;
use warpmark_record::{ClockKind, DeviceKind, Load, Outcome, Record, Run};

pub use caveat::Caveat;

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
/// How far the answers of an open loop may lie behind the questions.
pub const OVERLOADED: f64 = 0.05;
/// The share of the host's cores that may have been busy when the run began.
pub const BUSY_HOST: f64 = 0.25;

/// What holds for one row.
pub fn of_row(
    record: &Record,
    rates: Option<&Rates>,
    placement: Option<&Placement>,
) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    if record.outcome == Outcome::Measured {
        match rates {
            Some(rates) => of_times(rates, &mut caveats),
            None if record.load.is_none() => caveats.push(Caveat::Unresolved),
            None => {}
        }
        of_samples(record, &mut caveats);
        if let Some(load) = &record.load {
            of_load(load, &mut caveats);
        }
        of_telemetry(record, &mut caveats);
    }
    for share in placement.into_iter().flat_map(Placement::contradictions) {
        let what = match share.resource {
            Resource::Compute => "compute",
            Resource::Bandwidth => "bandwidth",
        };
        let text = format!("{:.0} % of the {} {what} limit", share.share * 100.0, share.limit);
        caveats.push(Caveat::AboveLimit(text));
    }
    caveats.extend(record.caveats.iter().cloned().map(Caveat::Recorded));
    caveats
}

fn of_load(load: &Load, caveats: &mut Vec<Caveat>) {
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
    if !samples.settled {
        caveats.push(Caveat::NotSettled);
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

fn of_telemetry(record: &Record, caveats: &mut Vec<Caveat>) {
    let Some(telemetry) = &record.telemetry else {
        return;
    };
    if let Some(causes) = telemetry.throttle_causes.known().filter(|causes| !causes.is_empty()) {
        let causes = causes.iter().map(|(cause, count)| (cause.clone(), *count)).collect();
        caveats.push(Caveat::Throttled { causes, readings: telemetry.readings });
    }
    let clocks = telemetry.sm_clock_min.known().zip(telemetry.sm_clock_mean.known());
    if let Some((least, mean)) = clocks
        && least.0 < (1.0 - CLOCK_DROP) * mean.0
    {
        caveats.push(Caveat::ClockChanged(least.ratio(*mean)));
    }
}

/// What holds for all rows of a run.
pub fn of_run(run: Option<&Run>) -> Vec<Caveat> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use warpmark_record::{Bytes, Field, Hertz, Telemetry};

    use super::*;
    use crate::analyze;
    use crate::fixture::{self, cpu_run, gpu_run, memory};

    fn caveats(run: Run, row: Record) -> (Vec<Caveat>, Vec<Caveat>) {
        let recording = fixture::recording(run, vec![row]);
        let mut runs = analyze(&recording);
        (runs[0].caveats.clone(), std::mem::take(&mut runs[0].rows[0].caveats))
    }

    #[test]
    fn a_clean_row_of_a_clean_run_has_no_caveat() {
        assert_eq!(caveats(cpu_run(), memory("triad", 1e9, 0.1)), (vec![], vec![]));
    }

    #[test]
    fn unsettled_drifting_unchecked_times_are_named() {
        let mut row = memory("triad", 1e9, 0.1);
        row.check = None;
        row.caveats = vec!["half of the cores".to_owned()];
        let samples = row.samples.as_mut().unwrap();
        samples.settled = false;
        samples.wall_s = (0..10).map(|i| 0.1 + 0.01 * f64::from(i)).collect();
        let (_, found) = caveats(cpu_run(), row);
        assert!(matches!(found[0], Caveat::Drift(by) if by > 0.5));
        assert!(matches!(found[1], Caveat::WideInterval(_)));
        let recorded = Caveat::Recorded("half of the cores".to_owned());
        assert_eq!(found[2..], [Caveat::NotSettled, Caveat::NotChecked, recorded]);
    }

    #[test]
    fn throttling_and_a_falling_clock_are_named_with_their_numbers() {
        let mut row = memory("triad", 1e9, 0.1);
        row.telemetry = Some(Telemetry {
            readings: 8,
            sm_clock_mean: Field::Known(Hertz(1.5e9)),
            sm_clock_min: Field::Known(Hertz(1.2e9)),
            power_mean: Field::absent("not asked"),
            energy: Field::absent("not asked"),
            window: Field::absent("not asked"),
            temperature_max: Field::absent("not asked"),
            throttle_causes: Field::Known(BTreeMap::from([("power cap".to_owned(), 5)])),
        });
        let (_, found) = caveats(gpu_run(), row);
        let words: Vec<String> = found.iter().map(Caveat::to_string).collect();
        let expected = [
            "the card held its clocks down: power cap (5/8)",
            "the SM clock fell to 80.0 % of its mean",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_device_clock_that_outruns_the_wall_and_a_share_above_one_are_contradictions() {
        let mut row = memory("triad", 1e9, 0.1);
        row.work.bytes = Some(Bytes(1e12));
        let samples = row.samples.as_mut().unwrap();
        samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * 1.5).collect());
        let (_, found) = caveats(gpu_run(), row);
        assert!(matches!(found[0], Caveat::ClocksDisagree(by) if (by - 0.5).abs() < 1e-9));
        assert!(found[1].to_string().starts_with("667 % of the book bandwidth limit"), "{found:?}");
    }

    #[test]
    fn a_busy_virtualised_debug_run_with_tenants_says_all_of_it() {
        let mut run = gpu_run();
        run.host.load_average = Field::Known(3.0);
        run.host.container = Field::Known("docker".to_owned());
        run.build.profile = "debug".to_owned();
        run.device.gpu.as_mut().unwrap().other_processes = Field::Known(2);
        let (found, _) = caveats(run, memory("triad", 1e9, 0.1));
        let expected = [
            Caveat::Unoptimised("debug".to_owned()),
            Caveat::OtherProcesses(2),
            Caveat::BusyHost { load: 3.0, cores: 4 },
            Caveat::Virtualised("docker".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_time_of_zero_and_a_missing_run_are_named() {
        let mut row = memory("triad", 1e9, 0.1);
        row.samples.as_mut().unwrap().wall_s.fill(0.0);
        let mut recording = fixture::recording(cpu_run(), vec![row]);
        recording.runs.clear();
        let runs = analyze(&recording);
        assert_eq!(runs[0].caveats, [Caveat::RunUnknown]);
        assert_eq!(runs[0].rows[0].caveats, [Caveat::Unresolved]);
    }
}
