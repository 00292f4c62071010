//! What the catalog says of models, by the names that all of this crate uses.

pub use warpmark_catalog::{CatalogError, Dtype, Format, LOAD, Location, Quantisation};

pub use crate::model::Model;
