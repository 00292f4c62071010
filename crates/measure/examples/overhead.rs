//! What the harness adds: the recorded time of an empty workload and of a 1 ms one, against a bare
//! timing loop over the same function, in turn.
//!
//! ```text
//! cargo run --release -p warpmark-measure --example overhead
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::disallowed_methods, reason = "the bare loop is what the harness is compared with")]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use warpmark_device::{Device, DeviceChoice};
use warpmark_measure::{
    CriterionOutput, Description, Entry, Group, Mode, Runner, Sampling, Session, Silent, WallClock,
    Workload, WorkloadError,
};
use warpmark_record::{Bytes, Check, RunId, Seconds, Work, stats};

/// Short rounds in turn, so that a processor that changes its clock does so for both sides.
const ROUNDS: usize = 61;

/// `steps` dependent multiplications: as long as you like, and the same length every time. Not inlined,
/// so that both sides run the very same code.
#[inline(never)]
fn chain(steps: u64) -> u64 {
    (0..steps).fold(black_box(1), |x, step| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step)
}

struct Chain {
    entry: Entry,
    steps: u64,
}

impl Workload for Chain {
    fn describe(&self) -> Description {
        Description {
            id: self.entry.id.clone(),
            parameters: [("steps".to_owned(), self.steps.into())].into(),
            work: Work::default(),
            data: None,
            weights: None,
            caveats: vec![],
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        black_box(chain(black_box(self.steps)));
        Ok(())
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let repeats = chain(self.steps) == chain(self.steps);
        warpmark_measure::workload::checked("itself", if repeats { 0.0 } else { 1.0 }, 0.5)
    }
}

struct Chains(u64);

impl Session for Chains {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        Ok(Box::new(Chain { entry: entry.clone(), steps: self.0 }))
    }
}

/// The median time of an iteration as a row would record it.
fn recorded(device: &Device, steps: u64) -> Result<f64, Box<dyn std::error::Error>> {
    let entry = Entry {
        id: "micro/harness/chain@host".parse()?,
        sampling: Sampling {
            samples: 10,
            target: Seconds(0.1),
            warm_up: Seconds(0.05),
            single: false,
            may_end_early: false,
        },
        iteration_estimate: Seconds(1e-3),
        preparation_estimate: Seconds(0.0),
        memory_estimate: Bytes(0.0),
        sweep: None,
        skip: None,
    };
    let folder = tempfile::tempdir()?;
    let mut runner = Runner {
        device,
        run: RunId("overhead".to_owned()),
        criterion: Criterion::default()
            .without_plots()
            .nresamples(2000)
            .output_directory(folder.path()),
        criterion_output: CriterionOutput::to_file(&folder.path().join("log"))?,
        clock: Box::new(WallClock::default()),
        sensors: None,
        mode: Mode::Measure,
        admission: Box::new(|_| None),
        alarm: None,
        whole: true,
    };
    let open = Box::new(move |_: &Device| Ok(Box::new(Chains(steps)) as Box<dyn Session>));
    let group = Group { name: "harness".to_owned(), entries: vec![entry], open };
    let mut median = None;
    let done: Result<(), Infallible> = runner.run_group(group, &mut Silent, &mut |row| {
        median = row.samples.as_ref().and_then(warpmark_record::Samples::median);
        Ok(())
    });
    let Ok(()) = done;
    Ok(median.ok_or("no samples")?.get())
}

/// The median time of an iteration by a loop and a stopwatch, as many samples of as many iterations.
fn bare(steps: u64) -> Option<f64> {
    let iterations = if steps < 100 { 3_000_000_u64 } else { 10 };
    let times: Vec<f64> = (0..10)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..iterations {
                black_box(chain(black_box(steps)));
            }
            start.elapsed().as_secs_f64() / iterations as f64
        })
        .collect();
    stats::median(&times)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = warpmark_device::open(DeviceChoice::Cpu, 1)?.device;
    let probe = 1_000_000;
    let per_step = bare(probe).ok_or("no samples")? / probe as f64;
    for (name, steps) in [("empty", 0), ("1 ms", (1e-3 / per_step) as u64)] {
        let (mut differences, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let bare = bare(steps).ok_or("no samples")?;
            let recorded = recorded(&device, steps)?;
            differences.push(recorded - bare);
            ratios.push(recorded / bare);
        }
        let difference = stats::median(&differences).ok_or("no rounds")?;
        let ratio = stats::median(&ratios).ok_or("no rounds")?;
        println!(
            "{name}: recorded - bare = {} an iteration, recorded / bare = {ratio:.4} (medians of {ROUNDS} rounds)",
            Seconds(difference)
        );
    }
    Ok(())
}
