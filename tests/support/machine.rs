//! The command on a machine with simulated cards.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use warpmark_record::store::{self, Recording};
use warpmark_record::{Outcome, Record};
use warpmark_simgpu::harness::{Report, Simulator};

use super::{Ran, World};

/// A world with simulated cards in it.
pub struct Machine {
    pub world: World,
    simulator: Simulator,
    /// What is known of kernels that are not ours, and documented: parts of the lines that tell it.
    known: Vec<&'static str>,
}

impl Machine {
    pub fn with(profiles: &str) -> Self {
        let world = World::new();
        let simulator = Simulator::new(&world.path("simgpu"), profiles);
        Self { world, simulator, known: Vec::new() }
    }

    pub fn set(mut self, change: impl FnOnce(Simulator) -> Simulator) -> Self {
        self.simulator = change(self.simulator.clone());
        self
    }

    /// Takes a finding for known: one that never comes fails the test as well.
    pub fn known(mut self, part: &'static str) -> Self {
        self.known.push(part);
        self
    }

    pub fn faults(self, plan: &str) -> Self {
        self.set(|simulator| simulator.faults(plan))
    }

    /// The command, on this machine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        self.simulator.apply(&mut command).unwrap();
        command.args(arguments);
        command
    }

    /// See [`World::interruptible`].
    pub fn interruptible(&self, command: &Command) -> Command {
        self.world.interruptible(command)
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    pub fn specs(&self, device: &str) -> Value {
        let ran = self.run(&["specs", "--json", "--device", device]);
        serde_json::from_str(&ran.exits(0).stdout).unwrap()
    }

    /// The command that measures a selection into a folder that is not `results`.
    pub fn measuring(&self, filter: &str) -> Command {
        let folder = self.world.path("simulated");
        let folder = folder.to_str().unwrap();
        self.command(&["run", "--device", "cuda", "--filter", filter, "--results", folder])
    }

    pub fn measure(&self, filter: &str) -> Ran {
        Ran::of(self.measuring(filter).output().unwrap())
    }

    /// The same with every sample of the full suite, three seconds of them: enough for what comes in the middle
    /// and for what the sensors have to see.
    pub fn measure_at_length(&self, filter: &str) -> Ran {
        let mut command = self.measuring(filter);
        Ran::of(command.args(["--suite", "full", "--verbose"]).output().unwrap())
    }

    pub fn recording(&self) -> Recording {
        let devices = std::fs::read_dir(self.world.path("simulated")).unwrap();
        let files = devices.flat_map(|device| std::fs::read_dir(device.unwrap().path()).unwrap());
        let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        let recording = store::read_all(&files).unwrap();
        assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
        recording
    }

    pub fn rows(&self) -> Vec<Record> {
        self.recording().rows
    }

    /// What the processes left behind; nothing may be left on the device, whatever happened.
    pub fn report(&self) -> Report {
        let report = self.simulator.report().unwrap();
        for what in ["allocations", "bytes", "modules", "events"] {
            assert_eq!(report.left(what), 0, "{what} left");
        }
        self.report_of_kernels()
    }

    /// The same, where something may be left on the device.
    pub fn report_of_kernels(&self) -> Report {
        let report = self.simulator.report().unwrap();
        assert_eq!(report.refused(), 0, "a driver function that the simulator lacks was called");
        self.assert_nothing_new(&report);
        for part in &self.known {
            let comes = report.findings().iter().any(|line| line.contains(part));
            assert!(comes, "no longer found, so no longer to be excused: {part}");
        }
        assert_eq!(
            newer_than_promised(&report),
            [] as [&str; 0],
            "driver 525 lacks what was called"
        );
        report
    }

    #[track_caller]
    fn assert_nothing_new(&self, report: &Report) {
        let mut found = report.findings();
        found.retain(|line| !self.known.iter().any(|part| line.contains(part)));
        assert!(found.is_empty(), "kernels: {found:#?}");
    }
}

/// The functions of CUDA 12.0's driver, the oldest that is promised.
const OLDEST: &str = include_str!("../data/driver-12.0.txt");

/// Functions of the driver that were called and that the oldest one lacks.
fn newer_than_promised(report: &Report) -> Vec<&str> {
    let of_the_driver = |name: &&str| {
        // `cublas...` and `cuda...` are other libraries'.
        name.strip_prefix("cu").is_some_and(|rest| rest.starts_with(char::is_uppercase))
    };
    let called = report.called().filter(of_the_driver);
    // It is asked for by name, and the older one taken where it is missing.
    let called = called.filter(|name| *name != "cuEventElapsedTime_v2");
    called.filter(|name| !OLDEST.lines().any(|known| known == *name)).collect()
}

/// What is wrong with a kernel fails the test that ran it, whatever else the test looks at.
impl Drop for Machine {
    fn drop(&mut self) {
        let report = self.simulator.report().unwrap_or_default();
        if !std::thread::panicking() {
            self.assert_nothing_new(&report);
        }
    }
}

#[track_caller]
pub fn assert_reason(outcome: &Outcome, failed: bool, part: &str) {
    let reason = match outcome {
        Outcome::Failed { reason } if failed => reason,
        Outcome::Skipped { reason } if !failed => reason,
        other => panic!("expected \"{part}\", got {other:?}"),
    };
    assert!(reason.contains(part), "{reason}");
}
