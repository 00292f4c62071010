//! Energy by the card's counter, and whether it can be believed.
//!
//! The counter is held against the integral of the power readings. The two never agree to the last
//! digit: power is looked at ten times a second, and the counter itself advances in steps. What is far
//! off is no energy of this workload, whichever of the two is wrong, and is not stated.

use warpmark_record::{Field, Joules, Seconds, Watts};

use super::Reading;

/// The shortest window for which an energy is stated. The counter advances in steps of 10 to 100 ms;
/// over a second, with ten steps in it, one step more or less is at most a tenth.
const SHORTEST_WINDOW: Seconds = Seconds(1.0);
const FEWEST_STEPS: usize = 10;

/// The longest time that a step of the counter may make up for, beside that between two looks.
const LAG: Seconds = Seconds(0.1);

/// A step of more than so many times what the highest power gives in its time is no energy. Power
/// between two looks may be above both; it is limited to little more than the highest one seen.
const JUMP: f64 = 3.0;

/// How far counter and integral may lie apart, as a share of the integral.
const DISAGREEMENT: f64 = 0.25;

/// An energy by both ways, and the time it belongs to.
pub(super) struct Energy {
    pub(super) counter: Field<Joules>,
    pub(super) by_power: Field<Joules>,
    pub(super) window: Field<Seconds>,
    /// Why the counter is not believed, where it is at fault.
    pub(super) warning: Option<String>,
}

/// The energy between the first and the last look at the counter.
pub(super) fn of(readings: &[Reading]) -> Energy {
    let counter: Vec<(Seconds, Joules)> = readings
        .iter()
        .filter_map(|look| look.state.energy.known().map(|energy| (look.at, *energy)))
        .collect();
    let (Some((began, start)), Some((ended, end))) = (counter.first(), counter.last()) else {
        let reason = readings.first().and_then(|look| look.state.energy.reason());
        let (first, last) = (readings.first(), readings.last());
        let (from, to) =
            first.zip(last).map_or((Seconds(0.0), Seconds(0.0)), |(a, b)| (a.at, b.at));
        return Energy {
            counter: Field::absent(reason.unwrap_or("the energy counter was not read")),
            by_power: integral(readings, from, to),
            window: Field::absent(reason.unwrap_or("the energy counter was not read")),
            warning: None,
        };
    };
    let (energy, window) = (*end - *start, *ended - *began);
    let by_power = integral(readings, *began, *ended);
    // Wherever it did: after that it may have passed its first value again.
    let back = counter.windows(2).any(|pair| pair[1].1 < pair[0].1);
    let warning =
        back.then(|| "the energy counter ran backwards; was the driver reloaded?".to_owned());
    let brief = || too_brief(&counter, window);
    let warning = warning.or_else(|| match brief() {
        Some(_) => None,
        None => jump(&counter, readings).or_else(|| disagreement(energy, &by_power)),
    });
    let refusal = warning.clone().or_else(brief);
    let known = |reason: &Option<String>| reason.clone().map_or(Ok(()), Err);
    Energy {
        counter: known(&refusal).map(|()| energy).into(),
        window: known(&refusal).map(|()| window).into(),
        by_power,
        warning,
    }
}

/// Why the window tells no energy that the counter's steps would not blur, if so.
fn too_brief(counter: &[(Seconds, Joules)], window: Seconds) -> Option<String> {
    if window < SHORTEST_WINDOW {
        return Some(format!(
            "the window of {window} is too short for the energy counter; it takes 1 s"
        ));
    }
    let steps = counter.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
    (steps < FEWEST_STEPS)
        .then(|| format!("the energy counter moved only {steps} times; it takes {FEWEST_STEPS}"))
}

fn disagreement(energy: Joules, by_power: &Field<Joules>) -> Option<String> {
    let integral = by_power.known()?;
    let apart = (energy - *integral).get().abs();
    (apart > DISAGREEMENT * integral.get()).then(|| {
        format!(
            "the energy counter says {:.1} J where the power readings add up to {:.1} J",
            energy.get(),
            integral.get()
        )
    })
}

/// The first step of the counter that no power seen accounts for.
fn jump(counter: &[(Seconds, Joules)], readings: &[Reading]) -> Option<String> {
    let powers = readings.iter().filter_map(|look| look.state.power.known().copied());
    let highest = powers.reduce(Watts::max).filter(|power| power.get() > 0.0)?;
    counter.windows(2).find_map(|pair| {
        let (time, step) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        let most = JUMP * highest.get() * (time + LAG).get();
        (step.get() > most).then(|| {
            format!(
                "the energy counter jumped by {:.1} J in {time}, at {:.1} W at most",
                step.get(),
                highest.get()
            )
        })
    })
}

/// The power readings between two moments, each pair of neighbours joined by a straight line.
fn integral(readings: &[Reading], from: Seconds, to: Seconds) -> Field<Joules> {
    let powers: Vec<(Seconds, Watts)> = readings
        .iter()
        .filter(|look| from <= look.at && look.at <= to)
        .filter_map(|look| look.state.power.known().map(|power| (look.at, *power)))
        .collect();
    if powers.len() < 2 {
        let reason = readings.iter().find_map(|look| look.state.power.reason());
        return Field::absent(reason.unwrap_or("power was read fewer than two times"));
    }
    let parts = powers.windows(2).map(|pair| {
        let mean = f64::midpoint(pair[0].1.get(), pair[1].1.get());
        mean * (pair[1].0 - pair[0].0).get()
    });
    Field::Known(Joules(parts.sum()))
}
