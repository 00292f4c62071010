//! The options of the verbs that read records and help to decide.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use warpmark_analyze::UsdPerHour;
use warpmark_analyze::fleet::By;
use warpmark_analyze::money::MoneyError;
use warpmark_record::Filter;

use super::OutputFormat;

/// How a page is written.
#[derive(Debug, Clone, Args)]
pub struct FormOption {
    /// The format of the output
    #[arg(long, value_enum, default_value = "terminal", conflicts_with = "json")]
    pub format: OutputFormat,
    /// The same as `--format json`
    #[arg(long)]
    pub json: bool,
}

impl FormOption {
    /// The form that the options ask for.
    pub fn form(&self) -> warpmark_report::Format {
        if self.json { OutputFormat::Json } else { self.format }.into()
    }
}

/// Which recorded runs.
#[derive(Debug, Clone, Args)]
pub struct Recorded {
    /// Results files or folders; without any, the whole results folder
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    pub results: PathBuf,
    /// Only benchmarks that match, such as `decode` or `gpt2/decode,!f16`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<Filter>,
}

/// On which terms a card is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Terms {
    /// By the hour, for as long as one likes
    OnDemand,
    /// Until somebody pays more
    Spot,
}

impl Terms {
    /// Its name in price lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        }
    }
}

/// What an hour costs.
#[derive(Debug, Clone, Args)]
pub struct PriceOptions {
    /// What an hour costs, in dollars: of every device (`0.75`), or of one (`a10g=0.75`, by its name in
    /// the datasheet or its folder under results/); goes before every list
    #[arg(long, value_name = "[CARD=]USD", value_parser = own_price)]
    pub usd_per_hour: Vec<OwnPrice>,
    /// A price list in the form of crates/analyze/prices.toml instead of the one built in
    #[arg(long, value_name = "FILE", env = "WARPMARK_PRICES")]
    pub prices: Option<PathBuf>,
    /// Only offers of this region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Only offers on these terms
    #[arg(long, value_enum)]
    pub terms: Option<Terms>,
}

/// A price that the user gives.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnPrice {
    /// Of which device; `None` for every one.
    pub card: Option<String>,
    /// The price.
    pub per_hour: UsdPerHour,
}

fn own_price(text: &str) -> Result<OwnPrice, String> {
    let (card, number) = match text.split_once('=') {
        Some((card, number)) => (Some(card.trim().to_owned()), number),
        None => (None, text),
    };
    if card.as_ref().is_some_and(String::is_empty) {
        return Err(format!("{text:?} names no card; write a10g=0.75"));
    }
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("{number:?} is no number of dollars; write 0.75 or a10g=0.75"))?;
    Ok(OwnPrice { card, per_hour: UsdPerHour::new(value).map_err(|e| e.to_string())? })
}

/// `warpmark compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark compare before.jsonl after.jsonl
  warpmark compare before.jsonl after.jsonl --threshold 3 || echo slower
  warpmark compare run.jsonl --engines candle,fused        two engines within one run
  warpmark compare --baseline main                         the newest run with a baseline
  warpmark compare --reference                             the newest run with published figures

Exit codes: 0 same or faster · 1 slower · 2 ambiguous · 3 not comparable · 70 unreadable. With
`--reference`: 0 as it should be · 1 slow · 2 ambiguous · 3 unknown.")]
pub struct Compare {
    /// The run to compare with; with `--reference` or `--baseline`, the run in question (the newest one
    /// where it is left out)
    #[arg(value_name = "A", required_unless_present_any = ["reference", "baseline"])]
    pub a: Option<PathBuf>,
    /// The run in question
    #[arg(value_name = "B", required_unless_present_any = ["engines", "reference", "baseline"])]
    pub b: Option<PathBuf>,
    /// Compare two engines of one run instead: `A,B`
    #[arg(long, value_name = "A,B", conflicts_with = "b")]
    pub engines: Option<String>,
    /// Compare with what is published of the card: the built-in tables, or `--reference=FILE` (or a
    /// folder) in the form of results/reference/
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[arg(conflicts_with_all = ["b", "engines", "baseline"])]
    pub reference: Option<Option<PathBuf>>,
    /// Compare with a baseline that `warpmark baseline save` kept
    #[arg(long, value_name = "NAME", conflicts_with_all = ["b", "engines"])]
    pub baseline: Option<String>,
    /// Where baselines are kept.
    #[command(flatten)]
    pub baselines: BaselineFolder,
    /// Of several runs of a side let all count, so that intervals cover what changes from run to run;
    /// without this the latest row of each benchmark counts
    #[arg(long)]
    pub all_runs: bool,
    /// Compare machines that differ in cores, threads, memory, frequency governor or virtualisation, and cards
    /// that differ in SMs, ECC, multi-instance mode, power limit or PCIe link, too
    #[arg(long)]
    pub across_machines: bool,
    /// The least difference that counts, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub threshold: f64,
    /// Only benchmarks that match, such as `decode` or `gpt2/decode,!f16`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<Filter>,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
    /// Append the comparison as Markdown to the file that `$GITHUB_STEP_SUMMARY` names, for a job's page
    #[arg(long)]
    pub github_summary: bool,
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    pub results: PathBuf,
}

/// Where baselines are kept.
#[derive(Debug, Clone, Args)]
pub struct BaselineFolder {
    /// The folder that baselines are kept in
    #[arg(
        long = "baselines",
        value_name = "DIR",
        default_value = "baselines",
        env = "WARPMARK_BASELINES",
        global = true
    )]
    pub folder: PathBuf,
}

/// `warpmark reference`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark reference                          every published table, and what contradicts it
  warpmark reference my-figures.toml          one of your own
  warpmark reference --format csv > known.csv

Exit codes: 0 read · 1 with `--strict`, a row is contradicted · 70 refused, with the line.")]
pub struct Reference {
    /// Files in the form of results/reference/, or folders of them; without any, the built-in ones
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Exit with 1 where a row contradicts itself or its card's limits
    #[arg(long)]
    pub strict: bool,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
}

/// `warpmark cost`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark cost                                      every recorded run, at listed prices
  warpmark cost results/nvidia-l4 --usd-per-hour 0.8 at your price
  warpmark cost --terms spot --prices my-prices.toml
  warpmark cost --filter gpt2/decode --format csv

Money is counted by the wall clock. A price that is not known is said to be unknown, never guessed.")]
pub struct Cost {
    /// Which runs.
    #[command(flatten)]
    pub recorded: Recorded,
    /// What an hour costs.
    #[command(flatten)]
    pub prices: PriceOptions,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
}

/// `warpmark baseline`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark baseline save main                  keep the newest run as `main`
  warpmark baseline save main RUN.jsonl --force
  warpmark baseline list
  warpmark compare --baseline main             the newest run with it")]
pub struct Baseline {
    /// What to do.
    #[command(subcommand)]
    pub verb: BaselineVerb,
    /// Where baselines are kept.
    #[command(flatten)]
    pub baselines: BaselineFolder,
}

/// What to do with baselines.
#[derive(Debug, Subcommand)]
pub enum BaselineVerb {
    /// Keep a run under a name
    Save {
        /// The name.
        name: String,
        /// The results file; without one, the newest.
        run: Option<PathBuf>,
        /// The folder that results are recorded in
        #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
        results: PathBuf,
        /// Replace a baseline of this name
        #[arg(long)]
        force: bool,
    },
    /// Show what is kept
    List,
    /// Remove one
    Remove {
        /// The name.
        name: String,
    },
}

/// `warpmark recommend`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark recommend --model gpt2-124m --latency 50ms --budget 2usd/h
  warpmark recommend --model whisper-large-v3 --usd-per-hour a10g=0.75 --usd-per-hour t4=0.35

A row is within the latency when the upper end of its median's interval is.

Exit codes: 0 there is one · 1 none will do.")]
pub struct Recommend {
    /// Which runs.
    #[command(flatten)]
    pub recorded: Recorded,
    /// The model, as ids name it
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Which phase of it counts; without this decode, transcribe, generate or classify
    #[arg(long, value_name = "PHASE")]
    pub phase: Option<String>,
    /// The longest that a step of it may take, such as `50ms`
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub latency: Option<Duration>,
    /// The most that an hour may cost, with its currency: `2usd/h`
    #[arg(long, value_name = "PRICE", value_parser = money)]
    pub budget: Option<UsdPerHour>,
    /// What an hour costs.
    #[command(flatten)]
    pub prices: PriceOptions,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
}

fn money(text: &str) -> Result<UsdPerHour, String> {
    text.parse().map_err(|error: MoneyError| error.to_string())
}

/// `warpmark rank`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark rank                          all recorded devices
  warpmark rank a.jsonl b.jsonl --filter matmul,memory
  warpmark rank all.jsonl --by card      equal cards with each other: which is slow, and by which row
  warpmark rank all.jsonl --by tag:node --strict || echo a node is slow

Exit codes: 0 ranked · 1 with `--strict`, a member is slow, failed or lacks rows · 3 nothing in common, or
measured by unlike methods.")]
pub struct Rank {
    /// Which runs.
    #[command(flatten)]
    pub recorded: Recorded,
    /// Compare equal devices with each other, by `card`, `host` or `tag:KEY`, instead of kinds of devices
    #[arg(long, value_name = "WHAT")]
    pub by: Option<By>,
    /// Exit with 1 where a member is slow, has a failed benchmark or lacks rows
    #[arg(long, requires = "by")]
    pub strict: bool,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
}

/// `warpmark tune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark tune                                every recorded run
  warpmark tune results/nvidia-l4 --filter gpt2/decode

Precisions and batches side by side, models by size, and what to change. It reads records and runs
nothing.")]
pub struct Tune {
    /// Which runs.
    #[command(flatten)]
    pub recorded: Recorded,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
}

/// `warpmark merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  warpmark merge t4.jsonl from-elsewhere/ --output all.jsonl

Folders may hold thousands of runs. What is damaged is named and left out, the rest of its file is taken, and
runs of one name that are not one run are kept apart.

Exit codes: 0 all of it was read · 1 something was damaged, and the rest is in the new file · 70 nothing could
be read, or the file cannot be written.")]
pub struct Merge {
    /// Results files or folders
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The new file
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// `warpmark ab`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark ab old/warpmark new/warpmark
  warpmark ab old/warpmark new/warpmark --rounds 5 -- --filter gpt2/decode

The two run in turn, and every round counts: intervals cover what changes from run to run. Exit
codes are those of `compare`.")]
pub struct Ab {
    /// The build to compare with
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The build in question
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How often each runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=100))]
    pub rounds: u32,
    /// A new folder for the runs of both
    #[arg(long, short, value_name = "DIR", default_value = "ab")]
    pub output: PathBuf,
    /// The least difference that counts, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub threshold: f64,
    /// The form.
    #[command(flatten)]
    pub form: FormOption,
    /// Options of `warpmark run` for both
    #[arg(last = true, value_name = "OPTIONS")]
    pub arguments: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_for_every_device_or_for_one() {
        let price = own_price("a10g=0.75").unwrap();
        assert_eq!((price.card.as_deref(), price.per_hour.get()), (Some("a10g"), 0.75));
        assert_eq!(own_price("2").unwrap().card, None);
        for text in ["0", "-1", "nan", "inf", "x", "=1", "a10g=", "a10g=0", "1 eur"] {
            assert!(own_price(text).is_err(), "{text:?}");
        }
    }
}
