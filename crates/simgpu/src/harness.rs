//! Starts a process that finds the simulator where it looks for NVIDIA's libraries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

mod toolkit;

pub use toolkit::Version;

/// The file that cargo builds of this crate, beside every test that depends on it.
const FILE: &str = "libwarpmark_simgpu.so";

/// A library that the simulator stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The CUDA driver.
    Driver,
    /// The CUDA runtime.
    Cudart,
    /// The run-time compiler.
    Nvrtc,
    /// Matrix products, candle's.
    Cublas,
    /// Matrix products, ours.
    Cublaslt,
    /// Random numbers.
    Curand,
    /// Collectives.
    Nccl,
    /// Sensors.
    Nvml,
}

impl Library {
    const ALL: [Self; 8] = [
        Self::Driver,
        Self::Cudart,
        Self::Nvrtc,
        Self::Cublas,
        Self::Cublaslt,
        Self::Curand,
        Self::Nccl,
        Self::Nvml,
    ];

    /// The name that is looked for first, so that a real library on the machine does not win.
    fn name(self) -> &'static str {
        match self {
            Self::Driver => "libcuda.so",
            Self::Cudart => "libcudart.so",
            Self::Nvrtc => "libnvrtc.so",
            Self::Cublas => "libcublas.so",
            Self::Cublaslt => "libcublasLt.so",
            Self::Curand => "libcurand.so",
            Self::Nccl => "libnccl.so.2",
            Self::Nvml => "libnvidia-ml.so.1",
        }
    }
}

/// A simulated machine for a child process.
#[derive(Debug, Clone)]
pub struct Simulator {
    folder: PathBuf,
    libraries: Vec<Library>,
    settings: BTreeMap<&'static str, String>,
    /// The toolkits that are installed side by side; none where the libraries are of CUDA 13 like the simulator.
    toolkits: Vec<Version>,
}

impl Simulator {
    /// A machine with these cards (`t4` or `t4,l4`; empty for none). `folder` is the test's own, for the
    /// links and the report; it is made if it is not there.
    pub fn new(folder: &Path, profiles: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            libraries: Library::ALL.to_vec(),
            settings: BTreeMap::from([("SIMGPU_PROFILE", profiles.to_owned())]),
            toolkits: Vec::new(),
        }
    }

    /// Without one of the libraries.
    #[must_use]
    pub fn without(mut self, library: Library) -> Self {
        self.libraries.retain(|kept| *kept != library);
        self
    }

    /// With what goes wrong, as [`crate::faults`] reads it.
    #[must_use]
    pub fn faults(mut self, plan: &str) -> Self {
        self.settings.insert("SIMGPU_FAULTS", plan.to_owned());
        self
    }

    /// With a driver of this CUDA version, as 12080 for 12.8.
    #[must_use]
    pub fn driver(mut self, version: u32) -> Self {
        self.settings.insert("SIMGPU_DRIVER", version.to_string());
        self
    }

    /// With NVRTC and cuBLASLt of these CUDA versions side by side, of which the loader finds the first one by
    /// their bare names.
    #[must_use]
    pub fn toolkits(mut self, versions: &[Version]) -> Self {
        self.toolkits = versions.to_vec();
        self
    }

    /// With `CUDA_VISIBLE_DEVICES` set.
    #[must_use]
    pub fn visible(mut self, devices: &str) -> Self {
        self.settings.insert("CUDA_VISIBLE_DEVICES", devices.to_owned());
        self
    }

    /// Lets the command find the simulator, and nothing of the caller's own settings.
    ///
    /// # Errors
    /// The library was not built, or the links cannot be made.
    pub fn apply(&self, command: &mut Command) -> io::Result<()> {
        let links = self.folder.join("lib");
        std::fs::create_dir_all(&links)?;
        std::fs::create_dir_all(self.report_path())?;
        let library = built()?;
        for each in Library::ALL {
            let link = links.join(each.name());
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let versioned = matches!(each, Library::Nvrtc | Library::Cublaslt);
            if versioned && !self.toolkits.is_empty() {
                toolkit::install(&links, &library, each, &self.toolkits)?;
            } else if self.libraries.contains(&each) {
                // A link and not a copy: the loader then sees one library behind all names, and it has
                // one state.
                std::os::unix::fs::symlink(&library, link)?;
            }
        }
        for name in ["SIMGPU_FAULTS", "SIMGPU_DRIVER", "CUDA_VISIBLE_DEVICES"] {
            command.env_remove(name);
        }
        command.env("LD_LIBRARY_PATH", &links).env("SIMGPU_REPORT", self.report_path());
        command.envs(&self.settings);
        Ok(())
    }

    /// What all processes did and left behind that have ended by themselves, summed up.
    ///
    /// # Errors
    /// There is none: they called nothing, or ended by a signal.
    pub fn report(&self) -> io::Result<Report> {
        let mut report = Report::default();
        for file in std::fs::read_dir(self.report_path())? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with('.') {
                report.add(&std::fs::read_to_string(file.path())?);
            }
        }
        if report.facts.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no process left a report"));
        }
        Ok(report)
    }

    fn report_path(&self) -> PathBuf {
        self.folder.join("report")
    }
}

/// The built library, beside the running test or one folder above it.
fn built() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join(FILE)).find(|file| file.is_file()).ok_or_else(|| {
        let text =
            format!("{FILE} lies not beside {}; build warpmark-simgpu first", program.display());
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// What happened in one or more processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    facts: BTreeMap<(String, String), u64>,
}

impl Report {
    fn add(&mut self, text: &str) {
        let facts = text.lines().filter_map(|line| {
            let (kind, rest) = line.split_once(' ')?;
            let (name, count) = rest.rsplit_once(' ')?;
            Some(((kind.to_owned(), name.to_owned()), count.parse::<u64>().ok()?))
        });
        for (fact, count) in facts {
            *self.facts.entry(fact).or_default() += count;
        }
    }

    fn fact(&self, kind: &str, name: &str) -> u64 {
        self.facts.get(&(kind.to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    /// How often a function was called.
    pub fn calls(&self, function: &str) -> u64 {
        self.fact("call", function)
    }

    /// The functions that were called, of all libraries.
    pub fn called(&self) -> impl Iterator<Item = &str> {
        let calls = self.facts.keys().filter(|(kind, _)| kind == "call");
        calls.map(|(_, name)| name.as_str())
    }

    /// How often a kernel was launched.
    pub fn launches(&self, kernel: &str) -> u64 {
        self.fact("kernel", kernel)
    }

    /// What was still there at the end: `allocations`, `bytes`, `modules`, `events`.
    pub fn left(&self, what: &str) -> u64 {
        self.fact("left", what)
    }

    /// Bytes of device memory that the kernels of the last graph touched that a process launched, each sector once a
    /// kernel: what no cache saves.
    pub fn bytes_of_last_graph(&self) -> u64 {
        self.fact("graph", "bytes")
    }

    /// Calls of driver functions that the simulator has by name alone.
    pub fn refused(&self) -> u64 {
        self.fact("refused", "calls")
    }

    /// What is wrong with kernels, found while their text ran, and why images were refused.
    pub fn findings(&self) -> Vec<&str> {
        let found = self.facts.keys().filter(|(kind, _)| kind == "finding");
        found.map(|(_, line)| line.as_str()).collect()
    }

    /// Instructions of lanes that a kernel's text was run for, beside its model.
    pub fn instructions(&self, kernel: &str) -> u64 {
        self.fact("instructions", kernel)
    }

    /// Seconds of work that the cards were given, by their own clocks: those of all processes together.
    pub fn worked(&self) -> f64 {
        self.fact("worked", "microseconds") as f64 * 1e-6
    }

    /// Bytes that were really copied between the host and the cards, whatever the program asked for: copies
    /// that nobody could tell of are not made.
    pub fn copied(&self) -> u64 {
        self.fact("copied", "bytes")
    }

    /// Pointers in launches that pointed to no allocation.
    pub fn dangling(&self) -> u64 {
        self.fact("dangling", "pointers")
    }
}
