//! The sensors while a workload runs, read by a thread of their own, off the timed path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sensors::Sensors;
use warpmark_record::machine::GpuState;
use warpmark_record::{Celsius, Field, Hertz, Seconds, Telemetry, Watts};

mod energy;

/// How often sensors are read. NVML refreshes power about this often, and a reading takes the driver's
/// lock, so that more would disturb what is measured and tell nothing new.
pub const PERIOD: Duration = Duration::from_millis(100);

/// The card's processes are listed at every so many looks, and at the first and the last: the list costs
/// more than all other sensors together.
const PROCESSES_EVERY: usize = 10;

/// One look and when it was taken.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Since the sampler was started.
    pub at: Seconds,
    /// What the sensors told.
    pub state: GpuState,
}

/// What a sampler saw between a start and a stop.
#[derive(Debug, Clone)]
pub struct Watched {
    /// All looks, in order.
    pub readings: Vec<Reading>,
    /// The same, summed up.
    pub telemetry: Telemetry,
}

impl Watched {
    fn nothing(reason: &str) -> Self {
        Self { readings: Vec::new(), telemetry: Telemetry::absent(reason) }
    }

    /// What held the clocks down between two moments since the start: the causes of the looks from
    /// `from` to `to`, or of the look nearest to the middle where none fell between them.
    pub fn causes(&self, from: Seconds, to: Seconds) -> BTreeSet<&str> {
        let inside = self.readings.iter().filter(|look| from <= look.at && look.at <= to);
        let mut looks: Vec<&Reading> = inside.collect();
        if looks.is_empty() {
            let middle = (from + to) * 0.5;
            let off = |look: &&Reading| (look.at - middle).get().abs();
            looks.extend(self.readings.iter().min_by(|a, b| off(a).total_cmp(&off(b))));
        }
        let causes = looks.into_iter().filter_map(|look| look.state.throttle_causes.known());
        causes.flatten().map(String::as_str).collect()
    }
}

/// Reads sensors in the background between [`Sampler::start`] and [`Sampler::stop`], as often as those
/// are called.
pub struct Sampler {
    period: Duration,
    state: State,
}

/// Nothing is ever sent: the sampler's channel speaks by closing.
enum Never {}

enum State {
    Idle(Box<dyn Sensors>),
    Running {
        stop: mpsc::Sender<Never>,
        thread: JoinHandle<(Box<dyn Sensors>, Vec<Reading>)>,
    },
    /// The thread was lost; the reason.
    Lost(String),
}

impl Sampler {
    /// A sampler that is not running yet.
    pub fn new(sensors: Box<dyn Sensors>, period: Duration) -> Self {
        Self { period, state: State::Idle(sensors) }
    }

    /// Starts reading; does nothing when already running.
    pub fn start(&mut self) {
        let lost = State::Lost("the sampler's thread could not be started".to_owned());
        self.state = match std::mem::replace(&mut self.state, lost) {
            State::Idle(sensors) => match spawn(sensors, self.period) {
                Ok(running) => running,
                Err(error) => State::Lost(format!("no thread for the sampler: {error}")),
            },
            other => other,
        };
    }

    /// Stops reading; waits for a look that is under way. Without a [`Sampler::start`] before it,
    /// everything is absent.
    pub fn stop(&mut self) -> Watched {
        let lost = State::Lost("the sensors' thread panicked".to_owned());
        match std::mem::replace(&mut self.state, lost) {
            State::Running { stop, thread } => {
                // Closing the channel is the signal.
                drop(stop);
                match thread.join() {
                    Ok((sensors, readings)) => {
                        self.state = State::Idle(sensors);
                        Watched { telemetry: summarise(&readings), readings }
                    }
                    Err(_) => Watched::nothing("the sensors' thread panicked"),
                }
            }
            State::Idle(sensors) => {
                self.state = State::Idle(sensors);
                Watched::nothing("the sampler was not started")
            }
            State::Lost(reason) => {
                let nothing = Watched::nothing(&reason);
                self.state = State::Lost(reason);
                nothing
            }
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if matches!(self.state, State::Running { .. }) {
            self.stop();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "says when a sensor was read; times no workload")]
fn spawn(mut sensors: Box<dyn Sensors>, period: Duration) -> std::io::Result<State> {
    let (stop, stopped) = mpsc::channel::<Never>();
    let thread = thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
        let began = Instant::now();
        let mut readings = Vec::new();
        loop {
            // The moment after the look: a counter read then has at least this age.
            let mut state = sensors.read();
            if readings.len().is_multiple_of(PROCESSES_EVERY) {
                state.other_processes = sensors.other_processes();
            }
            readings.push(Reading { at: Seconds(began.elapsed().as_secs_f64()), state });
            match stopped.recv_timeout(period) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(never) => match never {},
            }
        }
        let mut state = sensors.read();
        state.other_processes = sensors.other_processes();
        readings.push(Reading { at: Seconds(began.elapsed().as_secs_f64()), state });
        (sensors, readings)
    })?;
    Ok(State::Running { stop, thread })
}

/// Sums readings up. A field that was absent in every reading stays absent, with the first reason.
pub fn summarise(readings: &[Reading]) -> Telemetry {
    let Some(first) = readings.first() else {
        return Telemetry::absent("the sensors were never read");
    };
    let clocks = known(readings, |state| state.sm_clock.known().map(|clock| clock.get()));
    let powers = known(readings, |state| state.power.known().map(|power| power.get()));
    let heat = known(readings, |state| state.temperature.known().map(|heat| heat.0));
    let shares = |pick: fn(&GpuState) -> &Field<f64>| {
        present(mean(&known(readings, |state| pick(state).known().copied())), pick(&first.state))
    };
    let memory_clocks = known(readings, |state| state.memory_clock.known().map(|c| c.get()));
    let tenants = readings.iter().filter_map(|look| look.state.other_processes.known().copied());
    let energy = energy::of(readings);
    Telemetry {
        readings: readings.len() as u32,
        sm_clock_mean: present(mean(&clocks).map(Hertz), &first.state.sm_clock),
        sm_clock_min: present(
            clocks.iter().copied().reduce(f64::min).map(Hertz),
            &first.state.sm_clock,
        ),
        memory_clock_mean: present(mean(&memory_clocks).map(Hertz), &first.state.memory_clock),
        power_mean: present(mean(&powers).map(Watts), &first.state.power),
        energy: energy.counter,
        energy_by_power: energy.by_power,
        window: energy.window,
        temperature_max: present(
            heat.iter().copied().reduce(f64::max).map(Celsius),
            &first.state.temperature,
        ),
        gpu_utilisation_mean: shares(|state| &state.gpu_utilisation),
        memory_utilisation_mean: shares(|state| &state.memory_utilisation),
        other_processes: present(tenants.max(), &first.state.other_processes),
        warnings: energy.warning.into_iter().collect(),
        throttle_causes: causes(readings, &first.state.throttle_causes),
    }
}

fn known(readings: &[Reading], pick: impl Fn(&GpuState) -> Option<f64>) -> Vec<f64> {
    readings.iter().filter_map(|reading| pick(&reading.state)).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The value, or the reason why the sensor gave none.
fn present<T, U>(value: Option<T>, sensor: &Field<U>) -> Field<T> {
    value.map_or_else(
        || Field::absent(sensor.reason().unwrap_or("the sensor gave no value")),
        Field::Known,
    )
}

fn causes(readings: &[Reading], sensor: &Field<Vec<String>>) -> Field<BTreeMap<String, u32>> {
    let mut seen = None;
    for causes in readings.iter().filter_map(|reading| reading.state.throttle_causes.known()) {
        let counts: &mut BTreeMap<String, u32> = seen.get_or_insert_default();
        for cause in causes {
            *counts.entry(cause.clone()).or_default() += 1;
        }
    }
    present(seen, sensor)
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
