//! Bandwidth between a host's memory and a GPU's: there, back, and both at once.
//!
//! Pinned memory is what the card reads and writes by itself; pageable memory is what a program has
//! unless it asks for the other, and the driver copies it through pinned memory of its own.

mod memory;
mod numa;
pub(crate) mod peer;

use std::sync::Arc;

use cudarc::driver::{CudaStream, result};
use warpmark_device::{CudaDevice, Device};
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, BytesPerSecond, Check, DeviceSpec, Value, Work};

use self::memory::{HostMemory, Kind, SideStream};
use self::numa::Near;
use crate::cases::{self, Cases};
use crate::cuda::{self, Buffer, refused};
use crate::data::Stream;
use crate::memory::size_name;
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "driver";

/// The quick suite's size: long enough for the full rate, small enough for any machine.
const QUICK: usize = 64 << 20;
/// All sizes; small ones show what a copy costs before it moves anything.
const SIZES: [usize; 4] = [64 << 10, 1 << 20, 16 << 20, QUICK];

/// Bytes that are looked at together when a copy is checked: whole words.
const PIECE: usize = 4 << 20;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToDevice,
    ToHost,
    /// Both ways at once, on two streams.
    Both,
}

impl Direction {
    const ALL: [Self; 3] = [Self::ToDevice, Self::ToHost, Self::Both];

    fn name(self) -> &'static str {
        match self {
            Self::ToDevice => "h2d",
            Self::ToHost => "d2h",
            Self::Both => "both",
        }
    }

    fn to_device(self) -> bool {
        self != Self::ToHost
    }

    fn to_host(self) -> bool {
        self != Self::ToDevice
    }

    /// Copies of the size that cross the bus.
    fn copies(self) -> usize {
        usize::from(self.to_device()) + usize::from(self.to_host())
    }
}

/// One benchmark.
#[derive(Debug, Clone, Copy)]
struct Case {
    direction: Direction,
    kind: Kind,
    size: usize,
}

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let sizes: &[usize] = if options.full { &SIZES } else { &[QUICK] };
    let cases = Direction::ALL.into_iter().flat_map(|direction| {
        Kind::ALL
            .into_iter()
            .flat_map(move |kind| sizes.iter().map(move |&size| Case { direction, kind, size }))
    });
    let wanted = |case: &Case| {
        // A copy of pageable memory holds up the thread that asks for it, so that one thread cannot have
        // two of them under way.
        let possible = case.kind == Kind::Pinned || case.direction != Direction::Both;
        // One pageable row tells the quick suite's reader what not pinning costs.
        let dear = case.kind == Kind::Pageable && case.direction == Direction::ToHost;
        possible && (options.full || !dear)
    };
    let planned = cases.filter(wanted).filter_map(|case| Some((entry(spec, options, case)?, case)));
    let seed = options.seed;
    vec![cases::group("transfers to and from the GPU", planned.collect(), move |device, cases| {
        Transfers::open(device, cases, seed)
    })]
}

fn entry(spec: &DeviceSpec, options: &RunOptions, case: Case) -> Option<Entry> {
    let segments = ["transfer", case.direction.name(), case.kind.name(), &size_name(case.size)];
    // Guesses, for the plan.
    let rate = if case.kind == Kind::Pinned { 20e9 } else { 6e9 };
    let iteration = Bytes::from_count(case.size) / BytesPerSecond(rate);
    let memory = Bytes::from_count(2 * case.size);
    cases::entry((spec, options), &segments, ENGINE, iteration, memory)
}

struct Transfers {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    cases: Cases<Case>,
    seed: u64,
}

impl Transfers {
    fn open(device: &Device, cases: Cases<Case>, seed: u64) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[])?;
        Ok(Self { device: device.clone(), stream: device.stream.clone(), cases, seed })
    }
}

impl Session for Transfers {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, case) = self.cases.find(entry)?;
        let Case { direction, kind, size } = case;
        let stream = &self.stream;
        // Before the host's memory is written for the first time.
        let near = Near::to(&self.device);
        let upload = if direction.to_device() {
            let mut host = HostMemory::new(kind, size)?;
            fill(&mut host, Stream::new(self.seed, 5));
            Some(Upload { host, device: Buffer::new(stream, size, "what is copied to")? })
        } else {
            None
        };
        let download = if direction.to_host() {
            let mut host = HostMemory::new(kind, size)?;
            let mut device = Buffer::new(stream, size, "what is copied from")?;
            fill(&mut host, Stream::new(self.seed, 6));
            device.write(stream, &host)?;
            Some(Download { host, device })
        } else {
            None
        };
        let side = if direction == Direction::Both { Some(SideStream::new(stream)?) } else { None };
        let (stream, seed) = (stream.clone(), self.seed);
        let mut copy = Copy {
            id,
            case,
            upload,
            download,
            side,
            left: 0,
            forked: false,
            stream,
            seed,
            launched: false,
            near,
        };
        copy.spoil()?;
        Ok(Box::new(copy))
    }
}

/// Eight random bytes at each eighth, all of them different.
fn number(numbers: Stream, index: u64) -> u64 {
    // An odd factor: a full period, and much cheaper than a hash at this many of them.
    numbers.key.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn fill(host: &mut [u8], numbers: Stream) {
    for (index, word) in (0..).zip(host.as_chunks_mut::<8>().0) {
        *word = number(numbers, index).to_le_bytes();
    }
}

/// Words that are not what `fill` writes `at` bytes behind its first.
fn wrong_words(host: &[u8], at: usize, numbers: Stream) -> u64 {
    let words = (at as u64 / 8..).zip(host.as_chunks::<8>().0);
    words.filter(|(index, word)| u64::from_le_bytes(**word) != number(numbers, *index)).count()
        as u64
}

struct Upload {
    host: HostMemory,
    device: Buffer,
}

struct Download {
    host: HostMemory,
    device: Buffer,
}

struct Copy {
    id: BenchmarkId,
    case: Case,
    upload: Option<Upload>,
    download: Option<Download>,
    /// The stream of the second direction.
    side: Option<SideStream>,
    /// Launches to come before the two streams meet.
    left: u64,
    /// Whether the side stream has begun.
    forked: bool,
    stream: Arc<CudaStream>,
    seed: u64,
    /// Whether the targets hold what a launch since the last check copied.
    launched: bool,
    /// Where this thread and the host's memory are.
    near: Near,
}

impl Copy {
    /// Makes the targets wrong everywhere.
    fn spoil(&mut self) -> Result<(), WorkloadError> {
        if let Some(upload) = &mut self.upload {
            upload.device.set(&self.stream, 0)?;
        }
        if let Some(download) = &mut self.download {
            download.host.fill(0);
        }
        self.launched = false;
        cuda::wait(&self.stream)
    }

    /// Words of both targets that are not those of their sources.
    fn wrong(&self) -> Result<u64, WorkloadError> {
        let mut wrong = 0;
        if let Some(upload) = &self.upload {
            // In pieces, so that the check takes no memory of its size.
            let mut bytes = vec![0; PIECE.min(self.case.size)];
            for at in (0..self.case.size).step_by(PIECE) {
                let piece = &mut bytes[..PIECE.min(self.case.size - at)];
                upload.device.read(&self.stream, at, piece)?;
                wrong += wrong_words(piece, at, Stream::new(self.seed, 5));
            }
        }
        if let Some(download) = &self.download {
            wrong += wrong_words(&download.host, 0, Stream::new(self.seed, 6));
        }
        Ok(wrong)
    }
}

impl Workload for Copy {
    fn describe(&self) -> Description {
        let Case { direction, kind, size } = self.case;
        let parameters = [
            ("direction", Value::from(direction.name())),
            ("host_memory", Value::from(kind.name())),
            ("size_bytes", Value::from(size)),
            self.near.parameter(),
        ];
        let bytes = Some(Bytes::from_count(direction.copies() * size));
        Description {
            id: self.id.clone(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            work: Work { flops: None, bytes, items: None },
            data: Some(format!("multiples of an odd number, seed {}", self.seed)),
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn prepare(&mut self, iterations: u64) -> Result<(), WorkloadError> {
        (self.left, self.forked) = (iterations, false);
        Ok(())
    }

    /// Downloads go on the side stream where there is one. It begins with the first upload of a sample, and
    /// the working stream waits for it after the last: so that the events around them time the longer of the
    /// two, and neither direction ever waits for the other in between.
    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        let stream = self.stream.cu_stream();
        if let Some(side) = self.side.as_ref().filter(|_| !self.forked) {
            side.fork(&self.stream)?;
            self.forked = true;
        }
        if let Some(Upload { host, device }) = &self.upload {
            // SAFETY: both are as long as the case's size, and live until the stream has been waited for.
            unsafe { result::memcpy_htod_async(device.address, host, stream) }
                .map_err(refused("copying to the device"))?;
        }
        if let Some(Download { host, device }) = &mut self.download {
            let stream = self.side.as_ref().map_or(stream, SideStream::handle);
            // SAFETY: as above.
            unsafe { result::memcpy_dtoh_async(host, device.address, stream) }
                .map_err(refused("copying to the host"))?;
        }
        // A launch that nobody prepared for, as a check's, is the last of one.
        self.left = self.left.saturating_sub(1);
        match self.side.as_ref().filter(|_| self.left == 0) {
            Some(side) => {
                self.forked = false;
                side.join(&self.stream)
            }
            None => Ok(()),
        }
    }

    /// The working stream waits for the side stream, so that this is a wait for both.
    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.stream)
    }

    /// Every word of what the last launch copied, then the targets are spoiled.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        // A copy changes nothing, so nothing is tolerated.
        let check = checked("count of wrong words of all bytes copied", self.wrong()? as f64, 0.0)?;
        self.spoil()?;
        Ok(check)
    }
}

impl Drop for Copy {
    /// After an error copies may be under way, and the host's memory may not go before they are done.
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_is_found_and_the_two_directions_differ() {
        let (there, back) = (Stream::new(1, 5), Stream::new(1, 6));
        let mut bytes = vec![0; 800];
        fill(&mut bytes, there);
        assert_eq!(wrong_words(&bytes, 0, there), 0);
        assert_eq!(wrong_words(&bytes, 0, back), 100);
        assert_eq!(wrong_words(&bytes[80..], 80, there), 0);
        bytes[799] ^= 1;
        assert_eq!(wrong_words(&bytes, 0, there), 1);
    }
}
