//! How the cards of a machine reach each other, by NVML.

use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus, TopologyLevel};
use nvml_wrapper::{Device, Nvml};
use warpmark_record::{DeviceSpec, Field};

use super::{Card, field, nvml};

/// The most links that a card of any generation has.
const MOST_LINKS: u32 = 18;

/// What lies between two cards.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Links of NVIDIA from the first card to the second, or where a switch joins all cards, to the switch.
    pub nvlinks: u32,
    /// Whether they go through a switch of NVIDIA.
    pub switched: bool,
    /// What the ways of both over PCIe meet at, in the words of `nvidia-smi topo`: PIX (one PCIe switch), PXB
    /// (several), PHB (a host bridge), NODE (a NUMA node), SYS (between NUMA nodes).
    pub ancestor: Field<String>,
    /// Whether the driver lets one read the other's memory, or why not.
    pub peer_to_peer: Field<String>,
}

impl Connection {
    /// As `nvidia-smi topo --matrix` has it: `NV18`, or where there is no such link, what lies between.
    pub fn short(&self) -> String {
        if self.nvlinks > 0 {
            return format!("NV{}", self.nvlinks);
        }
        self.ancestor.known().cloned().unwrap_or_else(|| "?".to_owned())
    }
}

/// What lies between two cards of this machine.
///
/// # Errors
/// NVML is not there, or does not know one of them; in words.
pub fn connection(from: &DeviceSpec, to: &DeviceSpec) -> Result<Connection, String> {
    let pci_id = |spec: &DeviceSpec| {
        let gpu = spec.gpu.as_ref();
        let id = gpu.and_then(|gpu| gpu.pci_id.known().cloned());
        id.ok_or_else(|| format!("{} does not tell its PCI id", spec.name))
    };
    let (own, other) = (Card::at(&pci_id(from)?)?, Card::at(&pci_id(to)?)?);
    let (nvlinks, switched) = nvlinks(nvml()?, &own.device, &other.device);
    let status = own.device.p2p_status(&other.device, P2pCapabilitiesIndex::Read);
    Ok(Connection {
        nvlinks,
        switched,
        ancestor: field(own.device.topology_common_ancestor(other.device)).map(ancestor),
        peer_to_peer: field(status).map(|status| readable(status).to_owned()),
    })
}

fn ancestor(level: TopologyLevel) -> String {
    match level {
        TopologyLevel::Internal => "INT",
        TopologyLevel::Single => "PIX",
        TopologyLevel::Multiple => "PXB",
        TopologyLevel::HostBridge => "PHB",
        TopologyLevel::Node => "NODE",
        TopologyLevel::System => "SYS",
    }
    .to_owned()
}

fn readable(status: P2pStatus) -> &'static str {
    match status {
        P2pStatus::Ok => "yes",
        P2pStatus::ChipsetNotSupported => "not with this chipset",
        P2pStatus::GpuNotSupported => "not with these cards",
        P2pStatus::IohTopologyNotSupported => "not between these sockets",
        P2pStatus::DisabledByRegkey => "switched off by the driver's settings",
        P2pStatus::NotSupported => "no",
        P2pStatus::Unknown => "not known",
    }
}

/// The links that lead from one card to another, and whether a switch lies between: then all of a card's
/// links serve every other card.
fn nvlinks(nvml: &Nvml, own: &Device<'_>, other: &Device<'_>) -> (u32, bool) {
    let bus =
        |device: &Device<'_>| device.pci_info().ok().map(|pci| pci.bus_id.to_ascii_lowercase());
    let (Some(own_bus), Some(other_bus)) = (bus(own), bus(other)) else { return (0, false) };
    let active = |device: &Device<'_>| -> Vec<String> {
        let links = (0..MOST_LINKS).map(|link| device.link_wrapper_for(link));
        let live = links.filter(|link| link.is_active().unwrap_or(false));
        live.filter_map(|link| Some(link.remote_pci_info().ok()?.bus_id.to_ascii_lowercase()))
            .collect()
    };
    let ours = active(own);
    let direct = ours.iter().filter(|remote| **remote == other_bus).count();
    if direct > 0 {
        return (u32::try_from(direct).unwrap_or(0), false);
    }
    let is_card = |remote: &String| nvml.device_by_pci_bus_id(remote.as_str()).is_ok();
    let to_switches = |links: &[String]| {
        let found = links.iter().filter(|remote| **remote != own_bus && !is_card(remote)).count();
        u32::try_from(found).unwrap_or(0)
    };
    let both = to_switches(&ours).min(to_switches(&active(other)));
    (both, both > 0)
}
