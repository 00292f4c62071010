//! All-reduce, all-gather and broadcast over every GPU of a machine, through NCCL.
//!
//! NCCL is no part of the driver: it is loaded when it is there, and where it is not the rows are skipped with
//! the line that brings it. One process drives all cards, a communicator each, as `nccl-tests` does without
//! MPI. The rate of a row is the *bus bandwidth* as nccl-tests defines it (doc/PERFORMANCE.md there): the bytes
//! that an optimal algorithm sends over the slowest link of each card, whatever NCCL really does, so that it
//! can be held against the link's own rate whatever the number of cards.
//!
//! | operation | size S | bus bytes, of n cards |
//! |---|---|---|
//! | all-reduce | of each card's array | 2 (n − 1) / n × S |
//! | all-gather | of all arrays together | (n − 1) / n × S |
//! | broadcast | of the array | S |

mod nccl;

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, result};
use warpmark_device::{CudaDevice, Device, DeviceChoice};
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, BytesPerSecond, Check, DeviceSpec, Value, Work};

use self::nccl::{Communicator, Nccl};
use crate::cases::{self, Cases};
use crate::cuda::{self, refused};
use crate::memory::size_name;
use crate::transfer::peer::{Block, Home};
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nccl";

/// The quick suite's size.
const QUICK: usize = 64 << 20;
/// All sizes: small ones show what a collective costs before it moves anything.
const SIZES: [usize; 4] = [64 << 10, 1 << 20, QUICK, 1 << 30];

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    AllReduce,
    AllGather,
    Broadcast,
}

impl Operation {
    const ALL: [Self; 3] = [Self::AllReduce, Self::AllGather, Self::Broadcast];

    fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all-reduce",
            Self::AllGather => "all-gather",
            Self::Broadcast => "broadcast",
        }
    }

    /// The share of the size that crosses the slowest link of each card.
    fn bus_share(self, cards: usize) -> f64 {
        let cards = cards as f64;
        match self {
            Self::AllReduce => 2.0 * (cards - 1.0) / cards,
            Self::AllGather => (cards - 1.0) / cards,
            Self::Broadcast => 1.0,
        }
    }

    /// The elements that each card gives.
    fn given(self, elements: usize, cards: usize) -> usize {
        if self == Self::AllGather { elements / cards } else { elements }
    }

    /// What a card has at a place when it is done: sums of small whole numbers are exact in any order.
    fn expected(self, at: usize, elements: usize, cards: usize) -> f32 {
        match self {
            Self::AllReduce => (0..cards).map(|rank| value(rank, at)).sum(),
            Self::AllGather => {
                let each = self.given(elements, cards);
                value(at / each, at % each)
            }
            Self::Broadcast => value(0, at),
        }
    }
}

/// What a card gives.
fn value(rank: usize, at: usize) -> f32 {
    (at % 251) as f32 + 7.0 * rank as f32
}

#[derive(Debug, Clone, Copy)]
struct Case {
    operation: Operation,
    size: usize,
}

/// On the first card of a machine that has several.
fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let cards = options.cards as usize;
    if cards < 2 || spec.index != 0 {
        return Vec::new();
    }
    let sizes: &[usize] = if options.full { &SIZES } else { &[QUICK] };
    let cases = Operation::ALL
        .into_iter()
        .flat_map(|operation| sizes.iter().map(move |&size| Case { operation, size }));
    let planned: Vec<_> = cases
        .filter_map(|case| {
            let (count, size) = (format!("n{cards}"), size_name(case.size));
            let segments = ["collective", case.operation.name(), "f32", &count, &size];
            // A guess, for the plan.
            let iteration = Bytes::from_count(case.size) / BytesPerSecond(20e9);
            let memory = Bytes::from_count(2 * case.size);
            Some((cases::entry((spec, options), &segments, ENGINE, iteration, memory)?, case))
        })
        .collect();
    let group = cases::group("collectives of all GPUs", planned, move |device, cases| {
        Cards::open(device, cases, cards)
    });
    vec![group]
}

/// One card's part.
struct Rank {
    /// What is beside the one under test.
    _device: Option<CudaDevice>,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

/// All cards of the machine, with NCCL between them.
struct Cards {
    /// First, so that communicators go before the cards.
    communicators: Vec<Communicator>,
    ranks: Vec<Rank>,
    cases: Cases<Case>,
    nccl: &'static Nccl,
    /// Last, so that it is dropped after the other cards.
    home: Home,
}

impl Cards {
    fn open(device: &Device, cases: Cases<Case>, cards: usize) -> Result<Self, WorkloadError> {
        let own = cuda::required(device, &[])?;
        let nccl = nccl::loaded().map_err(WorkloadError::Unsupported)?;
        let home = Home(own.context.clone());
        let mut ranks =
            vec![Rank { _device: None, context: own.context.clone(), stream: own.stream.clone() }];
        for index in 1..u32::try_from(cards).unwrap_or(1) {
            let opened = warpmark_device::open(DeviceChoice::Cuda(index), 1);
            let Device::Cuda(other) = opened.map_err(WorkloadError::failed)?.device else {
                return Err(WorkloadError::Failed(format!("cuda:{index} is no GPU")));
            };
            let (context, stream) = (other.context.clone(), other.stream.clone());
            ranks.push(Rank { _device: Some(other), context, stream });
        }
        let indices: Vec<i32> = (0..).take(cards).collect();
        let communicators = nccl.communicators(&indices).map_err(WorkloadError::Failed)?;
        own.context.bind_to_thread().map_err(refused("choosing the card under test"))?;
        Ok(Self { communicators, ranks, cases, nccl, home })
    }

    /// Does something in each card's context, and comes back to the first.
    fn each<T>(
        &self,
        what: &str,
        mut act: impl FnMut(usize) -> Result<T, cudarc::driver::DriverError>,
    ) -> Result<Vec<T>, WorkloadError> {
        let ranks = self.ranks.iter().enumerate();
        let done: Result<Vec<T>, _> =
            ranks.map(|(at, rank)| rank.context.bind_to_thread().and_then(|()| act(at))).collect();
        self.home.0.bind_to_thread().map_err(refused("coming back to the card"))?;
        done.map_err(refused(what))
    }
}

impl Session for Cards {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, case) = self.cases.find(entry)?;
        let count = self.ranks.len();
        // A whole number of elements from each card.
        let elements = case.size / size_of::<f32>() / count * count;
        let given = case.operation.given(elements, count);
        let mut buffers = Vec::new();
        for (at, rank) in self.ranks.iter().enumerate() {
            let from = Block::new(&rank.context, given * size_of::<f32>())?;
            let to = Block::new(&rank.context, elements * size_of::<f32>())?;
            let host: Vec<u8> =
                (0..given).flat_map(|place| value(at, place).to_ne_bytes()).collect();
            // SAFETY: the block is as long, and its context is current since it was made.
            unsafe { result::memcpy_htod_sync(from.address, &host) }
                .map_err(refused("copying what a card gives"))?;
            buffers.push((from, to));
        }
        let collective = Collective { id, case, elements, buffers, launched: false, session: self };
        collective.spoil()?;
        Ok(Box::new(collective))
    }
}

struct Collective<'a> {
    id: BenchmarkId,
    case: Case,
    /// Of the whole.
    elements: usize,
    /// What each card gives, and where its result goes.
    buffers: Vec<(Block, Block)>,
    launched: bool,
    session: &'a Cards,
}

impl Collective<'_> {
    /// Makes every result wrong everywhere.
    fn spoil(&self) -> Result<(), WorkloadError> {
        let bytes = self.elements * size_of::<f32>();
        let spoiled = self.session.each("setting a card's memory", |at| {
            // SAFETY: the block is that long, and its context is current.
            unsafe { result::memset_d8_sync(self.buffers[at].1.address, 0xFF, bytes) }?;
            result::ctx::synchronize()
        });
        spoiled.map(drop)
    }

    fn synchronize(&self) -> Result<(), WorkloadError> {
        let waited = self.session.each("waiting for a card", |at| {
            // SAFETY: the stream is alive, and its context is current.
            unsafe { result::stream::synchronize(self.session.ranks[at].stream.cu_stream()) }
        });
        waited.map(drop)
    }
}

impl Workload for Collective<'_> {
    fn describe(&self) -> Description {
        let count = self.session.ranks.len();
        let size = self.elements * size_of::<f32>();
        let share = self.case.operation.bus_share(count);
        let parameters = [
            ("operation", Value::from(self.case.operation.name())),
            ("dtype", Value::from("f32")),
            ("cards", Value::from(count)),
            ("size_bytes", Value::from(size)),
            ("nccl", Value::from(self.session.nccl.version().as_str())),
        ];
        Description {
            id: self.id.clone(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            work: Work { flops: None, bytes: Some(Bytes(size as f64 * share)), items: None },
            data: Some("small whole numbers, whose sums are exact".to_owned()),
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        let Cards { communicators, ranks, nccl, .. } = self.session;
        let given = self.case.operation.given(self.elements, ranks.len());
        let queue = |at: usize| {
            let (from, to) = (self.buffers[at].0.address, self.buffers[at].1.address);
            let communicator = &communicators[at];
            let stream = ranks[at].stream.cu_stream();
            match self.case.operation {
                Operation::AllReduce => nccl.all_reduce(from, to, given, communicator, stream),
                Operation::AllGather => nccl.all_gather(from, to, given, communicator, stream),
                Operation::Broadcast => nccl.broadcast(from, to, given, communicator, stream),
            }
        };
        nccl.together(|| (0..ranks.len()).try_for_each(queue)).map_err(WorkloadError::Failed)?;
        self.session.home.0.bind_to_thread().map_err(refused("coming back to the card"))
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.synchronize()
    }

    /// Every element on every card, then all of them are spoiled.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        let (operation, elements, count) =
            (self.case.operation, self.elements, self.session.ranks.len());
        let wrong = self.session.each("reading a card's result", |at| {
            let mut bytes = vec![0_u8; elements * size_of::<f32>()];
            // SAFETY: the block is that long, and its context is current.
            unsafe { result::memcpy_dtoh_sync(&mut bytes, self.buffers[at].1.address) }?;
            let found = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
            let right = |(place, found): &(usize, f32)| {
                found.to_bits() == operation.expected(*place, elements, count).to_bits()
            };
            Ok(found.enumerate().filter(|pair| !right(pair)).count())
        })?;
        let wrong: usize = wrong.into_iter().sum();
        // Nothing is rounded, so nothing is tolerated.
        let check = checked("count of wrong elements on all cards", wrong as f64, 0.0)?;
        self.spoil()?;
        self.launched = false;
        Ok(check)
    }
}

impl Drop for Collective<'_> {
    /// Nothing may go while a collective is under way.
    fn drop(&mut self) {
        let _ = self.synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_bytes_are_those_of_nccl_tests() {
        // Its table: 8 ranks, factors 1.75, 0.875, 1.
        let shares = Operation::ALL.map(|operation| operation.bus_share(8));
        assert!(
            shares.iter().zip([1.75, 0.875, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12),
            "{shares:?}"
        );
    }

    #[test]
    fn what_cards_have_when_all_is_done() {
        assert!((Operation::AllReduce.expected(5, 8, 2) - (5.0 + 12.0)).abs() < 1e-6);
        // The second half of a gather is what the second card gave.
        assert!((Operation::AllGather.expected(6, 8, 2) - (2.0 + 7.0)).abs() < 1e-6);
        assert!((Operation::Broadcast.expected(6, 8, 2) - 6.0).abs() < 1e-6);
    }
}
