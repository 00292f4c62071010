//! The suite behind the `warpmark` command and behind `cargo bench`: both walk the same road.

pub mod arguments;
mod bar;
pub mod bench;
pub mod budget;
pub mod campaign;
mod environment;
pub mod exit;
mod files;
mod filter;
mod folder_of_one_model;
pub mod interrupt;
mod libraries;
mod output;
pub mod own_memory;
mod plan;
mod progress;
mod protocol;
mod recorder;
mod serving;
mod sources;
mod state;
mod supervisor;
pub mod terminal;
pub mod threads;
mod transfers;
pub mod verbs;
pub mod worker;
