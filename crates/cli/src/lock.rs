//! What tells a device from all others that a run could mean, whatever machine, container or index it is
//! seen from, and the lock by that name: two runs on one device at the same time would measure each other.

use anyhow::Context;
use warpmark_models::weights::Cache;
use warpmark_record::{DeviceKind, DeviceSpec};

use crate::state;

/// Locks a device for as long as the file lives.
///
/// # Errors
/// Another run has it, or the file cannot be locked.
pub(crate) fn lock_device(cache: &Cache, spec: &DeviceSpec) -> anyhow::Result<std::fs::File> {
    let name = format!("measuring-{}.lock", name_of(spec));
    let file = state::lock_file(cache, &name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another warpmark run is measuring on {} at this moment, and the two would measure each \
             other; start again when it is done",
            spec.name
        ),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| {
            format!("{name} cannot be locked; set WARPMARK_CACHE to another disk")
        }),
    }
}

/// A device's name for files in a cache that many machines may share.
///
/// A card is told by its UUID, which no other card on earth has; one that does not tell its own by its place
/// in its machine. A processor is its machine: how many of its cores a process may use changes nothing.
pub(crate) fn name_of(spec: &DeviceSpec) -> String {
    named(spec, &warpmark_device::machine_id())
}

fn named(spec: &DeviceSpec, machine: &str) -> String {
    let gpu = spec.gpu.as_deref();
    let uuid = gpu.and_then(|gpu| gpu.uuid_hash.known()).map(String::as_str);
    let pci = gpu.and_then(|gpu| gpu.pci_id.known()).map(String::as_str);
    plain(&match (spec.kind, uuid, pci) {
        (DeviceKind::Cpu, ..) => format!("cpu-{machine}"),
        (_, uuid, pci) => of_card((uuid, pci), (&spec.slug, spec.index), machine),
    })
}

fn of_card(told: (Option<&str>, Option<&str>), seen: (&str, u32), machine: &str) -> String {
    match told {
        (Some(uuid), _) => format!("gpu-{uuid}"),
        (None, Some(pci)) => format!("gpu-{pci}-{machine}"),
        (None, None) => format!("{}-{}-{machine}", seen.0, seen.1),
    }
}

/// Fit for the name of a file.
fn plain(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_told_by_what_no_other_has() {
        let (pci, seen) = (Some("0000:17:00.0"), ("nvidia-l4", 0));
        assert_eq!(
            of_card((Some("0f"), pci), seen, "a"),
            of_card((Some("0f"), pci), ("nvidia-l4", 3), "b")
        );
        assert_ne!(of_card((None, pci), seen, "a"), of_card((None, pci), seen, "b"));
        assert_ne!(of_card((None, None), seen, "a"), of_card((None, None), ("nvidia-l4", 1), "a"));
        assert_eq!(plain("gpu-0000:17:00.0-host/1"), "gpu-0000-17-00.0-host-1");
    }
}
