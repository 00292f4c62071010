//! A short search, which CI runs; `fuzz/README.md` has the long one.

use std::process::Command;

#[test]
fn a_thousand_damaged_inputs_hold_in_every_target() {
    let output = Command::new(env!("CARGO_BIN_EXE_warpmark-fuzz"))
        .args(["--inputs", "1000"])
        .output()
        .expect("the harness cannot be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Every target had all of its inputs.
    let whole = said.lines().filter(|line| line.contains(": 1000 inputs in ")).count();
    assert!(whole >= 12, "{said}");
    assert!(said.contains(&format!("{whole} passed, 0 failed")), "{said}");
    println!("{said}");
}
