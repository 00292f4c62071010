//! The newest figure of each benchmark on each card, in the forms of tools that follow figures over time.
//!
//! | Form | Read by | Format of |
//! |---|---|---|
//! | `OpenMetrics` | Prometheus, the node exporter's textfile folder | <https://prometheus.io/docs/specs/om/open_metrics_spec/> |
//! | `BenchmarkAction` | github-action-benchmark, `customSmallerIsBetter` | <https://github.com/benchmark-action/github-action-benchmark> |
//! | `Bencher` | Bencher's JSON adapter | <https://bencher.dev/docs/reference/bencher-metric-format/> |

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};
use warpmark_analyze::{Limit, Rates, RowAnalysis, RunAnalysis};
use warpmark_record::Outcome;

use crate::ReportError;

/// Whose form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Text of gauges, for a metrics collector.
    OpenMetrics,
    /// JSON of github-action-benchmark.
    BenchmarkAction,
    /// JSON of Bencher.
    Bencher,
}

/// What tells one series from another: two cards of one kind are two, two runs on one card are not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    device: String,
    card: String,
    benchmark: String,
}

impl Key {
    /// The name in forms that have no labels. The card is told only where there are several of the kind.
    fn name(&self, several: bool) -> String {
        let Self { device, card, benchmark } = self;
        if several && !card.is_empty() {
            format!("{device}/{card}/{benchmark}")
        } else {
            format!("{device}/{benchmark}")
        }
    }
}

/// The newest row of each series that was tried: what was skipped has no figure and is no fault.
type Newest<'a> = BTreeMap<Key, &'a RowAnalysis<'a>>;

pub(crate) fn of(runs: &[RunAnalysis<'_>], series: Series) -> Result<String, ReportError> {
    let newest = newest(runs);
    match series {
        Series::OpenMetrics => Ok(open_metrics(&newest)),
        Series::BenchmarkAction => Ok(pretty(&benchmark_action(&newest))?),
        Series::Bencher => Ok(pretty(&bencher(&newest))?),
    }
}

fn pretty(value: &Value) -> Result<String, ReportError> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn newest<'a>(runs: &'a [RunAnalysis<'_>]) -> Newest<'a> {
    let mut newest: Newest<'a> = BTreeMap::new();
    for run in runs {
        // Without its line nobody knows what it ran on.
        let Some(line) = run.run else { continue };
        let uuid = line.device.gpu.as_ref().and_then(|gpu| gpu.uuid_hash.known());
        for row in &run.rows {
            if matches!(row.record.outcome, Outcome::Skipped { .. }) {
                continue;
            }
            let key = Key {
                device: line.device.slug.clone(),
                card: uuid.cloned().unwrap_or_default(),
                benchmark: row.record.id.to_string(),
            };
            let known = newest.entry(key).or_insert(row);
            if row.record.started_at >= known.record.started_at {
                *known = row;
            }
        }
    }
    newest
}

/// A gauge: its name without the prefix, what it says, and its value of a row. Gauges alone: they mean the same to a
/// reader of `OpenMetrics` and to one of Prometheus' older text.
type Gauge = (&'static str, &'static str, fn(&RowAnalysis<'_>) -> Option<f64>);

const GAUGES: [Gauge; 7] = [
    ("failed", "1 where the newest try of the benchmark failed, else 0", |row| {
        Some(f64::from(u8::from(matches!(row.record.outcome, Outcome::Failed { .. }))))
    }),
    ("time_seconds", "Median time of one iteration", |row| Some(row.rates.as_ref()?.time.0)),
    ("flop_per_second", "Floating-point operations per second", |row| {
        Some(row.rates.as_ref()?.flops?.0)
    }),
    ("byte_per_second", "Least memory traffic per second", |row| {
        Some(row.rates.as_ref()?.bytes?.0)
    }),
    ("item_per_second", "Items per second: tokens, images, steps", |row| {
        Some(row.rates.as_ref()?.items?.rate)
    }),
    ("datasheet_share", "Largest share of what the datasheet states, 0 to 1", |row| {
        let shares = row.placement.as_ref()?.shares.iter();
        let shares =
            shares.filter(|share| share.limit == Limit::Datasheet).map(|share| share.share);
        shares.reduce(f64::max)
    }),
    ("power_watts", "Mean power while it was sampled", |row| {
        Some(row.record.telemetry.as_ref()?.power_mean.known()?.0)
    }),
];

fn open_metrics(newest: &Newest<'_>) -> String {
    let mut text = String::new();
    for (name, help, value) in GAUGES {
        let lines = newest.iter().filter_map(|(key, row)| {
            let value = value(row).filter(|value| value.is_finite())?;
            let Key { device, card, benchmark } = key;
            let labels = [("benchmark", benchmark), ("card", card), ("device", device)];
            let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", label(value)));
            Some(format!("warpmark_{name}{{{}}} {value:?}\n", labels.join(",")))
        });
        let lines: String = lines.collect();
        if !lines.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# TYPE warpmark_{name} gauge\n# HELP warpmark_{name} {help}\n{lines}"
            );
        }
    }
    text + "# EOF\n"
}

/// The value of a label, which ends at a quote and at the end of a line.
fn label(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Whether a device of this kind stands for several cards.
fn several(newest: &Newest<'_>, key: &Key) -> bool {
    newest.keys().any(|other| other.device == key.device && other.card != key.card)
}

/// The rows with times, by name.
fn measured<'a>(newest: &'a Newest<'a>) -> impl Iterator<Item = (String, &'a Rates)> {
    newest
        .iter()
        .filter_map(|(key, row)| Some((key.name(several(newest, key)), row.rates.as_ref()?)))
}

fn benchmark_action(newest: &Newest<'_>) -> Value {
    let entries = measured(newest).map(|(name, rates)| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(name));
        entry.insert("unit".to_owned(), json!("s"));
        entry.insert("value".to_owned(), json!(rates.time.0));
        if let Some(interval) = rates.interval {
            let half = (interval.high - interval.low) / 2.0 / rates.time.0;
            entry.insert("range".to_owned(), json!(crate::format::percent(half)));
        }
        Value::Object(entry)
    });
    Value::Array(entries.collect())
}

fn bencher(newest: &Newest<'_>) -> Value {
    // Bencher's measure `latency` is in nanoseconds, `throughput` in operations a second.
    let entries = measured(newest).map(|(name, rates)| {
        let mut latency = Map::from_iter([("value".to_owned(), json!(rates.time.0 * 1e9))]);
        if let Some(interval) = rates.interval {
            latency.insert("lower_value".to_owned(), json!(interval.low * 1e9));
            latency.insert("upper_value".to_owned(), json!(interval.high * 1e9));
        }
        let rate = rates.items.map(|items| items.rate);
        let rate = rate.or(rates.flops.map(|flops| flops.0)).or(rates.bytes.map(|bytes| bytes.0));
        let mut measures = json!({ "latency": latency });
        if let Some(rate) = rate {
            measures["throughput"] = json!({ "value": rate });
        }
        (name, measures)
    });
    Value::Object(entries.collect())
}
