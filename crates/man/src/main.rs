//! Writes a man page for the command and one for each verb into a folder: `warpmark-man FOLDER`.
//!
//! It is a program of its own, and no member of the default build, so that nobody pays for it but a release.

use std::process::ExitCode;
use std::{env, fs, io};

use clap::CommandFactory;
use warpmark::arguments::Arguments;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        return failed("usage: warpmark-man FOLDER");
    };
    let written: io::Result<()> = fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), &folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{} cannot be written: {error}", folder.display())),
    }
}

#[allow(clippy::print_stderr, reason = "a program's own message")]
fn failed(why: &str) -> ExitCode {
    eprintln!("warpmark-man: {why}");
    ExitCode::FAILURE
}
