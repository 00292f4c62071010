//! Bandwidth from one GPU to another, where there are two.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUdeviceptr};
use cudarc::driver::{CudaContext, CudaStream, result};
use warpmark_device::{Connection, CudaDevice, Device, DeviceChoice};
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, BytesPerSecond, Check, DeviceSpec, Field, Value, Work};

use super::{ENGINE, QUICK, SIZES, fill, wrong_words};
use crate::cases::{self, Cases};
use crate::cuda::{self, refused};
use crate::data::Stream;
use crate::memory::size_name;
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

/// To every other card of the machine, and in the full suite to another one by all sizes.
fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let others = (0..options.cards).filter(|index| *index != spec.index);
    let to_each = others.filter_map(|index| to_one(spec, options, index));
    to_another(spec, options).into_iter().chain(to_each).collect()
}

/// Copies to the card of that index.
fn to_one(spec: &DeviceSpec, options: &RunOptions, index: u32) -> Option<Group> {
    let segments = ["transfer", "d2d", &format!("cuda{index}"), &size_name(QUICK)];
    let bytes = Bytes::from_count(QUICK);
    // A guess, for the plan.
    let iteration = bytes / BytesPerSecond(20e9);
    let entry = cases::entry((spec, options), &segments, ENGINE, iteration, bytes)?;
    let seed = options.seed;
    let name = format!("transfers to cuda:{index}");
    Some(cases::group(name, vec![(entry, QUICK)], move |device, cases| {
        Peers::open(device, cases, seed, Some(index))
    }))
}

/// In the full suite alone: with one GPU, as most have, every row is a skipped one.
fn to_another(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let planned: Vec<_> = SIZES
        .into_iter()
        .filter(|_| options.full)
        .filter_map(|size| {
            let segments = ["transfer", "d2d", "peer", &size_name(size)];
            let bytes = Bytes::from_count(size);
            // A guess, for the plan.
            let iteration = bytes / BytesPerSecond(20e9);
            Some((cases::entry((spec, options), &segments, ENGINE, iteration, bytes)?, size))
        })
        .collect();
    let seed = options.seed;
    let group = cases::group("transfers between GPUs", planned, move |device, cases| {
        Peers::open(device, cases, seed, None)
    });
    Some(group).filter(|group| !group.entries.is_empty()).into_iter().collect()
}

/// Memory of one card. Not from a pool: pools are closed to other cards.
pub(crate) struct Block {
    pub(crate) address: CUdeviceptr,
    context: Arc<CudaContext>,
}

impl Block {
    pub(crate) fn new(context: &Arc<CudaContext>, size: usize) -> Result<Self, WorkloadError> {
        context.bind_to_thread().map_err(refused("choosing a card"))?;
        // SAFETY: read only after it was written, and given back in `drop`.
        let address = unsafe { result::malloc_sync(size) };
        let address = address.map_err(refused("memory to copy between cards"))?;
        Ok(Self { address, context: context.clone() })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: made in `new` and given back only here, in its own context. A refusal is a lost context,
        // in which nothing can be given back.
        let _ =
            self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
    }
}

/// The card under test, and another one.
struct Peers {
    stream: Arc<CudaStream>,
    own: Arc<CudaContext>,
    other: CudaDevice,
    path: String,
    /// What lies between the two, or why that is not known.
    link: Result<Connection, String>,
    cases: Cases<usize>,
    seed: u64,
    /// Last, so that it is dropped after the other card.
    _home: Home,
}

/// Makes a card the current one when it is dropped: launches go to whichever is.
pub(crate) struct Home(pub(crate) Arc<CudaContext>);

impl Drop for Home {
    fn drop(&mut self) {
        let bound = self.0.bind_to_thread();
        self.0.record_err(bound);
    }
}

impl Peers {
    /// Opens the card of that index, or without one another card than the one under test.
    fn open(
        device: &Device,
        cases: Cases<usize>,
        seed: u64,
        index: Option<u32>,
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[])?;
        let count = CudaContext::device_count().map_err(refused("counting the cards"))?;
        if count < 2 {
            return Err(WorkloadError::Unsupported(
                "there is one GPU; a copy between GPUs needs two".to_owned(),
            ));
        }
        let index = index.unwrap_or_else(|| u32::from(device.ordinal == 0));
        let opened = warpmark_device::open(DeviceChoice::Cuda(index), 1);
        let Device::Cuda(other) = opened.map_err(WorkloadError::failed)?.device else {
            return Err(WorkloadError::Failed(format!("cuda:{index} is no GPU")));
        };
        let own = device.context.clone();
        own.bind_to_thread().map_err(refused("choosing the card under test"))?;
        let path = connect(&own, &other.context)?;
        let (stream, home) = (device.stream.clone(), Home(own.clone()));
        let link = warpmark_device::connection(&device.spec, &other.spec);
        Ok(Self { stream, own, other, path, link, cases, seed, _home: home })
    }
}

/// Lets the first card reach the second one's memory if it can, and says which way copies go.
fn connect(own: &CudaContext, other: &CudaContext) -> Result<String, WorkloadError> {
    let mut possible = 0;
    // SAFETY: writes one integer; both devices are open.
    unsafe { sys::cuDeviceCanAccessPeer(&raw mut possible, own.cu_device(), other.cu_device()) }
        .result()
        .map_err(refused("asking whether the cards reach each other"))?;
    if possible == 0 {
        return Ok("through the host: the cards do not reach each other".to_owned());
    }
    // SAFETY: the first card's context is current, and the second one's is alive.
    let enabled = unsafe { sys::cuCtxEnablePeerAccess(other.cu_ctx(), 0) };
    match enabled {
        // A session before this one may have done it in the same process.
        sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => {}
        other => other.result().map_err(refused("letting one card reach the other"))?,
    }
    Ok("direct".to_owned())
}

impl Session for Peers {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, size) = self.cases.find(entry)?;
        let to = Block::new(&self.other.context, size)?;
        let from = Block::new(&self.own, size)?;
        let mut host = vec![0; size];
        fill(&mut host, Stream::new(self.seed, 7));
        // SAFETY: the block is as long, and its context is current.
        unsafe { result::memcpy_htod_sync(from.address, &host) }
            .map_err(refused("copying to the card under test"))?;
        let copy = PeerCopy { id, size, to, from, launched: false, session: self };
        copy.spoil()?;
        Ok(Box::new(copy))
    }
}

struct PeerCopy<'a> {
    id: BenchmarkId,
    size: usize,
    to: Block,
    /// After the other card's, so that this card is the current one when both are gone.
    from: Block,
    /// Whether the target holds what a launch since the last check copied.
    launched: bool,
    session: &'a Peers,
}

impl PeerCopy<'_> {
    /// Does something in the other card's context, and comes back to this one's.
    fn there<T>(
        &self,
        what: &str,
        act: impl FnOnce() -> Result<T, cudarc::driver::DriverError>,
    ) -> Result<T, WorkloadError> {
        let done = self.session.other.context.bind_to_thread().and_then(|()| act());
        self.session.own.bind_to_thread().map_err(refused("coming back to the card"))?;
        done.map_err(refused(what))
    }

    /// Makes the target wrong everywhere.
    fn spoil(&self) -> Result<(), WorkloadError> {
        self.there("setting the other card's memory", || {
            // SAFETY: the block is that long, and its context is current.
            unsafe { result::memset_d8_sync(self.to.address, 0, self.size) }?;
            result::ctx::synchronize()
        })
    }
}

impl Workload for PeerCopy<'_> {
    fn describe(&self) -> Description {
        let other = &self.session.other.spec;
        let mut parameters = vec![
            ("direction", Value::from("d2d")),
            ("to", Value::from(other.name.as_str())),
            ("to_index", Value::from(u64::from(other.index))),
            ("path", Value::from(self.session.path.as_str())),
            ("size_bytes", Value::from(self.size)),
        ];
        let mut caveats = Vec::new();
        match &self.session.link {
            Ok(link) => {
                let switched = if link.switched { "yes" } else { "no" };
                let known = |field: &Field<String>| field.known().cloned().unwrap_or_default();
                parameters.extend([
                    ("link", Value::from(link.short().as_str())),
                    ("nvlinks", Value::from(u64::from(link.nvlinks))),
                    ("nvswitch", Value::from(switched)),
                    ("ancestor", Value::from(known(&link.ancestor).as_str())),
                    ("peer_to_peer", Value::from(known(&link.peer_to_peer).as_str())),
                ]);
            }
            Err(reason) => {
                caveats.push(format!("what lies between the cards is not known: {reason}"));
            }
        }
        Description {
            id: self.id.clone(),
            parameters: parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            work: Work { flops: None, bytes: Some(Bytes::from_count(self.size)), items: None },
            data: Some(format!("multiples of an odd number, seed {}", self.session.seed)),
            weights: None,
            caveats,
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        let Peers { stream, own, other, .. } = self.session;
        // SAFETY: both blocks are as long and live in the contexts named; the stream is this thread's.
        unsafe {
            result::memcpy_peer_async(
                other.context.cu_ctx(),
                self.to.address,
                own.cu_ctx(),
                self.from.address,
                self.size,
                stream.cu_stream(),
            )
        }
        .map_err(refused("copying between cards"))
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Every word of what the last launch copied, then the target is spoiled.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        let mut bytes = vec![0_u8; self.size];
        self.there("reading the other card's memory", || {
            // SAFETY: the block is that long, and its context is current.
            unsafe { result::memcpy_dtoh_sync(&mut bytes, self.to.address) }
        })?;
        let wrong = wrong_words(&bytes, 0, Stream::new(self.session.seed, 7));
        // A copy changes nothing, so nothing is tolerated.
        let check = checked("count of wrong words of all bytes copied", wrong as f64, 0.0)?;
        self.spoil()?;
        self.launched = false;
        Ok(check)
    }
}

impl Drop for PeerCopy<'_> {
    /// The blocks may not go while a copy is under way.
    fn drop(&mut self) {
        let _ = self.session.stream.synchronize();
    }
}
