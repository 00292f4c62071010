//! The datasheets, `gpus.toml`: what a card can do by its documents, each figure with its source.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use warpmark_record::machine::{DatasheetEntry, Sourced};
use warpmark_record::units::FlopsPerSecond;
use warpmark_record::{Bytes, BytesPerSecond, Field, Hertz, Watts};

const TEXT: &str = include_str!("../gpus.toml");

/// A card's memory as the driver reports it may differ from the name's GB by this share: ECC takes some
/// away, and makers count in GiB.
const MEMORY_TOLERANCE: f64 = 0.10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sources: BTreeMap<String, String>,
    gpu: Vec<ParsedCard>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParsedCard {
    name: String,
    drivers: Vec<String>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the tests check the peaks against its rates")
    )]
    compute_capability: (u32, u32),
    sm_count: u32,
    memory_gb: Vec<f64>,
    clock_mhz: Option<Figure>,
    #[serde(default)]
    clocks_mhz: BTreeMap<String, Figure>,
    #[cfg_attr(not(test), expect(dead_code, reason = "as the compute capability"))]
    #[serde(default = "whole")]
    tensor_share: f64,
    bandwidth_gb_s: Option<Figure>,
    l2_mib: Option<Figure>,
    tdp_w: Option<Figure>,
    #[serde(default)]
    peaks_tflops: BTreeMap<String, Figure>,
    #[serde(default)]
    absent: BTreeMap<String, String>,
}

/// Tensor cores whose sums in f32 are as fast as those in f16.
fn whole() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    value: f64,
    source: String,
}

/// What is wrong with the datasheets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatasheetError {
    /// Not the TOML, or not the keys, that it should be.
    #[error("gpus.toml cannot be read: {0}")]
    Syntax(String),
    /// A figure that is not above zero and finite.
    #[error("gpus.toml, {card}: {what} is {value}, which no card has")]
    Figure {
        /// The card.
        card: String,
        /// The key.
        what: String,
        /// Its value.
        value: String,
    },
    /// A source that `[sources]` does not explain.
    #[error("gpus.toml, {card}: {what} names the source \"{source_key}\", which [sources] lacks")]
    Source {
        /// The card.
        card: String,
        /// The key.
        what: String,
        /// The name of the source.
        source_key: String,
    },
    /// A name that two entries have.
    #[error("gpus.toml has two entries for \"{0}\"")]
    Twice(String),
}

/// Parsed datasheets.
#[derive(Debug)]
pub struct Datasheets {
    cards: Vec<Card>,
}

#[derive(Debug)]
struct Card {
    parsed: ParsedCard,
    entry: DatasheetEntry,
}

impl Datasheets {
    /// Reads datasheets strictly: unknown keys, unexplained sources and impossible figures are errors.
    ///
    /// # Errors
    /// [`DatasheetError`], with entry and key.
    pub fn parse(text: &str) -> Result<Self, DatasheetError> {
        let file: File = toml::from_str(text).map_err(|e| DatasheetError::Syntax(e.to_string()))?;
        let mut seen = std::collections::BTreeSet::new();
        let mut cards = Vec::new();
        for parsed in file.gpu {
            for name in std::iter::once(&parsed.name).chain(&parsed.drivers) {
                if !seen.insert(name.clone()) {
                    return Err(DatasheetError::Twice(name.clone()));
                }
            }
            let entry = parsed.datasheet(&file.sources)?;
            cards.push(Card { parsed, entry });
        }
        Ok(Self { cards })
    }

    /// The entry for a card by what the driver reports.
    ///
    /// Absent says what did not fit: the name, the memory, or the number of SMs (as for a MIG slice).
    /// Memory and SMs that the driver does not tell are not held against the card.
    pub fn find(
        &self,
        name: &str,
        memory: &Field<Bytes>,
        sm_count: &Field<u32>,
    ) -> Field<DatasheetEntry> {
        let named = |card: &&Card| card.parsed.drivers.iter().any(|driver| driver == name);
        let Some(Card { parsed, entry }) = self.cards.iter().find(named) else {
            return Field::absent(format!(
                "the list of datasheets (crates/device/gpus.toml) has no \"{name}\""
            ));
        };
        if let Some(count) = sm_count.known().filter(|count| **count != parsed.sm_count) {
            return Field::absent(format!(
                "the datasheet of {} has {} SMs and this device {count}; a slice of a card has no peaks in it",
                parsed.name, parsed.sm_count
            ));
        }
        let fits = |bytes: &Bytes| {
            let off = |gb: &f64| (bytes.get() / (gb * 1e9) - 1.0).abs();
            parsed.memory_gb.iter().any(|gb| off(gb) <= MEMORY_TOLERANCE)
        };
        if let Some(bytes) = memory.known().filter(|bytes| !fits(bytes)) {
            return Field::absent(format!(
                "the datasheet of {} has {:?} GB and this device {}",
                parsed.name,
                parsed.memory_gb,
                bytes.binary()
            ));
        }
        Field::Known(entry.clone())
    }

    /// Why the datasheet has no peak for this arithmetic on this card (`entry` is [`DatasheetEntry::name`]).
    pub fn why_absent(&self, entry: &str, arithmetic: &str) -> Option<&str> {
        let card = self.cards.iter().find(|card| card.parsed.name == entry)?;
        card.parsed.absent.get(arithmetic).map(String::as_str)
    }

    /// The memories that an entry's card ([`DatasheetEntry::name`]) is sold with.
    pub fn memories(&self, entry: &str) -> Vec<Bytes> {
        let card = self.cards.iter().find(|card| card.parsed.name == entry);
        let sizes = card.map(|card| card.parsed.memory_gb.as_slice()).unwrap_or_default();
        sizes.iter().map(|gb| Bytes(gb * 1e9)).collect()
    }

    /// The entries in the file's order.
    pub fn entries(&self) -> impl Iterator<Item = &DatasheetEntry> {
        self.cards.iter().map(|card| &card.entry)
    }
}

impl ParsedCard {
    fn datasheet(
        &self,
        sources: &BTreeMap<String, String>,
    ) -> Result<DatasheetEntry, DatasheetError> {
        let figure = |what: &str, figure: &Figure| {
            let card = || self.name.clone();
            if !(figure.value.is_finite() && figure.value > 0.0) {
                let value = figure.value.to_string();
                return Err(DatasheetError::Figure { card: card(), what: what.to_owned(), value });
            }
            let source = sources.get(&figure.source).ok_or_else(|| DatasheetError::Source {
                card: card(),
                what: what.to_owned(),
                source_key: figure.source.clone(),
            })?;
            Ok(Sourced { value: figure.value, source: source.clone() })
        };
        let optional = |what: &str, given: &Option<Figure>| {
            given.as_ref().map(|given| figure(what, given)).transpose()
        };
        let mut peaks = BTreeMap::new();
        for (arithmetic, given) in &self.peaks_tflops {
            let peak = figure(arithmetic, given)?.map_value(|t| FlopsPerSecond(t * 1e12));
            peaks.insert(arithmetic.clone(), peak);
        }
        let mut clocks = BTreeMap::new();
        for (arithmetic, given) in &self.clocks_mhz {
            let clock = figure(arithmetic, given)?.map_value(|mhz| Hertz(mhz * 1e6));
            clocks.insert(arithmetic.clone(), clock);
        }
        Ok(DatasheetEntry {
            name: self.name.clone(),
            peaks,
            clocks,
            absent: self.absent.clone(),
            bandwidth: optional("bandwidth_gb_s", &self.bandwidth_gb_s)?
                .map(|f| f.map_value(|gb| BytesPerSecond(gb * 1e9))),
            l2: optional("l2_mib", &self.l2_mib)?
                .map(|f| f.map_value(|mib| Bytes(mib * 1024.0 * 1024.0))),
            tdp: optional("tdp_w", &self.tdp_w)?.map(|f| f.map_value(Watts)),
            clock: optional("clock_mhz", &self.clock_mhz)?
                .map(|f| f.map_value(|mhz| Hertz(mhz * 1e6))),
        })
    }
}

/// The same figure in a unit, with the same source.
trait MapValue<U> {
    type Output;
    fn map_value(self, f: impl FnOnce(f64) -> U) -> Self::Output;
}

impl<U> MapValue<U> for Sourced<f64> {
    type Output = Sourced<U>;
    fn map_value(self, f: impl FnOnce(f64) -> U) -> Sourced<U> {
        Sourced { value: f(self.value), source: self.source }
    }
}

/// The datasheets that the program carries.
///
/// # Errors
/// Never in a build whose tests passed.
pub fn datasheets() -> Result<&'static Datasheets, DatasheetError> {
    static DATASHEETS: OnceLock<Result<Datasheets, DatasheetError>> = OnceLock::new();
    DATASHEETS.get_or_init(|| Datasheets::parse(TEXT)).as_ref().map_err(Clone::clone)
}

/// [`Datasheets::find`] among the program's own datasheets.
pub fn find(name: &str, memory: &Field<Bytes>, sm_count: &Field<u32>) -> Field<DatasheetEntry> {
    match datasheets() {
        Ok(datasheets) => datasheets.find(name, memory, sm_count),
        Err(error) => Field::absent(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARITHMETICS: [&str; 8] = [
        "f16/f32",
        "f16/f16",
        "bf16/f32",
        "tf32/f32",
        "f32/f32",
        "f64/f64",
        "int8/int32",
        "fp8/f32",
    ];

    #[test]
    fn the_programs_datasheets_are_valid_and_have_the_cards_it_should() {
        let names: Vec<_> =
            datasheets().unwrap().entries().map(|entry| entry.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "t4",
                "v100-sxm2",
                "l4",
                "a10",
                "a10g",
                "a100-40-sxm",
                "a100-40-pcie",
                "a100-80-sxm",
                "a100-80-pcie",
                "rtx-3090",
                "rtx-a6000",
                "rtx-4090",
                "rtx-5090",
                "rtx-pro-6000",
                "l40",
                "l40s",
                "h100-pcie",
                "h100-sxm",
                "h100-nvl",
                "h200-sxm",
                "h200-nvl",
                "gh200",
                "b200",
                "b300",
            ]
        );
    }

    #[test]
    fn every_arithmetic_has_a_peak_or_a_reason_and_never_both() {
        for Card { parsed, entry } in &datasheets().unwrap().cards {
            for arithmetic in ARITHMETICS {
                let known = entry.peaks.contains_key(arithmetic);
                let absent = parsed.absent.contains_key(arithmetic);
                assert!(known != absent, "{} {arithmetic}", parsed.name);
            }
            // Of these the driver tells its own, and nobody else.
            let told = ["h100-nvl", "h200-nvl", "gh200"].contains(&parsed.name.as_str());
            let both = entry.bandwidth.is_some() && entry.tdp.is_some();
            assert!(both || told, "{}", parsed.name);
            assert!(entry.peaks.values().all(|peak| !peak.source.is_empty()), "{}", parsed.name);
        }
    }

    /// Dense operations of one SM in one clock, by compute capability and arithmetic, from the architectures'
    /// own documents; `share` is what is left of the tensor cores' sums in f32.
    fn rate((major, minor): (u32, u32), arithmetic: &str, share: f64) -> f64 {
        let tensor = match (major, minor) {
            (7, _) | (8, 6 | 9) | (12, 0) => 1024.0,
            (8, 0) => 2048.0,
            (9, 0) => 4096.0,
            (10, 0 | 3) => 8192.0,
            other => panic!("no rate for compute capability {other:?}: add it with its source"),
        };
        match (arithmetic, (major, minor)) {
            ("f16/f16", _) => tensor,
            ("f16/f32" | "bf16/f32", _) => tensor * share,
            ("tf32/f32", _) => tensor / 2.0 * share,
            ("f32/f32", (7, _) | (8, 0)) | ("f64/f64", (8 | 10, 0)) => 128.0,
            ("f32/f32", _) | ("f64/f64", (9, 0)) => 256.0,
            ("f64/f64", (7, 0)) => 64.0,
            ("f64/f64", _) => 4.0,
            // The first tensor cores have no integers: these are the lanes' dot products.
            ("int8/int32", (7, 0)) => 512.0,
            ("int8/int32" | "fp8/f16", _) => 2.0 * tensor,
            ("fp8/f32", _) => 2.0 * tensor * share,
            (other, _) => panic!("no rate of {other}: add it with its source"),
        }
    }

    #[test]
    fn every_peak_is_sms_times_operations_times_its_own_clock() {
        let mut derived = 0;
        for Card { parsed, entry } in &datasheets().unwrap().cards {
            for (arithmetic, peak) in &entry.peaks {
                let clock = entry.clock_of(arithmetic).unwrap();
                let each = rate(parsed.compute_capability, arithmetic, parsed.tensor_share);
                let expected = f64::from(parsed.sm_count) * each * clock.get();
                let off = peak.value.get() / expected - 1.0;
                assert!(off.abs() < 0.011, "{} {arithmetic} is off by {off:.3}", parsed.name);
                derived += 1;
            }
        }
        assert!(derived > 150, "{derived}");
    }

    #[test]
    fn clocks_of_single_peaks_are_those_of_peaks_that_are_there() {
        for Card { parsed, entry } in &datasheets().unwrap().cards {
            for arithmetic in entry.clocks.keys() {
                assert!(entry.peaks.contains_key(arithmetic), "{} {arithmetic}", parsed.name);
            }
        }
        let h100 = find("NVIDIA H100 80GB HBM3", &Field::absent("x"), &Field::Known(132));
        let clock = |arithmetic| h100.known().unwrap().clock_of(arithmetic);
        assert_eq!(clock("f16/f32"), Some(Hertz(1.83e9)));
        assert_eq!(clock("f32/f32"), Some(Hertz(1.98e9)));
    }

    #[test]
    fn cards_are_told_apart_by_name_sms_and_memory() {
        let gib = |count: f64| Field::Known(Bytes(count * 1024.0 * 1024.0 * 1024.0));
        let name = |found: Field<DatasheetEntry>| found.known().map(|entry| entry.name.clone());
        let found = find("NVIDIA H200", &gib(139.8), &Field::Known(132));
        assert_eq!(name(found).as_deref(), Some("h200-sxm"));
        let found = find("Tesla T4", &gib(14.6), &Field::Known(40));
        assert_eq!(name(found).as_deref(), Some("t4"));
        let found = find("NVIDIA A100-SXM4-80GB", &gib(79.2), &Field::Known(108));
        assert_eq!(name(found).as_deref(), Some("a100-80-sxm"));

        let slice = find("NVIDIA A100-SXM4-80GB", &gib(39.5), &Field::Known(42));
        assert!(slice.reason().unwrap().contains("108 SMs and this device 42"));
        let odd = find("Tesla T4", &gib(24.0), &Field::Known(40));
        assert!(odd.reason().unwrap().contains("24.0 GiB"), "{odd:?}");
        let unknown = find("NVIDIA Z9", &gib(24.0), &Field::Known(40));
        assert!(unknown.reason().unwrap().contains("\"NVIDIA Z9\""));
    }

    #[test]
    fn a_card_may_be_sold_with_several_memories() {
        assert_eq!(datasheets().unwrap().memories("v100-sxm2"), [Bytes(16e9), Bytes(32e9)]);
        assert!(datasheets().unwrap().memories("none").is_empty());
    }

    #[test]
    fn what_a_card_cannot_do_has_its_reason() {
        let why = datasheets().unwrap().why_absent("t4", "bf16/f32");
        assert_eq!(why, Some("the architecture has no bf16 arithmetic"));
        assert_eq!(datasheets().unwrap().why_absent("t4", "f16/f32"), None);
    }

    fn entry_text(more: &str) -> String {
        format!(
            "[sources]\nx = \"someone\"\n[[gpu]]\nname = \"a\"\ndrivers = [\"A\"]\n\
             compute_capability = [8, 0]\nsm_count = 1\nmemory_gb = [1]\n\
             peaks_tflops.\"f16/f32\" = {{ value = 1, source = \"x\" }}\n{more}"
        )
    }

    #[test]
    fn wrong_datasheets_are_refused_with_entry_and_key() {
        assert!(Datasheets::parse(&entry_text("")).is_ok());
        let error = Datasheets::parse(&entry_text("speed = 3\n")).unwrap_err().to_string();
        assert!(error.contains("speed"), "{error}");
        let error =
            Datasheets::parse(&entry_text("tdp_w = { value = 0, source = \"x\" }\n")).unwrap_err();
        assert!(error.to_string().contains("a: tdp_w is 0"), "{error}");
        let error =
            Datasheets::parse(&entry_text("tdp_w = { value = 7, source = \"y\" }\n")).unwrap_err();
        assert!(error.to_string().contains("\"y\", which [sources] lacks"), "{error}");
        let twice = entry_text("").replace("drivers = [\"A\"]", "drivers = [\"A\", \"A\"]");
        assert_eq!(Datasheets::parse(&twice).unwrap_err(), DatasheetError::Twice("A".to_owned()));
    }
}
