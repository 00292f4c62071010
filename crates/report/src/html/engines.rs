//! The same step under every engine that took it: device and host as bars, with the numbers beside them.

use maud::{Markup, html};
use warpmark_analyze::{Attribution, EngineStep, RunAnalysis};

use super::bars::{Part, bar, legend};
use super::color;
use super::table::{Cell, Head, numbers, table, words};
use crate::attribution::{COLUMNS, EXPLANATION, cells};

/// The device works without waiting for its host; it waits for launches; it rests while the host alone works.
const PARTS: [(&str, usize); 3] =
    [("device", 2), ("device, at the pace of the host's launches", 5), ("host alone", 7)];

/// Nothing where no step was taken by two engines.
pub(super) fn section(run: &RunAnalysis<'_>) -> Option<Markup> {
    let steps = Attribution::of(run);
    if steps.is_empty() {
        return None;
    }
    let entries = PARTS.map(|(name, at)| (name.to_owned(), color::of_part(at)));
    let mut heads: Vec<Head> = vec![words("step"), words("wall time of the longest")];
    heads.extend(COLUMNS.iter().map(|title| match title.strip_prefix('>') {
        Some(title) => numbers(title),
        None => words(title),
    }));
    let lines = steps.iter().flat_map(|step| {
        step.engines.iter().map(|engine| {
            let mut line = vec![Cell::Code(step.step.clone()), Cell::Drawn(drawn(step, engine))];
            line.extend(cells(engine).into_iter().enumerate().map(|(at, text)| match at {
                6 => Cell::Share(text, engine.of_reading.unwrap_or(0.0)),
                7 => Cell::Word(text),
                _ => Cell::Text(text),
            }));
            line
        })
    });
    Some(html! {
        (legend(&entries))
        (table(&heads, lines))
        p.note { (EXPLANATION) }
    })
}

fn drawn(step: &Attribution<'_>, engine: &EngineStep<'_>) -> Markup {
    let longest = step.longest();
    let (device, host) = engine.split();
    let part = |at: usize, share: f64| Part { share, color: color::of_part(PARTS[at].1) };
    let own = usize::from(engine.paced_by_host);
    bar(&[part(own, device.ratio(longest)), part(2, host.ratio(longest))])
}
