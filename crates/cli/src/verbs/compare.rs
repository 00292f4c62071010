//! `warpmark compare`: is run B slower than run A?

use anyhow::bail;
use warpmark_analyze::compare::{Options, compare};
use warpmark_record::store::{self, Recording};
use warpmark_report::render_comparison;

use super::report::warn;
use crate::arguments::Compare;
use crate::output::{show, style};

/// Compares two recordings, or two engines of one; the exit code is the verdict.
pub fn run(options: &Compare) -> anyhow::Result<u8> {
    if !(options.threshold.is_finite() && options.threshold >= 0.0) {
        bail!("--threshold {} is no percentage; write 1 for 1 %", options.threshold);
    }
    let engines = options.engines.as_deref().map(engines).transpose()?;
    let select = |recording: Recording| selected(recording, options);
    let a = select(store::read_all([&options.a])?);
    let b = match &options.b {
        Some(path) => select(store::read_all([path])?),
        None => a.clone(),
    };
    let settings = Options { threshold: options.threshold / 100.0, engines, ..Options::default() };
    let comparison = compare(&a, &b, &settings);
    show(&render_comparison(&comparison, options.form(), style())?);
    Ok(comparison.overall().exit_code())
}

fn selected(mut recording: Recording, options: &Compare) -> Recording {
    warn(&recording);
    if let Some(filter) = &options.filter {
        recording.rows.retain(|row| filter.selects(&row.id));
    }
    recording
}

fn engines(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => bail!("--engines {text:?} names no two engines; write it as candle,fused"),
    }
}
