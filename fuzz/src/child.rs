//! One process that feeds one target, and says how far it is.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::targets::Target;
use crate::{corpus, memory, mutate};

/// The longest that an input of at most a megabyte may take; ten times as long unoptimised.
pub(crate) const TIME_LIMIT: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(2) };

/// The most memory that an input of at most a megabyte may make a parser hold.
pub(crate) const MEMORY_LIMIT: usize = 512 << 20;

/// How a child tells what it found.
pub(crate) const FOUND: &str = "found";
/// How a child tells how far it is.
pub(crate) const AT: &str = "at";

/// Feeds the inputs from `first` on, and ends at the first that fails.
pub(crate) fn run(
    options: &Options,
    target: &Target,
    first: u64,
    scratch: &Path,
) -> Result<ExitCode, Box<dyn Error>> {
    let seeds = corpus::of(target)?;
    let file = prepared(target, scratch)?;
    // The most that one input made the parser hold.
    let mut most = 0;
    for number in first..options.inputs {
        let input = mutate::input(&seeds, options.seed, number);
        fs::write(&file, &input)?;
        if number % 256 == 0 || number == first {
            say(&format!("{AT} {number} {most}"))?;
        }
        match feed(target, &file, &input) {
            Ok(held) => most = most.max(held),
            Err(reason) => {
                say(&format!("{FOUND} {number} {reason}"))?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    say(&format!("{AT} {} {most}", options.inputs))?;
    Ok(ExitCode::SUCCESS)
}

/// Feeds one file to the one target that is named.
pub(crate) fn once(options: &Options, file: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let [target] = options.targets[..] else { return Err("name one target".into()) };
    let input = fs::read(file)?;
    let folder = tempfile::tempdir()?;
    let copy = prepared(target, folder.path())?;
    fs::write(&copy, &input)?;
    match feed(target, &copy, &input) {
        Ok(held) => {
            println!("{}: held, with {} KiB at most", target.name, held.div_ceil(1024));
            Ok(ExitCode::SUCCESS)
        }
        Err(reason) => {
            println!("{}: {reason}", target.name);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Where a target's input goes in that folder, with the files around it that the target needs.
fn prepared(target: &Target, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    (target.prepare)(folder)?;
    Ok(folder.join(target.file))
}

/// One input, watched: the bytes that it made the parser hold, or the reason where it fails.
fn feed(target: &Target, path: &Path, input: &[u8]) -> Result<usize, String> {
    let before = memory::restart();
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.feed)(path, input)));
    let took = start.elapsed();
    let held = memory::peak().saturating_sub(before);
    if outcome.is_err() {
        return Err("a panic".to_owned());
    }
    if took > TIME_LIMIT {
        return Err(format!("{:.1} s", took.as_secs_f64()));
    }
    if held > MEMORY_LIMIT {
        return Err(format!("{} MiB held", held >> 20));
    }
    Ok(held)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
