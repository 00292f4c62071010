//! One verb, one file.

pub mod compare;
pub mod completions;
pub mod doctor;
pub mod fetch;
pub mod models;
pub mod report;
pub mod run;
pub mod specs;
pub mod verify;
