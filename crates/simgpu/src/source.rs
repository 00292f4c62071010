//! Modules: the images that a driver is given, and the kernels in them.
//!
//! An image is PTX. What stands for machine code is PTX too, behind a line that names the architecture.
//! candle's kernels are in it by their signatures alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use warpmark_ptx::{Kernel, Module, Refusal};

/// What an image begins with that is no plain PTX: the architecture follows, as `sm_75`.
const HEADER: &str = "//simgpu ";

/// Bytes of shared memory that a kernel may have without asking for more.
pub(crate) const SHARED: u32 = 48 << 10;

/// One kernel: what a launch has to know of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// Its text, if the image has that.
    pub(crate) code: Option<Arc<Kernel>>,
    /// The version of PTX that it was compiled to, and the architecture.
    pub(crate) compiled: (u32, u32),
    /// Bytes of dynamic shared memory that a launch may ask for.
    dynamic: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) bytes: usize,
    pub(crate) pointer: bool,
}

/// Why an image cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is no image at all.
    Foreign,
    Ptx(Refusal),
}

/// What an image holds.
#[derive(Debug)]
pub(crate) struct Image {
    /// As `sm_75` or `compute_75`.
    pub(crate) target: String,
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl Entry {
    /// A kernel that is known by its signature alone.
    pub(crate) fn signature(name: &str, parameters: Vec<Parameter>) -> Self {
        let (name, dynamic) = (name.to_owned(), AtomicU32::new(SHARED));
        Self { name, parameters, code: None, compiled: (90, 0), dynamic }
    }

    fn of(kernel: Kernel, module: (u32, u32)) -> Self {
        let parameters = kernel.parameters.iter();
        let parameters = parameters.map(|p| Parameter { bytes: p.bytes, pointer: p.pointer });
        Self {
            name: kernel.name.clone(),
            parameters: parameters.collect(),
            dynamic: AtomicU32::new(SHARED.saturating_sub(kernel.shared)),
            compiled: module,
            code: Some(Arc::new(kernel)),
        }
    }

    /// Bytes of shared memory that it always has.
    pub(crate) fn shared(&self) -> u32 {
        self.code.as_ref().map_or(0, |code| code.shared)
    }

    /// The most shared memory that a launch may have.
    pub(crate) fn most_shared(&self) -> u32 {
        self.shared() + self.most_dynamic()
    }

    pub(crate) fn most_dynamic(&self) -> u32 {
        self.dynamic.load(Ordering::Relaxed)
    }

    pub(crate) fn grant(&self, dynamic: u32) {
        self.dynamic.store(dynamic, Ordering::Relaxed);
    }
}

/// PTX as the machine code of an architecture.
pub(crate) fn machine_code(target: &str, ptx: &str) -> String {
    format!("{HEADER}{target}\n{ptx}")
}

/// Reads an image. `place` gives variables of device memory their addresses.
pub(crate) fn load(image: &str, place: impl FnMut(u32, Vec<u8>) -> u64) -> Result<Image, Unusable> {
    let (header, rest) = match image.strip_prefix(HEADER) {
        Some(behind) => {
            let (target, rest) = behind.split_once('\n').ok_or(Unusable::Foreign)?;
            (Some(target.to_owned()), rest)
        }
        None => (None, image),
    };
    if !rest.contains(".address_size") {
        let target = header.ok_or(Unusable::Foreign)?;
        return Ok(Image { target, entries: signatures(rest).ok_or(Unusable::Foreign)? });
    }
    let module = Module::read(rest, place).map_err(Unusable::Ptx)?;
    let target = header.unwrap_or_else(|| format!("compute_{}", module.target));
    let compiled = (10 * module.version.0 + module.version.1, module.target);
    let entries = module.kernels.into_iter().map(|kernel| Arc::new(Entry::of(kernel, compiled)));
    Ok(Image { target, entries: entries.collect() })
}

/// Signatures, one a line: `.visible .entry name(.ptr 8, 4)`.
fn signatures(text: &str) -> Option<Vec<Arc<Entry>>> {
    // They tell their version of PTX and their target as well.
    let lines = text.lines();
    let lines =
        lines.filter(|line| !line.starts_with(".version ") && !line.starts_with(".target "));
    let entries = lines.map(|line| {
        let (name, rest) = line.strip_prefix(".visible .entry ")?.split_once('(')?;
        let list = rest.strip_suffix(')')?.split(", ").filter(|parameter| !parameter.is_empty());
        let parameters = list.map(|text| {
            let pointer = text.starts_with(".ptr ");
            let bytes = text.trim_start_matches(".ptr ").parse().ok()?;
            Some(Parameter { bytes, pointer })
        });
        Some(Arc::new(Entry::signature(name, parameters.collect::<Option<_>>()?)))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry one(.param .u64 a, \
                         .param .align 16 .b8 b[16])\n{\n.reg .b64 %rd<3>;\nld.param.u64 %rd1, [a];\n\
                         cvta.to.global.u64 %rd2, %rd1;\nret;\n}\n";

    #[test]
    fn ptx_is_an_image_with_and_without_an_architecture_of_its_own() {
        let plain = load(EMPTY, |_, _| 0).unwrap();
        assert_eq!(plain.target, "compute_80");
        let machine = load(&machine_code("sm_86", EMPTY), |_, _| 0).unwrap();
        assert_eq!(machine.target, "sm_86");
        let p = |bytes, pointer| Parameter { bytes, pointer };
        assert_eq!(machine.entries[0].parameters, [p(8, true), p(16, false)]);
        assert_eq!(machine.entries[0].compiled, (90, 80));
        assert_eq!(machine.entries[0].most_shared(), SHARED);
    }

    #[test]
    fn what_is_no_image_is_told_from_ptx_that_is_wrong() {
        assert_eq!(load("\u{7f}ELF", |_, _| 0).unwrap_err(), Unusable::Foreign);
        assert!(matches!(load(".version 9.0 .address_size", |_, _| 0), Err(Unusable::Ptx(_))));
    }

    #[test]
    fn the_signatures_of_candles_kernels_are_read_and_are_those_of_its_version() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let folder = format!("{root}/scripts/simulated-cuda/signatures");
        let mut found = Vec::new();
        for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|kind| kind == "ptx") {
                let image = load(&std::fs::read_to_string(file).unwrap(), |_, _| 0).unwrap();
                assert_eq!(image.target, "compute_75");
                found.extend(image.entries);
            }
        }
        let softmax = found.iter().find(|entry| entry.name == "softmax_f16").unwrap();
        let pointers: Vec<bool> = softmax.parameters.iter().map(|p| p.pointer).collect();
        assert_eq!((pointers, found.len()), (vec![true, true, false], 591));
        let version = std::fs::read_to_string(format!("{folder}/VERSION")).unwrap();
        let lock = std::fs::read_to_string(format!("{root}/Cargo.lock")).unwrap();
        let locked = format!("name = \"candle-kernels\"\nversion = \"{}\"", version.trim());
        assert!(lock.contains(&locked), "scripts/fixtures/kernel_signatures.py makes them anew");
    }
}
