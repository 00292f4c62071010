//! `warpmark check`: is this card what it should be?

mod page;

use std::time::Duration;

use warpmark_analyze::analyze;
use warpmark_analyze::check::health::Weight;
use warpmark_analyze::check::{self, Checked, Checkup, Figure};
use warpmark_analyze::reference::judge::judge;
use warpmark_analyze::reference::{PublishedTables, Warning};
use warpmark_device::DeviceChoice;
use warpmark_record::store::Recording;
use warpmark_record::{DeviceSpec, Filter};

use super::reference;
use crate::arguments::{self, Check, CheckedDevice, Selection};
use crate::campaign::Campaign;
use crate::exit;
use crate::output::{show, show_json, warn};
use crate::progress::Bars;
use crate::supervisor;

/// The time that a card may take; what does not fit is cut.
const AT_MOST: Duration = Duration::from_mins(3);

/// Checks one card or all of them.
pub fn run(options: &Check) -> anyhow::Result<u8> {
    let (reference, warnings) = reference::read(&[])?;
    let checked_at = warpmark_measure::timestamp();
    let found = match options.device {
        CheckedDevice::All => warpmark_device::list(),
        CheckedDevice::One(index) => {
            warpmark_device::look(DeviceChoice::Cuda(index)).map(|found| vec![found.spec])
        }
    };
    let cards = match found {
        Ok(cards) => cards,
        // A node without a driver is an answer to whoever asks all nodes.
        Err(error) if options.json => {
            let error = exit::words(&error.into());
            warn(&error);
            let nothing = Checkup { error: Some(error), ..Checkup::of(Vec::new()) };
            show_json(&stamped(nothing, checked_at))?;
            return Ok(exit::ERROR);
        }
        Err(error) => return Err(error.into()),
    };
    let together = cards.len() > 1;
    let mut checked = at_once(&cards, options, (&reference, &warnings));
    if together {
        let first = Checkup::of(checked.clone());
        for (place, card) in cards.iter().enumerate() {
            let suspect = &first.cards[place];
            let rows: Vec<String> = suspect.figures.iter().filter(|f| shared(f)).map(id).collect();
            if !rows.is_empty() {
                let rows = format!("{},!sustained", rows.join(","));
                let alone = one(card, options, &rows, (&reference, &warnings));
                checked[place] = best_of(suspect, alone);
            }
        }
    }
    let checkup = stamped(Checkup::of(checked), checked_at);
    if options.json {
        show_json(&checkup)?;
    } else {
        show(&page::of(&checkup))?;
    }
    Ok(checkup.verdict.exit_code())
}

/// With where, when and by what it was made.
fn stamped(checkup: Checkup, checked_at: String) -> Checkup {
    let host = warpmark_device::host_spec().name;
    Checkup { host, checked_at, warpmark: env!("CARGO_PKG_VERSION").to_owned(), ..checkup }
}

/// Whether a row may be slow because other cards worked at the same time, so that it is measured alone.
///
/// Copies share the host's memory and its links. What lags behind cards of the same name is slower than they
/// were in the same place at the same moment, by the card's own clock; what all of them are below is not.
fn shared(figure: &Figure) -> bool {
    match figure.id.subject() {
        "transfer" => figure.is_slow() || figure.lags(),
        _ => figure.is_slow() && !figure.lags(),
    }
}

fn id(figure: &Figure) -> String {
    figure.id.to_string()
}

/// Each card by a thread of its own, which waits for its workers.
fn at_once(
    cards: &[DeviceSpec],
    options: &Check,
    known: (&PublishedTables, &[Warning]),
) -> Vec<Checked> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = cards
            .iter()
            .map(|card| scope.spawn(move || one(card, options, check::ROWS, known)))
            .collect();
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
fn one(
    card: &DeviceSpec,
    options: &Check,
    rows: &str,
    known: (&PublishedTables, &[Warning]),
) -> Checked {
    measure(card, options, rows, known)
        .unwrap_or_else(|error| Checked::not_measured(card.index, &card.name, format!("{error:#}")))
}

fn measure(
    card: &DeviceSpec,
    options: &Check,
    rows: &str,
    (reference, warnings): (&PublishedTables, &[Warning]),
) -> anyhow::Result<Checked> {
    let selection = selection(card.index, rows)?;
    let campaign = Campaign::prepare_quietly(&selection, Bars::silent())?;
    let (run, rows) = supervisor::check(campaign, &selection, options.hang_limit)?;
    let recording = Recording { runs: vec![run], rows, warnings: Vec::new() };
    let runs = analyze(&recording);
    let Some(run) = runs.first() else {
        anyhow::bail!("nothing was measured; `warpmark doctor` says what is missing");
    };
    Ok(Checked::of(run, &judge(run, reference, warnings)))
}

/// What is measured of a card: these rows.
fn selection(index: u32, rows: &str) -> anyhow::Result<Selection> {
    let filter: Filter = rows.parse().map_err(anyhow::Error::msg)?;
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
        catalog: arguments::CatalogOption { models: None, model: None },
        audio: arguments::AudioOption::default(),
        budget: Some(AT_MOST),
    })
}

/// A card that was measured among others, and some of its rows alone: of each row the faster figure, and the
/// faults of both.
fn best_of(among: &Checked, alone: Checked) -> Checked {
    let mut both = among.clone();
    for figure in &mut both.figures {
        let other = alone.figures.iter().find(|other| other.id == figure.id);
        if let Some(other) = other.filter(|other| other.value > figure.value) {
            *figure = other.clone();
        }
    }
    for remark in alone.remarks {
        if remark.weight == Weight::Fault && !both.remarks.contains(&remark) {
            both.remarks.push(remark);
        }
    }
    both
}
