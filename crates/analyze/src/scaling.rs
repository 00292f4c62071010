//! Several cards of one machine: what each does alone, and what they do at once.
//!
//! Each card is given the same work, so that a model is served by as many replicas as there are cards: their
//! throughput together over as many times that of one alone is the efficiency. What they share (links, power,
//! cooling, the host's cores) shows as less than 1.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, Record, Run, RunId};

use crate::rates::{MainRate, Rates};

/// The setting of a run that tells with how many cards at once it was measured.
pub const AT_ONCE: &str = "cards_at_once";

/// How many cards worked on the same benchmarks at the same time.
pub fn at_once(run: &Run) -> usize {
    run.settings.get(AT_ONCE).and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// So many cards at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What they did together, of the row's main rate.
    pub rate: f64,
    /// That over what the same cards do alone, one after the other.
    pub efficiency: f64,
    /// The card that lost most, and its rate over the one it has alone.
    pub worst: (u32, f64),
}

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub id: BenchmarkId,
    /// What one card does alone, the middle one; `None` where the row has no rate.
    pub alone: Option<MainRate>,
    /// By cards at once, in the order of [`Scaling::steps`].
    pub steps: Vec<Option<Step>>,
}

/// A machine's cards, alone and at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scaling {
    /// The machine.
    pub host: String,
    /// The names of its cards.
    pub device: String,
    /// How many cards at once, rising.
    pub steps: Vec<usize>,
    /// The benchmarks that were measured alone and at once.
    pub rows: Vec<Row>,
}

/// By cards at once (1 for alone) and card, the newest row of each benchmark.
type Measured<'a> = BTreeMap<usize, BTreeMap<u32, HashMap<&'a BenchmarkId, &'a Record>>>;

/// The machines of a recording on which cards were measured alone and at once.
pub fn of(recording: &Recording) -> Vec<Scaling> {
    let runs = recording.runs_by_id();
    let mut machines: BTreeMap<String, (BTreeSet<&str>, Measured<'_>)> = BTreeMap::new();
    for row in &recording.rows {
        let Some(run) = runs.get(&row.run).filter(|run| run.device.gpu.is_some()) else { continue };
        let machine = machines.entry(run.host.name.clone().unwrap_or_default()).or_default();
        machine.0.insert(run.device.name.as_str());
        let of_card = machine.1.entry(at_once(run)).or_default();
        let rows = of_card.entry(run.device.index).or_default();
        let newer = rows.get(&row.id).is_none_or(|other| other.started_at <= row.started_at);
        if newer && Rates::of(row).is_some() {
            rows.insert(&row.id, row);
        }
    }
    let scalings = machines.into_iter().map(|(host, (devices, measured))| {
        let device = devices.into_iter().collect::<Vec<_>>().join(" and ");
        let steps: Vec<usize> = measured.keys().copied().filter(|count| *count > 1).collect();
        let rows = rows(&measured, &steps);
        Scaling { host, device, steps, rows }
    });
    scalings.filter(|scaling| !scaling.rows.is_empty()).collect()
}

fn rows(measured: &Measured<'_>, steps: &[usize]) -> Vec<Row> {
    let Some(alone) = measured.get(&1) else { return Vec::new() };
    let ids: BTreeSet<&BenchmarkId> =
        alone.values().flat_map(|rows| rows.keys().copied()).collect();
    let row = |id: &BenchmarkId| {
        let steps: Vec<Option<Step>> =
            steps.iter().map(|count| step(alone, measured.get(count)?, *count, id)).collect();
        let mut rates: Vec<MainRate> =
            alone.values().filter_map(|rows| rate(rows.get(id)?)).collect();
        rates.sort_by(|a, b| a.get().total_cmp(&b.get()));
        let middle = rates.get(rates.len() / 2).copied();
        steps.iter().any(Option::is_some).then(|| Row { id: id.clone(), alone: middle, steps })
    };
    ids.into_iter().filter_map(row).collect()
}

/// The rate of a row, as what its user waits for.
fn rate(row: &Record) -> Option<MainRate> {
    Rates::of(row)?.main(row)
}

fn step(
    alone: &BTreeMap<u32, HashMap<&BenchmarkId, &Record>>,
    together: &BTreeMap<u32, HashMap<&BenchmarkId, &Record>>,
    count: usize,
    id: &BenchmarkId,
) -> Option<Step> {
    let time = |row: &Record| Rates::of(row).map(|rates| rates.time.0);
    let mut shares = Vec::new();
    let mut rate_together = 0.0;
    let (mut sum_together, mut sum_alone) = (0.0, 0.0);
    for (card, rows) in together {
        let (row, own) = (rows.get(id)?, alone.get(card)?.get(id)?);
        let (with_others, by_itself) = (1.0 / time(row)?, 1.0 / time(own)?);
        sum_together += with_others;
        sum_alone += by_itself;
        rate_together += rate(row).map_or(with_others, MainRate::get);
        shares.push((*card, with_others / by_itself));
    }
    let worst = shares.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
    // A card that failed leaves a sum of fewer.
    (shares.len() == count).then_some(Step {
        rate: rate_together,
        efficiency: sum_together / sum_alone,
        worst,
    })
}

/// The rate from one card to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// Bytes a second.
    pub rate: f64,
    /// What lies between the two, in the words of `nvidia-smi topo`.
    pub link: String,
    /// `direct`, or through the host.
    pub path: String,
}

/// Copies between all cards of a machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// The machine.
    pub host: String,
    /// The cards that were copied from or to, by index.
    pub cards: Vec<u32>,
    /// By the card that is copied from, and to.
    pub copies: BTreeMap<(u32, u32), Copy>,
}

/// The matrices of the machines of a recording: the newest and largest copy of each pair.
pub fn matrices(recording: &Recording) -> Vec<Matrix> {
    use warpmark_record::Value;
    let runs: HashMap<&RunId, &Run> = recording.runs_by_id();
    let mut matrices: BTreeMap<String, Matrix> = BTreeMap::new();
    let mut sizes: HashMap<(String, u32, u32), u64> = HashMap::new();
    for row in &recording.rows {
        let Some(run) = runs.get(&row.run).filter(|run| at_once(run) == 1) else { continue };
        let text = |name: &str| match row.parameters.get(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let number = |name: &str| match row.parameters.get(name) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        };
        let Some(to) = number("to_index").and_then(|index| u32::try_from(index).ok()) else {
            continue;
        };
        let Some(rate) = Rates::of(row).and_then(|rates| rates.bytes) else { continue };
        let (host, from) = (run.host.name.clone().unwrap_or_default(), run.device.index);
        let size = number("size_bytes").unwrap_or(0);
        let largest = sizes.entry((host.clone(), from, to)).or_default();
        if size < *largest {
            continue;
        }
        *largest = size;
        let matrix = matrices.entry(host.clone()).or_default();
        matrix.host = host;
        let copy = Copy {
            rate: rate.0,
            link: text("link").unwrap_or_default(),
            path: text("path").unwrap_or_default(),
        };
        matrix.copies.insert((from, to), copy);
    }
    for matrix in matrices.values_mut() {
        let cards: BTreeSet<u32> =
            matrix.copies.keys().flat_map(|(from, to)| [*from, *to]).collect();
        matrix.cards = cards.into_iter().collect();
    }
    matrices.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// A run of a card with one row of `seconds`.
    fn run(card: u32, cards: usize, seconds: f64) -> Recording {
        let mut run = fixture::gpu_run();
        run.run = RunId(format!("run-{card}-{cards}"));
        (run.device.index, run.host.name) = (card, Some("machine".to_owned()));
        run.settings.insert(AT_ONCE.to_owned(), cards.to_string());
        let mut row = fixture::decode("f16", seconds);
        row.run = run.run.clone();
        fixture::recording(run, vec![row])
    }

    fn together(runs: impl IntoIterator<Item = Recording>) -> Recording {
        let mut all = Recording::default();
        for run in runs {
            all.runs.extend(run.runs);
            all.rows.extend(run.rows);
        }
        all
    }

    #[test]
    fn efficiency_is_what_cards_do_together_over_what_they_do_alone() {
        // Two cards that are as fast together, four of which one takes twice as long.
        let alone = (0..4).map(|card| run(card, 1, 0.01));
        let two = (0..2).map(|card| run(card, 2, 0.01));
        let four = (0..4).map(|card| run(card, 4, if card == 3 { 0.02 } else { 0.01 }));
        let found = of(&together(alone.chain(two).chain(four)));
        let [machine] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((machine.host.as_str(), &machine.steps), ("machine", &vec![2, 4]));
        let [two, four] = machine.rows[0].steps.as_slice() else { panic!("{machine:?}") };
        let (two, four) = (two.as_ref().unwrap(), four.as_ref().unwrap());
        assert!((two.efficiency - 1.0).abs() < 1e-3 && (two.rate - 200.0).abs() < 0.5, "{two:?}");
        assert!((four.efficiency - 3.5 / 4.0).abs() < 1e-3, "{four:?}");
        assert_eq!(four.worst.0, 3);
        assert!((four.worst.1 - 0.5).abs() < 1e-3);
    }

    #[test]
    fn a_card_that_is_missing_leaves_no_sum_of_the_others() {
        let alone = (0..2).map(|card| run(card, 1, 0.01));
        assert_eq!(of(&together(alone.chain([run(0, 2, 0.01)]))), []);
        assert_eq!(of(&together([run(0, 1, 0.01)])), []);
    }

    #[test]
    fn a_matrix_has_the_largest_copy_of_each_pair() {
        let copy = |from: u32, to: u64, size: u64, seconds: f64| {
            let mut found = run(from, 1, seconds);
            let row = &mut found.rows[0];
            row.work.bytes = Some(warpmark_record::Bytes(1e9));
            row.id = format!("micro/transfer/d2d/cuda{to}/{size}@driver").parse().unwrap();
            for (name, value) in [("to_index", to), ("size_bytes", size)] {
                row.parameters.insert(name.to_owned(), value.into());
            }
            row.parameters.insert("link".to_owned(), "NV12".into());
            found
        };
        let all = [copy(0, 1, 1, 1.0), copy(0, 1, 64, 0.1), copy(1, 0, 64, 0.05)];
        let found = matrices(&together(all));
        assert_eq!(found[0].cards, [0, 1]);
        assert!((found[0].copies[&(0, 1)].rate / 1e10 - 1.0).abs() < 1e-3);
        assert!((found[0].copies[&(1, 0)].rate / 2e10 - 1.0).abs() < 1e-3);
        assert_eq!(found[0].copies[&(1, 0)].link, "NV12");
    }
}
