//! The sensors while a workload runs, read by a thread of their own, off the timed path.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sensors::Sensors;
use warpmark_record::machine::GpuState;
use warpmark_record::{Celsius, Field, Hertz, Joules, Seconds, Telemetry, Watts};

/// How often sensors are read. NVML refreshes power about this often, and a reading takes the driver's
/// lock, so that more would disturb what is measured and tell nothing new.
pub const PERIOD: Duration = Duration::from_millis(100);

/// The shortest window for which an energy is stated. The counter advances in steps of 10 to 100 ms;
/// over a second, with ten steps in it, one step more or less is at most a tenth.
const SHORTEST_ENERGY_WINDOW: Seconds = Seconds(1.0);
const FEWEST_ENERGY_STEPS: usize = 10;

/// One look and when it was taken.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Since the sampler was started.
    pub at: Seconds,
    /// What the sensors told.
    pub state: GpuState,
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

    /// Stops reading and sums up; waits for a look that is under way. Without a [`Sampler::start`]
    /// before it, everything is absent.
    pub fn stop(&mut self) -> Telemetry {
        let lost = State::Lost("the sensors' thread panicked".to_owned());
        match std::mem::replace(&mut self.state, lost) {
            State::Running { stop, thread } => {
                // Closing the channel is the signal.
                drop(stop);
                match thread.join() {
                    Ok((sensors, readings)) => {
                        self.state = State::Idle(sensors);
                        summarise(&readings)
                    }
                    Err(_) => absent("the sensors' thread panicked"),
                }
            }
            State::Idle(sensors) => {
                self.state = State::Idle(sensors);
                absent("the sampler was not started")
            }
            State::Lost(reason) => {
                let telemetry = absent(&reason);
                self.state = State::Lost(reason);
                telemetry
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
            let state = sensors.read();
            readings.push(Reading { at: Seconds(began.elapsed().as_secs_f64()), state });
            match stopped.recv_timeout(period) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(never) => match never {},
            }
        }
        let state = sensors.read();
        readings.push(Reading { at: Seconds(began.elapsed().as_secs_f64()), state });
        (sensors, readings)
    })?;
    Ok(State::Running { stop, thread })
}

/// Telemetry that is absent in every field, for `reason`: what a CPU's row carries.
pub fn absent(reason: &str) -> Telemetry {
    Telemetry {
        readings: 0,
        sm_clock_mean: Field::absent(reason),
        sm_clock_min: Field::absent(reason),
        power_mean: Field::absent(reason),
        energy: Field::absent(reason),
        window: Field::absent(reason),
        temperature_max: Field::absent(reason),
        throttle_causes: Field::absent(reason),
    }
}

/// Sums readings up. A field that was absent in every reading stays absent, with the first reason.
pub fn summarise(readings: &[Reading]) -> Telemetry {
    let Some(first) = readings.first() else {
        return absent("the sensors were never read");
    };
    let clocks = known(readings, |state| state.sm_clock.known().map(|clock| clock.get()));
    let powers = known(readings, |state| state.power.known().map(|power| power.get()));
    let heat = known(readings, |state| state.temperature.known().map(|heat| heat.0));
    let (energy, window) = energy(readings);
    Telemetry {
        readings: readings.len() as u32,
        sm_clock_mean: present(mean(&clocks).map(Hertz), &first.state.sm_clock),
        sm_clock_min: present(
            clocks.iter().copied().reduce(f64::min).map(Hertz),
            &first.state.sm_clock,
        ),
        power_mean: present(mean(&powers).map(Watts), &first.state.power),
        energy,
        window,
        temperature_max: present(
            heat.iter().copied().reduce(f64::max).map(Celsius),
            &first.state.temperature,
        ),
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

/// Energy between the first and the last look at the counter, and the time between them.
fn energy(readings: &[Reading]) -> (Field<Joules>, Field<Seconds>) {
    let counter: Vec<(Seconds, Joules)> = readings
        .iter()
        .filter_map(|reading| reading.state.energy.known().map(|energy| (reading.at, *energy)))
        .collect();
    let (Some((began, start)), Some((ended, end))) = (counter.first(), counter.last()) else {
        let reason = readings
            .first()
            .and_then(|reading| reading.state.energy.reason())
            .unwrap_or("the energy counter was not read");
        return (Field::absent(reason), Field::absent(reason));
    };
    let window = *ended - *began;
    let steps = counter.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
    // Wherever it did: behind that it may have passed its first value again.
    let refusal = if counter.windows(2).any(|pair| pair[1].1 < pair[0].1) {
        Some("the energy counter ran backwards; the driver was reloaded".to_owned())
    } else if window < SHORTEST_ENERGY_WINDOW {
        Some(format!("the window of {window} is too short for the energy counter; it takes 1 s"))
    } else if steps < FEWEST_ENERGY_STEPS {
        Some(format!("the energy counter moved only {steps} times; it takes {FEWEST_ENERGY_STEPS}"))
    } else {
        None
    };
    match refusal {
        Some(reason) => (Field::absent(reason.clone()), Field::absent(reason)),
        None => (Field::Known(*end - *start), Field::Known(window)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensors::FakeSensors;

    fn state(clock: f64, power: f64, energy: f64) -> GpuState {
        GpuState {
            sm_clock: Field::Known(Hertz(clock)),
            power: Field::Known(Watts(power)),
            energy: Field::Known(Joules(energy)),
            temperature: Field::Known(Celsius(50.0 + energy)),
            throttle_causes: Field::Known(vec!["software power cap".to_owned()]),
            ..FakeSensors::silent()
        }
    }

    fn readings(count: usize, period: f64, watts: f64) -> Vec<Reading> {
        (0..count)
            .map(|i| {
                let at = i as f64 * period;
                Reading { at: Seconds(at), state: state(1e9 + i as f64, watts, watts * at) }
            })
            .collect()
    }

    #[test]
    fn a_long_window_has_its_energy_and_extremes() {
        let telemetry = summarise(&readings(21, 0.1, 70.0));
        assert_eq!(telemetry.readings, 21);
        assert!((telemetry.energy.known().unwrap().get() - 140.0).abs() < 1e-9);
        assert!((telemetry.window.known().unwrap().get() - 2.0).abs() < 1e-9);
        assert_eq!(telemetry.sm_clock_min.known(), Some(&Hertz(1e9)));
        assert_eq!(telemetry.sm_clock_mean.known(), Some(&Hertz(1e9 + 10.0)));
        assert_eq!(telemetry.temperature_max.known().map(|heat| heat.0), Some(190.0));
        assert_eq!(telemetry.throttle_causes.known().unwrap()["software power cap"], 21);
    }

    #[test]
    fn a_window_under_a_second_has_no_energy_and_says_why() {
        let telemetry = summarise(&readings(6, 0.1, 70.0));
        assert!(telemetry.energy.reason().unwrap().contains("too short"));
        assert!(telemetry.window.reason().is_some());
        assert_eq!(telemetry.power_mean.known(), Some(&Watts(70.0)));
    }

    #[test]
    fn a_counter_that_hardly_moves_has_no_energy() {
        let mut still = readings(21, 0.1, 70.0);
        for reading in &mut still {
            let stepped = if reading.at.get() < 1.05 { 0.0 } else { 70.0 };
            reading.state.energy = Field::Known(Joules(stepped));
        }
        assert!(summarise(&still).energy.reason().unwrap().contains("moved only 1 times"));
    }

    #[test]
    fn a_counter_that_runs_backwards_has_no_energy() {
        for at in [1, 10, 20] {
            let mut reset = readings(21, 0.1, 70.0);
            for reading in &mut reset[at..] {
                reading.state.energy =
                    Field::Known(Joules(70.0 * (reading.at.get() - 0.1 * at as f64) - 1.0));
            }
            assert!(summarise(&reset).energy.reason().unwrap().contains("backwards"), "{at}");
        }
    }

    #[test]
    fn sensors_that_tell_nothing_leave_their_reason() {
        let silent = Reading { at: Seconds(0.0), state: FakeSensors::silent() };
        let telemetry = summarise(&[silent.clone(), silent]);
        assert_eq!(telemetry.power_mean.reason(), Some("not set in this test"));
        assert_eq!(telemetry.throttle_causes.reason(), Some("not set in this test"));
        assert_eq!(telemetry.energy.reason(), Some("not set in this test"));
    }

    #[test]
    fn the_sampler_reads_at_both_ends_and_can_be_started_again() {
        let states = (0..4).map(|i| state(1e9, 10.0, f64::from(i))).collect();
        let mut sampler = Sampler::new(Box::new(FakeSensors::new(states)), Duration::from_mins(1));
        // A period that never passes: one look at the start, one at the stop.
        sampler.start();
        assert_eq!(sampler.stop().readings, 2);
        sampler.start();
        let second = sampler.stop();
        assert_eq!(second.readings, 2);
        // The fake went on where it was: states 2 and 3.
        assert_eq!(second.temperature_max.known().map(|heat| heat.0), Some(53.0));
    }

    #[test]
    fn between_the_ends_it_reads_once_a_period() {
        let sensors = FakeSensors::new(vec![state(1e9, 10.0, 1.0)]);
        let mut sampler = Sampler::new(Box::new(sensors), Duration::from_millis(1));
        sampler.start();
        thread::sleep(Duration::from_millis(60));
        assert!(sampler.stop().readings > 3);
    }

    #[test]
    fn a_sampler_that_was_not_started_says_so() {
        let sensors = FakeSensors::new(vec![FakeSensors::silent()]);
        let mut sampler = Sampler::new(Box::new(sensors), PERIOD);
        assert_eq!(sampler.stop().power_mean.reason(), Some("the sampler was not started"));
    }

    #[test]
    fn sensors_that_panic_cost_the_telemetry_and_nothing_else() {
        struct Bad;
        impl Sensors for Bad {
            fn read(&mut self) -> GpuState {
                panic!("a sensor that panics, on purpose")
            }
        }
        let mut sampler = Sampler::new(Box::new(Bad), PERIOD);
        sampler.start();
        assert_eq!(sampler.stop().power_mean.reason(), Some("the sensors' thread panicked"));
        sampler.start();
        assert_eq!(sampler.stop().readings, 0);
    }
}
