//! What is asked of a model that is to answer requests as they come.

use warpmark_measure::Offer;

pub use warpmark_harness::Form;

use crate::catalog::CatalogError;
use crate::examined::examined_offer;
use crate::request::Request;
use crate::shipped::Catalog;

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
        let own = model.family().services(model, request, form)?;
        offers.extend(own.into_iter().map(|offer| examined_offer(offer, model, request)));
    }
    Ok(offers)
}
