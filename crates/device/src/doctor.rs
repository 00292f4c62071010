//! What is there to measure a GPU with, what is not, and how to mend it.

use serde::Serialize;
use warpmark_record::machine::GpuSpec;
use warpmark_record::{DeviceSpec, Field};

use crate::probe::{self, LibraryInfo};
use crate::{OpenError, cuda, toolkit};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing: `CUDA driver`, `NVRTC`, ...
    pub what: String,
    /// How it stands.
    pub state: FindingState,
    /// What was found, in a sentence.
    pub detail: String,
    /// What to do, as a command where there is one. Something in order may still carry advice.
    pub mend: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// There, and in order.
    Ok,
    /// Not there. Whether that matters depends on what one wants to measure.
    Missing,
    /// There, and wrong; or it will disturb measurements.
    Broken,
}

/// Looks at driver, NVRTC, cuBLASLt, NVML, toolkit, and each GPU's sensors, persistence mode and other
/// processes.
pub fn findings() -> Vec<Finding> {
    let libraries = probe::libraries();
    let cards = cuda::list();
    let mut findings = vec![
        driver(&libraries.driver, &cards),
        library(
            "NVRTC",
            &libraries.nvrtc,
            "kernels are compiled at run time; without it the micro suite has no GPU part",
            "install the CUDA toolkit's NVRTC 12 or 13 (`eval \"$(scripts/cuda-toolkit \
             --libraries 13.0)\"`, or the distribution's cuda-nvrtc package)",
        ),
        library(
            "cuBLASLt",
            &libraries.cublaslt,
            "matrix products go through it; without it matmul is skipped",
            "install cuBLAS 12 or 13 (`eval \"$(scripts/cuda-toolkit --libraries 13.0)\"`, or the \
             distribution's libcublas package)",
        ),
        library(
            "NVML",
            &libraries.nvml,
            "sensors come from it; without it power, clocks and throttle causes are absent",
            "it is part of NVIDIA's driver: install that, and in a container ask for the `utility` \
             capability (docker: `--gpus 'all,capabilities=utility,compute'`)",
        ),
    ];
    findings.extend(toolkit::findings(cards.as_deref().unwrap_or_default()));
    for card in cards.iter().flatten() {
        findings.extend(toolkit::sensors(card));
        if let Some(gpu) = &card.gpu {
            findings.push(persistence(card, gpu));
            findings.push(others(card, gpu));
        }
    }
    findings
}

fn driver(library: &Field<LibraryInfo>, cards: &Result<Vec<DeviceSpec>, OpenError>) -> Finding {
    let (state, detail, mend) = match cards {
        Ok(cards) => {
            let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
            let detail = format!("{}; {}", library_words(library), names.join(", "));
            (FindingState::Ok, detail, None)
        }
        Err(error) => {
            let missing = matches!(error, OpenError::NoDriver(_) | OpenError::NoDevice);
            let state = if missing { FindingState::Missing } else { FindingState::Broken };
            // The error's own text ends in what to do.
            let text = error.to_string();
            let (detail, mend) =
                text.split_once("; ").unwrap_or((&text, "measure with `--device cpu`"));
            (state, detail.to_owned(), Some(mend.to_owned()))
        }
    };
    Finding { what: "CUDA driver".to_owned(), state, detail, mend }
}

fn library_words(library: &Field<LibraryInfo>) -> String {
    match library {
        Field::Known(info) => {
            let place = info.path.as_deref().unwrap_or(&info.name);
            if info.version.is_empty() {
                place.to_owned()
            } else {
                format!("{} ({place})", info.version)
            }
        }
        Field::Absent { absent } => absent.clone(),
    }
}

fn library(what: &str, found: &Field<LibraryInfo>, without: &str, mend: &str) -> Finding {
    let present = found.known().is_some();
    let words = library_words(found);
    Finding {
        what: what.to_owned(),
        state: if present { FindingState::Ok } else { FindingState::Missing },
        detail: if present { words } else { format!("{words}; {without}") },
        mend: (!present).then(|| mend.to_owned()),
    }
}

fn persistence(card: &DeviceSpec, gpu: &GpuSpec) -> Finding {
    let (state, detail, mend) = match &gpu.persistence {
        Field::Known(true) => (FindingState::Ok, "on".to_owned(), None),
        Field::Known(false) => (
            FindingState::Ok,
            "off: the driver unloads between runs, and each start costs a second or more"
                .to_owned(),
            Some(format!("sudo nvidia-smi -i {} -pm 1", selector(gpu, card))),
        ),
        Field::Absent { absent } => (FindingState::Missing, absent.clone(), None),
    };
    Finding { what: format!("persistence mode of cuda:{}", card.index), state, detail, mend }
}

fn others(card: &DeviceSpec, gpu: &GpuSpec) -> Finding {
    let (state, detail, mend) = match &gpu.other_processes {
        Field::Known(0) => (FindingState::Ok, "none".to_owned(), None),
        Field::Known(count) => (
            FindingState::Broken,
            format!("{count} on the card; they share its time and memory with what is measured"),
            Some(format!(
                "`nvidia-smi -i {} --query-compute-apps=pid,name,used_memory --format=csv` lists them",
                selector(gpu, card)
            )),
        ),
        Field::Absent { absent } => (FindingState::Missing, absent.clone(), None),
    };
    Finding { what: format!("other processes on cuda:{}", card.index), state, detail, mend }
}

/// nvidia-smi counts cards as NVML does, so it is given the PCI id rather than CUDA's index.
fn selector(gpu: &GpuSpec, card: &DeviceSpec) -> String {
    gpu.pci_id.known().cloned().unwrap_or_else(|| card.index.to_string())
}
