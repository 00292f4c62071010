//! The price list, `prices.toml`: what an hour of a card costs, by whom, where, on which terms, and who
//! says so.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::location::{Location, Text};
use crate::money::{MoneyError, UsdPerHour};

const BUILTIN: &str = include_str!("../prices.toml");

/// A price of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Who rents it out.
    pub provider: String,
    /// Under which name.
    pub instance: String,
    /// The card, as the source names it.
    pub title: String,
    /// The card, as its datasheet is named; `None` where the source leaves that open.
    pub card: Option<String>,
    /// How many cards it has.
    pub cards: u32,
    /// What all of them cost.
    pub instance_per_hour: UsdPerHour,
    /// Where.
    pub region: String,
    /// `on-demand` or `spot`.
    pub terms: String,
    /// Who says so.
    pub source: String,
    /// The key of the source in the file.
    pub source_key: String,
    /// When.
    pub date: String,
    /// Where it stands.
    pub location: Location,
}

impl Offer {
    /// What one of its cards costs.
    pub fn per_card(&self) -> UsdPerHour {
        self.instance_per_hour.divided(self.cards)
    }

    /// The offer in a line: price, instance, region, terms, source and date.
    pub fn describe(&self) -> String {
        let share = match self.cards {
            1 => String::new(),
            cards => format!(", {} of it for one of {cards} cards", self.per_card()),
        };
        format!(
            "{} for {} {} in {}, {}{share} ({}; {})",
            self.instance_per_hour,
            self.provider,
            self.instance,
            self.region,
            self.terms,
            self.source,
            self.date
        )
    }
}

/// What a price is wanted for; `None` takes any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceFilter {
    /// The region.
    pub region: Option<String>,
    /// The terms.
    pub terms: Option<String>,
}

/// A price list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    offers: Vec<Offer>,
}

/// What is wrong with a price list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not the TOML, or not the keys, that it should be.
    #[error("{location}: {reason}; see crates/analyze/prices.toml for the form")]
    Syntax {
        /// Where.
        location: Location,
        /// What.
        reason: String,
    },
    /// Something that is no price.
    #[error("{location}: {reason}")]
    Price {
        /// Where.
        location: Location,
        /// What.
        reason: MoneyError,
    },
    /// A value that no offer can have.
    #[error("{location}: {what}")]
    Value {
        /// Where.
        location: Location,
        /// What, with the next step.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sources: BTreeMap<String, Source>,
    #[serde(default)]
    price: Vec<PriceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    title: String,
    date: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    provider: String,
    instance: Spanned<String>,
    title: String,
    card: Option<String>,
    cards: Spanned<u32>,
    per_hour: Spanned<String>,
    region: String,
    terms: Spanned<String>,
    source: Spanned<String>,
}

impl Prices {
    /// The list that the program carries.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn builtin() -> Result<Self, PriceError> {
        Self::parse(BUILTIN, "crates/analyze/prices.toml")
    }

    /// Reads a list strictly: an unknown key, a price of zero or in no currency, an unexplained source
    /// and an offer that stands twice are errors with their line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, PriceError> {
        let text = Text { origin, text };
        let file: File = toml::from_str(text.text).map_err(|error| {
            let (location, reason) = text.fault(&error);
            PriceError::Syntax { location, reason }
        })?;
        let mut offers: Vec<Offer> = Vec::new();
        for entry in &file.price {
            let offer = entry.offer(&file.sources, text)?;
            let same = |other: &&Offer| {
                (&other.provider, &other.instance, &other.region, &other.terms)
                    == (&offer.provider, &offer.instance, &offer.region, &offer.terms)
            };
            if let Some(other) = offers.iter().find(same) {
                let what = format!(
                    "{:?} has a price on these terms since line {}; keep one of the two",
                    offer.instance, other.location.line
                );
                return Err(PriceError::Value { location: offer.location, what });
            }
            offers.push(offer);
        }
        Ok(Self { offers })
    }

    /// The offers that a card can be had for, the cheapest first.
    pub fn find(&self, card: &str, wanted: &PriceFilter) -> Vec<&Offer> {
        let fits = |want: &Option<String>, has: &str| {
            want.as_ref().is_none_or(|want| want.eq_ignore_ascii_case(has))
        };
        let mut found: Vec<&Offer> = self
            .offers
            .iter()
            .filter(|offer| offer.card.as_deref() == Some(card))
            .filter(|o| fits(&wanted.region, &o.region) && fits(&wanted.terms, &o.terms))
            .collect();
        found.sort_by(|a, b| a.per_card().get().total_cmp(&b.per_card().get()));
        found
    }

    /// All offers, in the file's order.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }
}

impl PriceEntry {
    fn offer(
        &self,
        sources: &BTreeMap<String, Source>,
        text: Text<'_>,
    ) -> Result<Offer, PriceError> {
        let per_hour = self.per_hour.get_ref().parse().map_err(|reason| PriceError::Price {
            location: text.location(&self.per_hour.span()),
            reason,
        })?;
        if *self.cards.get_ref() == 0 {
            let location = text.location(&self.cards.span());
            let what = "an instance has at least 1 card, not 0".to_owned();
            return Err(PriceError::Value { location, what });
        }
        let terms = self.terms.get_ref();
        if !["on-demand", "spot"].contains(&terms.as_str()) {
            let location = text.location(&self.terms.span());
            let what = format!("{terms:?} are no terms: write on-demand or spot");
            return Err(PriceError::Value { location, what });
        }
        let key = self.source.get_ref();
        let source = sources.get(key).ok_or_else(|| PriceError::Value {
            location: text.location(&self.source.span()),
            what: format!("the source {key:?} is not explained: add it to [sources]"),
        })?;
        Ok(Offer {
            provider: self.provider.clone(),
            instance: self.instance.get_ref().clone(),
            title: self.title.clone(),
            card: self.card.clone(),
            cards: *self.cards.get_ref(),
            instance_per_hour: per_hour,
            region: self.region.clone(),
            terms: terms.clone(),
            source: source.title.clone(),
            source_key: key.clone(),
            date: source.date.clone(),
            location: text.location(&self.instance.span()),
        })
    }
}

#[cfg(test)]
#[path = "prices_tests.rs"]
mod tests;
