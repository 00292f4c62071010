//! The figures of a row by name, in SI units: what CSV and JSON have in common.

use crate::load_test;
use serde_json::{Map, Value, json};
use warpmark_analyze::{
    Distribution, Limit, Resource, Rounds, RowAnalysis, RunAnalysis, SpeechRates,
};
use warpmark_record::{Bytes, DeviceMemory, Field, Outcome, Record, Samples, WeightsStamp};

/// Name and value of every figure of a row. Each row has all names, in the same order; what is unknown
/// is null. Units stand at the end of a name; shares and changes are fractions of 1.
pub(crate) fn of(run: &RunAnalysis<'_>, row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let mut fields = identity(run, row);
    fields.extend(times(row));
    fields.extend(speech(row));
    fields.extend(rounds(row));
    fields.push(("distributions", distributions(row)));
    fields
        .push(("load", json!(row.record.load_test.as_ref().map(|load| load_test::figures(load)))));
    fields.extend(limits(row));
    fields.extend(surroundings(row.record));
    let caveats: Vec<String> = row.caveats.iter().map(ToString::to_string).collect();
    fields.push(("caveats", json!(caveats)));
    let line = run.run;
    let uuid = line.and_then(|run| run.device.gpu.as_ref()?.uuid_hash.known());
    fields.push(("host", json!(line.and_then(|run| run.host.name.as_ref()))));
    fields.push(("card", json!(uuid)));
    fields.push(("tags", json!(line.map(|run| &run.tags))));
    fields
}

fn identity(run: &RunAnalysis<'_>, row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let record = row.record;
    let outcome = match record.outcome {
        Outcome::Measured => "measured",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Failed { .. } => "failed",
    };
    let parameters: Map<String, Value> = record
        .parameters
        .iter()
        .map(|(name, value)| {
            let value = match value {
                warpmark_record::Value::Integer(number) => json!(number),
                warpmark_record::Value::Text(text) => json!(text),
            };
            (name.clone(), value)
        })
        .collect();
    let device = run.run.map(|run| &run.device);
    vec![
        ("run", json!(run.id.0)),
        ("device", json!(device.map(|device| &device.name))),
        ("device_kind", json!(device.map(|device| device.kind.to_string()))),
        ("id", json!(record.id.to_string())),
        ("group", json!(record.id.group())),
        ("subject", json!(record.id.subject())),
        ("engine", json!(record.id.engine())),
        ("method", json!(record.method)),
        ("started_at", json!(record.started_at)),
        ("outcome", json!(outcome)),
        ("reason", json!(row.reason())),
        ("parameters", Value::Object(parameters)),
        ("weights", json!(record.weights.as_ref().map(weights))),
    ]
}

fn times(row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let rates = row.rates.as_ref();
    let work = &row.record.work;
    let number = |value: Option<f64>| json!(value);
    let interval = rates.and_then(|rates| rates.interval);
    let items = rates.and_then(|rates| rates.items);
    let stages: Map<String, Value> = rates
        .map(|rates| {
            rates.stages.iter().map(|(name, time)| (name.clone(), json!(time.0))).collect()
        })
        .unwrap_or_default();
    vec![
        ("samples", json!(rates.map(|rates| rates.samples))),
        ("time_s", number(rates.map(|rates| rates.time.0))),
        ("time_low_s", number(interval.map(|interval| interval.low))),
        ("time_high_s", number(interval.map(|interval| interval.high))),
        ("interval_confidence", number(interval.map(|interval| interval.confidence))),
        ("spread_mad_s", number(rates.map(|rates| rates.spread.0))),
        ("wall_s", number(rates.map(|rates| rates.wall.0))),
        ("phases_s", Value::Object(stages)),
        ("flop_per_s", number(rates.and_then(|rates| rates.flops).map(|rate| rate.0))),
        ("byte_per_s", number(rates.and_then(|rates| rates.bytes).map(|rate| rate.0))),
        ("item_per_s", number(items.map(|items| items.rate))),
        ("item", json!(work.items.map(|items| items.unit))),
        ("work_flop", number(work.flops.map(|flops| flops.0))),
        ("work_byte", number(work.bytes.map(|bytes| bytes.0))),
        ("work_item", number(work.items.map(|items| items.count))),
        ("host_share", number(rates.and_then(|rates| rates.host_share))),
        ("drift", number(rates.and_then(|rates| rates.drift))),
        ("outliers", json!(rates.map(|rates| rates.outliers))),
        ("settled", json!(row.record.samples.as_ref().map(|samples| samples.converged))),
        ("warm_up_s", number(row.record.samples.as_ref().map(|samples| samples.warm_up_s))),
    ]
}

fn speech(row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let speech = row.rates.as_ref().and_then(|rates| SpeechRates::of(row.record, rates));
    vec![
        ("real_time_factor", json!(speech.map(|speech| speech.real_time_factor))),
        ("token_per_s", json!(speech.and_then(|speech| speech.tokens_per_second))),
        (
            "joule_per_audio_minute",
            json!(speech.and_then(|speech| speech.per_minute).map(|joules| joules.0)),
        ),
    ]
}

/// Of generations in rounds: how many, and the mean over them of requests a second with its deviation.
fn rounds(row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let rounds = Rounds::of(row.record);
    vec![
        ("rounds", json!(rounds.map(|rounds| rounds.count))),
        ("request_per_s", json!(rounds.map(|rounds| rounds.requests_per_s.0))),
        ("request_per_s_deviation", json!(rounds.map(|rounds| rounds.requests_per_s.1))),
    ]
}

/// Each distribution by name: n, mean and the percentiles, null where there are too few times for one.
fn distributions(row: &RowAnalysis<'_>) -> Value {
    let figures = |distribution: &Distribution| {
        let mut figures = Map::new();
        figures.insert("n".to_owned(), json!(distribution.n));
        figures.insert("mean".to_owned(), json!(distribution.mean.0));
        figures.insert("deviation".to_owned(), json!(distribution.deviation.map(|time| time.0)));
        for (quantile, time) in &distribution.quantiles {
            let time = time.as_ref().ok().map(|time| time.0);
            figures.insert(format!("p{}", quantile * 100.0), json!(time));
        }
        (distribution.name.clone(), Value::Object(figures))
    };
    Value::Object(row.distributions.iter().map(figures).collect())
}

fn limits(row: &RowAnalysis<'_>) -> Vec<(&'static str, Value)> {
    let placement = row.placement.as_ref();
    let share = |limit, resource| {
        let mut shares = placement.into_iter().flat_map(|placement| &placement.shares);
        json!(shares.find(|s| s.limit == limit && s.resource == resource).map(|s| s.share))
    };
    vec![
        ("intensity_flop_per_byte", json!(placement.and_then(|placement| placement.intensity))),
        ("share_book_compute", share(Limit::Datasheet, Resource::Compute)),
        ("share_book_bandwidth", share(Limit::Datasheet, Resource::Bandwidth)),
        ("share_settled_compute", share(Limit::DatasheetAtClock, Resource::Compute)),
        ("share_settled_bandwidth", share(Limit::DatasheetAtClock, Resource::Bandwidth)),
        ("share_measured_compute", share(Limit::Measured, Resource::Compute)),
        ("share_measured_bandwidth", share(Limit::Measured, Resource::Bandwidth)),
        ("share_measured_transfer", share(Limit::Measured, Resource::Transfer)),
        ("bound", json!(placement.map(|placement| placement.bound.to_string()))),
    ]
}

fn surroundings(record: &Record) -> Vec<(&'static str, Value)> {
    let memory = record.memory.as_ref();
    let telemetry = record.telemetry.as_ref();
    let check = record.check.as_ref();
    let samples = record.samples.as_ref();
    let counts = memory.and_then(|memory| memory.device.as_ref());
    let count = |of: fn(&DeviceMemory) -> &Field<Bytes>| {
        json!(counts.and_then(|counts| of(counts).known()).map(|bytes| bytes.0))
    };
    vec![
        ("memory_method", json!(memory.map(|m| &m.method))),
        ("memory_peak_byte", json!(memory.and_then(|m| m.peak.known()).map(|bytes| bytes.0))),
        ("memory_weights_byte", json!(memory.and_then(|m| m.weights.known()).map(|bytes| bytes.0))),
        ("memory_loaded_byte", count(|counts| &counts.loaded)),
        ("memory_pool_reserved_byte", count(|counts| &counts.pool_reserved)),
        ("memory_graphs_byte", count(|counts| &counts.graphs)),
        ("memory_context_byte", count(|counts| &counts.context)),
        ("memory_libraries_byte", count(|counts| &counts.libraries)),
        ("memory_process_byte", count(|counts| &counts.process)),
        ("sm_clock_mean_hz", json!(telemetry.and_then(|t| t.sm_clock_mean.known()).map(|c| c.0))),
        ("sm_clock_min_hz", json!(telemetry.and_then(|t| t.sm_clock_min.known()).map(|c| c.0))),
        ("sample_clock_hz", json!(samples.and_then(Samples::sm_clock).map(|clock| clock.0))),
        ("slow_clock_samples", json!(samples.map(|samples| samples.slow_clock.len()))),
        (
            "memory_clock_mean_hz",
            json!(telemetry.and_then(|t| t.memory_clock_mean.known()).map(|c| c.0)),
        ),
        ("power_mean_w", json!(telemetry.and_then(|t| t.power_mean.known()).map(|p| p.0))),
        ("energy_j", json!(telemetry.and_then(|t| t.energy.known()).map(|e| e.0))),
        (
            "energy_by_power_j",
            json!(telemetry.and_then(|t| t.energy_by_power.known()).map(|e| e.0)),
        ),
        ("gpu_utilisation", json!(telemetry.and_then(|t| t.gpu_utilisation_mean.known()))),
        ("memory_utilisation", json!(telemetry.and_then(|t| t.memory_utilisation_mean.known()))),
        ("other_processes", json!(telemetry.and_then(|t| t.other_processes.known()))),
        ("throttle_causes", json!(telemetry.and_then(|t| t.throttle_causes.known()))),
        (
            "temperature_max_c",
            json!(telemetry.and_then(|t| t.temperature_max.known()).map(|t| t.0)),
        ),
        ("check", json!(check.map(|check| &check.what))),
        ("check_worst_error", json!(check.map(|check| check.worst_error))),
        ("check_tolerance", json!(check.map(|check| check.tolerance))),
    ]
}

fn weights(stamp: &WeightsStamp) -> String {
    match stamp {
        WeightsStamp::Synthetic { seed } => format!("synthetic, seed {seed}"),
        WeightsStamp::Hub { repo, revision } => format!("{repo} at {revision}"),
        WeightsStamp::Folder { name } => format!("folder {name}"),
    }
}
