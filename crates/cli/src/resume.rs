//! `--resume`: what an interrupted run lacks, measured as the run was asked for, on the same device and by the
//! same build.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Command};
use warpmark_analyze::compare::unlike_machines;
use warpmark_analyze::scaling::AT_ONCE;
use warpmark_device::DeviceChoice;
use warpmark_record::store;
use warpmark_record::{BenchmarkId, DeviceKind, Field, Run};

use crate::arguments::{Arguments, Selection, Verb, WrongUsage};
use crate::bench;
use crate::serving;

/// An interrupted run.
pub(crate) struct Resumed {
    /// Its line.
    pub run: Run,
    /// Its file.
    pub path: PathBuf,
    /// The folder of results that the file lies in.
    pub results: PathBuf,
    /// What it was asked to measure.
    pub selection: Selection,
    /// The benchmarks that have a row.
    done: HashSet<BenchmarkId>,
}

impl Resumed {
    /// Reads the run that the user names, by its file or its name below `results`; `given` says what else the
    /// command line asks for.
    ///
    /// # Errors
    /// There is no such run, it cannot be gone on with, its card is not here, or the command line asks for
    /// something else than the run was asked for.
    pub(crate) fn read(named: &Path, results: &Path, given: &Selection) -> anyhow::Result<Self> {
        refuse_other_options(std::env::args().skip(1))?;
        let path = find(named, results)?;
        let recording = store::read(&path)?;
        let [run] = recording.runs.as_slice() else {
            bail!(
                "{} holds {} runs, and one is gone on with in a file of its own",
                path.display(),
                recording.runs.len()
            );
        };
        if run.suite == serving::SUITE {
            bail!("{} is a load test, which is measured as a whole: run it again", path.display());
        }
        let folder = path.parent().filter(|folder| folder.ends_with(&run.device.slug));
        let named_so = path.file_name().is_some_and(|name| *name == *format!("{}.jsonl", run.run));
        let Some(results) = folder.and_then(Path::parent).filter(|_| named_so) else {
            bail!(
                "{} was moved: a run is gone on with as RESULTS/{}/{}.jsonl",
                path.display(),
                run.device.slug,
                run.run
            );
        };
        let mut selection = asked(&run.command).with_context(|| {
            format!("what {} was asked for is not understood by this build", path.display())
        })?;
        if (selection.suite.name(), selection.weights.seed) != (run.suite.as_str(), run.seed) {
            bail!(
                "{} was asked for by variables of the environment too (suite {}, seed {}): set them as they \
                 were",
                path.display(),
                run.suite,
                run.seed
            );
        }
        selection.budget = given.budget;
        selection.device.device = same_device(run)?;
        let done = recording.rows.iter().map(|row| row.id.clone()).collect();
        let results = results.to_owned();
        Ok(Self { run: run.clone(), path, results, selection, done })
    }

    /// What the run says of itself beside how its device was set up, if it was one of several cards that were
    /// measured alone.
    pub(crate) fn alone(&self) -> BTreeMap<String, String> {
        let said = self.run.settings.get(AT_ONCE).filter(|count| *count == "1");
        said.map(|count| (AT_ONCE.to_owned(), count.clone())).into_iter().collect()
    }

    /// Whether a benchmark that could be measured is one that the run set out to measure and has no row of.
    pub(crate) fn lacks(&self, id: &BenchmarkId) -> bool {
        let planned = &self.run.planned;
        (planned.is_empty() || planned.contains(id)) && !self.done.contains(id)
    }
}

/// The file of a run.
fn find(named: &Path, results: &Path) -> anyhow::Result<PathBuf> {
    if named.is_file() {
        return std::fs::canonicalize(named).with_context(|| named.display().to_string());
    }
    let file = format!("{}.jsonl", named.display());
    let folders = std::fs::read_dir(results).into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join(&file)).find(|path| path.is_file());
    found.and_then(|path| std::fs::canonicalize(path).ok()).with_context(|| {
        format!(
            "{:?} is neither the file of a run nor the name of one below {}",
            named.display().to_string(),
            results.display()
        )
    })
}

/// What the command of a run selects.
fn asked(command: &[String]) -> anyhow::Result<Selection> {
    use clap::Parser;
    if command.first().is_some_and(|program| program == "warpmark") {
        return match Arguments::try_parse_from(command)?.verb {
            Verb::Run(run) => Ok(run.selection),
            _ => bail!("it was no `warpmark run`"),
        };
    }
    bench::selected(command)
}

/// The device that the run was measured on, by whatever index it is seen here.
fn same_device(run: &Run) -> anyhow::Result<DeviceChoice> {
    if run.device.kind == DeviceKind::Cpu {
        return Ok(DeviceChoice::Cpu);
    }
    let hash = |spec: &warpmark_record::DeviceSpec| {
        spec.gpu.as_ref().and_then(|gpu| gpu.uuid_hash.known().cloned())
    };
    let Some(wanted) = hash(&run.device) else { return Ok(DeviceChoice::Cuda(run.device.index)) };
    let cards = warpmark_device::list()?;
    if let Some(card) = cards.iter().find(|card| hash(card).as_ref() == Some(&wanted)) {
        return Ok(DeviceChoice::Cuda(card.index));
    }
    let here: Vec<String> = cards
        .iter()
        .map(|card| format!("{} ({})", card.name, hash(card).unwrap_or_default()))
        .collect();
    bail!(
        "run {} was measured on {} ({wanted}), which is not here; here is {}: start a run of its own",
        run.run,
        run.device.name,
        here.join(", ")
    )
}

/// Refuses options that choose what is measured: that was chosen when the run began.
fn refuse_other_options(mut words: impl Iterator<Item = String>) -> Result<(), WrongUsage> {
    let chosen = Selection::augment_args(Command::new("run"));
    let names: Vec<String> = chosen
        .get_arguments()
        .filter_map(|option| option.get_long())
        .filter(|name| *name != "budget")
        .map(|name| format!("--{name}"))
        .collect();
    let other = words.find(|word| {
        let word = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        names.iter().any(|name| name == word)
    });
    match other {
        None => Ok(()),
        Some(option) => Err(WrongUsage(format!(
            "--resume goes on with what its run was asked for: leave {option} out, or start a run of its own"
        ))),
    }
}

/// Makes sure that rows of `now` may stand among those of `earlier`.
///
/// # Errors
/// Every way in which device, build or settings differ.
pub(crate) fn same(earlier: &Run, now: &Run) -> anyhow::Result<()> {
    let mut reasons = Vec::new();
    let mut differ = |what: &str, before: String, here: String| {
        if before != here {
            reasons.push(format!("{what}: {before} then, {here} now"));
        }
    };
    let device = |run: &Run| format!("{} ({})", run.device.name, run.device.kind);
    let card = |run: &Run| {
        let hash = run.device.gpu.as_ref().map(|gpu| gpu.uuid_hash.clone());
        hash.as_ref().and_then(Field::known).cloned().unwrap_or_default()
    };
    let build =
        |run: &Run| format!("{} ({}), {}", run.build.version, run.build.git, run.build.profile);
    let settings = |run: &Run| {
        let all: Vec<String> =
            run.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.join(" ")
    };
    differ("device", device(earlier), device(now));
    differ("card", card(earlier), card(now));
    differ("build", build(earlier), build(now));
    differ("compiler", earlier.build.rustc.clone(), now.build.rustc.clone());
    differ("features", earlier.build.features.join(","), now.build.features.join(","));
    differ(
        "CUDA kernels",
        earlier.build.cuda_kernels.clone().unwrap_or_default(),
        now.build.cuda_kernels.clone().unwrap_or_default(),
    );
    differ("method", earlier.method.to_string(), now.method.to_string());
    differ("suite", earlier.suite.clone(), now.suite.clone());
    differ("seed", earlier.seed.to_string(), now.seed.to_string());
    differ("settings", settings(earlier), settings(now));
    reasons.extend(unlike_machines(earlier, now));
    if reasons.is_empty() {
        return Ok(());
    }
    bail!(
        "run {} cannot be gone on with here, since its rows would not be of one device and build: {}; start a \
         run of its own",
        earlier.run,
        reasons.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> bool {
        refuse_other_options(words.split(' ').map(str::to_owned)).is_err()
    }

    #[test]
    fn what_was_chosen_when_the_run_began_is_not_chosen_again() {
        assert!(refused("run --resume x --suite full") && refused("--filter=decode"));
        assert!(refused("--device cpu") && refused("--models m.toml"));
        assert!(!refused("run --resume x --budget 5m --results r --json -q --hang-limit 5m"));
    }

    #[test]
    fn the_command_of_a_run_or_of_a_bench_target_is_read_again() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let run = asked(&words("warpmark run --suite full --filter matmul --tag node=a")).unwrap();
        assert_eq!((run.suite.name(), run.filter.is_some()), ("full", true));
        let bench = asked(&words("micro matmul --suite full --bench")).unwrap();
        assert_eq!((bench.suite.name(), bench.filter.is_some()), ("full", true));
        assert!(asked(&words("warpmark verify")).is_err());
    }
}
