//! `cargo bench --bench text`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("text")
}
