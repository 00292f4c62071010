//! `cargo bench --bench image`.

use std::process::ExitCode;

fn main() -> ExitCode {
    warpmark::bench::target("image")
}
