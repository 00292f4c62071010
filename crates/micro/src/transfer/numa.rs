//! The host's processors and memory that lie next to a card.
//!
//! On a machine with two sockets a card hangs on one of them; what the other's memory sends it crosses the
//! link between the two, at half the rate and less on some. Which socket a thread runs on is chance, unless
//! it is held.

use std::path::Path;

use warpmark_device::CudaDevice;
use warpmark_record::{Field, Value};

/// Holds the calling thread to the processors of a card's NUMA node until it is dropped. Memory that the
/// thread is the first to write lies on that node.
pub(super) struct Near {
    node: Result<u32, String>,
    #[cfg(target_os = "linux")]
    before: Option<rustix::thread::CpuSet>,
}

impl Near {
    /// Next to this card, where the kernel tells where that is.
    pub(super) fn to(device: &CudaDevice) -> Self {
        let pci_id = device.spec.gpu.as_ref().map(|gpu| &gpu.pci_id);
        let pci_id = match pci_id {
            Some(Field::Known(id)) => id.as_str(),
            Some(Field::Absent { absent }) => return Self::nowhere(absent),
            None => return Self::nowhere("the card has no PCI id"),
        };
        match node_and_processors(Path::new("/sys"), pci_id) {
            Ok((node, processors)) => Self::on(node, &processors),
            Err(reason) => Self::nowhere(&reason),
        }
    }

    #[cfg(target_os = "linux")]
    fn on(node: u32, processors: &[usize]) -> Self {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(before) = sched_getaffinity(None) else {
            return Self::nowhere("the kernel does not tell which processors this thread may use");
        };
        let mut near = CpuSet::new();
        for &processor in processors {
            // What the thread may not use now, by a container's limits, it does not take.
            if processor < CpuSet::MAX_CPU && before.is_set(processor) {
                near.set(processor);
            }
        }
        if near.count() == 0 {
            return Self::nowhere("this process may use no processor of the card's NUMA node");
        }
        match sched_setaffinity(None, &near) {
            Ok(()) => Self { node: Ok(node), before: Some(before) },
            Err(error) => Self::nowhere(&format!("the thread cannot be held: {error}")),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn on(_node: u32, _processors: &[usize]) -> Self {
        Self::nowhere("threads are held on Linux alone")
    }

    fn nowhere(reason: &str) -> Self {
        Self {
            node: Err(reason.to_owned()),
            #[cfg(target_os = "linux")]
            before: None,
        }
    }

    /// For the row: the node that the host's memory lies on, or why that is left to chance.
    pub(super) fn parameter(&self) -> (&'static str, Value) {
        let value = match &self.node {
            Ok(node) => Value::from(u64::from(*node)),
            Err(reason) => Value::Text(format!("not held: {reason}")),
        };
        ("numa_node", value)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Near {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing is lost where it stays on these processors.
            let _ = rustix::thread::sched_setaffinity(None, before);
        }
    }
}

/// The NUMA node of a card by its PCI id, and the node's processors, as `sys` tells them.
fn node_and_processors(sys: &Path, pci_id: &str) -> Result<(u32, Vec<usize>), String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    // NVML and the driver write a domain of eight digits or of four, the kernel four.
    let (domain, rest) = pci_id.split_once(':').ok_or_else(|| format!("{pci_id} is no PCI id"))?;
    let domain = &domain[domain.len().saturating_sub(4)..];
    let name = format!("{domain}:{rest}").to_ascii_lowercase();
    let told = read(&sys.join("bus/pci/devices").join(name).join("numa_node"))?;
    let node: u32 = told
        .trim()
        .parse()
        .map_err(|_| format!("the kernel knows no NUMA node of the card ({})", told.trim()))?;
    let list = read(&sys.join(format!("devices/system/node/node{node}/cpulist")))?;
    let processors = processors(list.trim());
    processors.map(|processors| (node, processors)).ok_or_else(|| {
        format!("the processors of NUMA node {node} are told as \"{}\"", list.trim())
    })
}

/// `0-3,8` as 0, 1, 2, 3, 8.
fn processors(told: &str) -> Option<Vec<usize>> {
    const MOST: usize = 1 << 16;
    let mut all = Vec::new();
    for part in told.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST || first > last {
            return None;
        }
        all.extend(first..=last);
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_followed_to_the_processors_of_its_node() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        let card = sys.join("bus/pci/devices/0000:c1:00.0");
        let node = sys.join("devices/system/node/node1");
        std::fs::create_dir_all(&card).unwrap();
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(card.join("numa_node"), "1\n").unwrap();
        std::fs::write(node.join("cpulist"), "2-3,6\n").unwrap();
        for id in ["0000:c1:00.0", "00000000:C1:00.0"] {
            assert_eq!(node_and_processors(sys, id), Ok((1, vec![2, 3, 6])));
        }
        std::fs::write(card.join("numa_node"), "-1\n").unwrap();
        let reason = node_and_processors(sys, "0000:c1:00.0").unwrap_err();
        assert!(reason.contains("knows no NUMA node"), "{reason}");
        let reason = node_and_processors(sys, "0000:01:00.0").unwrap_err();
        assert!(reason.contains("0000:01:00.0/numa_node"), "{reason}");
    }

    #[test]
    fn absurd_lists_of_processors_are_refused() {
        for list in ["", "3-1", "0-99999999", "a", "1-"] {
            assert_eq!(processors(list), None, "{list}");
        }
        assert_eq!(processors("0"), Some(vec![0]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_is_held_and_let_go() {
        let allowed = || rustix::thread::sched_getaffinity(None).unwrap();
        let before = allowed();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap();
        let near = Near::on(0, &[first]);
        assert_eq!(near.parameter().1, Value::from(0_u64));
        assert_eq!(allowed().count(), 1);
        drop(near);
        assert_eq!(allowed().count(), before.count());
        assert!(matches!(Near::on(0, &[1 << 20]).parameter().1, Value::Text(_)));
    }
}
