//! What holds for every micro benchmark, on devices that are only described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use warpmark_device::{CpuDevice, Device};
use warpmark_record::machine::{CpuSpec, GpuSpec};
use warpmark_record::{Bytes, BytesPerSecond, DeviceKind, DeviceSpec, Field, Hertz};

use super::*;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn cpu(cores: u32, simd: &str) -> DeviceSpec {
    DeviceSpec {
        kind: DeviceKind::Cpu,
        index: 0,
        name: "A processor".to_owned(),
        slug: "cpu-a-processor".to_owned(),
        memory: Field::Known(Bytes(16.0 * GIB)),
        memory_bandwidth: Field::absent("no CPU tells"),
        last_level_cache: Field::Known(Bytes(32.0 * MIB)),
        gpu: None,
        cpu: Some(Box::new(CpuSpec {
            cores,
            simd: simd.to_owned(),
            virtualised: Field::Known(false),
            governor: None,
        })),
    }
}

pub(crate) fn cpu_device(threads: usize) -> Device {
    Device::Cpu(CpuDevice { spec: cpu(threads as u32, "avx2"), threads })
}

fn gpu(name: &str, capability: (u32, u32), memory: f64, l2: f64, bandwidth: f64) -> DeviceSpec {
    let unknown = "only described";
    DeviceSpec {
        kind: DeviceKind::Cuda,
        index: 0,
        name: name.to_owned(),
        slug: name.to_lowercase(),
        memory: Field::Known(Bytes(memory)),
        memory_bandwidth: Field::Known(BytesPerSecond(bandwidth)),
        last_level_cache: Field::Known(Bytes(l2)),
        gpu: Some(Box::new(GpuSpec {
            compute_capability: capability,
            cuda_driver_version: 13000,
            sm_count: Field::Known(40),
            sm_clock: Field::Known(Hertz(1.59e9)),
            memory_clock: Field::absent(unknown),
            memory_bus_bits: Field::absent(unknown),
            shared_memory_per_sm: Field::absent(unknown),
            shared_memory_per_block: Field::absent(unknown),
            registers_per_sm: Field::absent(unknown),
            warp_size: Field::absent(unknown),
            ecc: Field::absent(unknown),
            integrated: Field::absent(unknown),
            memory_pools: Field::absent(unknown),
            pci_id: Field::absent(unknown),
            uuid_hash: Field::absent(unknown),
            driver_version: Field::absent(unknown),
            power_limit: Field::absent(unknown),
            power_limit_default: Field::absent(unknown),
            pcie_now: Field::absent(unknown),
            pcie_max: Field::absent(unknown),
            mig: Field::absent(unknown),
            persistence: Field::absent(unknown),
            other_processes: Field::absent(unknown),
            idle: Field::absent(unknown),
            datasheet: Field::absent(unknown),
        })),
        cpu: None,
    }
}

pub(crate) fn t4() -> DeviceSpec {
    gpu("Tesla-T4", (7, 5), 14.7 * GIB, 4.0 * MIB, 320e9)
}

pub(crate) fn h200() -> DeviceSpec {
    let mut spec = gpu("H200", (9, 0), 140.0 * GIB, 50.0 * MIB, 4.8e12);
    if let Some(gpu) = &mut spec.gpu {
        gpu.sm_count = Field::Known(132);
    }
    spec
}

fn entries(spec: &DeviceSpec, full: bool) -> Vec<warpmark_measure::Entry> {
    let groups = groups(spec, &RunOptions { full, ..RunOptions::default() });
    groups.into_iter().flat_map(|group| group.entries).collect()
}

#[test]
fn ids_are_unique_on_every_kind_of_device() {
    for spec in [cpu(2, "avx512"), t4(), h200()] {
        for full in [false, true] {
            let entries = entries(&spec, full);
            let ids: BTreeSet<_> = entries.iter().map(|entry| entry.id.to_string()).collect();
            assert_eq!(ids.len(), entries.len(), "{}", spec.name);
            assert!(ids.iter().all(|id| id.starts_with("micro/")));
        }
    }
}

#[test]
fn no_benchmark_is_lost_on_the_way_into_the_plan() {
    let entries = |spec: &DeviceSpec, full| {
        let planned = entries(spec, full).into_iter();
        let kept = planned.filter(|entry| matches!(entry.id.subject(), "matmul" | "memory"));
        kept.collect::<Vec<_>>()
    };
    // 5 sizes in f32 by either library and 5 in f16, 1 bf16 multiplication; 6 operations on 3 sizes.
    assert_eq!(entries(&cpu(2, "avx512"), true).len(), 16 + 18);
    assert_eq!(entries(&cpu(2, "avx512"), false).len(), 5 + 6);
    // 8 kinds of arithmetic on 5 sizes, of which 15 fit the cache and come twice, and a search each; 48
    // shapes of layers, of which 39 fit. 6 operations on 3 sizes. Each of the two once for long.
    assert_eq!(entries(&h200(), true).len(), 8 * 5 + 15 + 8 + 48 + 39 + 18 + 2);
    // 7 kinds on 2 sizes and f64 on 1, of which none fits.
    assert_eq!(entries(&h200(), false).len(), 15 + 6 + 2);
}

#[test]
fn every_level_of_the_hierarchy_and_every_call_is_planned() {
    let count = |spec: &DeviceSpec, full, subject: &str| {
        entries(spec, full).iter().filter(|entry| entry.id.subject() == subject).count()
    };
    for (subject, quick, full) in [("cache", 3, 13), ("latency", 2, 14)] {
        let host = cpu(2, "avx512");
        assert_eq!((count(&host, false, subject), count(&host, true, subject)), (quick, full));
    }
    for (subject, quick, full) in [
        ("cache", 3, 10),
        ("latency", 2, 10),
        ("intensity", 2, 12),
        ("shared", 1, 1),
        ("atomics", 2, 2),
        // Three ways pinned, two pageable, one between cards (where there are two), four sizes.
        ("transfer", 4, 24),
        ("launch", 5, 5),
    ] {
        assert_eq!((count(&t4(), false, subject), count(&t4(), true, subject)), (quick, full));
    }
}

#[test]
fn a_group_opened_on_the_wrong_kind_of_device_says_so() {
    for group in groups(&h200(), &RunOptions { full: false, ..RunOptions::default() }) {
        let Err(error) = (group.open)(&cpu_device(1)) else {
            panic!("{} opened on a CPU", group.name);
        };
        assert!(matches!(error, warpmark_measure::WorkloadError::Unsupported(_)), "{error}");
    }
}

#[test]
fn a_simulated_gpu_gets_the_plan_of_a_real_one() {
    let mut simulated = t4();
    simulated.kind = DeviceKind::Simulated;
    assert_eq!(entries(&simulated, true).len(), entries(&t4(), true).len());
}

#[test]
fn the_full_suite_has_everything_that_the_quick_one_has() {
    for spec in [cpu(2, "avx512"), t4(), h200()] {
        let ids = |full| -> BTreeSet<_> {
            entries(&spec, full).into_iter().map(|entry| entry.id.to_string()).collect()
        };
        assert!(ids(true).is_superset(&ids(false)), "{}", spec.name);
        assert!(ids(true).len() > ids(false).len(), "{}", spec.name);
    }
}

#[test]
fn what_is_not_skipped_fits_and_has_a_time_that_is_a_guess_and_not_a_hole() {
    for spec in [cpu(2, "avx2"), t4(), h200()] {
        let capacity = spec.memory.known().unwrap();
        for entry in entries(&spec, true).iter().filter(|entry| entry.skip.is_none()) {
            assert!(entry.memory_estimate < *capacity, "{entry:?}");
            let seconds = entry.iteration_estimate.0;
            assert!((1e-6..10.0).contains(&seconds), "{entry:?}");
            assert!(entry.sampling.samples >= 10, "{entry:?}");
        }
    }
}

#[test]
fn guesses_for_a_t4_and_an_h200_are_within_reach_of_what_they_do() {
    let time = |spec: &DeviceSpec, path: &str| {
        let entries = entries(spec, false);
        let entry = entries.iter().find(|entry| entry.id.path() == path);
        entry.unwrap().iteration_estimate.0
    };
    // 2·4096³ operations at the 40 to 55 TFLOP/s a T4 is known for, and at an H200's 600 to 800.
    let f16 = "micro/matmul/f16.f32/4096x4096x4096";
    assert!((2.5e-3..5e-3).contains(&time(&t4(), f16)), "{}", time(&t4(), f16));
    assert!((1.5e-4..5e-4).contains(&time(&h200(), f16)), "{}", time(&h200(), f16));
    let copy = "micro/memory/copy/f32/256MiB";
    assert!((1.5e-3..3e-3).contains(&time(&t4(), copy)), "{}", time(&t4(), copy));
}

#[test]
fn the_quick_suite_on_two_cores_is_planned_for_less_than_45_seconds() {
    let seconds: f64 = entries(&cpu(2, "avx2"), false)
        .iter()
        .filter(|entry| entry.skip.is_none())
        .map(|entry| {
            let sampled = entry.sampling.samples as f64 * entry.iteration_estimate.0;
            entry.sampling.warm_up.0 + entry.sampling.target.0.max(sampled)
        })
        .sum();
    assert!(seconds < 45.0, "{seconds}");
}

#[test]
fn every_kernel_file_is_claimed_by_one_source() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut claims = BTreeMap::new();
    for file in std::fs::read_dir(crate_root.join("../../kernels")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|extension| extension == "cu") {
            claims.insert(name, 0);
        }
    }
    assert!(!claims.is_empty());
    let mut folders = vec![crate_root.join("src"), crate_root.join("../fused/src")];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Tests may look at a kernel; only code claims it.
            if path.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("test")) {
                continue;
            }
            let source = std::fs::read_to_string(path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for (kernel, count) in &mut claims {
                let include = format!("kernels/{kernel}\")");
                *count += code.matches(&include).filter(|_| code.contains("include_str!")).count();
            }
        }
    }
    assert!(claims.values().all(|count| *count == 1), "{claims:?}");
}
