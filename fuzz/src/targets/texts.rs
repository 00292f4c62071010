//! Texts: catalogs, results with every report, prices, published tables, filters.

use std::path::Path;

use warpmark_analyze::prices::Prices;
use warpmark_analyze::reference::{Cards, PublishedTables};
use warpmark_models::Catalog;
use warpmark_record::{BenchmarkId, Filter, store};
use warpmark_report::{Format, Style, render_run};

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

pub(super) fn catalog(path: &Path, _: &[u8]) {
    if let Ok(catalog) = Catalog::read(path) {
        for model in catalog.models() {
            let _ = model.count_parameters();
        }
    }
}

pub(super) fn results(path: &Path, _: &[u8]) {
    let Ok(recording) = store::read(path) else { return };
    for format in [Format::Terminal, Format::Markdown, Format::Csv, Format::Json, Format::Html] {
        let _ = render_run(&recording, format, Style::default());
    }
}

pub(super) fn prices(_: &Path, input: &[u8]) {
    if let Some(text) = text(input) {
        let _ = Prices::parse(text, "prices.toml");
    }
}

pub(super) fn reference(_: &Path, input: &[u8]) {
    if let Some(text) = text(input) {
        let _ = PublishedTables::parse(&[("reference.toml", text)], &Cards::default());
    }
}

pub(super) fn filter(_: &Path, input: &[u8]) {
    let Some(filter) = text(input).and_then(|text| text.parse::<Filter>().ok()) else { return };
    for id in [
        "text/gpt2-124m/decode/f32/b1/c128@warpmark",
        "micro/matmul/f16.f32/8192x8192x8192/cold@cublaslt",
    ] {
        if let Ok(id) = id.parse::<BenchmarkId>() {
            let _ = filter.selects(&id);
        }
    }
}
