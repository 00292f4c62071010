//! Feeds damaged input to every parser of foreign bytes: files of weights, their configurations, tokenizers,
//! audio, catalogs, results, prices, and what a hub answers. `fuzz/README.md` says how it is used.
//!
//! An input fails a target where it panics, aborts, takes longer than [`child::TIME_LIMIT`], or holds
//! more memory than [`child::MEMORY_LIMIT`]. A failing input is kept in `fuzz/found/`, and the exit code
//! is 1. Inputs follow from the seed and their number, so a run can be repeated; the corpus
//! (`fuzz/corpus/<target>/`) is what they are made of.

#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::print_stderr, reason = "a program that prints its findings")]
#![allow(clippy::disallowed_methods, reason = "no benchmark row is timed here")]

mod child;
mod corpus;
mod memory;
mod mutate;
mod options;
mod parent;
mod targets;

use std::error::Error;
use std::process::ExitCode;

use options::{Mode, Options};

#[global_allocator]
static ALLOCATOR: memory::Counted = memory::Counted;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse(std::env::args_os().skip(1))?;
    match &options.mode {
        Mode::Search => parent::search(&options),
        Mode::Child { target, first, scratch } => child::run(&options, target, *first, scratch),
        Mode::File(file) => child::once(&options, file),
    }
}
