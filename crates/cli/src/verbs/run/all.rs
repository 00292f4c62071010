//! `warpmark run --device all`: the suite on every card of this machine.
//!
//! Each card is measured alone, one after the other. With `--parallel`, 2, 4, … and then all of them are
//! measured at the same time, too, beginning each benchmark together: what they share shows as the difference.

use std::collections::HashSet;

use anyhow::bail;
use warpmark_analyze::fleet::{self, By};
use warpmark_analyze::scaling::AT_ONCE;
use warpmark_device::DeviceChoice;
use warpmark_record::store;
use warpmark_record::{BenchmarkId, DeviceSpec};
use warpmark_report::{Format, decision, render_decision};

use crate::arguments::{Run, Selection, WrongUsage};
use crate::campaign::Campaign;
use crate::environment::{self, Identity};
use crate::meeting::{Meeting, Seat};
use crate::output::{remark, say, show, show_json, warn};
use crate::progress::Bars;
use crate::recorder::Results;
use crate::terminal::style;
use crate::verbs::rank::members;
use crate::{exit, supervisor};

/// Measures every card.
pub(super) fn run(options: &Run) -> anyhow::Result<u8> {
    if options.output.resume.is_some() {
        let text = "--resume goes on with the run of one card: leave `--device all` out";
        return Err(WrongUsage(text.to_owned()).into());
    }
    let cards = warpmark_device::list()?;
    if options.dry_run {
        return plan(&cards, options);
    }
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    for card in &cards {
        remark(&format!("cuda:{}, alone", card.index));
        match alone(card, options) {
            Ok(results) => files.push(results.path),
            Err(error) => faults.push(format!("cuda:{}: {}", card.index, exit::words(&error))),
        }
    }
    for count in steps(cards.len()).filter(|_| options.parallel) {
        remark(&format!("{count} cards at once"));
        for (card, result) in cards.iter().zip(at_once(&cards[..count], options)?) {
            match result {
                Ok(results) => files.push(results.path),
                Err(error) => {
                    let error = exit::words(&error);
                    faults.push(format!("cuda:{} among {count}: {error}", card.index));
                }
            }
        }
    }
    for fault in &faults {
        warn(fault);
    }
    if files.is_empty() {
        bail!("no card could be measured");
    }
    let recording = store::read_all(&files)?;
    let format = if options.output.json { Format::Json } else { Format::Terminal };
    let mut page = decision::fleet::of(&fleet::compare(&recording, &By::Card)?, members(format));
    decision::machine::add(&mut page, &recording);
    show(&render_decision(&page, format, style())?)?;
    for file in &files {
        remark(&format!("Recorded in {}", file.display()));
    }
    let failed = super::code_of(&recording.rows);
    Ok(if faults.is_empty() { failed } else { exit::FAILED })
}

/// How many cards at once: 2, 4, 8, and all.
fn steps(cards: usize) -> impl Iterator<Item = usize> {
    let doubled = (1..).map(|power| 1 << power).take_while(move |count| *count < cards);
    doubled.chain((cards > 1).then_some(cards))
}

fn plan(cards: &[DeviceSpec], options: &Run) -> anyhow::Result<u8> {
    let mut plans = Vec::new();
    for card in cards {
        let campaign = Campaign::prepare(&of_card(card, options), None)?;
        if options.output.json {
            plans.push(campaign.described_for_programs());
        } else {
            say(&format!("cuda:{} {}\n", card.index, campaign.describe()))?;
        }
    }
    if options.output.json {
        show_json(&plans)?;
    }
    Ok(exit::OK)
}

/// What is asked of one card.
fn of_card(card: &DeviceSpec, options: &Run) -> Selection {
    let mut selection = options.selection.clone();
    selection.device.device = DeviceChoice::Cuda(card.index);
    selection
}

fn identity(campaign: &Campaign, options: &Run, count: usize) -> anyhow::Result<Identity> {
    let mut identity = Identity::named(environment::new_run_id());
    identity.tags = options.output.tags.by_key()?;
    identity.planned.clone_from(&campaign.planned);
    identity.settings.insert(AT_ONCE.to_owned(), count.to_string());
    Ok(identity)
}

fn alone(card: &DeviceSpec, options: &Run) -> anyhow::Result<Results> {
    let selection = of_card(card, options);
    let campaign = Campaign::prepare(&selection, None)?;
    let identity = identity(&campaign, options, 1)?;
    supervisor::measure(campaign, &selection, options, identity, None)
}

/// Whether a benchmark is of one card: those of all cards are no work that each can do at once.
fn of_one_card(id: &BenchmarkId) -> bool {
    id.subject() != "collective"
}

/// Some cards at once, each by a thread of its own, which waits for its workers.
fn at_once(cards: &[DeviceSpec], options: &Run) -> anyhow::Result<Vec<anyhow::Result<Results>>> {
    let plans: Vec<HashSet<BenchmarkId>> = cards
        .iter()
        .map(|card| {
            let mut campaign = Campaign::prepare_quietly(&of_card(card, options), Bars::silent())?;
            campaign.plan.keep(of_one_card);
            Ok(campaign.plan.entries().map(|entry| entry.id.clone()).collect())
        })
        .collect::<anyhow::Result<_>>()?;
    let meeting = Meeting::of(plans);
    let count = cards.len();
    let one = |place: usize, card: &DeviceSpec| {
        let seat = Seat { meeting: &meeting, card: place };
        let selection = of_card(card, options);
        let mut campaign = Campaign::prepare_quietly(&selection, Bars::silent())?;
        campaign.plan.keep(of_one_card);
        campaign.planned.retain(of_one_card);
        let identity = identity(&campaign, options, count)?;
        supervisor::measure(campaign, &selection, options, identity, Some(&seat))
    };
    Ok(std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = cards
            .iter()
            .enumerate()
            .map(|(place, card)| scope.spawn(move || one(place, card)))
            .collect();
        let lost = || Err(anyhow::anyhow!("the program failed while it measured this card"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_doubled_up_to_all_of_them() {
        let of = |cards| steps(cards).collect::<Vec<_>>();
        assert_eq!((of(1), of(2), of(6), of(8)), (vec![], vec![2], vec![2, 4, 6], vec![2, 4, 8]));
    }
}
