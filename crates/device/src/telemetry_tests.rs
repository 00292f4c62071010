use warpmark_record::Joules;

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
    assert_eq!(sampler.stop().telemetry.readings, 2);
    sampler.start();
    let second = sampler.stop().telemetry;
    assert_eq!(second.readings, 2);
    // The fake went on where it was: states 2 and 3.
    assert_eq!(second.temperature_max.known().map(|heat| heat.0), Some(53.0));
}

#[test]
fn between_the_ends_it_reads_once_a_period() {
    /// Tells whoever waits for it of each look.
    struct Told(mpsc::Sender<()>);
    impl Sensors for Told {
        fn read(&mut self) -> GpuState {
            // Nobody listens to the looks after the fourth.
            let _ = self.0.send(());
            FakeSensors::silent()
        }

        fn other_processes(&mut self) -> Field<u32> {
            Field::absent("never asked")
        }
    }
    let (tells, told) = mpsc::channel();
    let mut sampler = Sampler::new(Box::new(Told(tells)), Duration::from_millis(1));
    sampler.start();
    (0..4).for_each(|_| told.recv().unwrap());
    // Those four, and the one at the end.
    assert!(sampler.stop().telemetry.readings > 4);
}

#[test]
fn a_sampler_that_was_not_started_says_so() {
    let sensors = FakeSensors::new(vec![FakeSensors::silent()]);
    let mut sampler = Sampler::new(Box::new(sensors), PERIOD);
    assert_eq!(sampler.stop().telemetry.power_mean.reason(), Some("the sampler was not started"));
}

#[test]
fn sensors_that_panic_cost_the_telemetry_and_nothing_else() {
    struct Bad;
    impl Sensors for Bad {
        fn read(&mut self) -> GpuState {
            panic!("a sensor that panics, on purpose")
        }

        fn other_processes(&mut self) -> Field<u32> {
            Field::absent("never asked")
        }
    }
    let mut sampler = Sampler::new(Box::new(Bad), PERIOD);
    sampler.start();
    assert_eq!(sampler.stop().telemetry.power_mean.reason(), Some("the sensors' thread panicked"));
    sampler.start();
    assert_eq!(sampler.stop().telemetry.readings, 0);
}

#[test]
fn a_counter_that_jumps_has_no_energy_however_long_the_window() {
    let mut jumped = readings(201, 0.1, 70.0);
    for reading in &mut jumped[50..] {
        reading.state.energy = Field::Known(Joules(70.0 * reading.at.get() + 100.0));
    }
    let telemetry = summarise(&jumped);
    // 7 J of that are the step's own.
    let reason = telemetry.energy.reason().unwrap();
    assert!(reason.contains("jumped by 107.0 J in 100 ms, at 70.0 W at most"), "{reason}");
    assert!((telemetry.energy_by_power.known().unwrap().get() - 1400.0).abs() < 1e-6);
}

#[test]
fn a_counter_that_does_not_agree_with_the_power_readings_has_no_energy() {
    let mut slow = readings(21, 0.1, 70.0);
    for reading in &mut slow {
        reading.state.energy = Field::Known(Joules(35.0 * reading.at.get()));
    }
    let reason = summarise(&slow).energy.reason().unwrap().to_owned();
    assert!(reason.contains("says 70.0 J where the power readings add up to 140.0 J"), "{reason}");
}

#[test]
fn without_power_readings_the_counter_stands_alone() {
    let mut blind = readings(21, 0.1, 70.0);
    for reading in &mut blind {
        reading.state.power = Field::absent("not supported on this card");
    }
    let telemetry = summarise(&blind);
    assert!((telemetry.energy.known().unwrap().get() - 140.0).abs() < 1e-9);
    assert_eq!(telemetry.energy_by_power.reason(), Some("not supported on this card"));
}

#[test]
fn the_most_processes_seen_and_the_mean_utilisation_are_kept() {
    let mut looks = readings(4, 0.1, 70.0);
    for (look, (others, share)) in looks.iter_mut().zip([(0, 0.5), (2, 1.0), (1, 0.5), (0, 1.0)]) {
        look.state.other_processes = Field::Known(others);
        look.state.gpu_utilisation = Field::Known(share);
    }
    looks[3].state.other_processes = Field::absent("not counted in this look");
    let telemetry = summarise(&looks);
    assert_eq!(telemetry.other_processes, Field::Known(2));
    assert_eq!(telemetry.gpu_utilisation_mean, Field::Known(0.75));
    assert_eq!(telemetry.memory_utilisation_mean.reason(), Some("not set in this test"));
}

#[test]
fn the_causes_of_a_moment_are_those_of_its_looks_or_of_the_nearest() {
    let mut looks = readings(11, 0.1, 70.0);
    for look in &mut looks {
        let hot = look.at.get() > 0.45;
        let causes = if hot { vec!["hardware thermal slowdown".to_owned()] } else { vec![] };
        look.state.throttle_causes = Field::Known(causes);
    }
    let watched = Watched { telemetry: summarise(&looks), readings: looks };
    let hot = |from, to| watched.causes(Seconds(from), Seconds(to)).len() == 1;
    assert!(!hot(0.0, 0.4) && hot(0.0, 0.5) && hot(0.6, 0.9));
    // No look between them.
    assert!(!hot(0.41, 0.43) && hot(0.46, 0.49) && hot(5.0, 6.0));
}
