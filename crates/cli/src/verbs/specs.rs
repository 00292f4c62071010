//! `warpmark specs`.

use serde::Serialize;
use warpmark_record::{DeviceSpec, HostSpec};

use crate::arguments::Specs;
use crate::exit;
use crate::output::{show, show_json, style};

#[derive(Serialize)]
struct Machine {
    device: DeviceSpec,
    host: HostSpec,
}

/// Says what device this is.
pub fn run(options: &Specs) -> anyhow::Result<u8> {
    let described = warpmark_device::look(options.device.device)?;
    let machine = Machine { device: described.spec, host: warpmark_device::host_spec() };
    if options.json {
        show_json(&machine)?;
    } else {
        if let Some(note) = described.note {
            show(&format!("{note}\n"));
        }
        show(&warpmark_report::specs(&machine.device, &machine.host, &style()));
    }
    Ok(exit::OK)
}
