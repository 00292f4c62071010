//! Where the PTX of the suite's kernels comes from: a real NVRTC where `SIMGPU_NVRTC` names one, and
//! else what a real one made of exactly this source with exactly these options, in `kernels/ptx`.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

#[cfg(test)]
mod assembler;
mod real;

/// The folder of what was compiled, one file for each source and its options.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/ptx");

/// What makes the files of the folder anew.
const COMMAND: &str = "scripts/kernel-ptx --write";

/// What the first line of a file begins with; the digest and the architectures follow.
const HEADER: &str = "// Made by scripts/kernel-ptx: ";

/// A source, as it is given to NVRTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub(crate) name: &'a str,
    pub(crate) source: &'a str,
    /// All options but the architecture.
    pub(crate) options: &'a [String],
}

impl Unit<'_> {
    /// Says whether two units are the same.
    fn digest(&self) -> String {
        let parts =
            [self.name, self.source].into_iter().chain(self.options.iter().map(String::as_str));
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The PTX for an architecture, or what a compiler says instead.
    pub(crate) fn ptx(&self, architecture: u32) -> Result<String, String> {
        if let Some(path) = std::env::var_os("SIMGPU_NVRTC") {
            return real::Nvrtc::open(Path::new(&path))?.compile(self, architecture);
        }
        self.stored(architecture)
    }

    pub(crate) fn stored(&self, architecture: u32) -> Result<String, String> {
        let kept = STORED.get(&self.digest()).and_then(|files| {
            files.iter().find(|(architectures, _)| architectures.contains(&architecture))
        });
        let Some((_, path)) = kept else {
            return Err(format!(
                "{}: no PTX of this source with the options {:?} for compute capability {architecture} \
                 is in kernels/ptx; make it with `{COMMAND}`, or let SIMGPU_NVRTC name a libnvrtc\n",
                self.name, self.options
            ));
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}\n", path.display()))?;
        let ptx = text.split_once('\n').map_or("", |(_, ptx)| ptx);
        Ok(for_target(ptx, architecture))
    }
}

/// Files by the digest of what they were made of, each with its architectures.
type Stored = HashMap<String, Vec<(Vec<u32>, PathBuf)>>;

static STORED: LazyLock<Stored> = LazyLock::new(|| {
    let mut stored = Stored::new();
    for file in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        let header = text.lines().next().and_then(|line| line.strip_prefix(HEADER));
        let Some((digest, architectures)) = header.and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let architectures =
            architectures.split(' ').filter_map(|number| number.parse().ok()).collect();
        stored.entry(digest.to_owned()).or_default().push((architectures, file.path()));
    }
    stored
});

/// The same PTX with the target of another architecture.
fn for_target(ptx: &str, architecture: u32) -> String {
    let lines = ptx.lines().map(|line| {
        if line.starts_with(".target ") {
            format!(".target sm_{architecture}\n")
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

/// The builds of `attention.cu` that simulated cards have: head size, sixteens of queries a warp, and whether
/// in bf16.
#[cfg(test)]
const ATTENTION: [(u32, u32, bool); 12] = [
    // Those of the small models in tests.
    (8, 1, false),
    (8, 1, true),
    (16, 1, false),
    (16, 1, true),
    (32, 1, false),
    (40, 1, false),
    (64, 1, false),
    (64, 2, false),
    (64, 1, true),
    (128, 1, false),
    (128, 2, false),
    (256, 1, false),
];

/// What stands before a kernel's source in each of its builds: the suite tries `memory.cu` in six, and compiles
/// `attention.cu` for each head size and type, `decode.cu` and `pass.cu` for each type.
#[cfg(test)]
fn prefixes(file: &str) -> Vec<(String, String)> {
    if file == "attention.cu" {
        let prefix = |(head, tiles, bf16): (u32, u32, bool)| {
            let (define, half) = if bf16 { ("#define BF16\n", "bf16") } else { ("", "f16") };
            let double = if tiles > 1 { "-double" } else { "" };
            let text = format!("#define HEAD {head}\n#define TILES {tiles}\n{define}#line 1\n");
            (format!("-{head}-{half}{double}"), text)
        };
        return ATTENTION.map(prefix).into();
    }
    if file == "decode.cu" || file == "pass.cu" {
        let plain = ("-f16".to_owned(), String::new());
        return vec![plain, ("-bf16".to_owned(), "#define BF16\n#line 1\n".to_owned())];
    }
    if file != "memory.cu" {
        return vec![(String::new(), String::new())];
    }
    let ways = [256, 512, 1024].into_iter().flat_map(|threads| [(threads, false), (threads, true)]);
    let prefix = |(threads, streaming)| {
        let (define, name) =
            if streaming { ("#define STREAMING\n", "-streaming") } else { ("", "") };
        (format!("-{threads}{name}"), format!("#define THREADS {threads}\n{define}#line 1\n"))
    };
    ways.map(prefix).collect()
}

/// Every build of the suite's kernels: the stem of its files, the kernel's file and the whole source.
#[cfg(test)]
pub(crate) fn builds() -> Vec<(String, String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut sources: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "cu")).collect();
    sources.sort();
    let mut builds = Vec::new();
    for path in sources {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        for (suffix, prefix) in prefixes(&file) {
            let stem = format!("{}{suffix}", file.trim_end_matches(".cu"));
            builds.push((stem, file.clone(), format!("{prefix}{source}")));
        }
    }
    builds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The architectures of the cards that are simulated.
    const ARCHITECTURES: [u32; 5] = [75, 80, 86, 89, 90];

    fn options() -> Vec<String> {
        vec!["--std=c++17".to_owned()]
    }

    #[test]
    fn every_build_of_every_kernel_has_its_ptx_and_every_instruction_of_it_is_known() {
        let options = options();
        let mut kernels = 0;
        for (stem, name, source) in builds() {
            let unit = Unit { name: &name, source: &source, options: &options };
            for architecture in ARCHITECTURES {
                let ptx =
                    unit.stored(architecture).unwrap_or_else(|error| panic!("{stem}: {error}"));
                let module = warpmark_ptx::Module::read(&ptx, |_, _| 0);
                let module = module.unwrap_or_else(|refusal| panic!("{stem}: {refusal}"));
                assert_eq!(module.target, architecture);
                kernels += module.kernels.len();
            }
        }
        assert!(kernels >= 240, "{kernels}");
    }

    #[test]
    fn another_source_or_option_has_no_ptx_and_the_way_to_make_it_is_told() {
        let (_, name, source) = builds().remove(0);
        let options = options();
        let unit = Unit { name: &name, source: &source, options: &options };
        assert!(unit.stored(75).is_ok());
        let changed = format!("{source} ");
        for other in [
            Unit { source: &changed, ..unit },
            Unit { options: &[], ..unit },
            Unit { name: "other.cu", ..unit },
        ] {
            let said = other.stored(75).unwrap_err();
            assert!(said.contains("scripts/kernel-ptx --write"), "{said}");
        }
        assert!(unit.stored(70).unwrap_err().contains("compute capability 70"));
    }

    /// A text behind what ptxas makes of its kernels for each architecture.
    fn annotated(ptxas: &std::ffi::OsStr, text: &str, architectures: &[u32]) -> String {
        let mut notes = String::new();
        for architecture in architectures {
            let ptx = for_target(text, *architecture);
            for (kernel, found) in assembler::ptxas(Path::new(ptxas), &ptx, *architecture) {
                notes += &found.note(*architecture, &kernel);
            }
        }
        notes + text
    }

    /// Needs the NVRTC of the version that made the files; `scripts/kernel-ptx` brings it and runs this.
    #[test]
    #[ignore = "needs NVRTC, which cargo test must not require"]
    fn the_stored_ptx_is_what_nvrtc_makes() {
        let path = std::env::var_os("SIMGPU_NVRTC").expect("SIMGPU_NVRTC names a libnvrtc");
        let nvrtc = real::Nvrtc::open(Path::new(&path)).unwrap();
        let ptxas = std::env::var_os("SIMGPU_PTXAS").expect("SIMGPU_PTXAS names a ptxas");
        let options = options();
        let mut made = std::collections::BTreeMap::new();
        for (stem, name, source) in builds() {
            let unit = Unit { name: &name, source: &source, options: &options };
            // One file for all architectures that get the same text.
            let mut texts: Vec<(String, Vec<u32>)> = Vec::new();
            for architecture in ARCHITECTURES {
                let ptx = nvrtc
                    .compile(&unit, architecture)
                    .unwrap_or_else(|log| panic!("{stem}: {log}"));
                let text = for_target(&ptx, ARCHITECTURES[0]);
                match texts.iter_mut().find(|(there, _)| *there == text) {
                    Some((_, architectures)) => architectures.push(architecture),
                    None => texts.push((text, vec![architecture])),
                }
            }
            for (text, architectures) in texts {
                let text = annotated(&ptxas, &text, &architectures);
                let numbers: Vec<String> = architectures.iter().map(u32::to_string).collect();
                let file = if numbers.len() == ARCHITECTURES.len() {
                    format!("{stem}.ptx")
                } else {
                    format!("{stem}.{}.ptx", numbers[0])
                };
                made.insert(
                    file,
                    format!("{HEADER}{} {}\n{text}", unit.digest(), numbers.join(" ")),
                );
            }
        }
        let stored: std::collections::BTreeMap<String, String> = std::fs::read_dir(FOLDER)
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().path())
            .map(|path| {
                (
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    std::fs::read_to_string(path).unwrap(),
                )
            })
            .collect();
        if std::env::var_os("SIMGPU_WRITE_PTX").is_some() {
            std::fs::create_dir_all(FOLDER).unwrap();
            for name in stored.keys().filter(|name| !made.contains_key(*name)) {
                std::fs::remove_file(Path::new(FOLDER).join(name)).unwrap();
            }
            for (name, text) in &made {
                std::fs::write(Path::new(FOLDER).join(name), text).unwrap();
            }
            return;
        }
        let names = |files: &std::collections::BTreeMap<String, String>| {
            files.keys().cloned().collect::<Vec<String>>()
        };
        assert_eq!(names(&made), names(&stored), "make them anew with `{COMMAND}`");
        for (name, text) in &made {
            assert!(
                stored[name] == *text,
                "{name} is not what NVRTC makes; `{COMMAND}` makes it anew"
            );
        }
    }

    /// The texts of a file that nvcc made: one, or those in the fat binaries of an object.
    fn texts(file: &[u8]) -> Vec<String> {
        if std::str::from_utf8(file).is_ok() {
            return vec![String::from_utf8_lossy(file).into_owned()];
        }
        let places = (0..file.len() / 8).map(|place| &file[8 * place..]);
        let found = places.filter_map(crate::fatbin::texts).flatten();
        found.map(|text| text.ptx.to_owned()).collect()
    }

    /// Needs what nvcc makes of candle's kernels; `scripts/kernel-ptx --candle` compiles them and runs this.
    #[test]
    #[ignore = "needs nvcc, which cargo test must not require"]
    fn every_instruction_of_candles_kernels_is_known() {
        let folder = std::env::var("SIMGPU_CANDLE").expect("SIMGPU_CANDLE names a folder");
        let (mut kernels, mut refused) = (0, Vec::new());
        for path in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
            let texts = texts(&std::fs::read(&path).unwrap());
            assert!(!texts.is_empty(), "{} has no PTX", path.display());
            for text in texts {
                let library = warpmark_ptx::Library::read(text, |_, _| 0);
                let library = library.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                for name in library.names() {
                    kernels += 1;
                    let refusal = library.kernel(name).and_then(Result::err);
                    let refusal = refusal.map(|refusal| format!("{}: {refusal}", path.display()));
                    // Mixtures of experts multiply so, of which the suite has no net.
                    refused.extend(refusal.filter(|said| !said.contains("instruction wmma.")));
                }
            }
        }
        println!("{kernels} kernels");
        assert!(refused.is_empty(), "{refused:#?}");
        assert!(kernels >= 1500, "{kernels}");
    }
}
