//! The road of a run: device and catalog make a plan, the plan runs, every row is kept as it comes.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use criterion::Criterion;
use warpmark_device::{Described, Device, DeviceChoice};
use warpmark_measure::{
    Admission, Clock, CriterionOutput, CudaEvents, Group, Mode, Runner, WallClock,
};
use warpmark_micro::RunOptions as MicroOptions;
use warpmark_models::weights::{Cache, Progress};
use warpmark_record::{BenchmarkId, DeviceKind, DeviceSpec, GROUPS, Record, RunId, Seconds};

use crate::arguments::{Output, Selection, Suite};
use crate::budget::Budget;
use crate::environment::Identity;
use crate::lock::{self, lock_device};
use crate::plan::{PROCESS_START, Plan};
use crate::progress::Bars;
use crate::recorder::{Recorder, Results};
use crate::resume::Resumed;
use crate::{environment, filter, folder_of_one_model, sources, state, threads};

/// Where all benchmarks are listed.
const LISTING: &str = "`--dry-run` without a filter lists all that there are in this suite";

/// A device and what is going to be run on it. The device is opened when the campaign begins, by the
/// process that measures.
pub struct Campaign {
    pub(crate) described: Described,
    pub(crate) plan: Plan,
    /// Everything that the selection asks for, of all bench targets, before a budget cuts it.
    pub(crate) planned: Vec<BenchmarkId>,
    pub(crate) bars: Bars,
    /// What is to be known before anything is measured.
    notes: Vec<String>,
    /// Whether criterion's own report is wanted, which needs every sample.
    pub(crate) whole: bool,
    /// The time there is for all of it, from the moment it is prepared.
    pub(crate) budget: Budget,
}

impl Campaign {
    /// Looks at the device and plans what the selection asks for; `target` leaves only what belongs to
    /// that bench target.
    pub fn prepare(selection: &Selection, target: Option<&str>) -> anyhow::Result<Self> {
        Self::going_on(selection, target, None)
    }

    /// The same without what an interrupted run has already.
    pub(crate) fn going_on(
        selection: &Selection,
        target: Option<&str>,
        resumed: Option<&Resumed>,
    ) -> anyhow::Result<Self> {
        // The bars are made before the plan is known, since the plan's groups report through them.
        Self::with_bars(selection, target, resumed, Bars::new())
    }

    /// The same for `run`'s measurements, with bars that the caller made.
    pub(crate) fn prepare_quietly(selection: &Selection, bars: Bars) -> anyhow::Result<Self> {
        Self::with_bars(selection, None, None, bars)
    }

    fn with_bars(
        selection: &Selection,
        target: Option<&str>,
        resumed: Option<&Resumed>,
        bars: Bars,
    ) -> anyhow::Result<Self> {
        let budget = Budget::starting(selection.budget);
        let described = warpmark_device::look(selection.device.device)?;
        let transfers = bars.transfers(budget);
        let request = sources::request(selection, &described.spec, transfers)?;
        let notes = described.note.iter().cloned();
        let notes = notes.chain(audio_fault(&request)).chain(threads::note()).collect();
        let groups = groups_of(selection, &described.spec, &request)?;
        // Of several bench targets the first one tells.
        if target.is_none_or(|target| target == GROUPS[0].name) {
            let entries = groups.iter().flat_map(|group| &group.entries);
            let ids = entries.map(|entry| &entry.id);
            filter::look_for(selection.filter.as_ref(), ids, LISTING)?;
        }
        let entries = groups.iter().flat_map(|group| &group.entries);
        let planned = entries.map(|entry| &entry.id).filter(|id| filter::selects(selection, id));
        let planned = planned.cloned().collect();
        // `cargo bench` measures in one process, `run` on a GPU in one for each group.
        let processes = target.is_none() && described.spec.kind != DeviceKind::Cpu;
        let start = if processes { PROCESS_START } else { Seconds(0.0) };
        let mut plan = Plan::select(groups, target, selection.filter.as_ref(), start);
        folder_of_one_model::check(selection, &request, &plan)?;
        if let Some(resumed) = resumed {
            plan.keep(|id| resumed.lacks(id));
        }
        if let Some(budget) = selection.budget {
            plan.cut_to(budget);
        }
        Ok(Self { described, plan, planned, bars, notes, whole: false, budget })
    }

    /// The plan in words.
    pub fn describe(&self) -> String {
        let spec = &self.described.spec;
        let notes: String = self.notes.iter().flat_map(|note| [note.as_str(), "\n"]).collect();
        format!("{notes}{} ({})\n\n{}", spec.name, spec.kind, self.plan.describe(&spec.memory))
    }

    /// The plan for a program.
    pub(crate) fn described_for_programs(&self) -> serde_json::Value {
        let spec = &self.described.spec;
        let mut plan = self.plan.for_programs(&spec.memory);
        plan["device"] = serde_json::json!(spec.name);
        plan["device_kind"] = serde_json::json!(spec.kind.to_string());
        plan["notes"] = serde_json::json!(self.notes);
        plan
    }

    /// Whether nothing was selected.
    pub fn is_empty(&self) -> bool {
        self.plan.groups.is_empty()
    }

    /// The folder that the device's results lie in.
    pub fn device_slug(&self) -> &str {
        &self.described.spec.slug
    }

    /// Whether what is going to be measured is a GPU.
    pub fn is_on_a_gpu(&self) -> bool {
        self.described.spec.kind != DeviceKind::Cpu
    }

    /// Measures the plan in this process and keeps each row in the results folder before the next
    /// benchmark begins. `criterion` is made once nobody else measures on the device.
    pub(crate) fn measure(
        self,
        selection: &Selection,
        output: &Output,
        identity: Identity,
        criterion: impl FnOnce(&DeviceSpec) -> anyhow::Result<Criterion>,
    ) -> anyhow::Result<Results> {
        threads::join(&self.described.spec);
        let cache = sources::cache()?;
        let _lock = lock_device(&cache, &self.described.spec)?;
        let criterion = criterion(&self.described.spec)?;
        let device = open(&self.described.spec)?;
        let run = environment::run(selection, device.spec(), settings(&device), identity);
        let mut recorder = Recorder::open(&output.results, run.clone())?;
        let spec = &self.described.spec;
        clear_log(&cache, spec)?;
        let criterion_output = criterion_output(&cache, spec, output.verbose)?;
        let admission = self.budget.admission();
        let mut runner =
            runner(&device, run.run, criterion, criterion_output, Mode::Measure, admission)?;
        runner.alarm = self.budget.alarm();
        runner.whole = self.whole || output.verbose;
        self.execute(runner, &mut |row| recorder.keep(row).map(drop))?;
        Ok(recorder.finish())
    }

    /// Checks every answer of the plan; nothing is timed or recorded.
    pub fn verify(self) -> anyhow::Result<Vec<Record>> {
        threads::join(&self.described.spec);
        // What is checked takes cores and memory from what is measured, and the other way round.
        let _lock = lock_device(&sources::cache()?, &self.described.spec)?;
        let device = open(&self.described.spec)?;
        let run = environment::new_run_id();
        let criterion = Criterion::default().without_plots();
        let admission = self.budget.admission();
        let runner =
            runner(&device, run, criterion, CriterionOutput::Shown, Mode::Verify, admission)?;
        let mut rows = Vec::new();
        self.execute(runner, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    fn execute(
        mut self,
        mut runner: Runner<'_>,
        keep: &mut dyn FnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.begin();
        for group in self.plan.groups {
            runner.run_group(group, &mut self.bars, keep)?;
        }
        self.bars.clear();
        Ok(())
    }

    /// Draws the bars, and says on what is measured.
    pub(crate) fn begin(&self) {
        let spec = &self.described.spec;
        self.bars.begin(self.plan.entries().count());
        for note in &self.notes {
            self.bars.notice(note);
        }
        self.bars.line(&format!("{} ({})", spec.name, spec.kind));
    }
}

/// Everything that a selection could measure on a device; `progress` hears of weights on their way.
pub(crate) fn groups(
    selection: &Selection,
    spec: &DeviceSpec,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<Vec<Group>> {
    groups_of(selection, spec, &sources::request(selection, spec, progress)?)
}

/// Why the audio that a request names cannot be used, if so.
fn audio_fault(request: &warpmark_models::RunOptions) -> Option<String> {
    let error = request.audio.as_ref()?.audio.as_ref().err()?;
    Some(format!("{error}; what needs the audio will fail, and the rest is measured"))
}

fn groups_of(
    selection: &Selection,
    spec: &DeviceSpec,
    request: &warpmark_models::RunOptions,
) -> anyhow::Result<Vec<Group>> {
    let catalog = sources::catalog(&selection.catalog)?;
    let micro = MicroOptions {
        full: selection.suite == Suite::Full,
        exhaustive: selection.exhaustive,
        cards: if spec.kind == DeviceKind::Cpu { 0 } else { cards() },
        seed: selection.weights.seed,
    };
    // Who names a model wants that measured, and not the card.
    let mut groups = match selection.catalog.model {
        Some(_) => Vec::new(),
        None => warpmark_micro::groups(spec, &micro),
    };
    groups.extend(warpmark_models::groups(&catalog, request)?);
    Ok(groups)
}

/// The GPUs that this process may see.
fn cards() -> u32 {
    warpmark_device::list().map_or(0, |cards| u32::try_from(cards.len()).unwrap_or(0))
}

/// Opens exactly the device that was looked at: `auto` might by now mean another one.
pub(crate) fn open(spec: &DeviceSpec) -> anyhow::Result<Device> {
    let choice = match spec.kind {
        DeviceKind::Cpu => DeviceChoice::Cpu,
        DeviceKind::Cuda | DeviceKind::Simulated => DeviceChoice::Cuda(spec.index),
    };
    Ok(warpmark_device::open(choice, threads::count())?.device)
}

/// How an open device was set up, by us and for candle.
pub(crate) fn settings(device: &Device) -> BTreeMap<String, String> {
    let mut settings = device.settings();
    settings.extend(warpmark_models::engine::settings(device));
    settings
}

/// What measures on an open device.
pub(crate) fn runner<'a>(
    device: &'a Device,
    run: RunId,
    criterion: Criterion,
    criterion_output: CriterionOutput,
    mode: Mode,
    admission: Admission<'a>,
) -> anyhow::Result<Runner<'a>> {
    let clock: Box<dyn Clock> = match device {
        Device::Cpu(_) => Box::new(WallClock::default()),
        Device::Cuda(gpu) => Box::new(CudaEvents::new(&gpu.stream)?),
    };
    let sensors = matches!(device, Device::Cuda(_)).then(|| device.telemetry());
    let (alarm, whole) = (None, false);
    Ok(Runner {
        device,
        run,
        criterion,
        criterion_output,
        clock,
        sensors,
        mode,
        admission,
        whole,
        alarm,
    })
}

/// Where criterion keeps its files of a device.
pub(crate) fn criterion_folder(cache: &Cache, spec: &DeviceSpec) -> anyhow::Result<PathBuf> {
    state::place(cache, &format!("criterion/{}", lock::name_of(spec)))
}

/// Empties criterion's folder of a device, for a run that begins and that holds its lock: criterion reads
/// what it finds there, and a damaged sample of an earlier run would fail the benchmark of its name.
pub(crate) fn clear_criterion(cache: &Cache, spec: &DeviceSpec) -> anyhow::Result<PathBuf> {
    let folder = criterion_folder(cache, spec)?;
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be emptied; remove it", folder.display()))
        }
        _ => Ok(folder),
    }
}

/// Where criterion's own report goes: to the terminal, or after what is in its log already.
pub(crate) fn criterion_output(
    cache: &Cache,
    spec: &DeviceSpec,
    verbose: bool,
) -> anyhow::Result<CriterionOutput> {
    if verbose {
        return Ok(CriterionOutput::Shown);
    }
    let path = log(cache, spec)?;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path);
    let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(CriterionOutput::Diverted(file))
}

/// Begins criterion's log anew, for a run that begins. What stands there by its name goes, so that a link
/// empties nothing else.
pub(crate) fn clear_log(cache: &Cache, spec: &DeviceSpec) -> anyhow::Result<()> {
    let path = log(cache, spec)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Of one device: runs on others write at the same time.
fn log(cache: &Cache, spec: &DeviceSpec) -> anyhow::Result<PathBuf> {
    state::place(cache, &format!("criterion-{}.log", lock::name_of(spec)))
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
