//! Texts of others: candle's kernels, as NVRTC compiles them.

use super::Module;

/// Needs the folder of a real build; `SIMGPU_PTX` names it.
#[test]
#[ignore = "needs PTX that is not part of the project"]
fn every_instruction_of_a_folder_of_texts_is_known() {
    let folder = std::env::var_os("SIMGPU_PTX").expect("SIMGPU_PTX names a folder of PTX");
    let (mut kernels, mut refused) = (0, Vec::new());
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        match Module::read(&text, |_, _| 0) {
            Ok(module) => kernels += module.kernels.len(),
            Err(refusal) => refused.push(format!("{}: {refusal}", file.display())),
        }
    }
    println!("{kernels} kernels");
    assert!(refused.is_empty(), "{refused:#?}");
}
