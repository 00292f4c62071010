//! The suite's kernels (`kernels/*.cu`) on the CPU: what they write, and what that costs by their text.

mod estimate;
mod hierarchy;
mod text;
pub(crate) use text::{BUDGET, Ran};

use std::sync::Arc;

use crate::address_space::AddressSpace;
use crate::contents::{Element, Elementwise, Pattern, Random, Source};
use crate::profile::Profile;
use crate::source::Entry;
use crate::timeline::BlockingFlag;
use warpmark_ptx::{Clocks, Geometry};

const NOT_SUPPORTED: u32 = 801;

/// What an `assert` in a kernel leaves: `CUDA_ERROR_ASSERT`.
pub(crate) const ASSERT: u32 = 710;

/// Elements of f32 that a block of `memory.cu` handles, however many threads it has.
const CHUNK: u64 = 4096;

/// One launch, its arguments copied.
pub(crate) struct Launch<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) geometry: Geometry,
    pub(crate) memory: &'a mut AddressSpace,
    pub(crate) profile: &'a Profile,
    /// What the card's clocks show when it begins.
    pub(crate) clocks: Clocks,
    /// The flag that the stream waits for from here on.
    pub(crate) flag: Option<BlockingFlag>,
}

/// What a kernel does on the CPU; the error is what the launch, or the context, is told. How long it takes
/// follows from its text.
type Model = fn(&mut Launch<'_>) -> Result<(), u32>;

/// The model of a kernel, if it has one: those whose launches in a run come to more instructions than a test can
/// execute, by the size of their arrays, the length of their loops, or (`launch_empty`) their number. Each is held
/// to the kernel's text wherever a launch is small enough; a new kernel gets none.
fn model(kernel: &str) -> Option<Model> {
    Some(match kernel {
        "fill_f32" => |launch| launch.fill(Element::F32),
        "fill_f16" => |launch| launch.fill(Element::F16),
        "fill_bf16" => |launch| launch.fill(Element::Bf16),
        "fill_fp8" => |launch| launch.fill(Element::Fp8),
        "fill_int8" => |launch| launch.fill(Element::Int8),
        "fill_f64" => |launch| launch.fill(Element::F64),
        "memory_read" => |launch| launch.read(),
        "memory_write" => |launch| launch.write(),
        "memory_copy" => |launch| launch.map(0, 0, 1, |a, _| a),
        "memory_scale" => |launch| {
            let s = launch.f32(2);
            launch.map(0, 0, 1, move |a, _| s * a)
        },
        "memory_add" => |launch| launch.map(0, 1, 2, |a, b| a + b),
        "memory_triad" => |launch| {
            let s = launch.f32(3);
            launch.map(0, 1, 2, move |a, b| a + s * b)
        },
        "intensity_sweep" => |launch| launch.intensity(),
        "cache_read" => |launch| launch.cache_read(),
        "chase_walk" => |launch| launch.chase(),
        "shared_read" => |launch| launch.shared_read(),
        "atomics_add" => |launch| launch.atomics(),
        "launch_empty" => |launch| launch.empty(),
        "block_stream" => |launch| {
            launch.block();
            Ok(())
        },
        _ => return None,
    })
}

/// Whether a kernel looks at memory of the host until somebody writes there.
fn waits_for_the_host(kernel: &str) -> bool {
    kernel == "block_stream"
}

impl Launch<'_> {
    /// The kernel's model, if it has one.
    fn model(&self) -> Option<Model> {
        model(&self.entry.name).filter(|_| self.entry.own)
    }

    fn blocks(&self) -> u64 {
        self.geometry.blocks()
    }

    fn threads(&self) -> u64 {
        self.geometry.threads()
    }

    /// The arguments that are pointers.
    pub(crate) fn pointers(&self) -> Vec<u64> {
        let all = self.entry.parameters.iter().enumerate();
        all.filter(|(_, parameter)| parameter.pointer).map(|(i, _)| self.u64(i)).collect()
    }

    fn block(&mut self) {
        let limit = self.u64(2) as f64 * 1e-9;
        self.flag = Some(BlockingFlag { words: self.u64(0), ticket: self.u32(1), limit });
    }

    fn u64(&self, argument: usize) -> u64 {
        u64::from_le_bytes(self.arguments[argument][..].try_into().unwrap())
    }

    fn u32(&self, argument: usize) -> u32 {
        u32::from_le_bytes(self.arguments[argument][..].try_into().unwrap())
    }

    fn f32(&self, argument: usize) -> f32 {
        f32::from_bits(self.u32(argument))
    }

    /// The bytes of an array that the grid covers in `memory.cu`.
    fn extent(&self) -> u64 {
        self.blocks() * CHUNK * 4
    }

    fn store(&mut self, at: u64, len: u64, source: Arc<dyn Source>) -> Result<(), u32> {
        let (contents, offset) = self.memory.contents(at, len)?;
        contents.write(offset, len, source);
        Ok(())
    }

    fn fill(&mut self, element: Element) -> Result<(), u32> {
        let (out, len, key) = (self.u64(0), self.u64(1) * element.size(), self.u64(2));
        self.store(out, len, Arc::new(Random { key, element }))
    }

    fn read(&mut self) -> Result<(), u32> {
        let (a, fold, mask) = (self.u64(0), self.u64(1), self.u32(2));
        let len = self.extent();
        let what = self.memory.snapshot(a, len)?;
        let (contents, offset) = self.memory.contents(fold, 4)?;
        match mask {
            0 => {}
            u32::MAX => {
                let mut before = [0; 4];
                contents.snapshot(offset, 4).read(0, &mut before);
                let folded = u32::from_le_bytes(before) ^ fold_of(&what, len);
                let folded = folded.to_le_bytes().to_vec();
                contents.write(offset, 4, Arc::new(crate::contents::Bytes(folded)));
            }
            // Other masks fold each thread's part or not, which nobody asks for.
            _ => return Err(NOT_SUPPORTED),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), u32> {
        let (c, len) = (self.u64(0), self.extent());
        let pattern = self.arguments[1][..].try_into().unwrap();
        self.store(c, len, Arc::new(Pattern(pattern)))
    }

    fn map(
        &mut self,
        a: usize,
        b: usize,
        c: usize,
        map: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
    ) -> Result<(), u32> {
        let len = self.extent();
        let (first, second) = (self.u64(a), self.u64(b));
        let a = self.memory.snapshot(first, len)?;
        let b = self.memory.snapshot(second, len)?;
        let source = Elementwise { a, b, map: Box::new(map) };
        self.store(self.u64(c), len, Arc::new(source))
    }
}

/// The exclusive or of all f32 of an array, as bits.
fn fold_of(what: &dyn Source, len: u64) -> u32 {
    const BLOCK: u64 = 1 << 16;
    let mut buffer = vec![0; BLOCK as usize];
    let mut folded = 0;
    for offset in (0..len).step_by(BLOCK as usize) {
        let part = &mut buffer[..BLOCK.min(len - offset) as usize];
        what.read(offset, part);
        for word in part.as_chunks::<4>().0 {
            folded ^= u32::from_le_bytes(*word);
        }
    }
    folded
}

#[cfg(test)]
mod attention_floors;
#[cfg(test)]
mod case;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod estimate_tests;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod table;
#[cfg(test)]
mod text_tests;
