//! The `warpmark` command.

use std::process::ExitCode;

use warpmark::arguments::{self, Arguments, Verb};
use warpmark::{exit, interrupt, own_memory, terminal, threads, verbs, worker};

/// Reads the arguments, does what the verb says, and turns what came out into an exit code.
///
/// The road of `run`, which is also that of `cargo bench`: models.toml and the device make a plan; the
/// plan runs under criterion, row by row into a results file; the rows are analysed and shown.
fn main() -> ExitCode {
    threads::bound_the_environment();
    // It leaves interrupts to the run that started it, and that ends it.
    if worker::is_worker() {
        return exit::catch_panic(worker::run);
    }
    own_memory::heed_aborts();
    if let Err(error) = own_memory::check() {
        return exit::code(Err(error));
    }
    let arguments = match arguments::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    terminal::choose(arguments.terminal);
    interrupt::install();
    exit::catch_panic(|| verb(arguments.verb))
}

fn verb(verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Specs(options) => verbs::specs::run(&options),
        Verb::Models(options) => verbs::models::run(&options),
        Verb::Fetch(options) => verbs::fetch::run(&options),
        Verb::Run(options) => verbs::run::run(&options),
        Verb::Serve(options) => verbs::serve::run(&options),
        Verb::Verify(options) => verbs::verify::run(&options),
        Verb::Report(options) => verbs::report::run(&options),
        Verb::Compare(options) => verbs::compare::run(&options),
        Verb::Reference(options) => verbs::reference::run(&options),
        Verb::Cost(options) => verbs::cost::run(&options),
        Verb::Baseline(options) => verbs::baseline::run(&options),
        Verb::Recommend(options) => verbs::recommend::run(&options),
        Verb::Tune(options) => verbs::tune::run(&options),
        Verb::Rank(options) => verbs::rank::run(&options),
        Verb::Merge(options) => verbs::merge::run(&options),
        Verb::Ab(options) => verbs::ab::run(&options),
        Verb::Check(options) => verbs::check::run(&options),
        Verb::Doctor(options) => verbs::doctor::run(&options),
        Verb::Completions { shell } => verbs::completions::run(shell),
    }
}
