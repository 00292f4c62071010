//! The machine, the build and the settings.

use maud::{Markup, html};
use warpmark_analyze::RunAnalysis;

use crate::specs::{self, Sheet};

/// The sheets of a machine.
pub(super) fn sheets(sheets: &[Sheet]) -> Markup {
    html! {
        div.sheets {
            @for sheet in sheets {
                section.sheet {
                    h4 { (sheet.title) }
                    dl {
                        @for fact in &sheet.facts {
                            dt { (fact.name) }
                            @match &fact.value {
                                Ok(value) => dd { (value) },
                                Err(reason) => dd.unknown { "unknown (" (reason) ")" },
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Everything that a run's line tells.
pub(super) fn of(run: &RunAnalysis<'_>) -> Option<Markup> {
    let line = run.run?;
    let mut all = specs::of(&line.device, &line.host);
    all.push(specs::run_sheet(line));
    Some(sheets(&all))
}
