//! A check-up on one page.

use std::fmt::Write as _;

use warpmark_analyze::check::health::{Remark, Weight};
use warpmark_analyze::check::{Checked, Checkup, Figure, Verdict};

/// The page.
pub(super) fn of(checkup: &Checkup) -> String {
    let mut page = String::new();
    for card in &checkup.cards {
        one(&mut page, card);
    }
    if checkup.cards.len() > 1 {
        let not_so: Vec<String> = checkup
            .cards
            .iter()
            .filter(|card| card.verdict != Verdict::AsItShouldBe)
            .map(|card| format!("cuda:{} {}{}", card.index, card.verdict.words(), by_what(card)))
            .collect();
        let count = checkup.cards.len();
        let said = if not_so.is_empty() {
            format!("all {count} cards are as they should be")
        } else {
            format!("of {count} cards: {}", not_so.join("; "))
        };
        let _ = writeln!(page, "{said}");
    }
    page
}

fn one(page: &mut String, card: &Checked) {
    let verdict = card.verdict.words().to_uppercase();
    let _ = writeln!(page, "cuda:{}  {}: {verdict}", card.index, card.name);
    for figure in &card.figures {
        let _ = writeln!(page, "  {:<9}{}", mark(figure), line(figure));
    }
    for remark in &card.remarks {
        let Remark { weight, about, text } = remark;
        let weight = match weight {
            Weight::Fine => "ok",
            Weight::Note => "note",
            Weight::Unknown => "unknown",
            Weight::Fault => "FAULT",
        };
        let _ = writeln!(page, "  {weight:<9}{about}: {text}");
    }
    page.push('\n');
}

fn mark(figure: &Figure) -> &'static str {
    if figure.is_slow() {
        "SLOW"
    } else if figure.lags() {
        "LAGS"
    } else if figure.band.is_some() {
        "ok"
    } else {
        "unknown"
    }
}

fn line(figure: &Figure) -> String {
    let unit = figure.unit;
    let mut text = format!("{}: {}", figure.id, rate(figure.value, unit));
    match &figure.band {
        Some(band) => {
            let _ = write!(text, ", at least {} by {}", rate(band.low, unit), band.from);
        }
        None => text.push_str(", and nothing is known to hold it against"),
    }
    if let Some(share) = figure.of_the_best {
        let _ = write!(text, "; {:.1} % of the best of these cards", 100.0 * share);
    }
    text
}

fn rate(value: f64, unit: &str) -> String {
    for (prefix, size) in [("T", 1e12), ("G", 1e9)] {
        if value >= size {
            return format!("{:.1} {prefix}{unit}", value / size);
        }
    }
    format!("{:.1} M{unit}", value / 1e6)
}

/// The row by which a card is slow, and by how much.
fn by_what(card: &Checked) -> String {
    let worst = card
        .figures
        .iter()
        .filter(|figure| figure.is_slow() || figure.lags())
        .min_by(|a, b| share(a).total_cmp(&share(b)));
    let fault = card.remarks.iter().find(|remark| remark.weight == Weight::Fault);
    match (worst, fault) {
        (Some(figure), _) => {
            format!(" by {}, at {:.0} % of what it should be", figure.id, 100.0 * share(figure))
        }
        (None, Some(fault)) => format!(" by {}", fault.about),
        (None, None) => String::new(),
    }
}

/// A figure's share of its band's lower end or of the best of its kind, whichever is less.
fn share(figure: &Figure) -> f64 {
    let of_band = figure.band.as_ref().map_or(f64::INFINITY, |band| figure.value / band.low);
    figure.of_the_best.map_or(of_band, |best| best.min(of_band))
}
