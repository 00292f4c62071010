//! The command line: nothing else parses arguments.

mod decide;
mod fetch;
mod parse;
mod path;
mod report;
mod serve;
mod tags;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use warpmark_device::DeviceChoice;
use warpmark_record::Filter;

use crate::terminal::TerminalOptions;

pub use decide::*;
pub use fetch::*;
pub use parse::*;
pub use report::*;
pub use serve::*;
pub use tags::*;

const FIRST_STEPS: &str = "\
To begin with:
  warpmark doctor          what is missing on this machine
  warpmark run --dry-run   what would be measured, and how long it takes
  warpmark run             measure it, and show what limits each number
  warpmark report          show the newest run again; `--output page.html` for a browser
  warpmark help VERB       options and examples of a verb

Exit codes: 0 all is well · 1 a benchmark failed · 64 wrong usage · 70 it could not be done ·
130 interrupted. `compare`: 0 same or faster · 1 slower · 2 ambiguous · 3 not comparable.";

/// A native GPU microbenchmark suite: what the card does, at what share of its limit, and what to
/// distrust.
#[derive(Debug, Parser)]
#[command(name = "warpmark", version, after_help = FIRST_STEPS, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    /// How the program speaks.
    #[command(flatten)]
    pub terminal: TerminalOptions,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say what device this is, as its driver describes it
    Specs(Specs),
    /// List the models that can be measured
    Models(Models),
    /// Download a model's weights from the hub, or write its synthetic ones
    Fetch(Fetch),
    /// Measure, record and report
    Run(Run),
    /// Put load on a model inside the process: many users, or requests by the clock
    Serve(Serve),
    /// Check every answer without timing anything
    Verify(Verify),
    /// Show recorded runs
    Report(Report),
    /// Say whether run B is slower than run A
    Compare(Compare),
    /// Show what is published of cards, and what contradicts it
    Reference(Reference),
    /// Say what recorded rows cost, in dollars and joules
    Cost(Cost),
    /// Keep runs under a name, to compare with
    Baseline(Baseline),
    /// Say which of the recorded devices to rent for a model
    Recommend(Recommend),
    /// Say which precision, batch and model size recorded rows speak for, and what to change
    Tune(Tune),
    /// Rank recorded devices, workload by workload
    Rank(Rank),
    /// Write the runs of several machines into one file
    Merge(Merge),
    /// Run two builds in turn and compare them
    Ab(Ab),
    /// Say whether a card is what it should be: speed, settings, health, in less than a minute
    Check(Check),
    /// Say what is missing on this machine, and how to fix it
    Doctor(Doctor),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  warpmark completions bash > ~/.local/share/bash-completion/completions/warpmark"
    )]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Which device.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceOption {
    /// Which device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`; `run` takes `all` GPUs, too
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "WARPMARK_DEVICE")]
    pub device: DeviceChoice,
}

/// `warpmark specs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warpmark specs\n  warpmark specs --device cpu --json")]
pub struct Specs {
    /// Which device.
    #[command(flatten)]
    pub device: DeviceOption,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where models are described.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CatalogOption {
    /// A catalog of models instead of the models.toml that is built in
    #[arg(long, value_name = "FILE", env = "WARPMARK_MODELS")]
    #[serde(with = "path::maybe")]
    pub models: Option<PathBuf>,
    /// A folder that transformers' `save_pretrained` wrote, measured by its own config.json and nothing else: no entry
    /// is needed
    #[arg(long, value_name = "DIR", conflicts_with = "models", env = "WARPMARK_MODEL")]
    #[serde(default, with = "path::maybe")]
    pub model: Option<PathBuf>,
}

/// `warpmark models`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warpmark models\n  warpmark models --models my-models.toml --json"
)]
pub struct Models {
    /// Where models are described.
    #[command(flatten)]
    pub catalog: CatalogOption,
    /// Which device.
    #[command(flatten)]
    pub device: DeviceOption,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where weights come from.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct WeightsOption {
    /// `synthetic` (random values at the true shapes), `hub`, or a folder of safetensors files
    #[arg(long, value_name = "SOURCE", default_value = "synthetic", env = "WARPMARK_WEIGHTS")]
    pub weights: String,
    /// Never use the network: hub weights must be in the hub's cache already
    #[arg(long)]
    pub offline: bool,
    /// The seed of inputs and synthetic weights
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
}

/// What speech models listen to.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub struct AudioOption {
    /// A WAV, FLAC or MP3 file that speech models transcribe, instead of made-up clips
    #[arg(long, value_name = "FILE", env = "WARPMARK_AUDIO")]
    #[serde(with = "path::maybe")]
    pub audio: Option<PathBuf>,
    /// A text file of what is said in it: with real weights, rows then have the word error rate
    #[arg(long, value_name = "FILE", requires = "audio", env = "WARPMARK_REFERENCE_TEXT")]
    #[serde(with = "path::maybe")]
    pub reference_text: Option<PathBuf>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// What decides about a card, in minutes
    Quick,
    /// Every size, dtype and model that fits
    Full,
}

impl Suite {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// What to measure, on what, and within which limits.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Selection {
    /// How much is measured
    #[arg(long, value_enum, default_value = "quick", env = "WARPMARK_SUITE")]
    pub suite: Suite,
    /// Search long for the fastest shape of each product: hours on a small card
    #[arg(long, env = "WARPMARK_EXHAUSTIVE", value_parser = BoolishValueParser::new())]
    pub exhaustive: bool,
    /// Only benchmarks that match: `decode`, `gpt2/decode`, `@warpmark`, `matmul,!f16` (`--dry-run` lists
    /// all)
    #[arg(long, value_name = "FILTER", env = "WARPMARK_FILTER")]
    #[serde(skip)]
    pub filter: Option<Filter>,
    /// Which device.
    #[command(flatten)]
    #[serde(skip)]
    pub device: DeviceOption,
    /// Where weights come from.
    #[command(flatten)]
    pub weights: WeightsOption,
    /// Where models are described.
    #[command(flatten)]
    pub catalog: CatalogOption,
    /// What speech models listen to.
    #[command(flatten)]
    pub audio: AudioOption,
    /// Time to spend, such as `10m` or `90s` (under `cargo bench`, on each of its targets): what does
    /// not fit is cut and listed
    #[arg(long, value_name = "TIME", value_parser = time, env = "WARPMARK_BUDGET")]
    #[serde(skip)]
    pub budget: Option<Duration>,
}

/// Where rows go and how they are shown.
#[derive(Debug, Clone, Args)]
pub struct Output {
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    pub results: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Show criterion's own report as well
    #[arg(long, short)]
    pub verbose: bool,
    /// What is said of the run.
    #[command(flatten)]
    pub tags: TagOption,
    /// Go on with an interrupted run, by its file or its name: measure what it lacks, as it was asked for,
    /// on the same card and with the same build
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
}

/// `warpmark run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  warpmark run                             the quick suite on the GPU, or else on the CPU
  warpmark run --dry-run                   what it would do, with estimated time and memory
  warpmark run --suite full --budget 30m   as much of the full suite as 30 minutes allow
  warpmark run --filter matmul,memory      the card itself, no model
  warpmark run --weights hub --filter gpt2 with the real weights
  warpmark run --resume results/nvidia-l4/RUN.jsonl    what an interrupted run lacks
  warpmark run --device all --parallel     every card alone, and then at once
  warpmark run --tag node=gpu-17 --tag provider=own    for `rank --by tag:node`

Exit codes: 0 all is well · 1 a benchmark failed · 64 wrong usage · 70 it could not be done · 130
interrupted; finished rows are kept whatever the code.")]
pub struct Run {
    /// What to measure.
    #[command(flatten)]
    pub selection: Selection,
    /// Where rows go.
    #[command(flatten)]
    pub output: Output,
    /// Give a benchmark on a GPU up when nothing is heard of it for so long, such as `5m`; without
    /// this, ten times what it should take, and two minutes at least
    #[arg(long, value_name = "TIME", value_parser = time, env = "WARPMARK_HANG_LIMIT")]
    pub hang_limit: Option<Duration>,
    /// Print the plan with its estimated time and memory, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With `--device all`: after each card alone measure 2, 4, … and all of them at once, and show what they
    /// lose to what they share
    #[arg(long)]
    pub parallel: bool,
}

/// `warpmark verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warpmark verify\n  warpmark verify --suite full --filter matmul"
)]
pub struct Verify {
    /// What to check.
    #[command(flatten)]
    pub selection: Selection,
    /// Give a benchmark on a GPU up when nothing is heard of it for so long, such as `5m`; without
    /// this, ten times what it should take, and two minutes at least
    #[arg(long, value_name = "TIME", value_parser = time, env = "WARPMARK_HANG_LIMIT")]
    pub hang_limit: Option<Duration>,
}

/// `warpmark doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warpmark doctor && warpmark run\n  eval \"$(warpmark doctor --environment)\""
)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the shell command that lets other programs find the CUDA libraries that the driver serves, and
    /// nothing where they do
    #[arg(long, conflicts_with = "json")]
    pub environment: bool,
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    pub results: PathBuf,
}

/// Which cards are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckedDevice {
    /// Every card that this process may see.
    All,
    /// The card of this index.
    One(u32),
}

impl std::str::FromStr for CheckedDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        match text.parse::<DeviceChoice>() {
            Ok(DeviceChoice::Cuda(index)) => Ok(Self::One(index)),
            Ok(DeviceChoice::Auto) => Ok(Self::One(0)),
            Ok(DeviceChoice::All) => Ok(Self::All),
            Ok(DeviceChoice::Cpu) => Err(
                "a processor has no datasheet to be held against; write `all`, `cuda` or `cuda:1`"
                    .to_owned(),
            ),
            Err(_) => Err(format!("{text:?} is no card; write `all`, `cuda` or `cuda:1`")),
        }
    }
}

/// `warpmark check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark check                     the first card, in less than a minute
  warpmark check --device all        every card, and which of them lags behind the others
  warpmark check --json              for a program (docs/check.schema.json)

Exit codes: 0 as it should be · 1 slow or unhealthy · 2 unknown, nothing to hold it against · 70 could not be measured.")]
pub struct Check {
    /// Which card: `cuda`, `cuda:1`, or `all`
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub device: CheckedDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Give a benchmark up when nothing is heard of it for so long, such as `5m`; without this, ten
    /// times what it should take, and two minutes at least
    #[arg(long, value_name = "TIME", value_parser = time, env = "WARPMARK_HANG_LIMIT")]
    pub hang_limit: Option<Duration>,
}

/// No benchmark takes a year, and sums of what is shorter stay within what a clock can hold.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// What the command line asks for makes no sense, as only a look at the data could tell.
#[derive(Debug)]
pub struct WrongUsage(pub String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// A duration as people write it: `90s`, `10m`, `1h30m`.
fn time(text: &str) -> Result<Duration, String> {
    let advice = || format!("{text:?} is no time; write it as 90s, 10m or 1h30m");
    let time: jiff::SignedDuration = text.parse().map_err(|_| advice())?;
    let time = Duration::try_from(time).ok().filter(|time| !time.is_zero()).ok_or_else(advice)?;
    if time > LONGEST {
        return Err(format!("{text:?} is longer than a year; write it as 90s, 10m or 1h30m"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn budgets_are_read_as_people_write_them() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(time("8784h"), Ok(LONGEST));
        for text in ["9223372036854775807s", "8785h", "10000h"] {
            assert!(time(text).unwrap_err().contains("longer than a year"), "{text:?}");
        }
        for text in ["", "10", "0s", "-5m", "soon"] {
            assert!(time(text).unwrap_err().contains("10m"), "{text:?}");
        }
    }
}
