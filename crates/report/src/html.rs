//! One page with charts that needs nothing but a browser: no network, no file beside it.
//!
//! Text is escaped by maud wherever it goes into the page and by kuva wherever it goes into a drawing, and
//! the page forbids scripts other than its own by the hash of that one.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use warpmark_analyze::RunAnalysis;
use warpmark_analyze::cost::Tariffs;
use warpmark_record::store::Warning;

use self::color::Engines;
pub use self::decision::decision;
use crate::comparison::ComparisonView;
use crate::specs::Sheet;
use crate::view::{self, RunView};

mod bars;
mod batch;
mod cards;
mod chart;
mod color;
mod cost;
mod decision;
mod engines;
mod figure;
mod machine;
mod parts;
mod plain;
mod roofline;
mod rows;
mod sensors;
mod sizes;
mod summary;
mod table;
mod users;

#[cfg(test)]
mod tests;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/sort.js");
/// The SHA-256 of [`SCRIPT`]; a test computes it anew.
const SCRIPT_HASH: &str = "sha256-XLeN1OSxkLKsK66Ej4cbTCeuq+tbCIJ7nu8nRVVU4ps=";

/// The report of a recording; what it costs is in it where the tariffs know a price.
pub fn run(runs: &[RunAnalysis<'_>], warnings: &[Warning], tariffs: &Tariffs) -> String {
    let views = view::of(runs);
    let context = Context { engines: Engines::of(runs), tariffs };
    let title = match views.as_slice() {
        [only] => only.title.clone(),
        _ => format!("{} runs", views.len()),
    };
    let cards = cards::section(runs);
    page(
        &title,
        &html! {
            @if runs.len() > 1 {
                header { h1 { (runs.len()) " runs" } }
                nav {
                    ul {
                        @for (at, view) in views.iter().enumerate() {
                            li { a href=(format!("#run-{at}")) { (view.title) } }
                        }
                    }
                }
            }
            @if let Some(cards) = cards {
                section id="cards" { h2 { "Side by side" } (cards) }
            }
            @for (at, (run, view)) in runs.iter().zip(&views).enumerate() {
                (one_run(run, view, &context, at))
            }
            @if runs.is_empty() { p { "No rows were recorded." } }
            @if !warnings.is_empty() {
                section id="warnings" {
                    h2 { "Warnings of the reader" }
                    ul.cautions { @for warning in warnings { li { (warning.to_string()) } } }
                }
            }
        },
    )
}

/// What a machine said of itself.
pub fn specs(sheets: &[Sheet]) -> String {
    page("specs", &html! { header { h1 { "Specs" } } (machine::sheets(sheets)) })
}

/// A comparison.
pub fn comparison(view: &ComparisonView) -> String {
    use table::{Cell, numbers, table, words};
    let heads: Vec<_> = view
        .header
        .iter()
        .enumerate()
        .map(|(at, title)| if (1..=3).contains(&at) { numbers(title) } else { words(title) })
        .collect();
    let lines = view.pairs.iter().map(|pair| {
        let cells = pair.iter().enumerate();
        let cell = |(at, text): (usize, &String)| match at {
            0 => Cell::Code(text.clone()),
            5 => Cell::Word(text.clone()),
            _ => Cell::Text(text.clone()),
        };
        cells.map(cell).collect()
    });
    let lists =
        [("Refused", &view.refused), ("Unmatched", &view.unmatched), ("Notes", &view.notes)];
    page(
        "comparison",
        &html! {
            header { h1 { "Comparison" } p.lead { (view.summary) } }
            @if !view.pairs.is_empty() { section { (table(&heads, lines)) } }
            @for (title, texts) in lists {
                @if !texts.is_empty() {
                    section { h2 { (title) } ul { @for text in texts { li { (text) } } } }
                }
            }
        },
    )
}

fn page(title: &str, body: &Markup) -> String {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; base-uri 'none'; \
         form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("warpmark ", env!("CARGO_PKG_VERSION")));
                title { (title) " · warpmark" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    crate::escape::html(page.into_string() + "\n")
}

/// A part of a run's page.
struct Part {
    name: &'static str,
    title: &'static str,
    lead: &'static str,
    content: Markup,
}

/// What all runs of a page share.
struct Context<'a> {
    engines: Engines,
    tariffs: &'a Tariffs,
}

fn one_run(run: &RunAnalysis<'_>, view: &RunView, context: &Context<'_>, at: usize) -> Markup {
    let anchor = format!("run-{at}");
    let parts = parts(run, view, context, &anchor);
    html! {
        article id=(anchor) {
            (summary::header(run, view))
            @if !view.caveats.is_empty() {
                ul.cautions { @for caveat in &view.caveats { li { (caveat) } } }
            }
            @if let Some(figures) = summary::figures(run) { (figures) }
            nav {
                ul { @for part in &parts {
                    li { a href=(format!("#{anchor}-{}", part.name)) { (part.title) } }
                } }
            }
            @for part in &parts {
                section id=(format!("{anchor}-{}", part.name)) {
                    h3 { (part.title) }
                    @if !part.lead.is_empty() { p.lead { (part.lead) } }
                    (part.content)
                }
            }
        }
    }
}

/// The parts that have something to say.
fn parts(run: &RunAnalysis<'_>, view: &RunView, context: &Context<'_>, anchor: &str) -> Vec<Part> {
    let tables = (!view.sections.is_empty()).then(|| {
        html! { (rows::tables(view, anchor)) @if let Some(notes) = rows::footnotes(view) { (notes) } }
    });
    let all = [
        (
            "roofline",
            "Roofline",
            "How near each row is to what the device can do.",
            roofline::section(run),
        ),
        (
            "engines",
            "Engine by engine",
            "How much of a step is the card, and how much the host that feeds it.",
            engines::section(run),
        ),
        ("bound", "What bounds the rows", "", parts::attribution(run)),
        ("sizes", "The device against size", "", sizes::section(run)),
        ("batch", "Throughput against batch", "", batch::throughput(run, &context.engines)),
        ("users", "Latency against concurrency", "", users::section(run, view)),
        ("load", "Loading", "", parts::loads(run)),
        ("memory", "Memory", "", parts::memory(run)),
        (
            "sensors",
            "Clock, power and temperature",
            "A point is a row; what falls, drifted.",
            sensors::section(run),
        ),
        ("cost", "Cost", "", cost::section(run, context.tariffs)),
        ("rows", "All rows", "A click on a column's head sorts.", tables),
        ("unmeasured", "Not measured", "", rows::unmeasured(view)),
        ("machine", "Environment", "", machine::of(run)),
    ];
    let all = all.into_iter();
    all.filter_map(|(name, title, lead, content)| {
        Some(Part { name, title, lead, content: content? })
    })
    .collect()
}
