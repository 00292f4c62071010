//! A run against what is published of its card, and the published tables themselves.

use serde_json::json;
use warpmark_analyze::Caveat;
use warpmark_analyze::reference::{
    Cell, Column, DependsOn, Judged, Kind, PublishedTables, Standing, Table, Verdict, Warning,
};
use warpmark_record::units::three_digits;

use super::{Decision, Fields, Grid, Note};

/// A run against what is published. The warnings about the whole run stand below: a card that others use, or
/// that is throttled, may be slow for that.
pub fn standing(title: &str, caveats: &[Caveat], found: &Standing) -> Decision {
    let overall = found.overall();
    let mut decision = Decision {
        title: title.to_owned(),
        summary: summary(found, overall),
        head: vec![
            ("verdict", json!(overall.to_string())),
            ("exit_code", json!(overall.exit_code())),
            ("card", json!(found.card.as_deref().ok())),
            ("unknown_because", json!(found.card.as_deref().err())),
        ],
        ..Decision::default()
    };
    match &found.card {
        Ok(card) => decision.facts.push(("card", card.clone())),
        Err(reason) => decision.facts.push(("card", format!("unknown ({reason})"))),
    }
    for (title, judging) in [
        ("what the card alone decides", true),
        ("what another program measured, for the eye", false),
    ] {
        let part = || found.judged.iter().filter(|j| (j.depends_on == DependsOn::Card) == judging);
        let mut grid =
            Grid::new(title, &["benchmark", "unit", ">ours", ">interval", ">published", "verdict"]);
        grid.rows.extend(part().map(cells));
        for judged in part() {
            grid.notes.extend(notes(judged));
        }
        if !grid.rows.is_empty() {
            decision.grids.push(grid);
        }
    }
    let warnings = caveats.iter().map(|caveat| Note::caution("caution: ", caveat.to_string()));
    decision.notes = warnings.collect();
    decision.lines = found.judged.iter().flat_map(lines).collect();
    decision
}

fn summary(found: &Standing, overall: Verdict) -> String {
    let count = |verdict| {
        let judging = found.judged.iter().filter(|j| j.depends_on == DependsOn::Card);
        judging.filter(|judged| judged.verdict == verdict).count()
    };
    let counts: Vec<String> =
        [Verdict::AsItShouldBe, Verdict::Slow, Verdict::Ambiguous, Verdict::Unknown]
            .into_iter()
            .map(|verdict| (count(verdict), verdict))
            .filter(|(count, _)| *count > 0)
            .map(|(count, verdict)| format!("{count} {verdict}"))
            .collect();
    match overall {
        Verdict::Unknown => "unknown: nothing published can judge this run".to_owned(),
        _ => format!("the card is {overall} ({})", counts.join(", ")),
    }
}

fn cells(judged: &Judged) -> Vec<String> {
    let ours = judged.ours.as_ref();
    let interval = ours.and_then(|ours| ours.interval);
    let low = judged.published.iter().map(|p| p.low).fold(f64::INFINITY, f64::min);
    let high = judged.published.iter().map(|p| p.high).fold(0.0, f64::max);
    let verdict = match (judged.depends_on, ours) {
        (DependsOn::Card, _) | (_, None) => judged.verdict.to_string(),
        (_, Some(ours)) => format!("{:.2} times", ours.value / high),
    };
    vec![
        judged.benchmark.clone(),
        judged.column.title().to_owned(),
        ours.map_or_else(|| "-".to_owned(), |ours| three_digits(ours.value)),
        interval.map_or_else(|| "-".to_owned(), |interval| range(interval.low, interval.high)),
        range(low, high),
        verdict,
    ]
}

fn range(low: f64, high: f64) -> String {
    let (low, high) = (three_digits(low), three_digits(high));
    if low == high { low } else { format!("{low} to {high}") }
}

fn notes(judged: &Judged) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(reason) = &judged.reason
        && judged.depends_on == DependsOn::Card
    {
        notes.push(Note::plain("unknown: ", format!("{}: {reason}", judged.benchmark)));
    }
    for published in &judged.published {
        let figure = range(published.low, published.high);
        let source = format!(
            "{}, {figure} {}: {} ({})",
            judged.benchmark,
            judged.column.title(),
            published.source,
            published.location
        );
        notes.push(Note::plain("published: ", source));
        for warning in &published.warnings {
            notes.push(Note::caution("warning: ", format!("{}: {warning}", published.location)));
        }
    }
    notes
}

fn lines(judged: &Judged) -> Vec<Fields> {
    let ours = judged.ours.as_ref();
    let interval = ours.and_then(|ours| ours.interval);
    let line = |published: &warpmark_analyze::reference::judge::Published| {
        vec![
            ("benchmark", json!(judged.benchmark)),
            ("quantity", json!(judged.column.name())),
            ("depends_on", json!(depends_on(judged.depends_on))),
            ("verdict", json!(judged.verdict.to_string())),
            ("reason", json!(judged.reason)),
            ("id", json!(ours.map(|ours| ours.id.to_string()))),
            ("ours", json!(ours.map(|ours| ours.value))),
            ("ours_low", json!(interval.map(|interval| interval.low))),
            ("ours_high", json!(interval.map(|interval| interval.high))),
            ("published_low", json!(published.low)),
            ("published_high", json!(published.high)),
            ("table", json!(published.table)),
            ("source", json!(published.source)),
            ("place", json!(published.location.to_string())),
            ("doubts", json!(published.warnings)),
        ]
    };
    judged.published.iter().map(line).collect()
}

fn depends_on(depends_on: DependsOn) -> &'static str {
    match depends_on {
        DependsOn::Card => "card",
        DependsOn::Software => "software",
        DependsOn::Service => "service",
    }
}

/// The published tables, each row with what contradicts it.
pub fn tables(reference: &PublishedTables, warnings: &[Warning]) -> Decision {
    let rows: usize = reference.tables.iter().map(|table| table.rows.len()).sum();
    let warned = |table: &Table, line: usize| {
        let same = |warning: &&Warning| warning.table == table.id && warning.location.line == line;
        warnings.iter().filter(same).collect::<Vec<_>>()
    };
    let mut decision = Decision {
        title: "published figures".to_owned(),
        head: vec![("contradictions", json!(warnings.len()))],
        ..Decision::default()
    };
    let mut rows_with_warning = 0;
    for table in &reference.tables {
        let mut grid = grid(table);
        for row in &table.rows {
            let found = warned(table, row.location.line);
            rows_with_warning += usize::from(!found.is_empty());
            let mut cells: Vec<String> = row.cells.iter().map(cell).collect();
            let mark = if found.is_empty() { String::new() } else { row.location.line.to_string() };
            cells.push(mark);
            grid.rows.push(cells);
            for warning in &found {
                grid.notes.push(Note::caution(
                    "line ",
                    format!("{}: {}", row.location.line, warning.text),
                ));
            }
            decision.lines.push(table_line(table, row, &found));
        }
        decision.grids.push(grid);
    }
    decision.summary = format!(
        "{} tables, {rows} rows, {rows_with_warning} of them contradicted",
        reference.tables.len()
    );
    decision
}

fn grid(table: &Table) -> Grid {
    let columns = table.columns.iter().map(|column| {
        let right = if column.is_text() { "" } else { ">" };
        format!("{right}{}", column.title())
    });
    let columns: Vec<String> = columns.chain(["line warned of".to_owned()]).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut grid = Grid::new(format!("{} ({})", table.title, table.id), &columns);
    grid.notes.push(Note::plain("source: ", format!("{}; {}", table.source, table.location)));
    grid.notes.push(Note::plain("method: ", table.method.clone()));
    let fixed: Vec<String> = table
        .fixed
        .iter()
        .map(|(column, value)| format!("{} {}", column.title(), cell(value)))
        .collect();
    if !fixed.is_empty() {
        grid.notes.push(Note::plain("in all rows: ", fixed.join(", ")));
    }
    grid
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Number(value) => value.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Missing => "-".to_owned(),
    }
}

fn table_line(
    table: &Table,
    row: &warpmark_analyze::reference::Row,
    warnings: &[&Warning],
) -> Fields {
    let text = |column: Column| json!(table.text(row, column));
    let figures: serde_json::Map<String, serde_json::Value> = table
        .columns
        .iter()
        .filter_map(|column| Some((column.name().to_owned(), json!(table.number(row, *column)?))))
        .collect();
    let limits = warnings.iter().filter(|warning| warning.kind == Kind::Limit);
    let itself = warnings.iter().filter(|warning| warning.kind == Kind::Itself);
    vec![
        ("table", json!(table.id)),
        ("place", json!(row.location.to_string())),
        ("source", json!(table.source)),
        ("depends_on", json!(depends_on(table.depends_on))),
        ("benchmark", json!(table.benchmark.as_ref().map(|(text, _)| text))),
        ("card", text(Column::Card)),
        ("model", text(Column::Model)),
        ("stack", text(Column::Stack)),
        ("figures", serde_json::Value::Object(figures)),
        ("contradicts_itself", json!(itself.map(|warning| &warning.text).collect::<Vec<_>>())),
        ("contradicts_limits", json!(limits.map(|warning| &warning.text).collect::<Vec<_>>())),
    ]
}
