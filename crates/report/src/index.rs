//! The page over a folder of results: every device that was measured, every run with its environment.

use std::collections::BTreeMap;
use std::fmt::Write;

use warpmark_analyze::RunAnalysis;
use warpmark_analyze::rank::{RankError, rank};
use warpmark_record::stats::Bootstrap;
use warpmark_record::store::Recording;
use warpmark_record::{Outcome, Run};

use crate::escape::{link, markdown as escape};
use crate::{decision, markdown, specs};

/// The command that writes the page, which the page names.
pub const COMMAND: &str = "warpmark report --index --output results/README.md";

/// The page, in Markdown; runs without a line of their own are left out, since nobody knows what they ran
/// on. Writing to a string cannot fail, so results of `write!` are dropped.
pub(crate) fn of(runs: &[RunAnalysis<'_>], ranking: &str) -> String {
    let mut devices: BTreeMap<&str, Vec<(&RunAnalysis<'_>, &Run)>> = BTreeMap::new();
    for analysis in runs {
        if let Some(run) = analysis.run {
            devices.entry(&run.device.slug).or_default().push((analysis, run));
        }
    }
    let mut page = format!("<!-- Written by `{COMMAND}`; do not edit. -->\n\n# Recorded runs\n");
    page.push_str(ranking);
    for (slug, runs) in &mut devices {
        runs.sort_by(|(_, a), (_, b)| (&a.started_at, &a.run.0).cmp(&(&b.started_at, &b.run.0)));
        let name = runs.first().map_or("", |(_, run)| run.device.name.as_str());
        let _ = write!(page, "\n## {}\n\n", escape(name));
        page.push_str("| run | started | suite | build | measured | skipped | failed | best |\n");
        page.push_str("| :-- | :-- | :-- | :-- | --: | --: | --: | :-- |\n");
        for (analysis, run) in runs.iter() {
            line(&mut page, slug, analysis, run);
        }
        for (analysis, run) in runs.iter() {
            environment(&mut page, analysis, run);
        }
    }
    if devices.is_empty() {
        page.push_str("\nNo run was recorded.\n");
    }
    page
}

/// How the recorded devices stand to each other by the newest method of measuring, or why nothing can be said of
/// that.
pub(crate) fn ranking(recording: &Recording) -> String {
    let Some(method) = recording.rows.iter().map(|row| row.method).max() else {
        return String::new();
    };
    let mut newest = recording.clone();
    newest.rows.retain(|row| row.method == method);
    let text = match rank(&newest, &Bootstrap::default()) {
        // Its title is that of a page of its own.
        Ok(found) => {
            let page = markdown::decision(&decision::rank::of(&found));
            page.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
        }
        Err(RankError::TooFew(_)) => {
            "One device was measured: there is none to rank it against.".to_owned()
        }
        Err(error) => format!("{}.", escape(&error.to_string())),
    };
    format!("\n## Ranking\n\n{}\n", text.trim())
}

fn line(page: &mut String, slug: &str, analysis: &RunAnalysis<'_>, run: &Run) {
    let count = |wanted: fn(&Outcome) -> bool| {
        analysis.rows.iter().filter(|row| wanted(&row.record.outcome)).count()
    };
    let measured = count(|outcome| matches!(outcome, Outcome::Measured));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let limits = &analysis.limits;
    let mut best: Vec<String> =
        limits.measured_peaks().map(|(name, peak)| format!("{name} {peak}")).collect();
    best.extend(limits.measured_bandwidth().map(|bandwidth| format!("memory {bandwidth}")));
    let build = format!("{} ({}), {}", run.build.version, run.build.git, run.build.profile);
    let id = &run.run.0;
    let _ = writeln!(
        page,
        "| [{}]({}) | {} | {} | {} | {measured} | {skipped} | {failed} | {} |",
        escape(id),
        link(&format!("{slug}/{id}.jsonl")),
        escape(&run.started_at),
        escape(&run.suite),
        escape(&build),
        escape(&best.join(", ")),
    );
}

/// What a run was made with and on, folded away.
fn environment(page: &mut String, analysis: &RunAnalysis<'_>, run: &Run) {
    let _ =
        write!(page, "\n<details><summary>{}: its environment</summary>\n\n", escape(&run.run.0));
    for caveat in &analysis.caveats {
        let _ = writeln!(page, "- caution: {}", escape(&caveat.to_string()));
    }
    if !analysis.caveats.is_empty() {
        page.push('\n');
    }
    let mut sheets = vec![specs::run_sheet(run)];
    sheets.extend(specs::of(&run.device, &run.host));
    page.push_str(markdown::specs(&sheets).trim_end());
    page.push_str("\n\n</details>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn every_run_has_its_line_and_its_environment_and_nothing_gets_out_of_its_cell() {
        let recording = fixture::recording();
        let page = of(&warpmark_analyze::analyze(&recording), "");
        let run = &recording.runs[0];
        let id = &run.run.0;
        let line = page.lines().find(|line| line.contains(&format!("{id}.jsonl"))).unwrap();
        assert!(line.contains(&format!("({}/{id}.jsonl)", run.device.slug)), "{line}");
        assert!(line.contains(" | 5 | 1 | 1 | "), "{line}");
        assert_eq!(line.replace("\\|", "").matches('|').count(), 9, "{line}");
        assert!(page.contains("its environment</summary>"), "{page}");
        assert!(page.contains("| memory | 8.00 GiB |"), "{page}");
        assert!(page.starts_with("<!-- Written by `warpmark report --index"), "{page}");
    }

    #[test]
    fn names_from_outside_neither_end_a_link_nor_start_anything() {
        let mut recording = fixture::recording();
        let evil = "x) \u{1b}[31m<script>alert(1)</script> [a](javascript:b)\n\n# a heading\n";
        evil.clone_into(&mut recording.runs[0].device.slug);
        let page = of(&warpmark_analyze::analyze(&recording), "");
        for part in ["<script", "\u{1b}", "\n# a heading"] {
            assert!(!page.contains(part), "{part:?}: {page}");
        }
        assert!(page.contains("(x%29%20%1B%5B31m%3Cscript%3E"), "{page}");
    }

    #[test]
    fn a_folder_without_runs_says_so() {
        assert!(of(&[], "").contains("No run was recorded."));
    }
}
