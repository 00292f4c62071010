//! `warpmark check`: is this card what it should be?

mod page;

use std::time::Duration;

use warpmark_analyze::analyze;
use warpmark_analyze::check::{self, Checked, Checkup};
use warpmark_analyze::reference::judge::judge;
use warpmark_analyze::reference::{Doubt, Reference};
use warpmark_device::DeviceChoice;
use warpmark_record::store::Recording;
use warpmark_record::{DeviceSpec, Filter};

use super::reference;
use crate::arguments::{self, Check, CheckedDevice, Selection};
use crate::campaign::Campaign;
use crate::output::{show, show_json};
use crate::progress::Bars;
use crate::supervisor;

/// The time that a card may take; what does not fit is cut.
const AT_MOST: Duration = Duration::from_mins(3);

/// Checks one card or all of them.
pub fn run(options: &Check) -> anyhow::Result<u8> {
    let (reference, doubts) = reference::read(&[])?;
    let cards = match options.device {
        CheckedDevice::All => warpmark_device::list()?,
        CheckedDevice::One(index) => {
            vec![warpmark_device::look(DeviceChoice::Cuda(index))?.spec]
        }
    };
    let together = cards.len() > 1;
    let mut checked = at_once(&cards, options, (&reference, &doubts));
    if together {
        // Cards that work at once share the host's bus and memory: what seems slow is measured alone.
        let first = Checkup::of(checked.clone());
        for (place, card) in cards.iter().enumerate() {
            let suspect = &first.cards[place];
            if suspect.figures.iter().any(|figure| figure.is_slow() || figure.lags()) {
                let alone = one(card, options, (&reference, &doubts));
                checked[place] = best_of(suspect, alone);
            }
        }
    }
    let checkup = Checkup::of(checked);
    if options.json {
        show_json(&checkup)?;
    } else {
        show(&page::of(&checkup))?;
    }
    Ok(checkup.verdict.exit_code())
}

/// Each card by a thread of its own, which waits for its workers.
fn at_once(cards: &[DeviceSpec], options: &Check, known: (&Reference, &[Doubt])) -> Vec<Checked> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            cards.iter().map(|card| scope.spawn(move || one(card, options, known))).collect();
        let ended = threads.into_iter().zip(cards).map(|(thread, card)| {
            thread.join().unwrap_or_else(|_| {
                let reason = "the program failed while it checked this card".to_owned();
                Checked::not_measured(card.index, &card.name, reason)
            })
        });
        ended.collect()
    })
}

/// One card; that it cannot be measured is an answer too.
fn one(card: &DeviceSpec, options: &Check, known: (&Reference, &[Doubt])) -> Checked {
    measure(card, options, known)
        .unwrap_or_else(|error| Checked::not_measured(card.index, &card.name, format!("{error:#}")))
}

fn measure(
    card: &DeviceSpec,
    options: &Check,
    (reference, doubts): (&Reference, &[Doubt]),
) -> anyhow::Result<Checked> {
    let selection = selection(card.index)?;
    let campaign = Campaign::prepare_quietly(&selection, Bars::silent())?;
    let (run, rows) = supervisor::check(campaign, &selection, options.hang_limit)?;
    let recording = Recording { runs: vec![run], rows, warnings: Vec::new() };
    let runs = analyze(&recording);
    let Some(run) = runs.first() else {
        anyhow::bail!("nothing was measured; `warpmark doctor` says what is missing");
    };
    Ok(Checked::of(run, &judge(run, reference, doubts)))
}

/// What is measured of every card.
fn selection(index: u32) -> anyhow::Result<Selection> {
    let filter: Filter = check::ROWS.parse().map_err(anyhow::Error::msg)?;
    Ok(Selection {
        suite: arguments::Suite::Quick,
        exhaustive: false,
        filter: Some(filter),
        device: arguments::DeviceOption { device: DeviceChoice::Cuda(index) },
        weights: arguments::WeightsOption {
            weights: "synthetic".to_owned(),
            offline: true,
            seed: 7,
        },
        catalog: arguments::CatalogOption { models: None },
        audio: arguments::AudioOption::default(),
        budget: Some(AT_MOST),
    })
}

/// A card that was measured among others and alone: of each row the faster figure, of everything else both.
fn best_of(among: &Checked, alone: Checked) -> Checked {
    let mut both = alone;
    if both.figures.is_empty() {
        return both;
    }
    for figure in &mut both.figures {
        let other = among.figures.iter().find(|other| other.id == figure.id);
        if let Some(other) = other.filter(|other| other.value > figure.value) {
            *figure = other.clone();
        }
    }
    for remark in &among.remarks {
        if !both.remarks.contains(remark) {
            both.remarks.push(remark.clone());
        }
    }
    both
}
