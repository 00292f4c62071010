//! Whether a card is what it should be: a few rows of it against what is known, its settings and what its
//! sensors saw, and itself against the others of its kind on the machine.
//!
//! A figure is held against what is published for the card where that is valid ([`crate::reference`]), else
//! against a share of what the card's datasheet or its link allows. Settings and sensors are judged apart, a
//! sentence each ([`health`]).

pub mod health;

use serde::Serialize;
use warpmark_record::machine::PcieLink;
use warpmark_record::{BenchmarkId, Outcome, Record};

use crate::RunAnalysis;
use crate::reference::judge::SPREAD;
use crate::reference::{Column, DependsOn, Standing};
use health::{Remark, Weight};

/// The rows that a check measures, as a filter.
pub const ROWS: &str = "micro/matmul/f16.f32/8192x8192x8192,micro/memory/copy,micro/memory/triad,\
                        micro/transfer/h2d/pinned,micro/transfer/d2h/pinned,!sustained";

/// The share of its theoretical peak that a card's own library reaches at least with a large product:
/// published ones lie between 0.55 (at the power limit) and 0.9.
const PRODUCT: f64 = 0.5;

/// The share of what clock and bus allow that a sweep through memory reaches at least: published ones lie
/// between 0.75 and 0.95.
const SWEEP: f64 = 0.7;

/// The share of a link's rate that a copy of pinned memory reaches at least; protocol takes 10 to 20 %.
const COPY: f64 = 0.65;

/// How a card, or a machine, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    AsItShouldBe,
    /// Nothing is known to hold it against.
    Unknown,
    /// Nothing could be measured.
    NotMeasured,
    /// Slower than it should be, or than its neighbours.
    Slow,
    /// Something is wrong with it, whatever its speed.
    Unhealthy,
}

impl Verdict {
    /// 0 as it should be, 1 slow or unhealthy, 2 unknown, 70 not measured.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::AsItShouldBe => 0,
            Self::Slow | Self::Unhealthy => 1,
            Self::Unknown => 2,
            Self::NotMeasured => 70,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::AsItShouldBe => "as it should be",
            Self::Unknown => "unknown",
            Self::NotMeasured => "not measured",
            Self::Slow => "slow",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Band {
    /// At least this, in the figure's unit.
    pub low: f64,
    /// Who says so.
    pub from: String,
}

/// One row of a card.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Its benchmark.
    pub id: BenchmarkId,
    /// Its rate.
    pub value: f64,
    /// The upper end of the rate's interval: what is certainly slow lies below the band with it.
    #[serde(skip)]
    pub at_most: f64,
    /// `FLOP/s` or `B/s`.
    pub unit: &'static str,
    /// What it should be; `None` where nothing is known.
    pub band: Option<Band>,
    /// Its share of the best among the cards of the same name; `None` where there is no other.
    pub of_the_best: Option<f64>,
}

impl Figure {
    /// Whether it is certainly less than it should be.
    pub fn is_slow(&self) -> bool {
        self.band.as_ref().is_some_and(|band| self.at_most < band.low)
    }

    /// Whether it lags behind the best of its kind by more than cards of one name differ.
    pub fn lags(&self) -> bool {
        self.of_the_best.is_some_and(|share| share < 1.0 - SPREAD)
    }
}

/// One card.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// Its index, as `--device cuda:1` counts.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// Its rows.
    pub figures: Vec<Figure>,
    /// What else was found, a sentence each.
    pub remarks: Vec<Remark>,
}

/// All cards that were checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// The layout of this report.
    pub schema: u32,
    /// The worst of the cards.
    pub verdict: Verdict,
    /// The name of the machine, where it has one.
    pub host: Option<String>,
    /// When it was asked for, RFC 3339.
    pub checked_at: String,
    /// The version that checked.
    pub warpmark: String,
    /// Why no card could be looked at, where none could.
    pub error: Option<String>,
    /// The cards, in their order.
    pub cards: Vec<Checked>,
}

impl Checked {
    /// A card that was measured: `standing` is its run against what is published.
    pub fn of(run: &RunAnalysis<'_>, standing: &Standing) -> Self {
        let device = run.run.map(|run| &run.device);
        let records: Vec<&Record> = run.rows.iter().map(|row| row.record).collect();
        let mut remarks = device.map(health::of_settings).unwrap_or_default();
        remarks.extend(health::of_rows(&records));
        let figures = run.rows.iter().filter_map(|row| {
            let rates = row.rates.as_ref()?;
            let (value, unit) = rates
                .flops
                .map(|rate| (rate.0, "FLOP/s"))
                .or(rates.bytes.map(|rate| (rate.0, "B/s")))?;
            let at_most = rates.interval.map_or(value, |i| value * rates.time.0 / i.low);
            let id = row.record.id.clone();
            let band = published(standing, &id).or_else(|| allowed(run, row.record));
            Some(Figure { id, value, at_most, unit, band, of_the_best: None })
        });
        let mut card = Self {
            index: device.map_or(0, |device| device.index),
            name: device.map_or("unknown", |device| &device.name).to_owned(),
            verdict: Verdict::Unknown,
            figures: figures.collect(),
            remarks,
        };
        card.judge();
        card
    }

    /// A card that could not be measured at all.
    pub fn not_measured(index: u32, name: &str, reason: String) -> Self {
        let remark = Remark { weight: Weight::Unknown, about: "measuring", text: reason };
        let (verdict, name) = (Verdict::NotMeasured, name.to_owned());
        Self { index, name, verdict, figures: Vec::new(), remarks: vec![remark] }
    }

    fn judge(&mut self) {
        self.verdict = if self.remarks.iter().any(|remark| remark.weight == Weight::Fault) {
            Verdict::Unhealthy
        } else if self.figures.iter().any(|figure| figure.is_slow() || figure.lags()) {
            Verdict::Slow
        } else if self.figures.is_empty() {
            Verdict::NotMeasured
        } else if self.figures.iter().all(|figure| figure.band.is_none()) {
            Verdict::Unknown
        } else {
            Verdict::AsItShouldBe
        };
    }
}

impl Checkup {
    /// The cards together, each held against the best of its name as well.
    pub fn of(mut cards: Vec<Checked>) -> Self {
        let known: Vec<(String, BenchmarkId, f64)> = cards
            .iter()
            .flat_map(|card| {
                card.figures.iter().map(|f| (card.name.clone(), f.id.clone(), f.value))
            })
            .collect();
        for card in &mut cards {
            for figure in &mut card.figures {
                let alike =
                    || known.iter().filter(|(name, id, _)| *name == card.name && *id == figure.id);
                let best = alike().map(|(_, _, value)| *value).fold(0.0, f64::max);
                figure.of_the_best =
                    (alike().count() > 1 && best > 0.0).then(|| figure.value / best);
            }
            if card.verdict != Verdict::NotMeasured {
                card.judge();
            }
        }
        let verdict = cards.iter().map(|card| card.verdict).max().unwrap_or(Verdict::NotMeasured);
        Self {
            schema: 1,
            verdict,
            host: None,
            checked_at: String::new(),
            warpmark: String::new(),
            error: None,
            cards,
        }
    }
}

/// The band of valid figures that are published for the card.
fn published(standing: &Standing, id: &BenchmarkId) -> Option<Band> {
    let judged = standing.judged.iter().find(|judged| {
        judged.depends_on == DependsOn::Card && judged.ours.as_ref().is_some_and(|o| o.id == *id)
    })?;
    let scale = match judged.column {
        Column::Tflops => 1e12,
        Column::GbPerS => 1e9,
        _ => return None,
    };
    let valid = judged.published.iter().filter(|figure| figure.warnings.is_empty());
    let least = valid.min_by(|a, b| a.low.total_cmp(&b.low))?;
    let low = least.low * (1.0 - SPREAD) * scale;
    Some(Band { low, from: format!("the least that is published ({})", least.source) })
}

/// The share of what the card's datasheet, its memory or its link allow.
fn allowed(run: &RunAnalysis<'_>, record: &Record) -> Option<Band> {
    let device = &run.run?.device;
    let gpu = device.gpu.as_ref()?;
    let share = |share: f64, of: f64, what: &str| Band {
        low: share * of,
        from: format!("{:.0} % of {what}", share * 100.0),
    };
    match record.id.subject() {
        "matmul" => {
            let peak = gpu.datasheet.known()?.peaks.get(&crate::roofline::arithmetic(record)?)?;
            Some(share(PRODUCT, peak.value.0, "the datasheet's peak"))
        }
        "memory" => {
            let bandwidth = device.memory_bandwidth.known()?;
            Some(share(SWEEP, bandwidth.0, "what memory clock and bus allow"))
        }
        "transfer" => {
            let link = gpu.pcie_max.known()?;
            let what = format!("the rate of {link}");
            Some(share(COPY, rate_of(*link)?, &what))
        }
        _ => None,
    }
}

/// Bytes a second of a link, one way, after its line code; `None` of a generation that is not known.
fn rate_of(link: PcieLink) -> Option<f64> {
    let lane = match link.generation {
        1 => 0.25e9,
        2 => 0.5e9,
        3 => 0.985e9,
        4 => 1.969e9,
        5 => 3.938e9,
        6 => 7.563e9,
        _ => return None,
    };
    Some(lane * f64::from(link.width))
}

/// Whether a row was measured.
pub(crate) fn measured(record: &Record) -> bool {
    record.outcome == Outcome::Measured
}

#[cfg(test)]
#[path = "check/check_tests.rs"]
mod tests;
