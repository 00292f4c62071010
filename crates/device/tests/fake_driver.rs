//! The way through a driver, good and bad, on a machine that has none.
//!
//! Each test compiles a small library in C that stands in for `libcuda` (and one for NVML), puts it
//! into the loader's path of a child process, and looks at what that process reports. A child, because
//! the loader reads its path only at the start, and because the point of most tests is that the
//! process does not die.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod fake;

use std::fmt::Write as _;
use std::path::Path;

use fake::Fake;
use serde_json::{Value, json};
use warpmark_device::{Device, DeviceChoice, OpenError, symbols};
use warpmark_record::DeviceSpec;

/// What the child process does: `FAKE_ASK` is a device, `list` or `doctor`.
#[test]
#[ignore = "the body of the child processes that the other tests start"]
fn child() {
    let answer = match std::env::var("FAKE_ASK").unwrap().as_str() {
        "list" => match warpmark_device::list() {
            Ok(cards) => json!({ "cards": cards }),
            Err(error) => failure(&error),
        },
        "doctor" => {
            json!({ "findings": warpmark_device::findings(), "libraries": warpmark_device::libraries() })
        }
        "libraries" => {
            let links = std::path::PathBuf::from(std::env::var_os("FAKE_LINKS").unwrap());
            let path = warpmark_device::probe::search_path(&links).unwrap();
            let path = path.map(|path| path.to_string_lossy().into_owned());
            json!({ "libraries": warpmark_device::libraries(), "path": path })
        }
        "look" => {
            let looked = warpmark_device::look(DeviceChoice::Auto).unwrap();
            json!({ "spec": looked.spec, "note": looked.note })
        }
        choice => match warpmark_device::open(choice.parse::<DeviceChoice>().unwrap(), 2) {
            Ok(opened) => json!({ "note": opened.note, "device": describe(&opened.device) }),
            Err(error) => failure(&error),
        },
    };
    println!("\nANSWER {answer}");
}

fn failure(error: &OpenError) -> Value {
    json!({ "error": error.to_string(), "kind": format!("{error:?}") })
}

fn describe(device: &Device) -> Value {
    let mut answer = json!({ "spec": device.spec(), "settings": device.settings() });
    if let Device::Cuda(cuda) = device {
        answer["held_before"] = json!([cuda.held(), cuda.peak(), cuda.free_memory()]);
        cuda.reset_peak().unwrap();
        answer["peak_after"] = json!(cuda.peak());
        let events = [(); 2].map(|()| cuda.context.new_event(None).unwrap());
        answer["elapsed_s"] = json!(warpmark_device::elapsed(&events[0], &events[1]).unwrap());
        let mut sensors = cuda.sensors();
        answer["sensors"] = json!(sensors.as_mut().map(|sensors| sensors.read()));
    }
    answer
}

/// Whether this machine has a driver of its own, in which case "no driver" cannot be tried on it.
fn driver_installed() -> bool {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib"]
        .iter()
        .any(|folder| Path::new(folder).join("libcuda.so.1").exists())
}

#[test]
fn without_a_driver_auto_measures_the_cpu_and_says_why_while_cuda_is_refused() {
    if driver_installed() {
        // The one thing that can be said here: the machine's own driver is not overlooked.
        let tried = Fake::nothing().ask("cuda");
        assert!(!tried["kind"].as_str().unwrap_or_default().starts_with("NoDriver"), "{tried}");
        return;
    }
    let machine = Fake::nothing();
    let auto = machine.ask("auto");
    assert_eq!(auto["device"]["spec"]["kind"], "cpu");
    let note = auto["note"].as_str().unwrap();
    assert!(note.starts_with("measuring the CPU: no library libcuda was found"), "{note}");
    let refused = machine.ask("cuda");
    assert!(refused["error"].as_str().unwrap().contains("--device cpu"), "{refused}");
    let doctor = machine.ask("doctor");
    assert_eq!(doctor["findings"][0]["state"], "missing");
    assert!(doctor["findings"][0]["mend"].as_str().unwrap().contains("install"), "{doctor}");
}

#[test]
fn a_stub_library_is_named_and_not_fallen_back_from() {
    let text = Fake::driver(&[]).with("FAKE_INIT", 34).refusal();
    assert!(text.contains("CUDA_ERROR_STUB_LIBRARY (34)"), "{text}");
    assert!(text.contains("stub"), "{text}");
    assert!(text.contains("libcuda.so.1"), "the library is not named: {text}");
}

#[test]
fn a_mismatch_and_an_unknown_failure_say_what_to_do() {
    let text = Fake::driver(&[]).with("FAKE_INIT", 803).refusal();
    assert!(
        text.contains("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH") && text.contains("reboot"),
        "{text}"
    );
    let text = Fake::driver(&[]).with("FAKE_INIT", 999).refusal();
    assert!(text.contains("nvidia-smi"), "{text}");
    let text = Fake::driver(&[]).with("FAKE_INIT", 304).refusal();
    assert!(text.contains("/dev/nvidia*"), "{text}");
}

#[test]
fn a_code_newer_than_the_bindings_is_printed_and_kills_nothing() {
    let text = Fake::driver(&[]).with("FAKE_INIT", 4242).refusal();
    assert!(text.contains("code 4242"), "{text}");
    // The same out of cudarc itself, once the driver has started.
    let text = Fake::driver(&[]).with("FAKE_RETAIN", 4243).refusal();
    assert!(text.contains("code 4243"), "{text}");
}

#[test]
fn a_driver_that_is_too_old_is_told_by_its_version() {
    let text = Fake::driver(&[]).with("FAKE_VERSION", 11_080).refusal();
    assert!(text.contains("CUDA 11.8") && text.contains("525"), "{text}");
    // A really old one lacks functions too; its age is still the better explanation.
    let text = Fake::driver(&["cuMemAllocAsync"]).with("FAKE_VERSION", 11_010).refusal();
    assert!(text.contains("CUDA 11.1"), "{text}");
}

#[test]
fn a_driver_that_lacks_a_function_is_refused_before_cudarc_panics() {
    let text = Fake::driver(&["cuDevicePrimaryCtxRetain"]).refusal();
    assert!(text.contains("lacks the function cuDevicePrimaryCtxRetain"), "{text}");
}

#[test]
fn a_file_that_is_no_library_is_refused_with_the_loaders_words() {
    // Both names, for the first one that can be loaded wins, and a real driver may have either.
    let machine = Fake::nothing().with_garbage("libcuda.so").with_garbage("libcuda.so.1");
    let text = machine.refusal();
    assert!(text.contains("libcuda.so is there but cannot be loaded"), "{text}");
}

#[test]
fn no_device_means_the_cpu_for_auto_and_a_refusal_for_cuda() {
    for machine in [
        Fake::driver(&[]).with("FAKE_COUNT", 0),
        // A driver without devices already refuses to start.
        Fake::driver(&[]).with("FAKE_INIT", 100),
    ] {
        let auto = machine.ask("auto");
        assert_eq!(auto["device"]["spec"]["kind"], "cpu", "{auto}");
        assert_eq!(auto["note"], "measuring the CPU: the CUDA driver sees no device");
        assert!(machine.ask("cuda")["error"].as_str().unwrap().contains("sees no device"));
    }
}

#[test]
fn hidden_devices_are_told_with_the_variables_value() {
    for value in ["", "-1", "7"] {
        let machine = Fake::driver(&[]).with("FAKE_COUNT", 0).with("CUDA_VISIBLE_DEVICES", value);
        let text = machine.ask("cuda")["error"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("CUDA_VISIBLE_DEVICES is \"{value}\"")), "{text}");
        let note = machine.ask("auto")["note"].as_str().unwrap().to_owned();
        assert!(note.contains(&format!("\"{value}\"")), "{note}");
    }
}

#[test]
fn an_index_that_does_not_exist_is_told_with_those_that_do() {
    let machine = Fake::driver(&[]).with("FAKE_COUNT", 2);
    let text = machine.ask("cuda:2")["error"].as_str().unwrap().to_owned();
    assert_eq!(text, "there is no device cuda:2; there are cuda:0 to cuda:1");
    let text = machine.ask("cuda:4294967295")["error"].as_str().unwrap().to_owned();
    assert!(text.contains("cuda:4294967295"), "{text}");
    let cards = machine.ask("list");
    assert_eq!(cards["cards"].as_array().unwrap().len(), 2);
    assert_eq!(cards["cards"][1]["index"], 1);
}

#[test]
fn a_card_is_described_by_driver_nvml_and_datasheet() {
    let machine = Fake::driver(&[]).and_nvml();
    let answer = machine.ask("auto");
    assert_eq!(answer["note"], Value::Null);
    let spec = &answer["device"]["spec"];
    assert_eq!(spec["name"], "Tesla T4");
    assert_eq!(spec["slug"], "tesla-t4");
    assert_eq!(spec["memory_bandwidth"], json!(2.0 * 5.001e9 * 32.0));
    assert_eq!(spec["last_level_cache"], json!(4_194_304.0));
    let gpu = &spec["gpu"];
    assert_eq!(gpu["compute_capability"], json!([7, 5]));
    assert_eq!(gpu["cuda_driver_version"], 12_080);
    assert_eq!(gpu["sm_clock"], json!(1.59e9));
    assert_eq!(gpu["ecc"], true);
    assert_eq!(gpu["integrated"], false);
    assert_eq!(gpu["pci_id"], "0000:3b:00.0");
    assert_eq!(gpu["driver_version"], "580.65.06");
    assert_eq!(gpu["power_limit"], json!(60.0));
    assert_eq!(gpu["power_limit_default"], json!(70.0));
    assert_eq!(gpu["pcie_now"], json!({ "generation": 1, "width": 8 }));
    assert_eq!(gpu["pcie_max"], json!({ "generation": 3, "width": 16 }));
    assert_eq!(gpu["persistence"], false);
    // The fake lists this process and another.
    assert_eq!(gpu["other_processes"], 1);
    assert_eq!(gpu["book"]["name"], "t4");
    let read: DeviceSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(&json!(read), spec, "a record of it does not read back");
    // What is refused has its reason, and costs nothing else.
    assert_eq!(gpu["mig"]["absent"], "not supported on this card");
    assert!(gpu["shared_memory_per_block"]["absent"].as_str().unwrap().contains("4242"));
    assert_eq!(gpu["idle"]["power"], json!(31.0));
    assert_eq!(gpu["idle"]["throttle_causes"], json!(["software power cap"]));
    let refused = &gpu["idle"]["gpu_utilisation"]["absent"];
    assert_eq!(refused, "not permitted for this user or in this container");
}

#[test]
fn an_opened_card_is_set_up_as_its_settings_say() {
    let answer = Fake::driver(&[]).and_nvml().ask("cuda:0");
    let device = &answer["device"];
    assert_eq!(device["settings"]["cuda_event_tracking"], "off");
    assert_eq!(device["settings"]["cuda_pool_release_threshold"], "maximum");
    assert_eq!(device["settings"]["power_sensor"], "instantaneous");
    // Used 300 of 700 reserved, 1000 free beside them; the high-water mark was 900.
    assert_eq!(device["held_before"], json!([300.0, 900.0, 1400.0]));
    assert_eq!(device["peak_after"], json!(300.0));
    // A driver without `cuEventElapsedTime_v2`, which is every one before 12.8.
    assert_eq!(device["elapsed_s"], json!(0.0015));
    assert!(device["sensors"]["Ok"]["energy"].as_f64().unwrap() > 1000.0, "{device}");
}

#[test]
fn power_falls_back_to_the_mean_where_there_is_no_instantaneous_field() {
    let machine = Fake::driver(&[]).and_nvml().with("FAKE_NO_INSTANT", 1);
    let answer = machine.ask("cuda");
    assert_eq!(answer["device"]["spec"]["gpu"]["idle"]["power"], json!(25.0));
    let sensor = answer["device"]["settings"]["power_sensor"].as_str().unwrap();
    assert!(sensor.starts_with("mean of the last second"), "{sensor}");
}

#[test]
fn without_nvml_the_card_opens_and_its_sensors_are_absent_with_the_reason() {
    let answer = Fake::driver(&[]).with_garbage("libnvidia-ml.so.1").ask("cuda");
    let gpu = &answer["device"]["spec"]["gpu"];
    assert_eq!(gpu["sm_count"], 40);
    for reason in [&gpu["power_limit"]["absent"], &answer["device"]["sensors"]["Err"]] {
        let reason = reason.as_str().unwrap();
        assert!(reason.starts_with("libnvidia-ml.so.1 cannot be loaded"), "{reason}");
    }
}

#[test]
fn a_memory_clock_of_zero_is_asked_of_nvml_instead() {
    let machine = Fake::driver(&[]).and_nvml().with("FAKE_MEMORY_CLOCK", 0);
    let spec = machine.ask("cuda")["device"]["spec"].clone();
    assert_eq!(spec["gpu"]["memory_clock"], json!(5.001e9));
    assert_eq!(spec["memory_bandwidth"], json!(2.0 * 5.001e9 * 32.0));
}

#[test]
fn the_doctor_names_what_is_there_and_what_disturbs() {
    let answer = Fake::driver(&[]).and_nvml().ask("doctor");
    let findings = answer["findings"].as_array().unwrap();
    let state = |what: &str| {
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("no {what} in {answer}")).clone()
    };
    assert_eq!(state("CUDA driver")["state"], "ok");
    assert!(state("CUDA driver")["detail"].as_str().unwrap().contains("Tesla T4"));
    assert_eq!(state("NVML")["state"], "ok");
    let persistence = state("persistence mode of cuda:0");
    assert_eq!(persistence["state"], "ok");
    assert_eq!(persistence["mend"], "sudo nvidia-smi -i 0000:3b:00.0 -pm 1");
    assert_eq!(state("other processes on cuda:0")["state"], "broken");
    assert_eq!(answer["libraries"]["driver"]["version"], "12.8");
    let path = answer["libraries"]["driver"]["path"].as_str().unwrap();
    assert!(path.ends_with("/libcuda.so.1"), "{path}");
}

fn library_of(names: &[&str], version: &str) -> String {
    let mut source = version.to_owned();
    for name in names.iter().filter(|name| !version.contains(*name)) {
        writeln!(source, "int {name}(void) {{ return 1; }}").unwrap();
    }
    source
}

#[test]
fn compiler_and_matrix_library_are_found_with_version_and_every_function() {
    let machine = Fake::nothing();
    let nvrtc = "int nvrtcVersion(int *a, int *b) { *a = 12; *b = 8; return 0; }
";
    machine.compile("libnvrtc.so", &library_of(symbols::NVRTC, nvrtc));
    let cublaslt = "#include <stddef.h>\nsize_t cublasLtGetVersion(void) { return 120804; }\n";
    machine.compile("libcublasLt.so", &library_of(&symbols::CUBLASLT[1..], cublaslt));
    let libraries = machine.ask("doctor")["libraries"].clone();
    assert_eq!(libraries["nvrtc"]["version"], "12.8");
    assert_eq!(libraries["nvrtc"]["name"], "libnvrtc.so");
    assert_eq!(libraries["cublaslt"]["version"], "12.8.4");

    let machine = Fake::nothing();
    let lacking: Vec<_> =
        symbols::NVRTC.iter().copied().filter(|name| *name != "nvrtcGetCUBIN").collect();
    machine.compile("libnvrtc.so", &library_of(&lacking, nvrtc));
    let libraries = machine.ask("doctor")["libraries"].clone();
    let reason = libraries["nvrtc"]["absent"].as_str().unwrap();
    assert_eq!(reason, "libnvrtc.so lacks the function nvrtcGetCUBIN");
}

#[test]
fn a_card_can_be_looked_at_without_a_context() {
    // Opening fails here, so that only a look that opens nothing can succeed.
    let machine = Fake::driver(&[]).with("FAKE_RETAIN", 2);
    assert!(machine.ask("cuda")["error"].is_string());
    let looked = machine.ask("look");
    assert_eq!(looked["spec"]["name"], "Tesla T4");
    assert_eq!(looked["note"], Value::Null);
}

/// An NVRTC that says it is of this CUDA, and has every function.
fn nvrtc(major: u32, minor: u32) -> String {
    let others = symbols::NVRTC.iter().filter(|name| **name != "nvrtcVersion");
    let stubs = others.fold(String::new(), |mut text, name| {
        writeln!(text, "int {name}(void) {{ return 1; }}").unwrap();
        text
    });
    format!("int nvrtcVersion(int *a, int *b) {{ *a = {major}; *b = {minor}; return 0; }}\n{stubs}")
}

#[test]
fn each_driver_gets_the_library_of_its_own_cuda_wherever_it_lies() {
    // What the drivers 525, 535, 550, 570 and 580 report, and what is taken of 12.9 and 13.0.
    for (driver, expected) in
        [(12_000, "12.9"), (12_020, "12.9"), (12_040, "12.9"), (12_080, "12.9"), (13_000, "13.0")]
    {
        let links = tempfile::tempdir().unwrap();
        let machine = |reached: &[(&str, u32, u32)]| {
            let machine = Fake::driver(&[]).with("FAKE_VERSION", driver);
            let machine = machine.with("FAKE_LINKS", links.path().display());
            for (name, major, minor) in reached {
                machine.compile(name, &nvrtc(*major, *minor));
            }
            machine
        };
        // Both in the loader's path, the newer one first.
        let side_by_side = machine(&[("libnvrtc.so.13", 13, 0), ("libnvrtc.so.12", 12, 9)]);
        let both = side_by_side.ask("libraries");
        assert_eq!(both["libraries"]["nvrtc"]["version"], expected, "{driver}: {both}");
        // The process that measures has to be led to the older one.
        let path = both["path"].as_str();
        assert_eq!(path.is_some(), expected == "12.9", "{driver}: {both}");
        if let Some(path) = path {
            let link = std::fs::canonicalize(links.path().join("libnvrtc.so")).unwrap();
            assert!(link.ends_with("libnvrtc.so.12"), "{link:?}");
            assert!(path.starts_with(&*links.path().to_string_lossy()), "{path}");
        }
        // The newer one alone: served or named.
        let newer = machine(&[("libnvrtc.so.13", 13, 0)]).with("HOME", "/nowhere").ask("libraries");
        let reason = newer["libraries"]["nvrtc"]["absent"].as_str();
        if driver >= 13_000 {
            assert_eq!(newer["libraries"]["nvrtc"]["version"], "13.0");
        } else {
            assert!(
                reason.unwrap().contains("is of CUDA 13.0 and the driver is for CUDA 12"),
                "{newer}"
            );
        }
    }
}

#[test]
fn a_library_that_a_python_package_brought_is_found_where_the_loader_has_none() {
    let home = tempfile::tempdir().unwrap();
    let site = home.path().join(".local/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib");
    std::fs::create_dir_all(&site).unwrap();
    let machine =
        Fake::driver(&[]).with("FAKE_VERSION", 12_040).with("HOME", home.path().display());
    for (file, major, minor) in [("libnvrtc.so.12", 12, 4), ("libnvrtc.so.13", 13, 0)] {
        machine.compile(file, &nvrtc(major, minor));
        std::fs::rename(machine.path(file), site.join(file)).unwrap();
    }
    let links = tempfile::tempdir().unwrap();
    let machine = machine.with("FAKE_LINKS", links.path().display());
    let found = machine.ask("libraries");
    assert_eq!(found["libraries"]["nvrtc"]["version"], "12.4", "{found}");
    let path = found["path"].as_str().unwrap();
    assert!(path.contains(&*site.to_string_lossy()), "{path}");
    // Whoever is started with this path finds it without being led.
    let led = machine.with("LD_LIBRARY_PATH", path).ask("libraries");
    assert_eq!(
        (&led["libraries"]["nvrtc"]["version"], &led["path"]),
        (&json!("12.4"), &json!(null))
    );
}
