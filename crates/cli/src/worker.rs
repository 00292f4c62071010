//! `warpmark worker`: measures one group, or one service, for the `warpmark run` or `serve` that started it.
//!
//! A fault on a GPU can leave a context that answers nothing any more, and can take the whole process
//! with it. So each group runs in a process of its own, which tells its rows to the supervisor
//! (`supervisor.rs`) and writes to no results file. It measures as `cargo bench` does, with the
//! same runner; the supervisor is told of steps between samples, never inside the timed region.

mod channel;

use std::io::{BufRead, Lines, StdinLock};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use warpmark_device::Device;
use warpmark_measure::{Admission, Entry, Group, Offer};
use warpmark_record::{BenchmarkId, DeviceSpec, Field, Outcome, Record, Seconds};

use crate::arguments::Serve;
use crate::campaign::{self, criterion};
use crate::plan::Plan;
use crate::protocol::{Answer, Message, Setup};
use crate::serving::{self, Level, ServiceRunner};
use crate::{exit, interrupt, sources};
use channel::WorkerChannel;

/// The one argument of a worker. It is no verb, so that neither help nor completions offer it.
pub(crate) const ARGUMENT: &str = "worker";

/// Whether this process was started as a worker.
pub fn is_worker() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == ARGUMENT) && arguments.next().is_none()
}

/// Measures what standard input says, and tells it on standard output.
///
/// # Errors
/// Standard input is not that of a worker, or the plan lacks what is asked for.
pub fn run() -> anyhow::Result<u8> {
    interrupt::leave_to_parent();
    die_with_parent()?;
    let mut channel =
        WorkerChannel::of_stdout().context("standard output cannot be kept for messages")?;
    let mut orders = Orders(std::io::stdin().lock().lines());
    let Some(setup) = orders.next::<Setup>()? else {
        bail!("`worker` is started by `warpmark` alone, which tells it what to measure");
    };
    channel.allow(setup.selection.budget);
    let device = match open(&setup.spec) {
        Ok(device) => device,
        Err(error) => {
            channel.say(&Message::Refused { reason: exit::words(&error) });
            return Ok(exit::ERROR);
        }
    };
    channel.say(&Message::Ready { settings: campaign::settings(&device) });
    let Some(ids) = orders.next::<Vec<BenchmarkId>>()? else {
        return Ok(exit::OK);
    };
    let progress = Arc::new(channel.clone());
    if let Some(load) = &setup.serve {
        let offers = serving::offers(load, &setup.selection, &setup.spec, progress)?;
        serve(&setup, load, &device, (offers, &ids), orders, &channel)?;
    } else {
        let groups = campaign::groups(&setup.selection, &setup.spec, progress)?;
        measure(&setup, &device, group_of(groups, &ids)?, orders, &channel)?;
    }
    Ok(exit::OK)
}

/// The end of whoever started this process is its own end, at once: a benchmark that nobody hears must
/// not occupy the card.
fn die_with_parent() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .context("this process cannot be tied to the one that started it")?;
        // It was started by a name under which nobody would look for it. It is but a name.
        let _ = std::fs::write("/proc/self/comm", "warpmark-worker");
    }
    Ok(())
}

/// Opens the device that the supervisor has seen. A card that fell off the bus lets the others move up,
/// and their figures would stand under its name.
fn open(spec: &DeviceSpec) -> anyhow::Result<Device> {
    let device = campaign::open(spec)?;
    let hash = |spec: &DeviceSpec| spec.gpu.as_ref().map(|gpu| gpu.uuid_hash.clone());
    if let (Some(Field::Known(expected)), Some(Field::Known(found))) =
        (hash(spec), hash(device.spec()))
        && expected != found
    {
        bail!(
            "cuda:{} is another card now ({}), so that nothing more is measured on it; look at \
             `nvidia-smi -L`",
            spec.index,
            device.spec().name
        );
    }
    Ok(device)
}

/// The one group that these benchmarks belong to, with nothing else in it.
fn group_of(groups: Vec<Group>, ids: &[BenchmarkId]) -> anyhow::Result<Group> {
    let mut groups = Plan::select(groups, None, None, Seconds(0.0)).groups;
    for group in &mut groups {
        group.entries.retain(|entry| ids.contains(&entry.id));
    }
    groups.retain(|group| !group.entries.is_empty());
    let whole = |group: &Group| group.entries.len() == ids.len();
    match groups.pop().filter(|group| groups.is_empty() && whole(group)) {
        Some(group) => Ok(group),
        None => bail!("{UNLIKE}"),
    }
}

const UNLIKE: &str = "the plan of the worker is not that of its supervisor; do not change models.toml or the \
                      program while it runs";

/// The context was lost: there is nothing more to be measured here.
struct Lost;

fn measure(
    setup: &Setup,
    device: &Device,
    group: Group,
    orders: Orders,
    channel: &WorkerChannel,
) -> anyhow::Result<()> {
    let cache = sources::cache()?;
    let folder = campaign::criterion_folder(&cache, &setup.spec)?;
    let criterion_output = campaign::criterion_output(&cache, &setup.spec, setup.verbose)?;
    let criterion = criterion(Some(&folder));
    let run = setup.run.clone();
    let admission = orders.admission(channel);
    let mut runner =
        campaign::runner(device, run, criterion, criterion_output, setup.mode, admission)?;
    runner.whole = setup.verbose;
    let mut observer = channel.clone();
    // What is lost is the device's; the supervisor knows it by the row.
    let _: Result<(), Lost> =
        runner.run_group(group, &mut observer, &mut |row| tell(row, device, channel));
    Ok(())
}

/// Puts the levels of these ids on the service that they belong to.
fn serve(
    setup: &Setup,
    load: &Serve,
    device: &Device,
    (offers, ids): (Vec<Offer>, &[BenchmarkId]),
    orders: Orders,
    channel: &WorkerChannel,
) -> anyhow::Result<()> {
    let levels = serving::levels(&load.traffic)?;
    let found = offers.into_iter().find_map(|offer| {
        let entries = serving::entries(&offer, &levels);
        let wanted: Vec<(Entry, Level)> = entries
            .into_iter()
            .zip(levels.iter().cloned())
            .filter(|(entry, _)| ids.contains(&entry.id))
            .collect();
        (wanted.len() == ids.len()).then_some((offer, wanted))
    });
    let Some((offer, levels)) = found else { bail!("{UNLIKE}") };
    let mut runner = ServiceRunner {
        device,
        run: setup.run.clone(),
        service: load.service.clone(),
        sensors: serving::sensors(device),
        admission: orders.admission(channel),
    };
    let _: Result<(), Lost> =
        runner.put(levels, offer, &mut channel.clone(), &mut |row| tell(row, device, channel));
    Ok(())
}

/// Tells a row, and whether more can come after it.
fn tell(row: Record, device: &Device, channel: &WorkerChannel) -> Result<(), Lost> {
    let failed = matches!(row.outcome, Outcome::Failed { .. });
    channel.say(&Message::Row { row: Box::new(row) });
    if failed && !still_works(device) { Err(Lost) } else { Ok(()) }
}

fn still_works(device: &Device) -> bool {
    match device {
        Device::Cpu(_) => true,
        Device::Cuda(gpu) => gpu.still_works().is_ok(),
    }
}

/// What the supervisor says, a line at a time.
struct Orders(Lines<StdinLock<'static>>);

impl Orders {
    /// Asks before each benchmark whether it may run.
    fn admission(mut self, channel: &WorkerChannel) -> Admission<'static> {
        let asking = channel.clone();
        Box::new(move |entry| {
            asking.say(&Message::Ask { id: entry.id.clone() });
            match self.next::<Answer>() {
                Ok(Some(Answer::Go)) => None,
                Ok(Some(Answer::Skip { reason })) => Some(reason),
                // Nobody is left to measure for.
                Ok(None) | Err(_) => std::process::exit(i32::from(exit::INTERRUPTED)),
            }
        })
    }

    /// The next order; `None` once there will be no more.
    fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let Some(line) = self.0.next() else {
            return Ok(None);
        };
        let line = line.context("standard input cannot be read")?;
        serde_json::from_str(&line).map(Some).context(
            "standard input says nothing that a worker understands; `worker` is started by `warpmark` \
             alone",
        )
    }
}
