//! What a build with candle's CUDA kernels needs of this machine, for `doctor`: the compiler, its release
//! against the driver, the architecture it is told to compile for, and the libraries of the finished
//! program.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use warpmark_record::{DeviceSpec, Field};

use crate::finding::{Finding, FindingState};
use crate::loader::{already_linked, load};
use crate::probe::version_words;
use crate::target::{Card, CodeKind, Target, how_to_build};

/// Libraries that a program with candle's CUDA kernels is linked with, each with one of its functions.
/// Without one of them it does not start.
const LINKED: [(&str, &str, &str); 3] = [
    ("libcudart", "cudart", "cudaGetDevice"),
    ("libcublas", "cublas", "cublasCreate_v2"),
    ("libcurand", "curand", "curandCreateGenerator"),
];

/// Looks at toolkit, `CUDA_COMPUTE_CAP` and libraries, against the cards that are there.
pub(crate) fn findings(cards: &[DeviceSpec]) -> Vec<Finding> {
    let card = cards.iter().find_map(Card::of);
    let mut findings = vec![toolkit(release(), card), libraries()];
    if let (Some(told), Some(card)) = (variable("CUDA_COMPUTE_CAP"), card) {
        findings.push(architecture(&told.to_string_lossy(), card));
    }
    findings
}

/// nvcc and its release: `Ok` with file and release, as `(13, 0)`.
fn release() -> Result<(PathBuf, (u32, u32)), String> {
    let nvcc = nvcc().ok_or("no nvcc in NVCC, PATH, CUDA_HOME, CUDA_PATH or /usr/local/cuda")?;
    let output = Command::new(&nvcc).arg("--version").output();
    let output = output.map_err(|error| format!("{} cannot be run: {error}", nvcc.display()))?;
    let words = String::from_utf8_lossy(&output.stdout);
    match release_in(&words) {
        Some(release) => Ok((nvcc, release)),
        None => Err(format!("{} --version tells no release", nvcc.display())),
    }
}

/// A variable of the environment; an empty one is an unset one.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The compiler that candle's build will find, looked for in the same order.
fn nvcc() -> Option<PathBuf> {
    if let Some(told) = variable("NVCC") {
        return Some(told.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(PathBuf::from);
    let homes = homes.chain([PathBuf::from("/usr/local/cuda")]).map(|home| home.join("bin"));
    let mut folders = env::split_paths(&path).chain(homes).map(|folder| folder.join("nvcc"));
    folders.find(|file| Path::is_file(file))
}

/// `(13, 0)` out of `Cuda compilation tools, release 13.0, V13.0.88`.
fn release_in(words: &str) -> Option<(u32, u32)> {
    let (_, rest) = words.split_once("release ")?;
    let (major, minor) = rest.split_once(',')?.0.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn toolkit(found: Result<(PathBuf, (u32, u32)), String>, card: Option<Card<'_>>) -> Finding {
    let (state, detail, fix) = match (found, card) {
        (Err(reason), card) => {
            let build = card.map_or_else(
                || "`eval \"$(scripts/cuda-toolkit 13.0)\"` installs one without root".to_owned(),
                how_to_build,
            );
            let detail = format!("{reason}; only a build with `--features cuda` needs it");
            (FindingState::Missing, detail, Some(build))
        }
        (Ok((nvcc, (major, minor))), card) => {
            let words = format!("{major}.{minor} ({})", nvcc.display());
            match card.filter(|card| card.driver < major * 1000 + minor * 10) {
                Some(card) => (
                    FindingState::Missing,
                    format!(
                        "{words} is newer than the driver, which is for CUDA {} and refuses what it \
                         compiles",
                        version_words(card.driver)
                    ),
                    Some(format!("update NVIDIA's driver, or {}", how_to_build(card))),
                ),
                None => (FindingState::Ok, words, None),
            }
        }
    };
    Finding { what: "CUDA toolkit".to_owned(), state, detail, fix }
}

/// Whether what is compiled for `CUDA_COMPUTE_CAP` runs on the card.
fn architecture(told: &str, card: Card<'_>) -> Finding {
    // `75`, `sm_75`, `7.5`, with a suffix or without; cudaforge takes them all.
    let digits = told.trim().trim_start_matches("sm_").replace('.', "");
    let target: Option<Target> = format!("sm_{digits}").parse().ok();
    let (major, minor) = card.capability;
    let (state, detail) = match target {
        Some(target) if target.runs_on(card.capability, CodeKind::Ptx) => {
            (FindingState::Ok, format!("{told}; {} has {major}.{minor}", card.name))
        }
        Some(_) => (
            FindingState::Broken,
            format!("{told}, and {} ({major}.{minor}) runs nothing compiled for that", card.name),
        ),
        None => (FindingState::Broken, format!("\"{told}\" is no compute capability")),
    };
    let fix = (state != FindingState::Ok).then(|| how_to_build(card));
    Finding { what: "CUDA_COMPUTE_CAP".to_owned(), state, detail, fix }
}

/// What a program with candle's kernels loads when it starts.
fn libraries() -> Finding {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (shown, stem, function) in LINKED {
        if already_linked(function).is_some() {
            there.push(format!("{shown} (linked)"));
            continue;
        }
        match load(shown, &[stem]) {
            Ok((_, name)) => there.push(name),
            Err(_) => missing.push(shown),
        }
    }
    let present = missing.is_empty();
    Finding {
        what: "libraries of the models".to_owned(),
        state: if present { FindingState::Ok } else { FindingState::Missing },
        detail: if present {
            there.join(", ")
        } else {
            let missing = missing.join(", ");
            format!("{missing} not found; a build with `--features cuda` does not start without")
        },
        fix: (!present).then(|| {
            "`eval \"$(scripts/cuda-toolkit 13.0)\"` in the shell that starts the program, or put the \
             toolkit's lib64 into LD_LIBRARY_PATH"
                .to_owned()
        }),
    }
}

/// Whether this process may read the card's sensors.
pub(crate) fn sensors(card: &DeviceSpec) -> Option<Finding> {
    let gpu = card.gpu.as_ref()?;
    let what = format!("sensors of cuda:{}", card.index);
    let refused = match &gpu.idle {
        Field::Absent { absent } => vec![absent.clone()],
        Field::Known(state) => {
            let fields = [
                ("power", state.power.reason()),
                ("energy counter", state.energy.reason()),
                ("SM clock", state.sm_clock.reason()),
                ("throttle causes", state.throttle_causes.reason()),
                ("temperature", state.temperature.reason()),
            ];
            let absent = fields.into_iter();
            absent.filter_map(|(name, why)| Some(format!("{name}: {}", why?))).collect()
        }
    };
    Some(if refused.is_empty() {
        let detail =
            "power, energy, clocks, temperature and throttle causes can be read".to_owned();
        Finding { what, state: FindingState::Ok, detail, fix: None }
    } else {
        Finding {
            what,
            state: FindingState::Missing,
            detail: format!("{}; rows will lack them", refused.join("; ")),
            fix: Some(
                "where it is a matter of permission, ask the host for NVML (docker: the `utility` \
                 capability), or measure as root; a vGPU or slice may have no such sensor"
                    .to_owned(),
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Card<'static> = Card { name: "the card", capability: (8, 0), driver: 12_080 };

    #[test]
    fn the_release_is_read_from_nvccs_own_words() {
        let words = "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2025\n\
                     Cuda compilation tools, release 13.0, V13.0.88\n";
        assert_eq!(release_in(words), Some((13, 0)));
        assert_eq!(release_in("gcc 12.2"), None);
    }

    #[test]
    fn a_toolkit_is_held_against_the_driver() {
        let found = |release| Ok((PathBuf::from("/x/nvcc"), release));
        let fits = toolkit(found((12, 8)), Some(CARD));
        assert_eq!((fits.state, fits.fix), (FindingState::Ok, None));
        let newer = toolkit(found((13, 0)), Some(CARD));
        assert_eq!(newer.state, FindingState::Missing);
        assert!(newer.detail.contains("13.0") && newer.detail.contains("12.8"), "{newer:?}");
        assert_eq!(toolkit(found((13, 0)), None).state, FindingState::Ok);
        let none = toolkit(Err("no nvcc".to_owned()), Some(CARD));
        assert!(none.fix.unwrap().contains("CUDA_COMPUTE_CAP=80"));
    }

    #[test]
    fn the_architecture_is_held_against_the_card() {
        for (told, state) in [
            ("80", FindingState::Ok),
            ("sm_75", FindingState::Ok),
            ("7.5", FindingState::Ok),
            ("86", FindingState::Broken),
            ("90a", FindingState::Broken),
            ("hopper", FindingState::Broken),
        ] {
            let finding = architecture(told, CARD);
            assert_eq!(finding.state, state, "{finding:?}");
            assert_eq!(finding.fix.is_some(), state == FindingState::Broken, "{finding:?}");
        }
    }
}
