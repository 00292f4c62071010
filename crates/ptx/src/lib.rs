//! For tests only: a machine that executes PTX, the text that NVIDIA's compilers make of kernels.
//!
//! A warp is groups of lanes that stand at the same instruction; the group furthest back runs first, so
//! that lanes which parted meet again. Warps run from barrier to barrier in a random order, and blocks
//! one after the other, in a random order too: what a kernel may not rely on it does not find.
//!
//! Every access is checked to the byte: bounds, alignment, whether anybody wrote what is read, and
//! whether another thread's access is ordered before it (`shadow.rs`, `order.rs`). What is found names the
//! line of the `.cu` where the PTX has line information.
//!
//! It is exact where cards agree with arithmetic, and no judge of speed: the `approx` forms are computed
//! in f64, sums of tensor cores are rounded once, clocks go on with the simulated card's, and PTX is not
//! machine code.

#![allow(clippy::cast_possible_wrap, reason = "what is cast so is an index or a count")]
#![allow(clippy::float_cmp, reason = "what a machine computes has one right value")]
#![allow(clippy::inline_always, reason = "each form of an instruction becomes a loop of its own")]

mod access;
mod atomic;
mod call;
mod carry;
mod clocks;
mod compare;
mod conversion;
mod convert;
mod copies;
mod counts;
mod declare;
mod decode;
mod directed;
mod exchange;
mod finding;
mod float;
mod forms;
mod fp8;
mod instruction;
mod integer;
mod launch;
mod library;
mod matrix;
mod memory;
mod module;
mod nearest;
mod operand;
mod order;
mod reading;
mod refusal;
mod row;
mod sectors;
mod shadow;
mod special;
mod step;
mod together;
mod token;
mod value;
mod view;
mod waits;
mod warp;

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod memory_for_tests;
#[cfg(test)]
mod run_tests;

pub use clocks::Clocks;
pub use counts::{Area, Atomics, Counts, PRODUCTS, SECTOR, Traffic};
pub use finding::{Fault, Findings, Race};
pub use instruction::Kind;
pub use launch::{Geometry, Limits, Outcome};
pub use library::Library;
pub use module::{Kernel, Module, Parameter};
pub use refusal::Refusal;
pub use view::{DeviceMemory, View};
