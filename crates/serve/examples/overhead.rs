//! What the load generator itself costs: `cargo run --release -p warpmark-serve --example overhead`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]
//!
//! A service that takes no time shows the generator's own time for each request; one that takes 10 ms
//! shows which share of a real workload that is.

use std::process::ExitCode;
use std::time::Duration;

use warpmark_measure::{Batched, Description, WorkloadError};
use warpmark_record::Check;
use warpmark_record::load_test::Arrivals;
use warpmark_serve::{Dynamic, Level, ServeError, Timeline, Wall, batched};

/// Spins for so long in each pass.
struct Spin(Duration);

impl Batched for Spin {
    fn describe(&self) -> Description {
        unreachable!("nothing here becomes a row")
    }

    fn max_batch(&self) -> usize {
        512
    }

    fn answer(&mut self, _requests: usize) -> Result<(), WorkloadError> {
        let wall = Wall::start();
        wall.wait_until(self.0);
        Ok(())
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        unreachable!("nothing here becomes a row")
    }
}

fn measure(pass: Duration, users: u64, max_batch: usize) -> Result<(), ServeError> {
    let level = Level {
        arrivals: Arrivals::Closed { users },
        warm_up: Duration::from_millis(500),
        window: Duration::from_secs(3),
        timeout: Duration::from_secs(30),
        queue_limit: 4096,
        target: None,
        cancellation: None,
    };
    let batching = Dynamic { max_batch, max_queue_delay: Duration::ZERO };
    let load = batched(&mut Spin(pass), &level, batching, &Wall::start())?;
    let overhead = load.overhead_per_request().map_or(f64::NAN, |time| time.0 * 1e6);
    let share = load.passes.generator_s / load.window_s * 100.0;
    println!(
        "pass {pass:?}, {users} users, {max_batch} a pass: {} requests, {overhead:.3} µs of the \
         generator's own each, {share:.3} % of the window",
        load.requests.asked
    );
    Ok(())
}

fn main() -> ExitCode {
    let pass = Duration::from_millis(10);
    let all = [(Duration::ZERO, 1, 1), (Duration::ZERO, 512, 1), (Duration::ZERO, 512, 32)];
    for (pass, users, max_batch) in
        all.into_iter().chain([(pass, 1, 1), (pass, 512, 1), (pass, 512, 32)])
    {
        if let Err(error) = measure(pass, users, max_batch) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
