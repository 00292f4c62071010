//! NCCL: collectives between the cards of one process. What is queued in a group begins at its end, when every
//! card of a communicator has been told; a card that is missing is refused, where the real library waits.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_char, c_int};
use std::sync::{Arc, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::contents::{Snapshot, Source};
use crate::machine::Machine;
use crate::profile::Work;

/// `ncclUnhandledCudaError`.
const CUDA_ERROR: u32 = 1;
/// `ncclInvalidArgument`.
const INVALID_ARGUMENT: u32 = 4;
/// `ncclInvalidUsage`.
const INVALID_USAGE: u32 = 5;

/// `ncclFloat32`, the one type that sums are made of here.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

/// What a collective costs before it moves anything, for each card that the data passes.
const HOP: f64 = 4e-6;

#[derive(Clone, Copy)]
struct Member {
    clique: u64,
    rank: usize,
    of: usize,
    device: c_int,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    AllReduce,
    AllGather,
    Broadcast { root: usize },
}

struct Queued {
    member: Member,
    what: What,
    from: u64,
    to: u64,
    bytes: u64,
    stream: u64,
}

#[derive(Default)]
struct State {
    members: BTreeMap<u64, Member>,
    depth: u32,
    queued: Vec<Queued>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    act(STATE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetVersion(version: Option<&mut c_int>) -> u32 {
    elsewhere("ncclGetVersion", |_| put(version, 22_703, INVALID_ARGUMENT))
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(code: c_int) -> *const c_char {
    match code {
        0 => c"no error",
        1 => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        4 => c"invalid argument",
        5 => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
        _ => c"unknown result code",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitAll(handles: *mut u64, count: c_int, devices: *const c_int) -> u32 {
    elsewhere("ncclCommInitAll", |machine| {
        let of = usize::try_from(count).ok().filter(|of| *of > 0).ok_or(INVALID_ARGUMENT)?;
        if handles.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let clique = machine.handle();
        for rank in 0..of {
            let device = if devices.is_null() {
                rank as c_int
            } else {
                // SAFETY: the caller passes as many as it says.
                unsafe { *devices.add(rank) }
            };
            machine.device(device).map_err(|_| INVALID_ARGUMENT)?;
            let handle = machine.handle();
            with(|state| state.members.insert(handle, Member { clique, rank, of, device }));
            // SAFETY: there is room for as many.
            unsafe { *handles.add(rank) = handle };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommDestroy(handle: u64) -> u32 {
    elsewhere("ncclCommDestroy", |_| {
        with(|state| state.members.remove(&handle)).map(drop).ok_or(INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupStart() -> u32 {
    elsewhere("ncclGroupStart", |_| {
        with(|state| state.depth += 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupEnd() -> u32 {
    elsewhere("ncclGroupEnd", |machine| {
        let depth = with(|state| {
            state.depth = state.depth.checked_sub(1).ok_or(INVALID_USAGE)?;
            Ok::<_, u32>(state.depth)
        })?;
        if depth == 0 { run(machine) } else { Ok(()) }
    })
}

/// Notes one card's part; outside of a group it is all there is.
fn queue(
    name: &'static str,
    (from, to, count): (u64, u64, usize),
    (what, kind): (What, c_int),
    handle: u64,
    stream: u64,
) -> u32 {
    elsewhere(name, |machine| {
        let member = with(|state| state.members.get(&handle).copied()).ok_or(INVALID_ARGUMENT)?;
        if kind != FLOAT32 {
            return Err(INVALID_ARGUMENT);
        }
        let bytes = 4 * count as u64;
        let alone = with(|state| {
            state.queued.push(Queued { member, what, from, to, bytes, stream });
            state.depth == 0
        });
        if alone { run(machine) } else { Ok(()) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllReduce(
    from: u64,
    to: u64,
    count: usize,
    kind: c_int,
    operation: c_int,
    handle: u64,
    stream: u64,
) -> u32 {
    if operation != SUM {
        return INVALID_ARGUMENT;
    }
    queue("ncclAllReduce", (from, to, count), (What::AllReduce, kind), handle, stream)
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllGather(
    from: u64,
    to: u64,
    count: usize,
    kind: c_int,
    handle: u64,
    stream: u64,
) -> u32 {
    queue("ncclAllGather", (from, to, count), (What::AllGather, kind), handle, stream)
}

#[unsafe(no_mangle)]
extern "C" fn ncclBroadcast(
    from: u64,
    to: u64,
    count: usize,
    kind: c_int,
    root: c_int,
    handle: u64,
    stream: u64,
) -> u32 {
    let Ok(root) = usize::try_from(root) else { return INVALID_ARGUMENT };
    queue("ncclBroadcast", (from, to, count), (What::Broadcast { root }, kind), handle, stream)
}

/// Does what is queued, communicator by communicator.
fn run(machine: &mut Machine) -> Result<(), u32> {
    let queued = with(|state| std::mem::take(&mut state.queued));
    let mut cliques: HashMap<u64, Vec<Queued>> = HashMap::new();
    for each in queued {
        cliques.entry(each.member.clique).or_default().push(each);
    }
    cliques.into_values().try_for_each(|parts| collective(machine, parts))
}

fn collective(machine: &mut Machine, mut parts: Vec<Queued>) -> Result<(), u32> {
    parts.sort_by_key(|part| part.member.rank);
    let whole = |(place, part): (usize, &Queued)| {
        part.member.rank == place && part.what == parts[0].what && part.bytes == parts[0].bytes
    };
    if parts.len() != parts[0].member.of || !parts.iter().enumerate().all(whole) {
        return Err(INVALID_USAGE);
    }
    let (what, bytes) = (parts[0].what, parts[0].bytes);
    let mut given = Vec::new();
    for part in &parts {
        let device = machine.device(part.member.device).map_err(|_| INVALID_ARGUMENT)?;
        given.push(device.memory.snapshot(part.from, bytes).map_err(|_| CUDA_ERROR)?);
    }
    let seconds = seconds(machine, &parts)?;
    let sum: Arc<dyn Source> = Arc::new(Sum(given.clone()));
    for part in &parts {
        let device = machine.device(part.member.device).map_err(|_| INVALID_ARGUMENT)?;
        let length = if what == What::AllGather { bytes * parts.len() as u64 } else { bytes };
        let (contents, offset) = device.memory.contents(part.to, length).map_err(|_| CUDA_ERROR)?;
        match what {
            What::AllReduce => contents.write(offset, bytes, Arc::clone(&sum)),
            What::AllGather => {
                for (rank, what) in given.iter().enumerate() {
                    contents.copy(offset + rank as u64 * bytes, what.clone());
                }
            }
            What::Broadcast { root } => {
                contents.copy(offset, given.get(root).ok_or(INVALID_ARGUMENT)?.clone());
            }
        }
        device.work(part.stream, Work::lasting(seconds)).map_err(|_| CUDA_ERROR)?;
    }
    Ok(())
}

/// A ring over the slowest link: what crosses it, and what each card adds.
fn seconds(machine: &mut Machine, parts: &[Queued]) -> Result<f64, u32> {
    let mut rate = f64::INFINITY;
    for part in parts {
        let device = machine.device(part.member.device).map_err(|_| INVALID_ARGUMENT)?;
        rate = rate.min(device.profile.peer_gb_s * 1e9);
    }
    let (cards, bytes) = (parts.len() as f64, parts[0].bytes as f64);
    let crossing = match parts[0].what {
        What::AllReduce => 2.0 * (cards - 1.0) / cards * bytes,
        // Each card gives so many bytes.
        What::AllGather => (cards - 1.0) * bytes,
        What::Broadcast { .. } => bytes,
    };
    Ok(crossing / rate + HOP * cards)
}

/// The sums of floats, made where somebody looks.
struct Sum(Vec<Snapshot>);

impl Source for Sum {
    fn read(&self, offset: u64, out: &mut [u8]) {
        // Whole elements around what is asked for.
        let (first, last) = (offset / 4 * 4, (offset + out.len() as u64).next_multiple_of(4));
        let mut sums = vec![0.0_f32; ((last - first) / 4) as usize];
        let mut bytes = vec![0; (last - first) as usize];
        for part in &self.0 {
            part.read(first, &mut bytes);
            for (sum, element) in sums.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += f32::from_ne_bytes(*element);
            }
        }
        let all: Vec<u8> = sums.iter().flat_map(|sum| sum.to_ne_bytes()).collect();
        let skip = (offset - first) as usize;
        out.copy_from_slice(&all[skip..skip + out.len()]);
    }
}
