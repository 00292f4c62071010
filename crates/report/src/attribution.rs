//! Engines side by side: what device and host each took of the same step, as tables of text and as JSON.

use serde_json::{Value, json};
use warpmark_analyze::{Attribution, Bound, EngineStep, RunAnalysis};
use warpmark_record::Seconds;

use crate::decision::{Grid, Note};
use crate::format::percent;

/// What the columns mean. It stands once, below the last table.
pub(crate) const EXPLANATION: &str = "\
     Times are medians of a step. The device's clock counts its waits between two kernels; host is the part of \
     the wall time in which that clock stood still. Bound by the host: either that is more than a quarter, or the \
     device was done as soon as the last launch was queued. Kernels are counted in captured graphs; warpmark launches about those of \
     graph one by one. Of reading: the bytes that the step needs at least, \
     against the rate at which this run read the device's memory.";

/// Steps of one model and type, of which the first stands for all: the smallest batch.
fn subject(step: &str) -> String {
    step.split('/').take(4).collect::<Vec<_>>().join("/")
}

/// A table for each model and type: its first step, since others differ in the batch or the context alone.
pub(crate) fn grids(run: &RunAnalysis<'_>) -> Vec<Grid> {
    let mut found = Attribution::of(run);
    let all = found.len();
    let mut seen = Vec::new();
    found.retain(|step| {
        let subject = subject(&step.step);
        let first = !seen.contains(&subject);
        seen.push(subject);
        first
    });
    let left = all - found.len();
    let mut grids: Vec<Grid> = found.iter().map(grid).collect();
    if let Some(last) = grids.last_mut() {
        if left > 0 {
            let text = format!("further batches and contexts, on the HTML page: {left}");
            last.notes.push(Note::plain("", text));
        }
        last.notes.push(Note::plain("", EXPLANATION));
    }
    grids
}

fn grid(step: &Attribution<'_>) -> Grid {
    let title = format!("{}, engine by engine", step.step);
    let mut grid = Grid::new(title, &COLUMNS);
    grid.rows = step.engines.iter().map(|engine| cells(engine).into()).collect();
    grid
}

/// Titles; `>` heads a column of numbers.
pub(crate) const COLUMNS: [&str; 8] =
    ["engine", ">device", ">wall", ">host", ">kernels", ">rate", ">of reading", "bound"];

/// A line of the table.
pub(crate) fn cells(engine: &EngineStep<'_>) -> [String; 8] {
    fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
        value.map_or_else(|| "-".to_owned(), show)
    }
    [
        engine.engine.to_owned(),
        or_dash(engine.device, |time: Seconds| time.to_string()),
        engine.wall.to_string(),
        or_dash(engine.host_share, percent),
        or_dash(engine.kernels, |count| launched(count, engine.launches)),
        or_dash(engine.rate, |rate| rate.to_string()),
        or_dash(engine.of_reading, percent),
        or_dash(engine.bound, |bound: Bound| bound.to_string()),
    ]
}

/// How many kernels, and in how many launches where those are fewer.
fn launched(kernels: u64, launches: Option<u64>) -> String {
    match launches {
        Some(launches) if launches < kernels => format!("{kernels} in {launches}"),
        _ => kernels.to_string(),
    }
}

/// All of it for programs, in SI units.
pub(crate) fn json(run: &RunAnalysis<'_>) -> Value {
    let engine = |engine: &EngineStep<'_>| {
        json!({
            "engine": engine.engine,
            "device_s": engine.device.map(|time| time.0),
            "wall_s": engine.wall.0,
            "host_share": engine.host_share,
            "paced_by_host": engine.paced_by_host,
            "kernels": engine.kernels,
            "launches": engine.launches,
            "rate_per_s": engine.rate.map(warpmark_analyze::MainRate::get),
            "share_measured_reading": engine.of_reading,
            "bound": engine.bound.map(|bound| bound.to_string()),
        })
    };
    let steps = Attribution::of(run);
    let steps = steps.iter().map(|step| {
        json!({"step": step.step, "engines": step.engines.iter().map(engine).collect::<Vec<_>>()})
    });
    Value::from(steps.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use crate::{Format, Style, fixture, render_run};

    fn of_two_engines(format: Format) -> String {
        render_run(&fixture::engines(), format, Style::default()).unwrap()
    }

    #[test]
    fn a_terminal_shows_both_clocks_of_every_engine() {
        let text = of_two_engines(Format::Terminal);
        let expected = r"
text/gpt2-124m/decode/f16/b1/c128, engine by engine
  engine    device    wall  host kernels       rate of reading bound
  candle   4.00 ms 10.0 ms  60 %     290  250 tok/s       12 % host
  warpmark 8.00 ms 8.00 ms 0.0 %     250  125 tok/s      6.2 % host
  fused    1000 µs 1.01 ms 1.0 % 75 in 1 1001 tok/s       50 % bandwidth
  further batches and contexts, on the HTML page: 1
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("Times are medians of a step."), "{text}");
    }

    #[test]
    fn every_format_has_the_engines_and_a_run_of_one_has_none() {
        for format in [Format::Markdown, Format::Html, Format::Json] {
            let text = of_two_engines(format);
            assert!(text.contains("75 in 1") || text.contains("\"launches\": 1"), "{format:?}");
        }
        for format in [Format::Terminal, Format::Markdown, Format::Html] {
            let text = render_run(&fixture::recording(), format, Style::default()).unwrap();
            assert!(!text.contains("engine by engine"), "{format:?}");
        }
    }
}
