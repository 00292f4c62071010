//! What CUDA kernels were compiled for, and which cards and drivers can run them.
//!
//! candle compiles its kernels for one target when the program is built, in two forms:
//!
//! - **PTX**, which the driver compiles on for the card when it is loaded. It runs on the target's compute
//!   capability and on every newer one, and needs a driver that knows its version of PTX.
//! - **Machine code**, the quantised kernels alone. It runs on cards of the same major compute capability
//!   from the target's minor one on. On another card each launch fails and candle does not look:
//!   results stay what they were, and what is timed is nothing. So the refusal must be ours.
//!
//! After a target's number an `a` (architecture) confines both forms to that compute capability, an
//! `f` (family) to the same major one from that minor one on. cudaforge puts an `a` after 90 to 120 and an
//! `f` after what is newer. Source: CUDA C++ Programming Guide, "Compute Capabilities, feature set
//! compiler targets"; PTX ISA, "Release notes" for the versions.

use std::fmt;
use std::str::FromStr;

use warpmark_record::{DeviceKind, DeviceSpec};

use crate::probe::version_words;

/// A compiler's target: `sm_80`, `sm_90a`, `sm_121f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The compute capability, major and minor.
    pub capability: (u32, u32),
    /// How far beyond it.
    pub reach: Reach,
}

/// Which other cards a target's kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Newer ones: all as PTX, those of the same major compute capability as machine code.
    Forward,
    /// Newer ones of the same major compute capability: `f`.
    Family,
    /// None: `a`.
    Exact,
}

/// A form of compiled kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// Text that the driver compiles on for the card.
    Ptx,
    /// Instructions of a card.
    MachineCode,
}

/// A target that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no compiler target such as sm_80 or sm_90a")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let name = text.strip_prefix("sm_").ok_or_else(wrong)?;
        let digits = name.trim_end_matches(['a', 'f']);
        let reach = match &name[digits.len()..] {
            "" => Reach::Forward,
            "f" => Reach::Family,
            "a" => Reach::Exact,
            _ => return Err(wrong()),
        };
        if digits.len() < 2 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        Ok(Self { capability: (number / 10, number % 10), reach })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.reach {
            Reach::Forward => "",
            Reach::Family => "f",
            Reach::Exact => "a",
        };
        write!(f, "sm_{}{}{suffix}", self.capability.0, self.capability.1)
    }
}

impl Target {
    /// Whether kernels of this form run on a card of that compute capability.
    pub fn runs_on(self, card: (u32, u32), kind: CodeKind) -> bool {
        let same_major = card.0 == self.capability.0 && card.1 >= self.capability.1;
        match (self.reach, kind) {
            (Reach::Exact, _) => card == self.capability,
            (Reach::Family, _) | (Reach::Forward, CodeKind::MachineCode) => same_major,
            (Reach::Forward, CodeKind::Ptx) => card >= self.capability,
        }
    }
}

/// What of a card decides whether it runs a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its compute capability, major and minor.
    pub capability: (u32, u32),
    /// The CUDA version of its driver, as 12080 for 12.8.
    pub driver: u32,
}

impl<'a> Card<'a> {
    /// The card that a device is; `None` for a CPU.
    pub fn of(spec: &'a DeviceSpec) -> Option<Self> {
        let gpu = spec.gpu.as_ref()?;
        Some(Self {
            name: &spec.name,
            capability: gpu.compute_capability,
            driver: gpu.cuda_driver_version,
        })
    }
}

/// What the text of kernels for simulated cards begins with (`scripts/simulated-cuda`).
const SIMULATED: &str = "//simgpu ";

/// Kernels that a program carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    /// What they were compiled for.
    pub target: Target,
    /// The version of PTX that the toolkit writes, as `(9, 0)`.
    pub ptx: (u32, u32),
    /// Whether they are for simulated cards, as the tests' simulated nvcc makes them.
    pub simulated: bool,
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.simulated { ", simulated: for tests alone" } else { "" };
        write!(f, "{}, PTX {}.{}{mark}", self.target, self.ptx.0, self.ptx.1)
    }
}

impl Kernels {
    /// Reads the head of a PTX text: its `.version` and `.target`.
    ///
    /// # Errors
    /// The directive that is missing or cannot be read.
    pub fn of_ptx(text: &str) -> Result<Self, String> {
        let directive = |name: &str| {
            let mut lines = text.lines().map(str::trim).take_while(|line| !line.contains(".entry"));
            let value = lines.find_map(|line| line.strip_prefix(name));
            value.map(str::trim).ok_or_else(|| format!("the PTX has no {name}"))
        };
        let version = directive(".version")?;
        let ptx = version
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        // After the target may stand options, as in `sm_90a, debug`.
        let target = directive(".target")?.split(',').next().unwrap_or_default().trim();
        Ok(Self {
            target: target.parse().map_err(|error: TargetError| error.to_string())?,
            ptx: ptx.ok_or_else(|| format!("\"{version}\" is no version of PTX"))?,
            simulated: text.starts_with(SIMULATED),
        })
    }

    /// Why these kernels cannot run on a card whatever its architecture; `None` where that alone decides.
    pub fn refusal_of_kind(&self, card: Card<'_>, kind: DeviceKind) -> Option<String> {
        (self.simulated && kind != DeviceKind::Simulated).then(|| {
            format!(
                "candle's kernels in this build are for tests on a simulated card alone; \
                 build with a toolkit: {}",
                how_to_build(card)
            )
        })
    }

    /// Why these kernels cannot run on a card with its driver, and what to do; `None` where they can.
    pub fn refusal(&self, card: Card<'_>, kind: CodeKind) -> Option<String> {
        let (major, minor) = card.capability;
        if !self.target.runs_on(card.capability, kind) {
            let what = match kind {
                CodeKind::Ptx => "candle's kernels in this build",
                CodeKind::MachineCode => "candle's quantised kernels in this build",
            };
            return Some(format!(
                "{what} are compiled for {}, which {} (compute capability {major}.{minor}) cannot run; build \
                 for it: {}",
                self.target,
                card.name,
                how_to_build(card)
            ));
        }
        let needed = driver_for(self.ptx)?;
        let found = card.driver;
        (found < needed).then(|| {
            format!(
                "candle's kernels in this build are PTX {}.{}, of a toolkit newer than the driver: it needs \
                 a driver for CUDA {}, and this one is for {}; update NVIDIA's driver, or build anew with a \
                 toolkit of CUDA {} or older (`cargo clean --release -p candle-kernels` first)",
                self.ptx.0,
                self.ptx.1,
                version_words(needed),
                version_words(found),
                version_words(found)
            )
        })
    }
}

/// How to build candle's kernels for a card: the command, and where the toolkit for it comes from.
pub fn how_to_build(card: Card<'_>) -> String {
    let (major, minor) = card.capability;
    let command = format!("CUDA_COMPUTE_CAP={major}{minor} cargo build --release --features cuda");
    match toolkit(card) {
        Some(release) => format!(
            "{command} (where nvcc is missing, `eval \"$(scripts/cuda-toolkit {release})\"` first)"
        ),
        None => format!(
            "{command} (with a toolkit no newer than the driver, which is for CUDA {}; or update the driver \
             and take `eval \"$(scripts/cuda-toolkit 13.0)\"`)",
            version_words(card.driver)
        ),
    }
}

/// The release of `scripts/cuda-toolkit` whose kernels a card and its driver take: CUDA 13 compiles for
/// 7.5 and newer, and PTX is never taken by an older driver.
fn toolkit(card: Card<'_>) -> Option<&'static str> {
    match card {
        Card { capability: (7, 5..) | (8.., _), driver: 13_000.., .. } => Some("13.0"),
        Card { driver: 12_090.., .. } => Some("12.9"),
        // The compiler of 12.2 has no newer architectures than Hopper.
        Card { capability: (..=9, _), driver: 12_020.., .. } => Some("12.2"),
        Card { .. } => None,
    }
}

/// The CUDA version (as 12080 for 12.8) that a driver must have to take PTX of a version; `None` for a
/// version that is not in the datasheets yet.
pub fn driver_for(ptx: (u32, u32)) -> Option<u32> {
    match ptx {
        (..8, _) => Some(11_080),
        (8, minor @ 0..=5) => Some(12_000 + minor * 10),
        // 12.6 brought no PTX of its own.
        (8, minor @ 6..=8) => Some(12_000 + (minor + 1) * 10),
        (9, minor) => Some(13_000 + minor * 10),
        _ => None,
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
