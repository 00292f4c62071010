//! What cannot be, in published tables: a row against itself, against the other rows of its table, and
//! against the datasheet of its card. All of it is computed from the figures; nobody writes a warning
//! by hand.

use super::{Cards, Column, PublishedTables, Row, Table, cards::Card};
use crate::location::Location;
use crate::prices::{PriceFilter, Prices};

/// How far a figure may lie from one that follows from others of its row, as a share: figures are printed
/// in two or three digits.
const ROUNDING: f64 = 0.02;
/// The same where the source calls its figures approximate.
const APPROXIMATE: f64 = 0.1;
/// Half a unit of the second decimal, the last that tables print.
const LAST_DECIMAL: f64 = 0.005;

/// What a figure contradicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Another figure of its own table.
    Itself,
    /// What the card can do or hold by its datasheet.
    Limit,
}

/// A contradiction in a published row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The table's id.
    pub table: String,
    /// The row's line.
    pub location: Location,
    /// What the row contradicts.
    pub kind: Kind,
    /// In which way, with the figures.
    pub text: String,
}

/// Everything that a rule may look at.
struct Case<'a> {
    table: &'a Table,
    row: &'a Row,
    cards: &'a Cards,
    prices: &'a Prices,
}

type Rule = fn(&Case<'_>) -> Option<String>;

const ITSELF: [Rule; 7] = [
    percentile_below_mean,
    percentiles_in_order,
    requests_of_one_user,
    price_of_tokens,
    tokens_of_users,
    real_time,
    slower_than_a_lesser_card,
];

const LIMIT: [Rule; 5] =
    [memory_of_cards, one_sequence, theoretical_peak, datasheet_bandwidth, datasheet_of_card];

/// Every contradiction, in the order of tables and rows.
pub fn of(reference: &PublishedTables, cards: &Cards, prices: &Prices) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for table in &reference.tables {
        for row in &table.rows {
            let case = Case { table, row, cards, prices };
            let rules = ITSELF.iter().map(|rule| (Kind::Itself, rule));
            for (kind, rule) in rules.chain(LIMIT.iter().map(|rule| (Kind::Limit, rule))) {
                warnings.extend(rule(&case).map(|text| Warning {
                    table: table.id.clone(),
                    location: row.location.clone(),
                    kind,
                    text,
                }));
            }
        }
    }
    warnings
}

impl<'a> Case<'a> {
    fn number(&self, column: Column) -> Option<f64> {
        self.table.number(self.row, column)
    }

    /// The first column of several that the row has, in base units.
    fn scaled(&self, columns: &[(Column, f64)]) -> Option<f64> {
        columns.iter().find_map(|(column, scale)| Some(self.number(*column)? * scale))
    }

    fn mean_s(&self) -> Option<f64> {
        self.scaled(&[(Column::LatencyMeanS, 1.0), (Column::LatencyMeanMs, 1e-3)])
    }

    fn p95_s(&self) -> Option<f64> {
        self.scaled(&[(Column::LatencyP95S, 1.0), (Column::LatencyP95Ms, 1e-3)])
    }

    /// The cards that the row may be of.
    fn known(&self) -> Vec<&'a Card> {
        self.table.cards(self.row).into_iter().filter_map(|name| self.cards.get(name)).collect()
    }

    /// A property of the card; the largest where the source leaves the variant open.
    fn largest(&self, property: impl Fn(&Card) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.known().into_iter().map(property).collect();
        values?.into_iter().max_by(f64::total_cmp)
    }

    /// How many cards worked together, where the row says so.
    fn count(&self) -> f64 {
        self.number(Column::Cards).unwrap_or(1.0)
    }

    fn agree(&self, stated: f64, follows: f64) -> bool {
        let share = if self.table.approximate { APPROXIMATE } else { ROUNDING };
        (stated - follows).abs() <= (share * follows).max(LAST_DECIMAL)
    }
}

fn percentile_below_mean(case: &Case<'_>) -> Option<String> {
    let (mean, p95) = (case.mean_s()?, case.p95_s()?);
    (p95 < mean).then(|| format!("the 95th percentile, {p95:.2} s, is below the mean, {mean:.2} s"))
}

fn percentiles_in_order(case: &Case<'_>) -> Option<String> {
    let (p95, p99) = (case.p95_s()?, case.number(Column::LatencyP99Ms)? * 1e-3);
    (p99 < p95).then(|| format!("the 99th percentile, {p99:.3} s, is below the 95th, {p95:.3} s"))
}

fn requests_of_one_user(case: &Case<'_>) -> Option<String> {
    let one = case.number(Column::Concurrency).is_some_and(|users| users <= 1.0);
    let (mean, stated) = (case.mean_s()?, case.number(Column::RequestsPerS)?);
    let follows = 1.0 / mean;
    (one && !case.agree(stated, follows)).then(|| {
        format!("{stated} requests/s do not follow from {mean:.3} s a request: {follows:.2} do")
    })
}

fn price_of_tokens(case: &Case<'_>) -> Option<String> {
    let rate = case.number(Column::TokensPerS)?;
    let stated = case.number(Column::UsdPerMillionTokens)?;
    let listed = || {
        let key = case.table.prices.as_deref()?;
        let card = *case.table.cards(case.row).first()?;
        let offers = case.prices.find(card, &PriceFilter::default());
        let offer = offers.into_iter().find(|offer| offer.source_key == key)?;
        Some(offer.per_card().get())
    };
    let one = case.number(Column::UsdPerHour).or_else(listed)?;
    let count = case.count();
    let of = |hour: f64| hour * 1e6 / (rate * 3600.0);
    let follows = of(one * count);
    if case.agree(stated, follows) {
        return None;
    }
    let cards = if count > 1.0 { format!("{count} cards at ") } else { String::new() };
    let alone = if count > 1.0 && case.agree(stated, of(one)) {
        ", and the price of one card was taken"
    } else {
        ""
    };
    Some(format!(
        "${stated} for 1M tokens do not follow from {rate} tok/s and {cards}${one:.2} an hour: \
         ${follows:.2} do{alone}"
    ))
}

fn tokens_of_users(case: &Case<'_>) -> Option<String> {
    let users = case.number(Column::Users)?;
    let (gap, stated) = (case.number(Column::InterTokenMs)?, case.number(Column::TokensPerS)?);
    let most = users * 1e3 / gap;
    (stated > most * (1.0 + ROUNDING)).then(|| {
        format!(
            "{users} users with {gap} ms between their tokens take {most:.0} tok/s at most, not \
             {stated}"
        )
    })
}

fn real_time(case: &Case<'_>) -> Option<String> {
    let factor = case.number(Column::RealTimeFactor)?;
    let minute = case.number(Column::SPerAudioMinute).map(|stated| (stated, 60.0 * factor, "s"));
    let speed = || {
        let stated = case.number(Column::TimesRealTime)?;
        Some((stated, 1.0 / factor, "times real time"))
    };
    let (stated, follows, unit) = minute.or_else(speed)?;
    // Both are rounded to two digits.
    ((stated - follows).abs() > 0.05 * follows).then(|| {
        format!(
            "{stated} {unit} do not follow from a real-time factor of {factor}: {follows:.2} do"
        )
    })
}

/// A card that is ahead in every datasheet figure and behind in the table was waiting for something else.
fn slower_than_a_lesser_card(case: &Case<'_>) -> Option<String> {
    let table = case.table;
    let mine = case.mean_s()?;
    let same = |other: &Row| {
        [Column::Concurrency, Column::Model, Column::Batch].iter().all(|column| {
            table.number(case.row, *column) == table.number(other, *column)
                && table.text(case.row, *column) == table.text(other, *column)
        })
    };
    let mut beaten: Option<(f64, String)> = None;
    for row in table.rows.iter().filter(|row| **row != *case.row && same(row)) {
        let other = Case { row, ..*case };
        let theirs = other.mean_s()?;
        let surpassed =
            mine > theirs * (1.0 + ROUNDING) && surpasses(&case.known(), &other.known());
        if surpassed && beaten.as_ref().is_none_or(|(least, _)| theirs < *least) {
            beaten = Some((theirs, table.cards(row).join(" or ")));
        }
    }
    let (theirs, name) = beaten?;
    Some(format!(
        "{mine:.2} s is slower than the {theirs:.2} s of {name}, which this card surpasses in every \
         datasheet figure: not the card was measured, but what feeds it"
    ))
}

/// Whether each of some cards has at least every peak and the bandwidth of each of the others, and more of
/// one of them.
fn surpasses(cards: &[&Card], others: &[&Card]) -> bool {
    let figures = |card: &Card| {
        let peaks = ["f16/f32", "f32/f32"].map(|arithmetic| card.peak(arithmetic));
        let [half, single] = peaks;
        Some([half?, single?, card.bandwidth()?])
    };
    let above = |card: &Card, other: &Card| {
        let (Some(ours), Some(theirs)) = (figures(card), figures(other)) else { return false };
        let mut pairs = ours.iter().zip(&theirs);
        pairs.clone().any(|(a, b)| a > b) && pairs.all(|(a, b)| a >= b)
    };
    !cards.is_empty()
        && !others.is_empty()
        && cards.iter().all(|card| others.iter().all(|other| above(card, other)))
}

fn memory_of_cards(case: &Case<'_>) -> Option<String> {
    let used = case.number(Column::MemoryGb)?;
    let each = case.largest(Card::memory)? / 1e9;
    let count = case.count();
    (used > count * each).then(|| {
        let least = (used / each).ceil();
        format!("{used} GB do not fit in {count} x {each:.0} GB: {least} cards are needed")
    })
}

/// One sequence reads every weight for every token, so its rate cannot be above bandwidth over weights.
fn one_sequence(case: &Case<'_>) -> Option<String> {
    let rate = case.number(Column::TokensPerS)?;
    let weights = case.number(Column::ParametersBillion)? * case.number(Column::WeightBytes)?;
    let bandwidth = case.largest(Card::bandwidth)? / 1e9;
    let ceiling = case.count() * bandwidth / weights;
    let batch = case.number(Column::Batch);
    let most = ceiling * batch.unwrap_or(1.0);
    (rate > most * (1.0 + ROUNDING)).then(|| {
        let reason = match batch {
            Some(batch) => format!("so a batch of {batch} cannot have been all"),
            None => format!(
                "so at least {:.0} sequences ran together, and the table names no batch",
                (rate / ceiling).ceil()
            ),
        };
        format!(
            "{rate} tok/s is above the {ceiling:.1} that one sequence can have ({bandwidth:.0} GB/s \
             over {weights:.1} GB of weights on each of {:.0}), {reason}",
            case.count()
        )
    })
}

fn theoretical_peak(case: &Case<'_>) -> Option<String> {
    let arithmetic = case.table.text(case.row, Column::Arithmetic)?;
    let peak = case.largest(|card| card.peak(arithmetic))? / 1e12;
    let reached = [Column::Tflops, Column::TflopsHigh].into_iter().find_map(|c| case.number(c))?;
    (reached > peak).then(|| {
        format!(
            "{reached} TFLOP/s is {:.0} % of the datasheet's {peak} for {arithmetic}: the card ran above \
             its datasheet clock, or the datasheet is wrong",
            100.0 * reached / peak
        )
    })
}

fn datasheet_bandwidth(case: &Case<'_>) -> Option<String> {
    let reached = case.number(Column::GbPerS)?;
    let peak = case.largest(Card::bandwidth)? / 1e9;
    (reached > peak).then(|| {
        format!("{reached} GB/s is {:.0} % of the datasheet's {peak}", 100.0 * reached / peak)
    })
}

/// What a table says that a card is, against what the datasheet says.
fn datasheet_of_card(case: &Case<'_>) -> Option<String> {
    let figures: [(Column, &str, f64, Option<f64>); 3] = [
        (Column::CudaCores, "CUDA cores", 0.03, case.largest(Card::lanes)),
        (Column::VramGb, "GB", 0.1, nearest_memory(case).map(|bytes| bytes / 1e9)),
        (
            Column::TdpW,
            "W",
            0.03,
            case.largest(|c| c.datasheet.tdp.as_ref().map(|tdp| tdp.value.0)),
        ),
    ];
    let mut off = Vec::new();
    for (column, unit, tolerance, datasheet) in figures {
        let (Some(stated), Some(datasheet)) = (case.number(column), datasheet) else { continue };
        if (stated - datasheet).abs() > tolerance * datasheet {
            off.push(format!("{stated} {unit}, by the datasheet {datasheet:.0}"));
        }
    }
    (!off.is_empty()).then(|| off.join("; "))
}

/// Of the memories that the card is sold with, the one that the row can mean.
fn nearest_memory(case: &Case<'_>) -> Option<f64> {
    let stated = case.number(Column::VramGb)? * 1e9;
    let cards = case.known();
    let memories = cards.iter().flat_map(|card| &card.memories).map(|bytes| bytes.0);
    memories.min_by(|a, b| (a - stated).abs().total_cmp(&(b - stated).abs()))
}
