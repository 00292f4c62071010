//! Stamps the build into the binary, so that every record says which program measured it.

use std::env;
use std::fs;
use std::process::Command;

/// Crates whose version changes what is measured.
const MEASURING: [&str; 6] =
    ["candle-core", "candle-nn", "criterion", "cudarc", "gemm", "tokenizers"];

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/index");
    println!("cargo::rustc-env=WARPMARK_GIT={}", git());
    println!("cargo::rustc-env=WARPMARK_RUSTC={}", first_line("rustc", &["--version"]));
    println!("cargo::rustc-env=WARPMARK_PROFILE={}", env::var("PROFILE").unwrap_or_default());
    println!("cargo::rustc-env=WARPMARK_CRATES={}", crates());
}

/// The revision, with `-dirty` behind it where tracked files differ, or why it is unknown.
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
