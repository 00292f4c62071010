//! What users met and hard days brought: every folder of `tests/cases`, by the script that people run too.

use std::path::Path;
use std::process::Command;

#[test]
fn every_case_holds_what_it_expects() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/run-all");
    let output =
        Command::new(script).env("WARPMARK", env!("CARGO_BIN_EXE_warpmark")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
