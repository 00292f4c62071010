//! How much of the host's memory this process may use: what the machine has, what its cgroup is allowed, or
//! what its own limits (`ulimit -v`, `ulimit -d`) are, whichever is least.

use std::fs;
use std::path::{Path, PathBuf};

use warpmark_record::{Bytes, Field};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Memory that this process may use in all: installed memory, the cgroup's limit, or the process's own.
pub fn total() -> Field<Bytes> {
    let groups = cgroups();
    let own = limits().into_iter().map(|limit| limit.most);
    bounded("MemTotal", groups.iter().filter_map(Group::limit).chain(own))
}

/// Memory that can still be taken without swapping: `MemAvailable`, or what the cgroup's limit or the
/// process's own leaves.
pub fn available() -> Field<Bytes> {
    let groups = cgroups();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = limits().into_iter().map(|limit| limit.left(&status));
    bounded("MemAvailable", groups.iter().filter_map(Group::left).chain(own))
}

/// The limit of the process itself (`ulimit -v`, `ulimit -d`) that leaves least, and what it leaves;
/// `None` where none is set.
pub fn own_limit() -> Option<(Bytes, Bytes)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = limits().into_iter().map(|limit| (limit.most, limit.left(&status)));
    limits.reduce(|a, b| if b.1 < a.1 { b } else { a })
}

/// A limit of the process itself on what it may map.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    most: Bytes,
    /// What of the process counts towards it, as `/proc/self/status` names it.
    counts: &'static str,
}

impl Limit {
    /// What the limit leaves: allocators round up and threads have stacks, so that a sixteenth is kept back.
    fn left(self, status: &str) -> Bytes {
        let held = kilobytes(status, self.counts).unwrap_or(Bytes(0.0));
        ((self.most - held) * (15.0 / 16.0)).max(Bytes(0.0))
    }
}

/// The limits that are set on this process: of all it maps (`RLIMIT_AS`), and of what it may write to
/// (`RLIMIT_DATA`).
#[cfg(unix)]
fn limits() -> Vec<Limit> {
    use rustix::process::{Resource, getrlimit};
    let limit = |resource, counts| {
        let most = Bytes(getrlimit(resource).current? as f64);
        Some(Limit { most, counts })
    };
    let limits = [limit(Resource::As, "VmSize"), limit(Resource::Data, "VmData")];
    limits.into_iter().flatten().collect()
}

#[cfg(not(unix))]
fn limits() -> Vec<Limit> {
    Vec::new()
}

fn bounded(key: &str, bounds: impl Iterator<Item = Bytes>) -> Field<Bytes> {
    match fs::read_to_string("/proc/meminfo") {
        Ok(text) => match kilobytes(&text, key) {
            Some(host) => Field::Known(bounds.fold(host, least)),
            None => Field::absent(format!("/proc/meminfo has no {key}")),
        },
        Err(error) => Field::absent(format!("/proc/meminfo cannot be read: {error}")),
    }
}

fn least(a: Bytes, b: Bytes) -> Bytes {
    if b < a { b } else { a }
}

/// `Key:   123 kB`, as the files of /proc write amounts.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let number: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(number as f64 * 1024.0))
}

/// A cgroup's memory files; version 1 and 2 name them differently.
struct Group {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Group {
    /// The group's own limit, or the least of those above it that only the group's statistics tell, since
    /// containers of version 1 do not see the groups above theirs.
    fn limit(&self) -> Option<Bytes> {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let above = amount(&stat, "hierarchical_memory_limit ");
        let limits = [self.number(self.limit), above].into_iter().flatten();
        limits.filter(|limit| limit.get() < UNLIMITED).reduce(least)
    }

    /// The limit less what is in use. Pages of files that were not touched lately count as free: the
    /// kernel drops them before it refuses anything, as `MemAvailable` has it.
    fn left(&self) -> Option<Bytes> {
        let usage = self.number(self.usage)?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        // Version 1 counts groups below this one under a name of its own.
        let counted = |name| amount(&stat, name);
        let reclaimable = counted("total_inactive_file ")
            .or_else(|| counted("inactive_file "))
            .unwrap_or(Bytes(0.0));
        let held = (usage - reclaimable).max(Bytes(0.0));
        Some((self.limit()? - held).max(Bytes(0.0)))
    }

    fn number(&self, file: &str) -> Option<Bytes> {
        // Version 2 writes "max" for no limit, which is no number.
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse::<u64>().ok().map(|bytes| Bytes(bytes as f64))
    }
}

/// A line of `memory.stat`; `name` ends with the blank after it.
fn amount(stat: &str, name: &str) -> Option<Bytes> {
    let bytes: u64 = stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())?;
    Some(Bytes(bytes as f64))
}

/// Version 1 writes the largest page-aligned i64 for no limit.
const UNLIMITED: f64 = 9e18;

fn cgroups() -> Vec<Group> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroups_in(&text, Path::new(CGROUP_ROOT))
}

/// The groups whose limits bind a process, itself and all above it, from its `/proc/self/cgroup`.
fn cgroups_in(text: &str, root: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (base, limit, usage) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        let own = base.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, with only the container's own group mounted; the
        // folders that are not there are passed over.
        groups.extend(
            own.ancestors().take_while(|folder| folder.starts_with(&base)).map(|folder| Group {
                folder: folder.to_owned(),
                limit,
                usage,
            }),
        );
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_by_their_whole_key() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    8192 kB\nHugePages_Total:       0\n";
        assert_eq!(kilobytes(text, "MemAvailable"), Some(Bytes(8192.0 * 1024.0)));
        assert_eq!(kilobytes(text, "Mem"), None);
        assert_eq!(kilobytes(text, "HugePages_Total"), None);
    }

    #[test]
    fn a_limit_anywhere_above_binds() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "1000000\n").unwrap();
        fs::write(root.path().join("a/memory.current"), "400000\n").unwrap();
        fs::write(root.path().join("a/memory.stat"), "anon 1\ninactive_file 100000\n").unwrap();
        let groups = cgroups_in("0::/a/b\n", root.path());
        let limits: Vec<_> = groups.iter().filter_map(Group::limit).collect();
        assert_eq!(limits, [Bytes(1e6)]);
        let left: Vec<_> = groups.iter().filter_map(Group::left).collect();
        assert_eq!(left, [Bytes(700_000.0)]);
    }

    #[test]
    fn version_one_is_read_from_its_own_controller_and_its_no_limit_is_none() {
        let root = tempfile::tempdir().unwrap();
        let memory = root.path().join("memory");
        fs::create_dir_all(memory.join("docker/x")).unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(memory.join("docker/x/memory.limit_in_bytes"), "2048\n").unwrap();
        let text = "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n";
        let limits: Vec<_> =
            cgroups_in(text, root.path()).iter().filter_map(Group::limit).collect();
        assert_eq!(limits, [Bytes(2048.0)]);
    }

    #[test]
    fn limits_above_a_container_of_version_one_bind_though_only_its_statistics_tell() {
        let root = tempfile::tempdir().unwrap();
        let memory = root.path().join("memory");
        fs::create_dir_all(&memory).unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(memory.join("memory.usage_in_bytes"), "600\n").unwrap();
        let stat = "inactive_file 1\nhierarchical_memory_limit 1000\ntotal_inactive_file 100\n";
        fs::write(memory.join("memory.stat"), stat).unwrap();
        let groups = cgroups_in("3:memory:/docker/x\n", root.path());
        let found =
            |get: fn(&Group) -> Option<Bytes>| groups.iter().filter_map(get).collect::<Vec<_>>();
        assert_eq!(found(Group::limit), [Bytes(1000.0)]);
        assert_eq!(found(Group::left), [Bytes(500.0)]);
    }

    #[test]
    fn what_a_limit_of_the_process_leaves_is_less_than_all_of_it_and_never_less_than_nothing() {
        let limit = Limit { most: Bytes(1600.0 * 1024.0), counts: "VmData" };
        assert_eq!(limit.left("VmSize:\t 9 kB\nVmData:\t 800 kB\n"), Bytes(750.0 * 1024.0));
        assert_eq!(limit.left("VmData:\t 9999 kB\n"), Bytes(0.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn limits_of_the_process_count_as_its_memory() {
        // In a process of its own, since a limit holds for all tests that run beside this one.
        let test = std::env::current_exe().unwrap();
        let name = "memory::tests::limits_of_the_process_count_as_its_memory";
        if std::env::var_os("WARPMARK_LIMITED").is_some() {
            let (total, available) = (total(), available());
            assert_eq!(total, Field::Known(Bytes(1_048_576.0 * 1024.0)));
            assert!(available.known().unwrap() < total.known().unwrap());
            let (most, left) = own_limit().unwrap();
            assert!(most == Bytes(1_048_576.0 * 1024.0) && left < most);
            return;
        }
        for limit in ["-v", "-d"] {
            let command =
                format!("ulimit {limit} 1048576; exec \"$0\" --exact {name} --test-threads 1");
            let mut shell = std::process::Command::new("sh");
            let ran = shell.args(["-c", &command]).arg(&test).env("WARPMARK_LIMITED", "1").output();
            let ran = ran.unwrap();
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(ran.status.success() && said.contains("1 passed"), "{limit}: {said}");
        }
    }

    #[test]
    fn a_group_over_its_limit_has_nothing_left_rather_than_less() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("memory.max"), "1000").unwrap();
        fs::write(root.path().join("memory.current"), "2000").unwrap();
        let left: Vec<_> =
            cgroups_in("0::/\n", root.path()).iter().filter_map(Group::left).collect();
        assert_eq!(left, [Bytes(0.0)]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_available_is_part_of_the_whole() {
        let (total, available) = (total(), available());
        assert!(available.known().unwrap() <= total.known().unwrap());
    }
}
