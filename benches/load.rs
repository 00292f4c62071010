//! `cargo bench --bench load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("load")
}
