//! What is asked of a model that is to answer requests as they come.

use warpmark_measure::Offer;

pub use warpmark_harness::ServiceSettings;

use crate::catalog::CatalogError;
use crate::examined::examined_offer;
use crate::options::RunOptions;
use crate::shipped::Catalog;

/// The services of some of the catalog's models, in the order of their names.
pub fn offers(
    catalog: &Catalog,
    names: &[String],
    options: &RunOptions,
    settings: &ServiceSettings,
) -> Result<Vec<Offer>, CatalogError> {
    let mut offers = Vec::new();
    for name in names {
        let model = catalog.model(name)?;
        let own = model.family().services(model, options, settings)?;
        offers.extend(own.into_iter().map(|offer| examined_offer(offer, model, options)));
    }
    Ok(offers)
}
