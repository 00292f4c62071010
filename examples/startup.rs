//! How long the verbs take that people wait for at a prompt: the median of 21 starts, each at most 50 ms.
//!
//! ```text
//! cargo build --release && cargo run --release --example startup -- target/release/warpmark
//! ```
//!
//! Ends with 1 where a verb takes longer, or fails.

#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::disallowed_methods, reason = "no benchmark row is timed here")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 21;
const LIMIT: Duration = Duration::from_millis(50);
const VERBS: [&[&str]; 5] =
    [&["--help"], &["specs"], &["models"], &["run", "--dry-run"], &["report", "--help"]];

fn median(program: &Path, arguments: &[&str]) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status()?;
        times.push(start.elapsed());
        if !status.success() {
            return Err(format!("warpmark {} ended with {status}", arguments.join(" ")).into());
        }
    }
    times.sort();
    Ok(times[STARTS / 2])
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let program = std::env::args_os().nth(1).ok_or("name the warpmark executable")?;
    let mut slow = false;
    for arguments in VERBS {
        let time = median(Path::new(&program), arguments)?;
        slow |= time > LIMIT;
        println!("{:>8.1} ms  warpmark {}", time.as_secs_f64() * 1e3, arguments.join(" "));
    }
    Ok(if slow { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
