//! One verb, one file.

pub mod baseline;
pub mod compare;
pub mod completions;
pub mod cost;
pub mod doctor;
pub mod fetch;
pub mod models;
pub mod reference;
pub mod report;
pub mod run;
pub mod specs;
pub mod verify;
