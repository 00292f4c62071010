//! The road of a run: device and catalog make a plan, the plan runs, every row is kept as it comes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use criterion::Criterion;
use warpmark_device::{Device, Opened};
use warpmark_measure::{Clock, CudaEvents, Depth, Gate, OwnReport, Runner, Stopwatch, WallClock};
use warpmark_micro::Request as MicroRequest;
use warpmark_models::weights::Cache;
use warpmark_record::store::Writer;
use warpmark_record::{DeviceKind, Outcome, Record, Run, RunId, Seconds};

use crate::arguments::{Selection, Suite};
use crate::plan::Plan;
use crate::progress::Bars;
use crate::{environment, interrupt, sources};

/// An open device and what is going to be run on it.
pub struct Campaign {
    opened: Opened,
    plan: Plan,
    bars: Bars,
}

/// What became of a campaign.
pub struct Results {
    /// The file that the rows are in.
    pub path: PathBuf,
    /// The stamp of the run.
    pub run: Run,
    /// The rows of this process, in order.
    pub rows: Vec<Record>,
}

impl Results {
    /// How many benchmarks failed.
    pub fn failures(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count()
    }
}

impl Campaign {
    /// Opens the device and plans what the selection asks for; `target` leaves only what belongs to
    /// that bench target.
    pub fn prepare(selection: &Selection, target: Option<&str>) -> anyhow::Result<Self> {
        let opened = warpmark_device::open(selection.device.device, threads())?;
        let spec = opened.device.spec();
        let catalog = sources::catalog(&selection.catalog)?;
        // The bars are made before the plan is known, since the plan's groups report through them.
        let bars = Bars::new();
        let request = sources::request(selection, spec, bars.transfers())?;
        let micro =
            MicroRequest { full: selection.suite == Suite::Full, seed: selection.weights.seed };
        let mut groups = warpmark_micro::groups(spec, &micro);
        groups.extend(warpmark_models::groups(&catalog, &request)?);
        let mut plan = Plan::select(groups, target, selection.filter.as_ref());
        if let Some(budget) = selection.budget {
            plan.cut_to(budget);
        }
        Ok(Self { opened, plan, bars })
    }

    /// The plan in words.
    pub fn describe(&self) -> String {
        let spec = self.opened.device.spec();
        let note = self.opened.note.as_ref().map(|note| format!("{note}\n")).unwrap_or_default();
        format!("{note}{} ({})\n\n{}", spec.name, spec.kind, self.plan.describe(&spec.memory))
    }

    /// Whether nothing was selected.
    pub fn is_empty(&self) -> bool {
        self.plan.groups.is_empty()
    }

    /// Measures the plan and keeps each row in the results folder before the next benchmark begins.
    pub fn measure(
        self,
        selection: &Selection,
        results: &Path,
        id: RunId,
        verbose: bool,
        criterion: Criterion,
    ) -> anyhow::Result<Results> {
        let cache = sources::cache()?;
        let _alone = alone(&cache, &self.opened.device)?;
        let run = environment::run(selection, &self.opened.device, id);
        // The store itself refuses figures of a simulated device below a folder named `results`.
        let open = match run.device.kind {
            DeviceKind::Simulated => Writer::open_simulated,
            DeviceKind::Cpu | DeviceKind::Cuda => Writer::open,
        };
        let mut writer = open(results, &run)?;
        let path = writer.path().to_path_buf();
        let own_report = if verbose { OwnReport::Shown } else { diverted(&cache)? };
        let gate = deadline(selection);
        let rows = self.execute(&run, criterion, own_report, Depth::Measure, gate, &mut |row| {
            interrupt::appending(&path, || writer.append(row))
                .with_context(|| format!("{} could not be recorded", row.id))
        })?;
        Ok(Results { path, run, rows })
    }

    /// Checks every answer of the plan; nothing is timed or recorded.
    pub fn verify(self, selection: &Selection) -> anyhow::Result<Vec<Record>> {
        let run = environment::run(selection, &self.opened.device, environment::new_run_id());
        let gate = deadline(selection);
        let criterion = Criterion::default().without_plots();
        self.execute(&run, criterion, OwnReport::Shown, Depth::Verify, gate, &mut |_| Ok(()))
    }

    fn execute(
        mut self,
        run: &Run,
        criterion: Criterion,
        own_report: OwnReport,
        depth: Depth,
        gate: Gate<'_>,
        keep: &mut dyn FnMut(&Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Record>> {
        let device = &self.opened.device;
        self.bars.begin(self.plan.entries().count());
        if let Some(note) = &self.opened.note {
            self.bars.line(note);
        }
        self.bars.line(&format!("{} ({})", device.spec().name, device.spec().kind));
        let run = run.run.clone();
        let clock = clock(device)?;
        let sensors = matches!(device, Device::Cuda(_)).then(|| device.telemetry());
        let mut runner = Runner { device, run, criterion, own_report, clock, sensors, depth, gate };
        let mut rows = Vec::new();
        for group in self.plan.groups {
            runner.run_group(group, &mut self.bars, &mut |row| {
                keep(&row)?;
                rows.push(row);
                anyhow::Ok(())
            })?;
        }
        self.bars.clear();
        Ok(rows)
    }
}

/// Threads for work on the CPU: every core this process may use, or what rayon was told.
fn threads() -> usize {
    let told = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    told.filter(|threads| *threads > 0).unwrap_or_else(all)
}

fn clock(device: &Device) -> anyhow::Result<Box<dyn Clock>> {
    Ok(match device {
        Device::Cpu(_) => Box::new(WallClock::default()),
        Device::Cuda(gpu) => Box::new(CudaEvents::new(&gpu.stream)?),
    })
}

/// Holds benchmarks back once the budget is spent, whatever the plan believed.
fn deadline(selection: &Selection) -> Gate<'static> {
    let Some(budget) = selection.budget else {
        return Box::new(|_| None);
    };
    let watch = Stopwatch::start();
    Box::new(move |_| {
        (watch.elapsed() >= Seconds(budget.as_secs_f64()))
            .then(|| "the budget was used up by the benchmarks before it".to_owned())
    })
}

/// A file lock: two runs on one device at the same time would measure each other.
fn alone(cache: &Cache, device: &Device) -> anyhow::Result<std::fs::File> {
    let spec = device.spec();
    let name = format!("measuring-{}-{}.lock", spec.slug, spec.index);
    let path = sources::cache_file(cache, &name)?;
    let file = std::fs::File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another warpmark run is measuring on {} at this moment, and the two would measure each \
             other; start again when it is done",
            spec.name
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

fn diverted(cache: &Cache) -> anyhow::Result<OwnReport> {
    let path = sources::cache_file(cache, "criterion.log")?;
    OwnReport::to_file(&path).with_context(|| format!("{} cannot be written", path.display()))
}

/// criterion as the suite wants it: it keeps its files in `folder`, draws no plots, and does not spend
/// a second a row on resampling for a report that ours replaces.
pub fn criterion(folder: Option<&Path>) -> Criterion {
    let criterion = Criterion::default().without_plots().nresamples(2000);
    match folder {
        Some(folder) => criterion.output_directory(folder),
        None => criterion,
    }
}
