//! Modules: the images that a driver is given, and the kernels in them.
//!
//! An image is PTX. What stands for machine code is PTX too, behind a line that names the architecture.
//! candle's kernels are PTX behind a line that names it, as `compute_80`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::estimates::Estimates;
use crate::occupancy::Assembled;
use crate::profile::Profile;
use warpmark_ptx::{Kernel, Library, Module, Refusal};

/// What an image begins with that is no plain PTX: the architecture follows, as `sm_75`.
const HEADER: &str = "//simgpu ";

/// Bytes of shared memory that a kernel may have without asking for more.
pub(crate) const SHARED: u32 = 48 << 10;

/// One kernel: what a launch has to know of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// Its text.
    pub(crate) code: Arc<Kernel>,
    /// Whether it may be one of the suite's own, of which the simulator has models: candle has kernels of the
    /// same names.
    pub(crate) own: bool,
    /// The version of PTX that it was compiled to, and the architecture.
    pub(crate) compiled: (u32, u32),
    /// What ptxas makes of it for each architecture, if the text says so.
    assembled: Vec<(u32, Assembled)>,
    /// What its launches count.
    pub(crate) estimates: Estimates,
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
    kernels: Kernels,
}

/// Kernels by their names.
#[derive(Debug)]
enum Kernels {
    All(Vec<Arc<Entry>>),
    /// Those of many that were asked for.
    Some(Box<Library>, HashMap<String, Arc<Entry>>),
}

impl Image {
    /// A kernel that always has more shared memory than any block can, if there is one; of many kernels
    /// nobody knows before they are asked for.
    pub(crate) fn greedy(&self) -> Option<Arc<Entry>> {
        let Kernels::All(all) = &self.kernels else { return None };
        all.iter().find(|entry| entry.shared() > SHARED).cloned()
    }

    /// The kernel of a name; `None` where there is none, and a refusal where it cannot be run.
    pub(crate) fn entry(&mut self, name: &str) -> Option<Result<Arc<Entry>, Refusal>> {
        match &mut self.kernels {
            Kernels::All(all) => all.iter().find(|entry| entry.name == name).cloned().map(Ok),
            Kernels::Some(library, known) => {
                if let Some(entry) = known.get(name) {
                    return Some(Ok(Arc::clone(entry)));
                }
                let compiled = compiled(library.version, library.target);
                let entry = library
                    .kernel(name)?
                    .map(|kernel| Arc::new(Entry::of(kernel, compiled, false, Vec::new())));
                if let Ok(entry) = &entry {
                    known.insert(name.to_owned(), Arc::clone(entry));
                }
                Some(entry)
            }
        }
    }

    /// All kernels of an image whose kernels were all read.
    #[cfg(test)]
    pub(crate) fn entries(self) -> Vec<Arc<Entry>> {
        match self.kernels {
            Kernels::All(all) => all,
            Kernels::Some(..) => panic!("an image of many kernels"),
        }
    }
}

fn compiled((major, minor): (u32, u32), target: u32) -> (u32, u32) {
    (10 * major + minor, target)
}

impl Entry {
    fn of(kernel: Kernel, module: (u32, u32), own: bool, assembled: Vec<(u32, Assembled)>) -> Self {
        let parameters = kernel.parameters.iter();
        let parameters = parameters.map(|p| Parameter { bytes: p.bytes, pointer: p.pointer });
        Self {
            name: kernel.name.clone(),
            parameters: parameters.collect(),
            dynamic: AtomicU32::new(SHARED.saturating_sub(kernel.shared)),
            compiled: module,
            assembled,
            estimates: Estimates::default(),
            code: Arc::new(kernel),
            own,
        }
    }

    /// Bytes of shared memory that it always has.
    pub(crate) fn shared(&self) -> u32 {
        self.code.shared
    }

    /// What ptxas makes of it for a card, if the text says so.
    pub(crate) fn assembled_for(&self, profile: &Profile) -> Option<Assembled> {
        let (major, minor) = profile.compute_capability;
        let found = self.assembled.iter().find(|(of, _)| *of == 10 * major + minor);
        found.map(|(_, assembled)| *assembled)
    }

    /// The most shared memory that a launch may have.
    pub(crate) fn most_shared(&self) -> u32 {
        self.shared() + self.most_dynamic()
    }

    pub(crate) fn most_dynamic(&self) -> u32 {
        self.dynamic.load(Ordering::Relaxed)
    }

    /// Lets launches ask for so many bytes of dynamic shared memory, whatever the card.
    #[cfg(test)]
    pub(crate) fn grant(&self, dynamic: u32) {
        self.dynamic.store(dynamic, Ordering::Relaxed);
    }

    /// Lets launches ask for so many bytes of dynamic shared memory; `None` where a block cannot have
    /// `most` bytes in all.
    pub(crate) fn grant_at_most(&self, dynamic: i32, most: u32) -> Option<()> {
        let dynamic = u32::try_from(dynamic).ok()?;
        let fits = self.shared().checked_add(dynamic).is_some_and(|total| total <= most);
        fits.then(|| self.dynamic.store(dynamic, Ordering::Relaxed))
    }
}

/// PTX as the machine code of an architecture.
pub(crate) fn machine_code(target: &str, ptx: &str) -> String {
    format!("{HEADER}{target}\n{ptx}")
}

/// Reads an image. `place` gives variables of device memory their addresses.
///
/// candle's images have hundreds of kernels, of which a program launches few: those are decoded when they are
/// asked for, and `scripts/kernel-ptx --candle` decodes all.
pub(crate) fn load(image: &str, place: impl FnMut(u32, Vec<u8>) -> u64) -> Result<Image, Unusable> {
    let (header, rest) = match image.strip_prefix(HEADER) {
        Some(behind) => {
            let (target, rest) = behind.split_once('\n').ok_or(Unusable::Foreign)?;
            (Some(target.to_owned()), rest)
        }
        None => (None, image),
    };
    if !rest.contains(".address_size") {
        return Err(Unusable::Foreign);
    }
    match header {
        Some(target) if target.starts_with("compute_") => {
            many(rest, place).map(|image| Image { target, ..image }).map_err(Unusable::Ptx)
        }
        header => {
            let module = Module::read(rest, place).map_err(Unusable::Ptx)?;
            let target = header.unwrap_or_else(|| format!("compute_{}", module.target));
            let compiled = compiled(module.version, module.target);
            let entries = module.kernels.into_iter().map(|kernel| {
                let assembled = Assembled::of(rest, &kernel.name);
                Arc::new(Entry::of(kernel, compiled, true, assembled))
            });
            Ok(Image { target, kernels: Kernels::All(entries.collect()) })
        }
    }
}

/// The image of PTX with many kernels.
pub(crate) fn many(ptx: &str, place: impl FnMut(u32, Vec<u8>) -> u64) -> Result<Image, Refusal> {
    let library = Library::read(ptx.to_owned(), place)?;
    let target = format!("compute_{}", library.target);
    Ok(Image { target, kernels: Kernels::Some(Box::new(library), HashMap::new()) })
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
        let one = &machine.entries()[0];
        assert_eq!(one.parameters, [p(8, true), p(16, false)]);
        assert_eq!((one.compiled, one.most_shared()), ((90, 80), SHARED));
    }

    #[test]
    fn what_is_no_image_is_told_from_ptx_that_is_wrong() {
        assert_eq!(load("\u{7f}ELF", |_, _| 0).unwrap_err(), Unusable::Foreign);
        assert!(matches!(load(".version 9.0 .address_size", |_, _| 0), Err(Unusable::Ptx(_))));
    }

    #[test]
    fn of_many_kernels_each_is_known_once_it_was_asked_for() {
        let mut image = load(&format!("//simgpu compute_80\n{EMPTY}"), |_, _| 0).unwrap();
        assert_eq!(image.target, "compute_80");
        let one = image.entry("one").unwrap().unwrap();
        assert_eq!((one.compiled, one.parameters.len()), ((90, 80), 2));
        assert!(Arc::ptr_eq(&one, &image.entry("one").unwrap().unwrap()));
        assert!(image.entry("two").is_none());
    }
}
