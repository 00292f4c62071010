//! How a run stands to what is known of its card.
//!
//! Our side is the best rate of the rows that a table's `benchmark` selects, since published figures are
//! the best of their sizes too. The published side is a band from the least to the most of all valid
//! figures for the same benchmark and quantity, widened downwards by [`SPREAD`]. The interval of our
//! rate is held against the lower end:
//!
//! - all of it above: **as it should be**, however far above,
//! - all of it below: **slow**,
//! - on both sides: **ambiguous**,
//! - no valid figure, or no row of ours: **unknown**, with the reason.
//!
//! A figure that its own row or the card's datasheet contradicts judges nothing.

use std::fmt;

use warpmark_record::stats::Interval;
use warpmark_record::{BenchmarkId, ItemUnit};

use super::{Column, DependsOn, PublishedTables, Row, Table, Warning};
use crate::RunAnalysis;
use crate::location::Location;

/// How much cards of one name differ: stas00/ml-engineering saw 5 % and more among the GPUs of one node.
pub const SPREAD: f64 = 0.05;

/// How a row or a run stands to what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What is known of the card, or better.
    AsItShouldBe,
    /// Less than what is known of the card.
    Slow,
    /// The samples do not decide it.
    Ambiguous,
    /// Nothing valid is known, or nothing was measured.
    Unknown,
}

impl Verdict {
    /// The exit code of `compare --reference`: 0, 1, 2, 3 in the order of the variants.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AsItShouldBe => "as it should be",
            Self::Slow => "slow",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
        })
    }
}

/// A published figure for the run's card.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The table's id.
    pub table: String,
    /// Who says so.
    pub source: String,
    /// Where it stands.
    pub location: Location,
    /// The least that was published, in the column's unit.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// What contradicts it.
    pub warnings: Vec<String>,
}

/// A figure of ours, in the published column's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Ours {
    /// The row.
    pub id: BenchmarkId,
    /// The figure.
    pub value: f64,
    /// Its interval; `None` where the row has too few samples for one.
    pub interval: Option<Interval>,
}

/// One quantity of one benchmark, ours against what is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The benchmark, as the tables select it.
    pub benchmark: String,
    /// The quantity, with its unit.
    pub column: Column,
    /// What decides it.
    pub depends_on: DependsOn,
    /// What was published.
    pub published: Vec<Published>,
    /// What we measured.
    pub ours: Option<Ours>,
    /// What follows.
    pub verdict: Verdict,
    /// Why nothing follows, where nothing does.
    pub reason: Option<String>,
}

/// A run against what is known of its card.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The card's name in the datasheets, or why there is none.
    pub card: Result<String, String>,
    /// Benchmark by benchmark; those that may judge the card first.
    pub judged: Vec<Judged>,
}

impl Standing {
    /// The verdict on the card: slow where any benchmark is, else ambiguous where any is, else as it
    /// should be where any is known.
    pub fn overall(&self) -> Verdict {
        let any = |verdict| {
            let mut judging = self.judged.iter().filter(|j| j.depends_on == DependsOn::Card);
            judging.any(|judged| judged.verdict == verdict)
        };
        [Verdict::Slow, Verdict::Ambiguous, Verdict::AsItShouldBe]
            .into_iter()
            .find(|verdict| any(*verdict))
            .unwrap_or(Verdict::Unknown)
    }
}

/// The columns that say how fast a card is, with the end of the range that they give.
const FIGURES: [(Column, Column); 6] = [
    (Column::Tflops, Column::Tflops),
    (Column::TflopsLow, Column::TflopsHigh),
    (Column::GbPerS, Column::GbPerS),
    (Column::LatencyNs, Column::LatencyNs),
    (Column::TokensPerS, Column::TokensPerS),
    (Column::LatencyMeanMs, Column::LatencyMeanMs),
];

/// Whether less of a quantity is better.
fn less_is_better(column: Column) -> bool {
    matches!(column, Column::LatencyNs | Column::LatencyMeanMs)
}

/// Holds a run against what is published of its card.
pub fn judge(run: &RunAnalysis<'_>, reference: &PublishedTables, warnings: &[Warning]) -> Standing {
    let card = card_of(run);
    let mut judged: Vec<Judged> = Vec::new();
    for table in &reference.tables {
        let Some((benchmark, _)) = &table.benchmark else { continue };
        for row in &table.rows {
            let ours = card.as_ref().is_ok_and(|card| table.cards(row).contains(&card.as_str()));
            let figure = if ours { figure(table, row) } else { None };
            let Some((column, low, high)) = figure else { continue };
            let published = published(table, row, (low, high), warnings);
            let same = |known: &&mut Judged| {
                (&known.benchmark, known.column, known.depends_on)
                    == (benchmark, column, table.depends_on)
            };
            match judged.iter_mut().find(same) {
                Some(known) => known.published.push(published),
                None => judged.push(Judged {
                    benchmark: benchmark.clone(),
                    column,
                    depends_on: table.depends_on,
                    published: vec![published],
                    ours: ours_of(run, table, column),
                    verdict: Verdict::Unknown,
                    reason: None,
                }),
            }
        }
    }
    for one in &mut judged {
        (one.verdict, one.reason) = verdict(one);
    }
    judged.sort_by_key(|one| one.depends_on != DependsOn::Card);
    Standing { card, judged }
}

fn card_of(run: &RunAnalysis<'_>) -> Result<String, String> {
    let Some(line) = run.run else {
        return Err("the line of the run is missing, so its device is unknown".to_owned());
    };
    let Some(gpu) = &line.device.gpu else {
        return Err(format!("{} is no card: nothing is published for it here", line.device.name));
    };
    match (gpu.datasheet.known(), gpu.datasheet.reason()) {
        (Some(datasheet), _) => Ok(datasheet.name.clone()),
        (None, reason) => Err(reason.unwrap_or_default().to_owned()),
    }
}

/// Ranges count as the plain column.
fn figure(table: &Table, row: &Row) -> Option<(Column, f64, f64)> {
    FIGURES.into_iter().find_map(|(low, high)| {
        let column = if low == Column::TflopsLow { Column::Tflops } else { low };
        Some((column, table.number(row, low)?, table.number(row, high)?))
    })
}

fn published(table: &Table, row: &Row, (low, high): (f64, f64), warnings: &[Warning]) -> Published {
    let warnings = warnings.iter().filter(|d| d.table == table.id && d.location == row.location);
    Published {
        table: table.id.clone(),
        source: table.source.clone(),
        location: row.location.clone(),
        low,
        high,
        warnings: warnings.map(|warning| warning.text.clone()).collect(),
    }
}

/// Our best row for a quantity; for a latency of memory, the longest, which the caches serve least.
fn ours_of(run: &RunAnalysis<'_>, table: &Table, column: Column) -> Option<Ours> {
    let (_, filter) = table.benchmark.as_ref()?;
    let rows = run.rows.iter().filter(|row| filter.selects(&row.record.id));
    let figures = rows.filter_map(|row| {
        let rates = row.rates.as_ref()?;
        let work = &row.record.work;
        let items = |unit| work.items.filter(|items| items.unit == unit).map(|items| items.count);
        // The figure of a time of `t` seconds is `amount / t` for a rate and `amount * t` for a time.
        let amount = match column {
            Column::Tflops => work.flops?.0 / 1e12,
            Column::GbPerS => work.bytes?.0 / 1e9,
            Column::TokensPerS => items(ItemUnit::Token)?,
            Column::LatencyNs => 1e9 / items(ItemUnit::Access)?,
            Column::LatencyMeanMs => 1e3,
            _ => return None,
        };
        let inverse = less_is_better(column);
        let of = |time: f64| if inverse { amount * time } else { amount / time };
        let interval = rates.interval.map(|interval| {
            let ends = (of(interval.low), of(interval.high));
            Interval {
                low: ends.0.min(ends.1),
                high: ends.0.max(ends.1),
                confidence: interval.confidence,
            }
        });
        Some(Ours { id: row.record.id.clone(), value: of(rates.time.0), interval })
    });
    let by_value = |a: &Ours, b: &Ours| a.value.total_cmp(&b.value);
    if column == Column::LatencyMeanMs {
        figures.min_by(by_value)
    } else {
        figures.max_by(by_value)
    }
}

fn verdict(judged: &Judged) -> (Verdict, Option<String>) {
    let unknown = |reason: &str| (Verdict::Unknown, Some(reason.to_owned()));
    let Some(ours) = &judged.ours else {
        return unknown("the run has no measured row for it");
    };
    if judged.depends_on != DependsOn::Card {
        return unknown("another program made the figure, so it judges no card");
    }
    let valid = || judged.published.iter().filter(|figure| figure.warnings.is_empty());
    if valid().next().is_none() {
        return unknown("every published figure is contradicted");
    }
    let Some(interval) = ours.interval else {
        return unknown("too few samples for an interval");
    };
    let (low, high, edge) = if less_is_better(judged.column) {
        let most = valid().map(|figure| figure.high).fold(0.0, f64::max);
        // Mirrored, so that one comparison serves both.
        (-interval.high, -interval.low, -most * (1.0 + SPREAD))
    } else {
        let least = valid().map(|figure| figure.low).fold(f64::INFINITY, f64::min);
        (interval.low, interval.high, least * (1.0 - SPREAD))
    };
    let verdict = if low >= edge {
        Verdict::AsItShouldBe
    } else if high < edge {
        Verdict::Slow
    } else {
        Verdict::Ambiguous
    };
    (verdict, None)
}
