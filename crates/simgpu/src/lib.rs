//! For tests only: a shared library that answers as the CUDA driver and runtime, NVRTC, cuBLAS,
//! cuBLASLt, cuRAND and NVML.
//!
//! The suite's real GPU code runs against it in `cargo test` on a machine without a GPU: cudarc and
//! nvml-wrapper load it under NVIDIA's names from a folder that [`harness::Simulator`] makes. A green
//! run proves control flow, accounting, error handling and the arithmetic of times; it never proves a
//! number, since each one comes out of a profile ([`profile::Profile`]).
//!
//! # How it works
//! - **Memory holds descriptions, not bytes.** An allocation knows what was written to it (a byte, a
//!   copy from the host, "the random numbers of key 7", "the product of these two") and computes the
//!   elements that are copied back, exactly and only those. So 16384 × 16384 matrices cost nothing, and
//!   every checked entry of their product is right for the right reason.
//! - **Every pointer of every launch is checked** against the live allocations, to the byte. Addresses
//!   are never used twice, so that a use after free is always found.
//! - **Events tell the device's busy time**: the costs of the operations between them, whatever the host did
//!   meanwhile: of a kernel by what its text counts (`cost.rs`), of copies and of what libraries do by the
//!   profile's peaks. They are the same in each run, to the digit.
//! - **Synchronising waits in real time** until the modelled work would be done. A clock that only
//!   jumped would disagree with the host's, by which criterion plans its iterations.
//! - **Kernels run by their own text** (the crate `warpmark-ptx`), which checks every access: candle's always,
//!   the suite's wherever that is not too much, beside models that answer for arrays of any size (`kernels.rs`).
//! - **Faults** come from a plan, by function and call number ([`faults`]).
//!
//! # Settings, read once from the environment
//! | variable | meaning |
//! |---|---|
//! | `SIMGPU_PROFILE` | the devices, as `t4` or `t4,l4`; empty for none; without it `t4` |
//! | `SIMGPU_FAULTS` | what goes wrong; see [`faults`] |
//! | `SIMGPU_DRIVER` | the CUDA version that the driver reports, as `12080` |
//! | `SIMGPU_NVRTC` | a real libnvrtc that compiles what is given; else `kernels/ptx` has to have it |
//! | `SIMGPU_REPORT` | a folder to write the calls and leaks to when a process ends, a file each |
//! | `CUDA_VISIBLE_DEVICES` | as NVIDIA's driver reads it: indices or `GPU-` ids, up to the first wrong one |
//!
//! Only Linux has this way of loading; elsewhere the crate is empty.

#![cfg(target_os = "linux")]
#![allow(non_snake_case, reason = "the exported functions carry NVIDIA's names")]
#![allow(clippy::cast_possible_wrap, reason = "C's ints hold indices and counts of a few")]
#![allow(clippy::unwrap_used, reason = "test-only; a broken invariant must end the test")]

mod address_space;
mod bytes;
mod call;
mod card;
mod compiler;
mod contents;
mod cost;
mod cublas;
mod cublaslt;
mod cudart;
mod curand;
mod driver;
mod element;
mod estimates;
mod fatbin;
pub mod faults;
pub mod harness;
mod kernels;
mod loss;
mod machine;
mod nccl;
mod nvml;
mod nvrtc;
mod occupancy;
mod product;
pub mod profile;
mod report;
mod source;
mod timeline;

/// The mark of a simulated device: no library of NVIDIA's exports this name.
#[unsafe(no_mangle)]
extern "C" fn simgpuVersion() -> u32 {
    1
}
