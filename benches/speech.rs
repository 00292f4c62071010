//! `cargo bench --bench speech`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("speech")
}
