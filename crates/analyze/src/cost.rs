//! What a row costs: dollars and joules for what it yields.
//!
//! A rented card is paid by the hour of the wall clock, waiting included, so money is counted with wall
//! time even where a row's rate is the device's. With `r` items a second of wall time and `p` dollars an
//! hour, an item costs `p / (3600 r)`.
//!
//! Energy is the card's own: its counter over the sampling window where the row has both, else the mean
//! power. With `w` watts and `r` items a second, an item takes `w / r` joules. Where neither is known the
//! reason is kept.

use std::collections::BTreeMap;

use warpmark_record::{
    BenchmarkId, ItemUnit, ItemsPerSecond, Joules, Record, Seconds, Value, Watts,
};

use crate::money::UsdPerHour;
use crate::prices::{PriceFilter, Prices};
use crate::{RowAnalysis, RunAnalysis};

/// The price of an hour, and whose word it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Tariff {
    /// Dollars an hour of one device.
    pub per_hour: UsdPerHour,
    /// Where the price is from, for a person.
    pub origin: String,
}

/// Where prices come from, the first that knows one: the user, then a list.
#[derive(Debug, Clone, Default)]
pub struct Tariffs {
    /// A price of the user's for every device.
    pub every: Option<UsdPerHour>,
    /// Prices of the user's by the card's name in the datasheets or the device's slug.
    pub own: BTreeMap<String, UsdPerHour>,
    /// The list.
    pub list: Prices,
    /// Which of its offers will do.
    pub wanted: PriceFilter,
}

impl Tariffs {
    /// What an hour of the run's device costs, or why that is not known.
    pub fn of(&self, run: &RunAnalysis<'_>) -> Result<Tariff, String> {
        let Some(device) = run.run.map(|run| &run.device) else {
            return Err("the line of the run is missing, so its device is unknown".to_owned());
        };
        let datasheet = device.gpu.as_ref().and_then(|gpu| gpu.datasheet.known());
        let card = datasheet.map(|datasheet| datasheet.name.as_str());
        let own = card.and_then(|card| self.own.get(card)).or(self.own.get(&device.slug));
        if let Some(per_hour) = own.or(self.every.as_ref()) {
            return Ok(Tariff { per_hour: *per_hour, origin: format!("{per_hour}, as given") });
        }
        let Some(card) = card else {
            return Err(format!(
                "no price is listed for {}: give one with --usd-per-hour",
                device.name
            ));
        };
        let Some(offer) = self.list.find(card, &self.wanted).into_iter().next() else {
            let which = match (&self.wanted.region, &self.wanted.terms) {
                (None, None) => String::new(),
                (region, terms) => {
                    let words: Vec<&str> = region.iter().chain(terms).map(String::as_str).collect();
                    format!(" ({})", words.join(", "))
                }
            };
            return Err(format!(
                "no price is listed for {card}{which}: give one with --usd-per-hour, or a list with \
                 --prices"
            ));
        };
        Ok(Tariff { per_hour: offer.per_card(), origin: offer.describe() })
    }
}

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Good {
    /// A million tokens read.
    MillionInputTokens,
    /// A million tokens written.
    MillionOutputTokens,
    /// A million tokens of a row that reads and writes.
    MillionTokens,
    /// An image.
    Image,
    /// A thousand denoising steps.
    ThousandSteps,
    /// An hour of audio.
    AudioHour,
    /// A thousand requests.
    ThousandRequests,
}

impl Good {
    /// What a row yields; `None` where nobody pays for it, as for an access to memory.
    pub fn of(record: &Record) -> Option<Self> {
        let phase = record.id.segments().get(2).map(String::as_str);
        Some(match (record.work.items?.unit, phase) {
            (ItemUnit::Token, Some("prefill")) => Self::MillionInputTokens,
            (ItemUnit::Token, Some("decode" | "generate")) => Self::MillionOutputTokens,
            (ItemUnit::Token, _) => Self::MillionTokens,
            (ItemUnit::Image, _) => Self::Image,
            (ItemUnit::Step, _) => Self::ThousandSteps,
            (ItemUnit::AudioSecond, _) => Self::AudioHour,
            (ItemUnit::Request, _) => Self::ThousandRequests,
            (ItemUnit::Call | ItemUnit::Load | ItemUnit::Access, _) => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MillionInputTokens => "1M input tokens",
            Self::MillionOutputTokens => "1M output tokens",
            Self::MillionTokens => "1M tokens",
            Self::Image => "image",
            Self::ThousandSteps => "1000 steps",
            Self::AudioHour => "audio hour",
            Self::ThousandRequests => "1000 requests",
        }
    }

    /// How many items it is.
    pub fn items(self) -> f64 {
        match self {
            Self::MillionInputTokens | Self::MillionOutputTokens | Self::MillionTokens => 1e6,
            Self::Image => 1.0,
            Self::ThousandSteps | Self::ThousandRequests => 1e3,
            Self::AudioHour => 3600.0,
        }
    }
}

/// What a row costs.
#[derive(Debug, Clone, PartialEq)]
pub struct RowCost {
    /// The row.
    pub id: BenchmarkId,
    /// What is paid for.
    pub good: Good,
    /// Items a second of wall time.
    pub rate: ItemsPerSecond,
    /// The wall time of an iteration.
    pub wall: Seconds,
    /// Sequences, images or clips of an iteration, where the row says so.
    pub batch: Option<u64>,
    /// Dollars for the good; `None` without a price.
    pub usd: Option<f64>,
    /// Items for a dollar; `None` without a price.
    pub items_per_usd: Option<f64>,
    /// Items a second for each dollar an hour; `None` without a price.
    pub rate_per_usd_hour: Option<f64>,
    /// The power drawn, or why it is not known.
    pub power: Result<Watts, String>,
}

impl RowCost {
    /// Joules for an item; `None` where power is not known.
    pub fn joules_per_item(&self) -> Option<f64> {
        self.power.as_ref().ok().map(|power| power.0 / self.rate.rate)
    }

    /// Items a second for each watt; `None` where power is not known.
    pub fn rate_per_watt(&self) -> Option<f64> {
        self.power.as_ref().ok().filter(|power| power.0 > 0.0).map(|p| self.rate.rate / p.0)
    }
}

/// What the rows of a run cost.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCost {
    /// The price, or why there is none.
    pub tariff: Result<Tariff, String>,
    /// The rows that yield something, in the order in which they were recorded.
    pub rows: Vec<RowCost>,
}

impl RunCost {
    /// What the rows of a run cost.
    pub fn of(run: &RunAnalysis<'_>, tariffs: &Tariffs) -> Self {
        let tariff = tariffs.of(run);
        let hour = tariff.as_ref().ok().map(|tariff| tariff.per_hour);
        let rows = run.rows.iter().filter_map(|row| row_cost(row, hour));
        Self { rows: rows.collect(), tariff }
    }

    /// The cheapest row of each model and good, by the model's name.
    pub fn cheapest(&self) -> BTreeMap<(&str, Good), &RowCost> {
        let mut cheapest: BTreeMap<(&str, Good), &RowCost> = BTreeMap::new();
        for row in &self.rows {
            let best = cheapest.entry((row.id.subject(), row.good)).or_insert(row);
            if row.rate.rate > best.rate.rate {
                *best = row;
            }
        }
        cheapest
    }
}

/// What a row costs at a price; `None` where it yields nothing that is paid for.
pub fn row_cost(row: &RowAnalysis<'_>, per_hour: Option<UsdPerHour>) -> Option<RowCost> {
    let record = row.record;
    let rates = row.rates.as_ref()?;
    let good = Good::of(record)?;
    let rate = record.work.items? / rates.wall;
    if !(rate.rate.is_finite() && rate.rate > 0.0) {
        return None;
    }
    let hour = per_hour.map(UsdPerHour::get);
    let batch = match record.parameters.get("batch") {
        Some(Value::Integer(batch)) => Some(*batch),
        _ => None,
    };
    Some(RowCost {
        id: record.id.clone(),
        good,
        rate,
        wall: rates.wall,
        batch,
        usd: hour.map(|hour| hour * good.items() / (rate.rate * 3600.0)),
        items_per_usd: hour.map(|hour| rate.rate * 3600.0 / hour),
        rate_per_usd_hour: hour.map(|hour| rate.rate / hour),
        power: power(record),
    })
}

/// Joules for an item at that rate of items; `None` where power is not known.
pub fn joules_per_item(record: &Record, rate: ItemsPerSecond) -> Option<Joules> {
    power(record).ok().map(|power| Joules(power.0 / rate.rate))
}

fn power(record: &Record) -> Result<Watts, String> {
    let Some(telemetry) = &record.telemetry else {
        return Err("the row has no sensors".to_owned());
    };
    let counted = telemetry.energy.known().zip(telemetry.window.known());
    if let Some((energy, window)) =
        counted.filter(|(energy, window)| energy.0 > 0.0 && window.0 > 0.0)
    {
        return Ok(*energy / *window);
    }
    match (telemetry.power_mean.known(), telemetry.power_mean.reason()) {
        (Some(power), _) => Ok(*power),
        (None, reason) => Err(reason.unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
