//! Models as data: the catalog, weights from hub, folder or seed, and the nets behind each phase.

pub mod catalog;
pub mod engine;
pub mod family;
#[cfg(test)]
mod fixture;
pub mod load;
mod marks;
pub mod net;
pub mod request;
pub mod tokenizer;
pub mod weights;
mod worst;

use warpmark_measure::Group;

pub use catalog::{Catalog, CatalogError, Dtype, Model};
pub use engine::candle_device;
pub use family::{FAMILIES, Family};
pub use request::Request;

/// Everything that a request measures of the catalog's models, in the order in which it runs: first
/// the loads, then each model's own phases.
pub fn groups(catalog: &Catalog, request: &Request) -> Result<Vec<Group>, CatalogError> {
    let mut groups = load::groups(catalog, request)?;
    for model in catalog.models() {
        groups.extend(model.family()?.groups(model, request)?);
    }
    Ok(groups)
}
