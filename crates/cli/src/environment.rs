//! The stamp of a run: its name, and which program measured.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use warpmark_record::{BenchmarkId, Build, DeviceSpec, HostSpec, METHOD, Run, RunId, SCHEMA};

use crate::arguments::Selection;

/// What a run is told by, beside what is selected, device and build.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its name.
    pub id: RunId,
    /// What its user says of it.
    pub tags: BTreeMap<String, String>,
    /// What it sets out to measure.
    pub planned: Vec<BenchmarkId>,
    /// What else is to be known of how it was measured, beside how its device was set up.
    pub settings: BTreeMap<String, String>,
}

impl Identity {
    /// One of which nothing is said.
    pub(crate) fn named(id: RunId) -> Self {
        Self { id, tags: BTreeMap::new(), planned: Vec::new(), settings: BTreeMap::new() }
    }
}

/// The stamp of a run that begins now, on a device that was set up with `settings`.
pub(crate) fn run(
    selection: &Selection,
    device: &DeviceSpec,
    mut settings: BTreeMap<String, String>,
    identity: Identity,
) -> Run {
    settings.extend(identity.settings);
    Run {
        schema: SCHEMA,
        method: METHOD,
        run: identity.id,
        started_at: warpmark_measure::timestamp(),
        command: command(),
        suite: selection.suite.name().to_owned(),
        seed: selection.weights.seed,
        device: device.clone(),
        host: HostSpec {
            busy_cores: Some(warpmark_device::busy_cores()),
            ..warpmark_device::host_spec()
        },
        build: build(),
        settings,
        tags: identity.tags,
        planned: identity.planned,
    }
}

/// A name that no other run has, on whatever machine that writes into the same folder: the time, the process,
/// and a mark of host, container and chance.
pub(crate) fn new_run_id() -> RunId {
    // The hasher's keys are random.
    let chance = std::hash::RandomState::new().hash_one(0);
    run_id(jiff::Timestamp::now(), std::process::id(), &format!("{} {chance}", place()))
}

/// The name of the run that this process and its siblings belong to under one `cargo bench`, which
/// starts a process for each bench target: cargo's own start and process.
///
/// A bench executable that was started by hand is a run of its own.
pub(crate) fn bench_run_id() -> RunId {
    cargo_started().map_or_else(new_run_id, |(start, process, mark)| run_id(start, process, &mark))
}

/// Names sort by time. Eight hexadecimal digits tell two apart that began in one second with one process
/// number, as the first processes of two containers do.
fn run_id(start: jiff::Timestamp, process: u32, mark: &str) -> RunId {
    let (start, mark) = (start.strftime("%Y%m%dT%H%M%SZ"), fnv(mark.as_bytes()));
    RunId(format!("{start}-{process}-{mark:08x}"))
}

/// The 64-bit hash of Fowler, Noll and Vo (variant 1a), folded onto its lower half: the same on every
/// machine, as siblings of one run need it.
fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) & 0xffff_ffff
}

/// What tells this host and container from others: the boot, the host's name, the namespace of processes.
fn place() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    format!("{boot} {} {}", read("/proc/sys/kernel/hostname"), namespace.display())
}

/// When the parent process started, if it is cargo.
fn cargo_started() -> Option<(jiff::Timestamp, u32, String)> {
    let parent = rustix::process::getppid()?.as_raw_nonzero().get();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    // Ticks since the boot tell two apart that began in one second.
    let (began, since_boot) = cargo_start(&stat, &system, ticks)?;
    Some((began, u32::try_from(parent).ok()?, format!("{} {since_boot}", place())))
}

/// The start of a process from its `/proc/PID/stat` and the system's `/proc/stat`, if it is cargo: the time,
/// and ticks since the boot.
fn cargo_start(stat: &str, system: &str, ticks_per_second: u64) -> Option<(jiff::Timestamp, u64)> {
    // `pid (name) state ...`: the name may hold spaces and parentheses, what follows may not.
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    if name != "cargo" {
        return None;
    }
    // starttime is field 22 of the line, the 20th after the name.
    let ticks: u64 = tail.split_whitespace().nth(19)?.parse().ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot: i64 = boot.trim().parse().ok()?;
    let since_boot = i64::try_from(ticks / ticks_per_second.max(1)).ok()?;
    Some((jiff::Timestamp::from_second(boot.checked_add(since_boot)?).ok()?, ticks))
}

/// The command without the path to the program, which says nothing about the measurement.
fn command() -> Vec<String> {
    // A name of a file may be in any encoding; a record is in UTF-8.
    let mut arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_name();
    let name = name.map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    std::iter::once(without_hash(&name).to_owned()).chain(arguments).collect()
}

/// A bench target's name without the hash that cargo puts after it.
fn without_hash(name: &str) -> &str {
    let is_hash =
        |tail: &str| tail.len() == 16 && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.rsplit_once('-').filter(|(_, tail)| is_hash(tail)).map_or(name, |(head, _)| head)
}

fn build() -> Build {
    let crates = env!("WARPMARK_CRATES").split(',').filter_map(|item| item.split_once('='));
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git: env!("WARPMARK_GIT").to_owned(),
        rustc: env!("WARPMARK_RUSTC").to_owned(),
        profile: env!("WARPMARK_PROFILE").to_owned(),
        features: [("hub", cfg!(feature = "hub")), ("cuda", cfg!(feature = "cuda"))]
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.to_owned())
            .collect(),
        cuda_kernels: warpmark_models::engine::compiled_kernels().map(|kernels| match kernels {
            Ok(kernels) => kernels.to_string(),
            Err(error) => format!("unknown: {error}"),
        }),
        crates: crates.map(|(name, version)| (name.to_owned(), version.to_owned())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4711 (cargo) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 123456 9 8";
    const SYSTEM: &str = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";

    #[test]
    fn bench_targets_of_one_cargo_share_a_run() {
        let (start, ticks) = cargo_start(STAT, SYSTEM, 100).unwrap();
        assert_eq!((start.as_second(), ticks), (1_700_000_000 + 1234, 123_456));
        let id = run_id(start, 4711, "a mark").0;
        assert!(id.starts_with("20231114T223354Z-4711-"), "{id}");
        assert_eq!(id, run_id(start, 4711, "a mark").0);
    }

    #[test]
    fn runs_of_one_second_and_process_number_have_names_of_their_own() {
        let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        let (one, two) =
            (run_id(now, 1, "host a, container 1"), run_id(now, 1, "host a, container 2"));
        assert_ne!(one, two);
        assert_ne!(new_run_id(), new_run_id());
        // Later ones sort after, and so does what an older version called its run.
        let later = jiff::Timestamp::from_second(1_700_000_001).unwrap();
        assert!(one < run_id(later, 1, "") && one > RunId("20231114T221319Z-99999".to_owned()));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        assert!(one.0.chars().all(plain), "{one}");
    }

    #[test]
    fn a_bench_target_is_named_without_cargos_hash() {
        assert_eq!(without_hash("load-2c79689e548e33f1"), "load");
        assert_eq!(without_hash("warpmark"), "warpmark");
        assert_eq!(without_hash("my-warpmark"), "my-warpmark");
    }

    #[test]
    fn a_parent_other_than_cargo_starts_no_shared_run() {
        assert_eq!(cargo_start(&STAT.replace("cargo", "bash"), SYSTEM, 100), None);
        assert_eq!(cargo_start(&STAT.replace("(cargo)", "(a) cargo)"), SYSTEM, 100), None);
        assert_eq!(cargo_start("", SYSTEM, 100), None);
        assert_eq!(cargo_start(STAT, "", 100), None);
    }
}
