//! What is there to measure a GPU with, what is not, and how to fix it.

use warpmark_record::machine::GpuSpec;
use warpmark_record::{DeviceSpec, Field};

use crate::driver::OpenError;
use crate::finding::{Finding, FindingState};
use crate::loader::{LibraryInfo, NEWER};
use crate::{cuda, probe, toolkit};

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
    findings.extend(disturbing(|name| std::env::var(name).ok()));
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

/// Variables that are set and falsify what is measured; `value` looks one up.
fn disturbing(value: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    type Harmless = fn(&str) -> bool;
    let variables: [(&str, Harmless, &str); 3] = [
        ("CUDA_LAUNCH_BLOCKING", |v| v == "0", "each launch waits until its kernel is done"),
        ("CUDA_FORCE_PTX_JIT", |v| v == "0", "the libraries' machine code is not used"),
        ("NVIDIA_TF32_OVERRIDE", |v| v != "0", "no product is made in TF32, whoever asks for it"),
    ];
    let set = variables.into_iter().filter_map(|(name, harmless, what)| {
        let value = value(name).filter(|value| !value.is_empty() && !harmless(value))?;
        Some(Finding {
            what: name.to_owned(),
            state: FindingState::Broken,
            detail: format!("is \"{value}\": {what}"),
            fix: Some(format!("unset {name}")),
        })
    });
    set.collect()
}

fn driver(library: &Field<LibraryInfo>, cards: &Result<Vec<DeviceSpec>, OpenError>) -> Finding {
    let (state, detail, fix) = match cards {
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
            let (detail, fix) =
                text.split_once("; ").unwrap_or((&text, "measure with `--device cpu`"));
            (state, detail.to_owned(), Some(fix.to_owned()))
        }
    };
    Finding { what: "CUDA driver".to_owned(), state, detail, fix }
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

fn library(what: &str, found: &Field<LibraryInfo>, without: &str, fix: &str) -> Finding {
    let present = found.known().is_some();
    let words = library_words(found);
    if words.ends_with(NEWER) {
        let fix = "update NVIDIA's driver, or take the libraries of CUDA 12 (`eval \
                    \"$(scripts/cuda-toolkit --libraries 12.9)\"`)";
        return Finding {
            what: what.to_owned(),
            state: FindingState::Broken,
            detail: words,
            fix: Some(fix.to_owned()),
        };
    }
    Finding {
        what: what.to_owned(),
        state: if present { FindingState::Ok } else { FindingState::Missing },
        detail: if present { words } else { format!("{words}; {without}") },
        fix: (!present).then(|| fix.to_owned()),
    }
}

fn persistence(card: &DeviceSpec, gpu: &GpuSpec) -> Finding {
    let (state, detail, fix) = match &gpu.persistence {
        Field::Known(true) => (FindingState::Ok, "on".to_owned(), None),
        Field::Known(false) => (
            FindingState::Ok,
            "off: the driver unloads between runs, and each start costs a second or more"
                .to_owned(),
            Some(format!("sudo nvidia-smi -i {} -pm 1", selector(gpu, card))),
        ),
        Field::Absent { absent } => (FindingState::Missing, absent.clone(), None),
    };
    Finding { what: format!("persistence mode of cuda:{}", card.index), state, detail, fix }
}

fn others(card: &DeviceSpec, gpu: &GpuSpec) -> Finding {
    let (state, detail, fix) = match &gpu.other_processes {
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
    Finding { what: format!("other processes on cuda:{}", card.index), state, detail, fix }
}

/// nvidia-smi counts cards as NVML does, so it is given the PCI id rather than CUDA's index.
fn selector(gpu: &GpuSpec, card: &DeviceSpec) -> String {
    gpu.pci_id.known().cloned().unwrap_or_else(|| card.index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_newer_than_the_driver_is_broken_with_both_ways_out() {
        let newer = crate::loader::LoadError::Newer {
            path: "/x/libnvrtc.so.13".to_owned(),
            version: "13.0".to_owned(),
            driver: 12_040,
        };
        let found = library("NVRTC", &Field::absent(newer.to_string()), "", "");
        assert_eq!(found.state, FindingState::Broken);
        assert!(found.detail.contains("/x/libnvrtc.so.13 is of CUDA 13.0"), "{}", found.detail);
        assert!(found.detail.contains("for CUDA 12.4"), "{}", found.detail);
        let fix = found.fix.unwrap();
        assert!(fix.contains("update NVIDIA's driver") && fix.contains("--libraries 12.9"));
        assert_eq!(library("NVRTC", &Field::absent("none"), "", "x").state, FindingState::Missing);
    }

    #[test]
    fn variables_that_falsify_what_is_measured_are_named_and_harmless_values_are_not() {
        let told = |set: &[(&str, &str)]| {
            let found = disturbing(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            });
            found.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), [] as [&str; 0]);
        assert_eq!(told(&[("CUDA_LAUNCH_BLOCKING", "1")]), ["CUDA_LAUNCH_BLOCKING"]);
        assert_eq!(
            told(&[("CUDA_LAUNCH_BLOCKING", "0"), ("NVIDIA_TF32_OVERRIDE", "1")]),
            [] as [&str; 0]
        );
        assert_eq!(told(&[("NVIDIA_TF32_OVERRIDE", "0")]), ["NVIDIA_TF32_OVERRIDE"]);
    }
}
