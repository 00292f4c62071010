//! What ptxas says of a text: registers, spills and shared memory of each kernel.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::occupancy::Assembled;

/// Asks ptxas about every kernel of a text.
pub(super) fn ptxas(program: &Path, ptx: &str, architecture: u32) -> BTreeMap<String, Assembled> {
    let file =
        std::env::temp_dir().join(format!("simgpu-{}-{architecture}.ptx", std::process::id()));
    std::fs::write(&file, ptx).unwrap();
    let target = format!("--gpu-name=sm_{architecture}");
    let ran =
        Command::new(program).args(["-v", &target, "-o", "/dev/null"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}");
    let (mut all, mut kernel) = (BTreeMap::new(), String::new());
    let number_before = |line: &str, what: &str| {
        let before = line.split(what).next().unwrap_or_default();
        let found = line.contains(what).then(|| before.rsplit(' ').find(|word| !word.is_empty()));
        found.flatten().and_then(|word| word.parse::<u32>().ok()).unwrap_or(0)
    };
    for line in told.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_owned();
        }
        let compiled: &mut Assembled = all.entry(kernel.clone()).or_default();
        compiled.spilled += number_before(line, "bytes spill stores");
        compiled.registers = compiled.registers.max(number_before(line, "registers"));
        compiled.shared = compiled.shared.max(number_before(line, "bytes smem"));
    }
    all.remove("");
    all
}
