//! The host that feeds the device.

use std::fs;
use std::path::Path;
use std::time::Duration;

use warpmark_record::machine::HostSpec;
use warpmark_record::{Field, HostLoad};

use crate::{cpu, memory};

/// The host as it is now; the load average is that of this moment.
pub fn host_spec() -> HostSpec {
    HostSpec {
        name: name(),
        cpu: cpu::model_name(),
        cores: cpu::cores(),
        memory: memory::total(),
        os: os(),
        container: container(),
        load_average: load_average(),
        busy_cores: None,
    }
}

/// What this host is called in its network; in a container, what that is called.
fn name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim()).filter(|name| !name.is_empty() && *name != "(none)").map(str::to_owned)
}

/// What tells this machine from others that share its files, and is the same in all of its containers: the
/// identity of its boot, or where the kernel has none, its name.
pub fn machine_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let found = Some(boot.trim().to_owned()).filter(|boot| !boot.is_empty()).or_else(name);
    found.unwrap_or_else(|| "unnamed".to_owned())
}

/// `Linux 6.1.0-18-amd64 (Debian GNU/Linux 12 (bookworm))`.
fn os() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    os_words(std::env::consts::OS, kernel.trim(), &release)
}

fn os_words(system: &str, kernel: &str, os_release: &str) -> String {
    let system = if system == "linux" { "Linux" } else { system };
    let kernel = if kernel.is_empty() { String::new() } else { format!(" {kernel}") };
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty.map(|name| name.trim_matches('"')) {
        Some(name) => format!("{system}{kernel} ({name})"),
        None => format!("{system}{kernel}"),
    }
}

/// The container or hypervisor that can be recognised from inside.
fn container() -> Field<String> {
    let cgroup = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let variable = std::env::var("container").ok().filter(|value| !value.is_empty());
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty()) {
        return Field::Known("kubernetes".to_owned());
    }
    if let Some(name) = container_in(Path::new("/"), &cgroup, variable.as_deref()) {
        return Field::Known(name);
    }
    match cpu::virtualised() {
        Field::Known(true) => Field::Known("virtual machine".to_owned()),
        _ => Field::absent("none was recognised"),
    }
}

fn container_in(root: &Path, cgroup: &str, variable: Option<&str>) -> Option<String> {
    if cgroup.contains("kubepods") {
        return Some("kubernetes".to_owned());
    }
    for (file, name) in [(".dockerenv", "docker"), ("run/.containerenv", "podman")] {
        if root.join(file).exists() {
            return Some(name.to_owned());
        }
    }
    for name in ["docker", "lxc", "containerd"] {
        if cgroup.contains(name) {
            return Some(name.to_owned());
        }
    }
    // systemd-nspawn, podman and others set it for the first process and what it starts.
    variable.filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Cores that are busy with other work now. Takes a quarter of a second, in which the caller waits.
pub fn busy_cores() -> Field<f64> {
    let before = fs::read_to_string("/proc/stat");
    std::thread::sleep(WATCHED);
    match (before, fs::read_to_string("/proc/stat")) {
        (Ok(before), Ok(after)) => match busy_between(&before, &after) {
            Some(share) => Field::Known(share * counted_cores(&after) as f64),
            None => Field::absent("/proc/stat does not tell what the processor did"),
        },
        (Err(error), _) | (_, Err(error)) => {
            Field::absent(format!("/proc/stat cannot be read: {error}"))
        }
    }
}

/// Watches what other processes do on the host while this one measures.
#[derive(Debug)]
pub struct HostWatch {
    stat: String,
    own: u64,
}

impl HostWatch {
    /// Starts to watch; `None` where the kernel does not tell.
    pub fn start() -> Option<Self> {
        Some(Self { stat: fs::read_to_string("/proc/stat").ok()?, own: own_ticks()? })
    }

    /// What the host did since then; `None` where the kernel does not tell, or has not counted a tick since.
    pub fn read(&self) -> Option<HostLoad> {
        let now = fs::read_to_string("/proc/stat").ok()?;
        load_between(&self.stat, &now, own_ticks()?.saturating_sub(self.own))
    }
}

/// What all processors did between two readings of `/proc/stat`, less the `own` ticks of this process.
fn load_between(before: &str, after: &str, own: u64) -> Option<HostLoad> {
    let ((busy_before, all_before), (busy_after, all_after)) = (ticks(before)?, ticks(after)?);
    let all = all_after.checked_sub(all_before).filter(|all| *all > 0)?;
    let busy = busy_after.saturating_sub(busy_before);
    let stolen = stolen_ticks(after).saturating_sub(stolen_ticks(before)).min(busy);
    let others = busy.saturating_sub(stolen).saturating_sub(own);
    let cores = counted_cores(after);
    Some(HostLoad {
        cores: u32::try_from(cores).ok()?,
        others: others as f64 / all as f64 * cores as f64,
        stolen: if busy == 0 { 0.0 } else { stolen as f64 / busy as f64 },
    })
}

/// Ticks for which a hypervisor ran other guests on a processor that had work; 0 where it does not tell.
fn stolen_ticks(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    line.split_whitespace().nth(7).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Ticks that this process has spent on a processor, all its threads together.
fn own_ticks() -> Option<u64> {
    ticks_of(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system ticks of a process from its `/proc/PID/stat`.
fn ticks_of(stat: &str) -> Option<u64> {
    // `pid (name) state ...`: the name may hold spaces and parentheses, what follows may not. The two are
    // fields 14 and 15 of the line, the 12th and 13th after the name.
    let (_, tail) = stat.rsplit_once(") ")?;
    let mut fields = tail.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

/// How long [`busy_cores`] watches: 25 of the kernel's ticks.
const WATCHED: Duration = Duration::from_millis(250);

/// The share of all cores' time between two readings of `/proc/stat` that was spent on work.
fn busy_between(before: &str, after: &str) -> Option<f64> {
    let (busy_before, all_before) = ticks(before)?;
    let (busy_after, all_after) = ticks(after)?;
    let all = all_after.checked_sub(all_before).filter(|all| *all > 0)?;
    Some(busy_after.saturating_sub(busy_before) as f64 / all as f64)
}

/// Ticks spent on work, and all ticks, from the line of all cores together.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

/// The cores that `/proc/stat` counts.
fn counted_cores(stat: &str) -> usize {
    let core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    stat.lines().filter(core).count()
}

fn load_average() -> Field<f64> {
    match fs::read_to_string("/proc/loadavg") {
        Ok(text) => match text.split_whitespace().next().and_then(|first| first.parse().ok()) {
            Some(load) => Field::Known(load),
            None => Field::absent(format!("/proc/loadavg reads \"{}\"", text.trim())),
        },
        Err(error) => Field::absent(format!("/proc/loadavg cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_named_with_kernel_and_distribution() {
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let words = os_words("linux", "6.1.0-18-amd64", release);
        assert_eq!(words, "Linux 6.1.0-18-amd64 (Debian GNU/Linux 12 (bookworm))");
        assert_eq!(os_words("macos", "", ""), "macos");
    }

    #[test]
    fn busy_cores_are_told_from_two_readings() {
        let before =
            "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 50 0 50 350 50 0 0 0 0 0\ncpu1 1 2 3\n";
        let after = "cpu  150 0 110 730 110 0 0 0 0 0\ncpu0 1 2 3\ncpu1 1 2 3\n";
        assert_eq!(busy_between(before, after), Some(0.6));
        assert_eq!(counted_cores(after), 2);
        assert_eq!(busy_between(before, before), None, "no time has passed");
        assert_eq!(busy_between("", after), None);
        assert_eq!(busy_between("cpu  1 2 x", after), None);
        assert!(busy_cores().known().is_some_and(|busy| *busy >= 0.0));
    }

    #[test]
    fn what_others_did_is_all_work_less_ones_own_and_what_was_stolen() {
        let before = "cpu  100 0 100 700 100 0 0 10 0 0\ncpu0 1\ncpu1 1\n";
        // 200 ticks of two processors: 120 busy, 20 of them stolen, 60 this process's own.
        let after = "cpu  180 0 120 770 110 0 0 30 0 0\ncpu0 1\ncpu1 1\n";
        let load = load_between(before, after, 60).unwrap();
        assert_eq!((load.cores, load.others), (2, 0.4));
        assert!((load.stolen - 20.0 / 120.0).abs() < 1e-12);
        // Two threads and 0.4 processors' worth of others do not fit on two; one thread does.
        assert!((load.crowded(2) - 0.2).abs() < 1e-12 && load.crowded(1) == 0.0);
        assert_eq!(load_between(before, before, 0), None, "no time has passed");
        assert_eq!(load_between("", after, 0), None);
        assert_eq!(ticks_of("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 41 1 0 0"), Some(42));
        assert_eq!(ticks_of("7 (a) S 1"), None);
        assert!(HostWatch::start().is_some());
    }

    #[test]
    fn containers_are_recognised_by_what_they_leave() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(container_in(root.path(), "0::/\n", None), None);
        assert_eq!(
            container_in(root.path(), "3:memory:/docker/abc\n", None).as_deref(),
            Some("docker")
        );
        assert_eq!(
            container_in(root.path(), "0::/\n", Some("systemd-nspawn")).as_deref(),
            Some("systemd-nspawn")
        );
        fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert_eq!(container_in(root.path(), "0::/\n", None).as_deref(), Some("docker"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_host_describes_itself() {
        let host = host_spec();
        assert!(host.os.starts_with("Linux "), "{}", host.os);
        assert!(host.load_average.known().is_some_and(|load| *load >= 0.0));
    }
}
