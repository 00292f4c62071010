//! The options of `warpmark report`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use warpmark_analyze::fleet::By;
use warpmark_record::Filter;
use warpmark_report::Series;

use super::{PriceOptions, WrongUsage};

/// A report's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table for people
    Terminal,
    /// A table for a pull request
    Markdown,
    /// Raw figures in SI units, a line a row
    Csv,
    /// Everything, for programs
    Json,
    /// One page with charts, for a browser
    Html,
}

/// A report's form, or a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// A text.
    Text(OutputFormat),
    /// Tables for those who query.
    Sqlite,
    /// The newest figures, for a tool that follows them.
    Series(Series),
}

impl Export {
    /// The form of a file whose name ends in this, in small letters.
    fn of_ending(ending: &str) -> Option<Self> {
        Some(match ending {
            "txt" | "text" => Self::Text(OutputFormat::Terminal),
            "md" | "markdown" => Self::Text(OutputFormat::Markdown),
            "csv" => Self::Text(OutputFormat::Csv),
            "json" => Self::Text(OutputFormat::Json),
            "html" | "htm" => Self::Text(OutputFormat::Html),
            "sqlite" | "sqlite3" | "db" => Self::Sqlite,
            "prom" => Self::Series(Series::OpenMetrics),
            _ => return None,
        })
    }
}

impl ValueEnum for Export {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Text(OutputFormat::Terminal),
            Self::Text(OutputFormat::Markdown),
            Self::Text(OutputFormat::Csv),
            Self::Text(OutputFormat::Json),
            Self::Text(OutputFormat::Html),
            Self::Sqlite,
            Self::Series(Series::OpenMetrics),
            Self::Series(Series::BenchmarkAction),
            Self::Series(Series::Bencher),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Text(form) => form.to_possible_value(),
            Self::Sqlite => Some(
                PossibleValue::new("sqlite").help("An SQLite database of runs, rows and samples"),
            ),
            Self::Series(series) => {
                let (name, help) = match series {
                    Series::OpenMetrics => (
                        "openmetrics",
                        "Newest figures as gauges, for Prometheus' node exporter (.prom)",
                    ),
                    Series::BenchmarkAction => {
                        ("benchmark-action", "Newest times, for github-action-benchmark")
                    }
                    Series::Bencher => ("bencher", "Newest times and rates, for Bencher"),
                };
                Some(PossibleValue::new(name).help(help))
            }
        }
    }
}

impl From<OutputFormat> for warpmark_report::Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Terminal => Self::Terminal,
            OutputFormat::Markdown => Self::Markdown,
            OutputFormat::Csv => Self::Csv,
            OutputFormat::Json => Self::Json,
            OutputFormat::Html => Self::Html,
        }
    }
}

/// `warpmark report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpmark report                                    the newest run under results/
  warpmark report results/nvidia-h200                every run of a device
  warpmark report results/nvidia-h200/RUN.jsonl --format markdown
  warpmark report results --output report.html
  warpmark report all.jsonl --by host --output fleet.html
  warpmark report --output run.csv
  warpmark report --output run.sqlite
  warpmark report results --output /var/lib/node_exporter/warpmark.prom
  warpmark report --index --output results/README.md")]
pub struct Report {
    /// Results files or folders; without any, the newest run of the results folder
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The format [default: what the name of `--output` ends in, or terminal]
    #[arg(long, value_enum, conflicts_with = "json")]
    pub format: Option<Export>,
    /// The same as `--format json`
    #[arg(long)]
    pub json: bool,
    /// Every run of the results folder with its environment, in Markdown: its README.md
    #[arg(long, conflicts_with_all = ["paths", "format", "json", "filter"])]
    pub index: bool,
    /// Compare equal devices with each other, by `card`, `host` or `tag:KEY`; without it more than 100 runs are
    /// compared by card, where the form is for people
    #[arg(long, value_name = "WHAT", conflicts_with = "index")]
    pub by: Option<By>,
    /// Only benchmarks that match, such as `decode` or `gpt2/decode,!f16`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<Filter>,
    /// A file to write to, whose name says the form (.txt, .md, .csv, .json, .html, .sqlite,
    /// .prom); `-` for standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What an hour costs, for the page.
    #[command(flatten)]
    pub prices: PriceOptions,
    /// The folder that results are recorded in
    #[arg(long, value_name = "DIR", default_value = "results", env = "WARPMARK_RESULTS")]
    pub results: PathBuf,
}

impl Report {
    /// The form that the options ask for.
    ///
    /// # Errors
    /// Two of them contradict each other, or the name of the output tells of no form that there is.
    pub fn export(&self) -> Result<Export, WrongUsage> {
        let asked = if self.json { Some(Export::Text(OutputFormat::Json)) } else { self.format };
        let asked = if self.index { Some(Export::Text(OutputFormat::Markdown)) } else { asked };
        let ending = self.output.as_deref().and_then(Path::extension);
        let Some(ending) = ending.map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        else {
            return Ok(asked.unwrap_or(Export::Text(OutputFormat::Terminal)));
        };
        let output = self.output.as_deref().unwrap_or(Path::new("")).display();
        match (asked, Export::of_ending(&ending)) {
            (_, None) if ending == "jsonl" => Err(WrongUsage(format!(
                "{output} would be taken for recorded runs by its name; name it {KNOWN_ENDINGS}"
            ))),
            // Two forms of JSON have a tool of their own.
            (Some(asked @ Export::Series(_)), Some(Export::Text(OutputFormat::Json))) => Ok(asked),
            (Some(asked), Some(named)) if asked != named => Err(WrongUsage(format!(
                "{output} is the name of another form than the one that is asked for ({}); leave out \
                 one, or change it",
                asked
                    .to_possible_value()
                    .map_or_else(String::new, |value| value.get_name().to_owned())
            ))),
            (Some(asked), _) => Ok(asked),
            (None, Some(named)) => Ok(named),
            (None, None) => Err(WrongUsage(format!(
                "{output} tells of no form by its name; name it {KNOWN_ENDINGS}, or add --format"
            ))),
        }
    }
}

/// The endings that tell of a form, in words.
const KNOWN_ENDINGS: &str = ".txt, .md, .csv, .json, .html, .sqlite or .prom";
