//! What happened in this process, for a test to read when it has ended.

use std::fmt::Write;
use std::path::Path;

use crate::bytes;
use crate::machine::{Machine, machine};

/// Runs when the library is unloaded or the process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_THE_END: extern "C" fn() = write;

extern "C" fn write() {
    if let Some(folder) = std::env::var_os("SIMGPU_REPORT") {
        let text = text(&machine());
        if !text.is_empty() {
            // Nobody is left to be told of a failure; the test misses the file.
            let _ = std::fs::write(Path::new(&folder).join(std::process::id().to_string()), text);
        }
    }
}

/// One fact a line: a kind, a name, a number. Empty if nothing was ever called.
fn text(machine: &Machine) -> String {
    let mut text = String::new();
    if machine.calls.is_empty() {
        return text;
    }
    for (name, count) in &machine.calls {
        let _ = writeln!(text, "call {name} {count}");
    }
    for (name, count) in &machine.kernels {
        let _ = writeln!(text, "kernel {name} {count}");
    }
    let (allocations, bytes) = machine
        .devices
        .iter()
        .map(|device| device.memory.left())
        .fold((0, 0), |(count, bytes), (more, their)| (count + more, bytes + their));
    let _ = writeln!(text, "left allocations {allocations}");
    let _ = writeln!(text, "left bytes {bytes}");
    let _ = writeln!(text, "left modules {}", machine.modules.len());
    let _ = writeln!(text, "graph bytes {}", machine.touched);
    let _ = writeln!(text, "left events {}", machine.events.len());
    let _ = writeln!(text, "refused calls {}", machine.refused);
    for (line, count) in machine.findings.lines() {
        let _ = writeln!(text, "finding {line} {count}");
    }
    for line in &machine.refusals {
        let _ = writeln!(text, "finding {line} 1");
    }
    for (kernel, instructions) in &machine.run {
        let _ = writeln!(text, "instructions {kernel} {instructions}");
    }
    let worked: f64 = machine.devices.iter().map(|device| device.worked).sum();
    let _ = writeln!(text, "worked microseconds {}", (worked * 1e6) as u64);
    let _ = writeln!(text, "copied bytes {}", bytes::copied());
    let _ = writeln!(text, "dangling pointers {}", machine.dangling);
    text
}
