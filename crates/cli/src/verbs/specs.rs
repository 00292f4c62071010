//! `warpmark specs`.

use warpmark_report::Format;

use crate::arguments::Specs;
use crate::exit;
use crate::output::{say, show};
use crate::terminal::style;

/// Says what device this is.
pub fn run(options: &Specs) -> anyhow::Result<u8> {
    let described = warpmark_device::look(options.device.device)?;
    let host = warpmark_device::host_spec();
    let format = if options.json { Format::Json } else { Format::Terminal };
    if let (Some(note), Format::Terminal) = (&described.note, format) {
        say(&format!("{note}\n"))?;
    }
    show(&warpmark_report::render_specs(&described.spec, &host, format, style())?)?;
    Ok(exit::OK)
}
