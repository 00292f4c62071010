//! `warpmark completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::exit;

/// Prints the completions of a shell.
pub fn run(shell: Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "warpmark", &mut script);
    crate::output::show(&String::from_utf8(script)?)?;
    Ok(exit::OK)
}
