//! One verb, one file.

pub mod ab;
pub mod baseline;
pub mod check;
pub mod compare;
pub mod completions;
pub mod cost;
pub mod doctor;
pub mod fetch;
pub mod merge;
pub mod models;
pub mod rank;
pub mod recommend;
pub mod reference;
pub mod report;
pub mod run;
pub mod serve;
pub mod specs;
pub mod tune;
pub mod verify;
