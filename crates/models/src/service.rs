//! What is asked of a model that is to answer requests as they come.

pub(crate) mod by_batch;

use warpmark_measure::Offer;

use crate::catalog::{Catalog, CatalogError, Dtype};
use crate::examined::examined_offer;
use crate::request::Request;

/// The form of a service; what it leaves open is the stanza's or the family's choice.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// What a request asks for: `generate`, `prefill`, `transcribe/30s`; what the family offers first without
    /// it.
    pub phase: Option<String>,
    /// The dtype; those of the request without it.
    pub dtype: Option<Dtype>,
    /// The most requests side by side.
    pub most: usize,
    /// Tokens of a prompt, for text.
    pub prompt: Option<usize>,
    /// Tokens of an answer, for text.
    pub tokens: Option<usize>,
}

/// The services of some of the catalog's models, in the order of their names.
pub fn offers(
    catalog: &Catalog,
    names: &[String],
    request: &Request,
    form: &Form,
) -> Result<Vec<Offer>, CatalogError> {
    let mut offers = Vec::new();
    for name in names {
        let model = catalog.model(name)?;
        let own = model.family()?.services(model, request, form)?;
        offers.extend(own.into_iter().map(|offer| examined_offer(offer, model, request)));
    }
    Ok(offers)
}
