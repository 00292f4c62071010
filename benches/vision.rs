//! `cargo bench --bench vision`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("vision")
}
