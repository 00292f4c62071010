//! `cargo bench --bench micro`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("micro")
}
