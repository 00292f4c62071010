//! `warpmark models`: what can be measured, and whether it fits.

use serde::Serialize;
use warpmark_models::{Dtype, Format, Model};
use warpmark_record::{Bytes, DeviceKind, DeviceSpec, Field};
use warpmark_report::{ListColumn, Style, render_list};

use crate::arguments::Models;
use crate::output::{say, show, show_json};
use crate::{exit, sources, terminal};

/// A model and how it stands to a device.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    title: &'a str,
    family: &'a str,
    parameters: u64,
    repo: &'a str,
    revision: Option<&'a str>,
    checkpoint_bytes: Bytes,
    /// Weights alone, in the dtype that suits the device.
    weights_bytes: Bytes,
    weights_dtype: Dtype,
    fits: Field<bool>,
    quantised: Vec<Quantised>,
    phases: &'a [String],
    /// Where weights can come from, as `--weights` takes it; a folder always can.
    weights_sources: &'static [&'static str],
}

/// The weights of a model in a quantised file.
#[derive(Serialize)]
struct Quantised {
    format: Format,
    weights_bytes: Bytes,
    fits: Field<bool>,
}

/// Lists the catalog.
pub fn run(options: &Models) -> anyhow::Result<u8> {
    let catalog = sources::catalog(&options.catalog)?;
    let spec = warpmark_device::look(options.device.device)?.spec;
    let listed: Vec<Listed<'_>> =
        catalog.models().iter().map(|model| listed(model, &spec)).collect::<Result<_, _>>()?;
    if options.json {
        show_json(&listed)?;
    } else {
        let (table, words) = table(&listed, &spec);
        show(&table)?;
        say(&words)?;
    }
    Ok(exit::OK)
}

fn listed<'a>(model: &'a Model, spec: &DeviceSpec) -> anyhow::Result<Listed<'a>> {
    let parameters = model.count_parameters()?;
    let weights_dtype = if spec.kind == DeviceKind::Cpu { Dtype::F32 } else { Dtype::F16 };
    let size = |dtype: Dtype| Bytes(parameters as f64 * dtype.bytes() as f64);
    let weights_bytes = size(weights_dtype);
    Ok(Listed {
        id: &model.id,
        title: &model.title,
        family: &model.family,
        parameters,
        repo: &model.repo,
        revision: model.revision.as_deref(),
        checkpoint_bytes: size(model.checkpoint),
        weights_bytes,
        weights_dtype,
        fits: spec.memory.clone().map(|capacity| weights_bytes < capacity),
        quantised: quantised(model, spec)?,
        phases: &model.phases,
        weights_sources: match model.revision {
            Some(_) => &["synthetic", "hub"],
            None => &["synthetic"],
        },
    })
}

/// The quantised formats that any of the suites measures.
fn quantised(model: &Model, spec: &DeviceSpec) -> anyhow::Result<Vec<Quantised>> {
    let of = |quantisation| {
        let format = Format::Quantised(quantisation);
        let weights_bytes = model.weight_spec(format)?.held();
        let fits = spec.memory.clone().map(|capacity| weights_bytes < capacity);
        Ok(Quantised { format, weights_bytes, fits })
    };
    model.quantisations().into_iter().map(of).collect()
}

/// The columns, those that an id and `--json` make up for first to go.
const COLUMNS: [ListColumn; 8] = [
    column("model", false, 0),
    column("title", false, 4),
    column("parameters", true, 2),
    column("weights", true, 1),
    column("fits", false, 0),
    column("weights from", false, 3),
    column("phases", false, 5),
    column("repo", false, 6),
];

const fn column(title: &'static str, right: bool, spare: u8) -> ListColumn {
    ListColumn { title, right, spare }
}

/// The list as wide as the terminal; into a file or a pipe each model has a line, however long.
fn table(listed: &[Listed<'_>], spec: &DeviceSpec) -> (String, String) {
    let rows: Vec<Vec<String>> = listed.iter().map(|model| cells(model).into()).collect();
    let style = Style { width: terminal::width().unwrap_or(u16::MAX), ..terminal::style() };
    let (text, spared) = render_list(&COLUMNS, &rows, style);
    let capacity = match &spec.memory {
        Field::Known(bytes) => bytes.binary(),
        Field::Absent { absent } => format!("memory unknown: {absent}"),
    };
    let mut words = format!(
        "\nFits: the weights alone, on {} ({capacity}); as: in these quantised formats alone. Weights are synthetic unless `--weights hub` or a \
         folder is given; the hub is asked only where a revision is pinned.\n",
        spec.name
    );
    if !spared.is_empty() {
        let spared = spared.join(", ");
        words += &["Left out for want of room: ", &spared, "; `--json` has all.\n"].concat();
    }
    (text, words)
}

fn cells(model: &Listed<'_>) -> [String; 8] {
    let parameters = match model.parameters as f64 {
        count if count >= 1e9 => format!("{:.2} B", count / 1e9),
        count => format!("{:.1} M", count / 1e6),
    };
    let fitting = model.quantised.iter().filter(|quantised| quantised.fits.known() == Some(&true));
    let fitting: Vec<String> = fitting.map(|quantised| quantised.format.to_string()).collect();
    let fits = match model.fits.known() {
        Some(true) => "yes".to_owned(),
        Some(false) if !fitting.is_empty() => format!("as {}", fitting.join(", ")),
        Some(false) => "no".to_owned(),
        None => "unknown".to_owned(),
    };
    [
        model.id.to_owned(),
        model.title.to_owned(),
        parameters,
        format!("{} {}", model.weights_bytes.binary(), model.weights_dtype),
        fits,
        [model.weights_sources, &["folder"]].concat().join(" "),
        model.phases.join(" "),
        model.repo.to_owned(),
    ]
}
