//! What models cost, where the price of an hour is known.

use maud::{Markup, html};
use warpmark_analyze::RunAnalysis;
use warpmark_analyze::cost::{RunCost, Tariffs};
use warpmark_analyze::money::dollars;
use warpmark_record::Joules;

use super::table::{Cell, numbers, table, words};

/// The cheapest row of each model and of each thing that is paid for.
pub(super) fn section(run: &RunAnalysis<'_>, tariffs: &Tariffs) -> Option<Markup> {
    let cost = RunCost::of(run, tariffs);
    let tariff = cost.tariff.as_ref().ok()?;
    let cheapest = cost.cheapest();
    if cheapest.is_empty() {
        return None;
    }
    let heads = [
        words("model"),
        words("for"),
        numbers("price"),
        numbers("rate"),
        numbers("J each"),
        words("cheapest with"),
    ];
    let rows = cheapest.iter().map(|((model, good), row)| {
        let joules = row.joules_per_item().map(|joules| Joules(joules).to_string());
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            Cell::Code((*model).to_owned()),
            good.name().into(),
            or_dash(row.usd.map(dollars)).into(),
            row.rate.to_string().into(),
            or_dash(joules).into(),
            Cell::Code(row.id.to_string()),
        ]
    });
    Some(html! {
        (table(&heads, rows))
        p.note { "Price: " (tariff.origin) ". Money is counted by the wall clock. " code { "warpmark cost" } " has every row." }
    })
}
