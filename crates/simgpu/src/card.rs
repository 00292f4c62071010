//! One simulated card: its memory, its queues, its clocks, and which of several are visible.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use warpmark_ptx::Clocks;

use crate::address_space::AddressSpace;
use crate::bytes::{self, Pinned};
use crate::contents::{Snapshot, Source};
use crate::driver::Capture;
use crate::faults::{CAPPED, Cards, HOT, IDLE, POWER_CAP, THROTTLED};
use crate::profile::{Profile, SUFFIX, Work};
use crate::timeline::{Moment, Timeline, now};

const INVALID_HANDLE: u32 = 400;
const CAPTURE_UNSUPPORTED: u32 = 900;

thread_local! {
    /// Stands for this thread in the handles of per-thread streams.
    static THREAD: u64 = {
        static NEXT: Mutex<u64> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    };
}

/// A card that has had nothing to do for so long has let its clock fall.
const REST: Duration = Duration::from_millis(250);

/// A rising clock is followed in steps of so many seconds.
const STEP: f64 = 1e-3;

/// Work of more seconds than this, as a kernel that hangs, is not followed so.
const LONGEST_FOLLOWED: f64 = 60.0;

/// One simulated card.
pub(crate) struct Device {
    pub(crate) profile: Profile,
    /// Its place on the machine, whatever `CUDA_VISIBLE_DEVICES` leaves.
    pub(crate) slot: u32,
    pub(crate) memory: AddressSpace,
    pub(crate) retained: u32,
    /// What is wrong with it from the start.
    pub(crate) wrong: Cards,
    /// Readings of its energy counter, and the millijoules that it has begun anew behind.
    pub(crate) energy_readings: u64,
    pub(crate) energy_forgotten: f64,
    /// What its counter has gone ahead by.
    pub(crate) energy_added: f64,
    /// What a broken context answers.
    pub(crate) broken: Option<u32>,
    streams: HashMap<u64, Timeline>,
    /// The slots of the cards whose memory it may reach.
    pub(crate) reaches: BTreeSet<u32>,
    /// The capture under way, if any.
    pub(crate) capturing: Option<Capture>,
    /// Copies to pinned memory: nothing arrives before somebody waits.
    pub(crate) on_the_way: Vec<ToHost>,
    /// Copies out of pinned memory that nobody has waited for: gone are those that others have covered.
    pub(crate) to_come: Vec<Weak<Pinned>>,
    /// Seconds of work that were ever queued, and when the last of it is done.
    pub(crate) worked: f64,
    /// When the first of it was queued.
    first_work: Option<Instant>,
    /// Seconds of work since it last rested.
    loaded: f64,
    pub(crate) busy_until: Instant,
    pub(crate) started: Instant,
}

/// A copy that the host has not waited for yet.
pub(crate) struct ToHost {
    pub(crate) what: Snapshot,
    /// The address of pinned host memory.
    pub(crate) to: usize,
    pub(crate) len: usize,
}

impl Device {
    pub(crate) fn new(profile: Profile, slot: u32, wrong: Cards) -> Self {
        let profile = if wrong.mig { profile.slice() } else { profile };
        let total = profile.memory_mib << 20;
        let started = now();
        Self {
            profile,
            slot,
            memory: AddressSpace::new(total, wrong.memory),
            wrong,
            energy_readings: 0,
            energy_forgotten: 0.0,
            energy_added: 0.0,
            retained: 0,
            broken: None,
            streams: HashMap::new(),
            reaches: BTreeSet::new(),
            capturing: None,
            on_the_way: Vec::new(),
            to_come: Vec::new(),
            worked: 0.0,
            first_work: None,
            loaded: 0.0,
            busy_until: started,
            started,
        }
    }

    /// The name with its mark.
    pub(crate) fn name(&self) -> String {
        format!("{}{SUFFIX}", self.profile.name)
    }

    pub(crate) fn total_memory(&self) -> u64 {
        self.profile.memory_mib << 20
    }

    pub(crate) fn free_memory(&self) -> u64 {
        self.memory.free_bytes().saturating_sub(self.wrong.graphs)
    }

    /// What this process holds: nothing before it has a context.
    pub(crate) fn held_memory(&self) -> u64 {
        if self.retained == 0 { 0 } else { self.total_memory() - self.free_memory() }
    }

    /// The same in every run, and another one for each card.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"simulated gpu 00";
        uuid[15] += self.slot as u8;
        uuid
    }

    /// The queue behind a stream handle: 0 and 1 are the legacy stream, 2 is each thread's own.
    pub(crate) fn stream(&mut self, handle: u64) -> Result<&mut Timeline, u32> {
        let key = match handle {
            0 | 1 => 1,
            2 => u64::MAX - THREAD.with(|thread| *thread),
            other => return self.streams.get_mut(&other).ok_or(INVALID_HANDLE),
        };
        Ok(self.streams.entry(key).or_insert_with(|| Timeline::new(key)))
    }

    pub(crate) fn add_stream(&mut self, handle: u64) {
        self.streams.insert(handle, Timeline::new(handle));
    }

    pub(crate) fn remove_stream(&mut self, handle: u64) -> Result<(), u32> {
        self.streams.remove(&handle).map(drop).ok_or(INVALID_HANDLE)
    }

    /// The capture of a stream, if there is one.
    pub(crate) fn capture(&mut self, stream: u64) -> Option<&mut Capture> {
        self.capturing.as_mut().filter(|capture| capture.stream == stream)
    }

    /// Refuses what a capture does not take, and spoils the capture.
    pub(crate) fn not_captured(&mut self, stream: u64) -> Result<(), u32> {
        match self.capture(stream) {
            Some(capture) => {
                capture.spoiled = true;
                Err(CAPTURE_UNSUPPORTED)
            }
            None => Ok(()),
        }
    }

    /// Queues work on a stream.
    pub(crate) fn work(&mut self, stream: u64, work: Work) -> Result<(), u32> {
        self.busy(stream, self.profile.seconds(work))
    }

    /// Queues this many seconds of work on a stream.
    pub(crate) fn busy(&mut self, stream: u64, seconds: f64) -> Result<(), u32> {
        self.not_captured(stream)?;
        // A lower clock makes it take longer, and as many cycles.
        let cycles = seconds * self.highest_hertz();
        let seconds = self.at_its_clock(seconds);
        let queue = self.stream(stream)?;
        queue.work(seconds, cycles);
        let end = queue.end().at;
        self.busy_until = self.busy_until.max(end);
        Ok(())
    }

    fn highest_hertz(&self) -> f64 {
        f64::from(self.profile.sm_clock_mhz) * 1e6
    }

    /// What a kernel reads of the clocks that begins behind everything on a stream.
    pub(crate) fn clocks(&mut self, stream: u64) -> Result<Clocks, u32> {
        let gigahertz = 1e-9 * self.clock_share() * self.highest_hertz();
        let Moment { busy, cycles, .. } = self.stream(stream)?.end();
        Ok(Clocks { cycles: cycles as u64, nanoseconds: (busy * 1e9) as u64, gigahertz })
    }

    /// A launch on a stream, for which the host takes its time.
    pub(crate) fn launched(&mut self, stream: u64) -> Result<(), u32> {
        let (gap, room) = (self.wrong.launch_us * 1e-6, self.wrong.queue);
        self.stream(stream)?.launched(gap, room);
        Ok(())
    }

    /// What holds its clocks down, in NVML's bits.
    pub(crate) fn throttled(&self) -> u64 {
        let since = self.first_work.map_or(0.0, |first| (now() - first).as_secs_f64());
        let due = |after: Option<f64>, seconds| after.is_some_and(|after| seconds > after);
        let hot = if due(self.wrong.throttled_after, since) { HOT } else { 0 };
        let capped = if due(self.wrong.capped_after, self.worked) { POWER_CAP } else { 0 };
        self.wrong.throttled | hot | capped
    }

    /// The share of its clock that the card runs at.
    pub(crate) fn clock_share(&self) -> f64 {
        let held = match self.throttled() {
            0 if self.wrong.slow_card == Some(self.slot) => CAPPED,
            0 => 1.0,
            POWER_CAP if self.wrong.throttled == 0 => CAPPED,
            _ => THROTTLED,
        };
        let risen = self.wrong.ramp.map_or(1.0, |ramp| {
            let load = if self.has_rested() { 0.0 } else { self.loaded };
            IDLE + (1.0 - IDLE) * (load / ramp).min(1.0)
        });
        held.min(risen)
    }

    fn has_rested(&self) -> bool {
        now() > self.busy_until + REST
    }

    /// The seconds that work of `full` seconds at the highest clock takes, beginning now.
    fn at_its_clock(&mut self, full: f64) -> f64 {
        if self.has_rested() {
            self.loaded = 0.0;
            self.busy_until = now();
        }
        let steady = self.wrong.ramp.is_none() && self.wrong.capped_after.is_none();
        if steady || full > LONGEST_FOLLOWED {
            return self.count(full / self.clock_share());
        }
        let (mut left, mut taken) = (full, 0.0);
        while left > 0.0 {
            let share = self.clock_share();
            let step = (left / share).min(STEP);
            left -= step * share;
            taken += self.count(step);
            if step < STEP {
                break;
            }
        }
        taken
    }

    /// Counts seconds of work, and gives them back.
    fn count(&mut self, seconds: f64) -> f64 {
        self.first_work.get_or_insert_with(now);
        self.worked += seconds;
        self.loaded += seconds;
        seconds
    }

    /// What everybody who waited for the device may rely on.
    pub(crate) fn waited(&mut self) {
        self.memory.synchronised();
        self.streams.values_mut().for_each(Timeline::waited);
        for copy in self.to_come.drain(..).filter_map(|copy| copy.upgrade()) {
            copy.arrived();
        }
        for copy in self.on_the_way.drain(..) {
            bytes::count(copy.len);
            // SAFETY: `to` and `len` lie in memory of `cuMemHostAlloc`, which drops the copies into it
            // before it is freed; whoever reads it has to wait first, which is this call.
            let out = unsafe { std::slice::from_raw_parts_mut(copy.to as *mut u8, copy.len) };
            copy.what.read(0, out);
        }
    }
}

/// Those that `CUDA_VISIBLE_DEVICES` names, in its order, up to the first that does not exist.
pub(crate) fn visible(all: Vec<Device>, variable: Option<&str>) -> Vec<Device> {
    let Some(variable) = variable else { return all };
    let mut left: Vec<Option<Device>> = all.into_iter().map(Some).collect();
    let mut chosen = Vec::new();
    for word in variable.split(',').map(str::trim) {
        let place = word.strip_prefix("GPU-").map_or_else(
            || word.parse::<usize>().ok(),
            |id| {
                left.iter().position(|card| {
                    card.as_ref()
                        .is_some_and(|c| !id.is_empty() && uuid_words(&c.uuid()).starts_with(id))
                })
            },
        );
        match place.and_then(|place| left.get_mut(place)).and_then(Option::take) {
            Some(device) => chosen.push(device),
            None => break,
        }
    }
    chosen
}

/// A UUID as `nvidia-smi -L` prints it, without its `GPU-`.
pub(crate) fn uuid_words(uuid: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*uuid));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(variable: Option<&str>) -> Vec<u32> {
        let all =
            (0..3).map(|slot| Device::new(Profile::named("t4"), slot, Cards::default())).collect();
        visible(all, variable).into_iter().map(|device| device.slot).collect()
    }

    #[test]
    fn visible_devices_are_those_named_up_to_the_first_wrong_one() {
        assert_eq!(slots(None), [0, 1, 2]);
        assert_eq!(slots(Some("")), [] as [u32; 0]);
        assert_eq!(slots(Some("2,0")), [2, 0]);
        assert_eq!(slots(Some("1,7,0")), [1]);
        assert_eq!(slots(Some("1,1")), [1]);
        let second = Device::new(Profile::named("t4"), 1, Cards::default()).uuid();
        assert_eq!(slots(Some(&format!("GPU-{}", uuid_words(&second)))), [1]);
    }
}
