//! Kernels as PTX, decoded and run as a simulated card would.

use std::path::Path;

use warpmark_ptx::{Clocks, DeviceMemory, Geometry, Limits, Module, View};

/// Where the one allocation lies, and its length.
const START: u64 = 1 << 20;
const LEN: usize = 4096;

/// Instructions of lanes that a kernel may do.
const MOST: u64 = 20_000;

/// An allocation of zeros.
struct Memory(Vec<u8>);

impl DeviceMemory for Memory {
    fn extent(&self, address: u64) -> Option<(u64, u64)> {
        (START..START + LEN as u64).contains(&address).then_some((START, LEN as u64))
    }

    fn read(&self, address: u64, out: &mut [u8]) -> Vec<(usize, usize)> {
        let at = (address - START) as usize;
        out.copy_from_slice(&self.0[at..at + out.len()]);
        Vec::new()
    }

    fn write(&mut self, address: u64, bytes: Vec<u8>) {
        let at = (address - START) as usize;
        self.0[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

/// Reads a module, and runs each of its kernels: pointers point to the allocation, and numbers are 3.
pub(super) fn kernels(_: &Path, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(module) = Module::read(&text, |_, _| START) else { return };
    for kernel in module.kernels.iter().take(8) {
        let end = kernel.parameters.last().map_or(0, |last| last.at + last.bytes);
        let mut arguments = vec![0; end];
        for parameter in &kernel.parameters {
            let value = if parameter.pointer { START } else { 3 };
            let len = parameter.bytes.min(8);
            arguments[parameter.at..parameter.at + len]
                .copy_from_slice(&value.to_le_bytes()[..len]);
        }
        let mut memory = Memory(vec![0; LEN]);
        let mut view = View::new(&mut memory);
        let geometry = Geometry { grid: [2, 1, 1], block: [40, 1, 1], shared: 64 };
        let (shared, clocks) = (48 << 10, Clocks::default());
        let limits = Limits { multiprocessors: 4, shared, instructions: MOST, clocks };
        let outcome = kernel.run(&mut view, geometry, limits, &arguments);
        drop(outcome);
        view.commit();
    }
}
