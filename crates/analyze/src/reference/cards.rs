//! The cards that tables may name, with what their datasheets say: handed in, because the datasheets
//! live with the code that opens devices.

use warpmark_record::Bytes;
use warpmark_record::machine::DatasheetEntry;

/// A card with a datasheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Its datasheet figures.
    pub datasheet: DatasheetEntry,
    /// The memories it is sold with.
    pub memories: Vec<Bytes>,
}

impl Card {
    /// The datasheet's peak of an arithmetic such as `f16/f32`, in FLOP/s.
    pub fn peak(&self, arithmetic: &str) -> Option<f64> {
        self.datasheet.peaks.get(arithmetic).map(|peak| peak.value.0)
    }

    /// The datasheet's memory bandwidth in B/s.
    pub fn bandwidth(&self) -> Option<f64> {
        self.datasheet.bandwidth.as_ref().map(|bandwidth| bandwidth.value.0)
    }

    /// The largest memory it is sold with, in bytes.
    pub fn memory(&self) -> Option<f64> {
        self.memories.iter().map(|bytes| bytes.0).reduce(f64::max)
    }

    /// The f32 lanes that the datasheet's f32 peak takes at its clock: each does a multiply and an add
    /// a clock.
    pub fn lanes(&self) -> Option<f64> {
        let clock = self.datasheet.clock_of("f32/f32")?.0;
        Some(self.peak("f32/f32")? / (2.0 * clock))
    }
}

/// All cards with a datasheet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cards(pub Vec<Card>);

impl Cards {
    /// The card of a name.
    pub fn get(&self, name: &str) -> Option<&Card> {
        self.0.iter().find(|card| card.datasheet.name == name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|card| card.datasheet.name.as_str())
    }
}
