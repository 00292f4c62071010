//! The options of `warpmark serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use warpmark_models::Dtype;

use super::{CatalogOption, DeviceOption, TagOption, WeightsOption};

/// The levels of a closed loop, without any of the user's own.
const USERS: [u64; 10] = [1, 4, 8, 16, 32, 64, 128, 192, 256, 512];

/// `warpmark serve`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  warpmark serve gpt2-124m                              1 to 512 users, 10 s each
  warpmark serve gpt2-124m --users 1 --duration 2m      one request after the other for two minutes
  warpmark serve gpt2-124m --rate 2,5,10 --target 500ms requests by the clock, and goodput
  warpmark serve gpt2-124m --phase prefill --max-batch 32 --max-queue-delay 5ms
                                                        dynamic batches of whole requests
  warpmark serve whisper-tiny --phase transcribe/30s    transcriptions of 30 s of speech
  warpmark serve gpt2-124m --users 64 --timeout 5s --cancel 0.1 --cancel-after 1s
  warpmark serve gpt2-124m --dry-run                    the plan, with estimated time and memory

Requests come from inside the process: there is no server and no network. Each level is a row of the
record; `warpmark report` shows them as a table and, with `--format html`, as charts.")]
pub struct Serve {
    /// Model names, as `warpmark models` lists them
    #[arg(required = true, value_name = "MODEL")]
    pub names: Vec<String>,
    /// How requests come.
    #[command(flatten)]
    pub traffic: Traffic,
    /// What answers them.
    #[command(flatten)]
    pub service: ServiceOptions,
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
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    #[serde(with = "super::path::one")]
    pub results: PathBuf,
    /// What is said of the run.
    #[command(flatten)]
    #[serde(skip)]
    pub tags: TagOption,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Give a level on a GPU up when nothing is heard of it for so long beyond its own time, such as `5m`;
    /// without this, ten times what a request alone should take, and two minutes at least
    #[arg(long, value_name = "TIME", value_parser = super::time, env = "WARPMARK_HANG_LIMIT")]
    pub hang_limit: Option<Duration>,
    /// Print the levels with their estimated time and memory, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How requests come.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Traffic {
    /// Closed loops: so many users, each of whom asks again as soon as there is an answer [default: 1, 4, 8,
    /// 16, 32, 64, 128, 192, 256, 512; none where `--rate` is given]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub users: Vec<u64>,
    /// Open loops: so many requests a second, at random moments (a Poisson process), whatever the answers do
    #[arg(long, allow_negative_numbers = true, value_name = "PER_SECOND,...", value_delimiter = ',', value_parser = rate)]
    pub rate: Vec<f64>,
    /// The time for which requests are counted at each level
    #[arg(long, alias = "for", value_name = "TIME", default_value = "10s", value_parser = super::time)]
    pub duration: Duration,
    /// The time of traffic before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = super::time)]
    pub warm_up: Duration,
    /// When a caller gives up; also the longest that is waited for the last answers
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::time)]
    pub timeout: Duration,
    /// The time that a good answer may take: counts the answers within it (goodput), and finds the most
    /// users with 95 % of them within it
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub target: Option<Duration>,
    /// Requests that may wait; one more is turned away
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue: u32,
    /// The share of callers that take their request back, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "cancel_after")]
    pub cancel: Option<f64>,
    /// How long after asking they do
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "cancel")]
    pub cancel_after: Option<Duration>,
}

/// What answers the requests.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ServiceOptions {
    /// What a request asks for: `generate`, `prefill`; of speech and images any phase, and more of its id:
    /// `transcribe/30s/beam5` [default: the whole answer]
    #[arg(long, value_name = "PHASE")]
    pub phase: Option<String>,
    /// The number format: `f32`, `f16`, `bf16` [default: the first of the model's quick suite]
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    pub dtype: Option<Dtype>,
    /// The most requests side by side: slots of continuous batching, or the largest dynamic batch
    #[arg(long, alias = "most", value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_batch: u32,
    /// The longest that a request waits for company in a dynamic batch; `0s` for not at all
    #[arg(long, alias = "delay", value_name = "TIME", default_value = "5ms", value_parser = delay)]
    pub max_queue_delay: Duration,
    /// Tokens of a prompt, for text [default: the model's own]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: Option<u32>,
    /// Tokens of an answer, for text [default: the model's own]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: Option<u32>,
}

impl Traffic {
    /// The users of each closed loop.
    pub fn closed(&self) -> &[u64] {
        if self.users.is_empty() && self.rate.is_empty() { &USERS } else { &self.users }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| format!("{text:?} is no rate; give requests a second, up to a million"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share; give a number from 0 to 1"))
}

/// A time that may be none.
fn delay(text: &str) -> Result<Duration, String> {
    if text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse() == Ok(0.0) {
        return Ok(Duration::ZERO);
    }
    super::time(text)
}

fn dtype(text: &str) -> Result<Dtype, String> {
    let known = [Dtype::F32, Dtype::F16, Dtype::Bf16];
    let found = known.into_iter().find(|dtype| dtype.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is none of f32, f16, bf16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_shares_and_delays_are_read_strictly() {
        assert_eq!((rate("2.5"), share("0.1")), (Ok(2.5), Ok(0.1)));
        for text in ["0", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(rate(text).is_err(), "{text:?}");
        }
        for text in ["-0.1", "1.1", "nan", ""] {
            assert!(share(text).is_err(), "{text:?}");
        }
        assert_eq!((delay("0s"), delay("0ms")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        assert_eq!(delay("5ms"), Ok(Duration::from_millis(5)));
        assert!(delay("soon").is_err() && delay("").is_err() && delay("-1s").is_err());
    }
}
