//! Drivers of all ages beside libraries of CUDA 12 and 13: what fits is taken, and what does not fit is said
//! with the next step.

use serde_json::Value;
use warpmark_simgpu::harness::Version;

use crate::support::machine::Machine;

/// A driver, by the CUDA that it is for, as NVIDIA's release notes pair them.
struct Driver {
    name: &'static str,
    cuda: u32,
}

const DRIVERS: [Driver; 5] = [
    Driver { name: "525", cuda: 12_000 },
    Driver { name: "535", cuda: 12_020 },
    Driver { name: "550", cuda: 12_040 },
    Driver { name: "570", cuda: 12_080 },
    Driver { name: "580", cuda: 13_000 },
];

const TWELVE: Version = (12, 9);
const THIRTEEN: Version = (13, 0);

/// Libraries side by side, and the major version of those that a driver of CUDA 12 and one of 13 take.
const TOOLKITS: [(&[Version], Option<u32>, Option<u32>); 4] = [
    (&[TWELVE], Some(12), Some(12)),
    (&[THIRTEEN], None, Some(13)),
    (&[THIRTEEN, TWELVE], Some(12), Some(13)),
    (&[TWELVE, THIRTEEN], Some(12), Some(12)),
];

/// One kernel that NVRTC compiles, and one product.
const FILTER: &str = "micro/memory/copy,micro/matmul/f16.f32/4096x4096x4096";

/// What the doctor says of a library.
fn finding(machine: &Machine, what: &str) -> (String, String) {
    let ran = machine.run(&["doctor", "--json"]);
    let findings: Value = serde_json::from_str(&ran.stdout).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|f| f["what"] == what).unwrap();
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    (text("state"), format!("{} {}", text("detail"), text("mend")))
}

fn check(driver: &Driver, toolkits: &[Version], taken: Option<u32>) {
    let machine = Machine::with("t4").set(|machine| machine.driver(driver.cuda).toolkits(toolkits));
    let case = format!("driver {} with {toolkits:?}", driver.name);
    let ran = machine.run(&["verify", "--device", "cuda", "--filter", FILTER]);
    let counts = if taken.is_some() {
        "2 right, 0 wrong or failed, 0 skipped"
    } else {
        "0 right, 0 wrong or failed, 2 skipped"
    };
    assert!(ran.exits(0).stdout.contains(counts), "{case}: {} {}", ran.stdout, ran.stderr);
    for what in ["NVRTC", "cuBLASLt"] {
        let (state, words) = finding(&machine, what);
        if let Some(major) = taken {
            assert_eq!(state, "ok", "{case}: {what} {words}");
            assert!(words.starts_with(&format!("{major}.")), "{case}: {what} {words}");
            continue;
        }
        assert_eq!(state, "broken", "{case}: {what} {words}");
        let (major, minor) = (driver.cuda / 1000, driver.cuda % 1000 / 10);
        for said in [
            "is of CUDA 13.0",
            &format!("the driver is for CUDA {major}.{minor}"),
            "update NVIDIA's driver, or take the libraries of CUDA 12",
        ] {
            assert!(words.contains(said), "{case}: {what} {words}");
        }
        assert!(ran.stderr.contains("is of CUDA 13.0"), "{case}: {}", ran.stderr);
    }
}

#[test]
fn every_driver_takes_the_libraries_that_it_serves_whatever_lies_beside_them() {
    std::thread::scope(|scope| {
        for driver in &DRIVERS {
            scope.spawn(move || {
                for (toolkits, twelve, thirteen) in TOOLKITS {
                    check(driver, toolkits, if driver.cuda < 13_000 { twelve } else { thirteen });
                }
            });
        }
    });
}
