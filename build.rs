//! Stamps the build into the binary, so that every record says which program measured it.

use std::env;
use std::fs;
use std::process::Command;

/// Crates whose version changes what is measured.
const MEASURING: [&str; 7] =
    ["candle-core", "candle-nn", "criterion", "cudarc", "faer", "gemm", "tokenizers"];

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    watch_git();
    println!("cargo::rustc-env=WARPMARK_GIT={}", git());
    println!("cargo::rustc-env=WARPMARK_RUSTC={}", first_line("rustc", &["--version"]));
    println!("cargo::rustc-env=WARPMARK_PROFILE={}", env::var("PROFILE").unwrap_or_default());
    println!("cargo::rustc-env=WARPMARK_CRATES={}", crates());
    println!("cargo::rustc-check-cfg=cfg(simulated_cuda)");
    #[cfg(feature = "cuda")]
    cuda();
}

/// A file that is not there counts as changed at every build: a work tree of its own has these elsewhere,
/// and a copy without history has neither.
fn watch_git() {
    for name in ["HEAD", "index"] {
        let path = first_line("git", &["rev-parse", "--git-path", name]);
        if fs::exists(&path).unwrap_or(false) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What candle's kernels are going to be compiled for, or at once what is missing: their own build takes
/// a quarter of an hour. The finished program asks the kernels themselves.
#[cfg(feature = "cuda")]
fn cuda() {
    for variable in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    match cudaforge::CudaToolkit::detect() {
        Ok(toolkit) => {
            // Tests that need the simulator ask for this (`scripts/simulated-cuda`).
            let nvcc = toolkit.nvcc_path.to_string_lossy();
            if first_line(&nvcc, &["--version"]).contains("simulated") {
                println!("cargo::rustc-cfg=simulated_cuda");
            }
        }
        Err(_) => println!(
            "cargo::error=the feature `cuda` needs nvcc, and there is none; \
             `eval \"$(scripts/cuda-toolkit 13.0)\"` installs it without root (12.9 for a V100)"
        ),
    }
    match cudaforge::detect_compute_cap() {
        Ok(target) => println!(
            "cargo::warning=candle's kernels are compiled for {}, one architecture a build; \
             CUDA_COMPUTE_CAP=NN chooses another",
            target.to_nvcc_arch()
        ),
        Err(_) => println!(
            "cargo::error=candle's kernels are compiled for one architecture, and neither \
             CUDA_COMPUTE_CAP nor nvidia-smi says which: CUDA_COMPUTE_CAP=NN cargo build --release \
             --features cuda (V100 70, T4 75, A100 80, A10G 86, L4 89, H100 90)"
        ),
    }
    // So that the program starts in another shell too; LD_LIBRARY_PATH still comes first.
    if let Some(home) =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).find(|home| !home.is_empty())
    {
        let folder = std::path::Path::new(&home).join("lib64");
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", folder.display());
    }
}

/// The revision, with `-dirty` after it where tracked files differ, or why it is unknown.
fn git() -> String {
    let revision = first_line("git", &["rev-parse", "--short=12", "HEAD"]);
    if revision.is_empty() {
        return "unknown (built outside a git checkout)".to_owned();
    }
    let changes = first_line("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { revision } else { format!("{revision}-dirty") }
}

/// The first line that a command prints; nothing where it is missing or fails.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_default()
}

/// `name=version` of the measuring crates, from the lock file.
fn crates() -> String {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let mut found = Vec::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = quoted(line, "name = ") {
            name = value;
        } else if let (Some(version), true) =
            (quoted(line, "version = "), MEASURING.contains(&name))
        {
            found.push(format!("{name}={version}"));
        }
    }
    found.join(",")
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.trim().strip_prefix('"')?.strip_suffix('"')
}
