//! The host's processor as the kernel describes it.
//!
//! What is read is parsed by functions that take text, so that other machines' files can be tried.

use std::fs;
use std::path::Path;
use std::thread;

use warpmark_record::machine::CpuSpec;
use warpmark_record::{Bytes, DeviceKind, DeviceSpec, Field};

use crate::{memory, slug};

/// The processor as a device under test.
pub fn device_spec() -> DeviceSpec {
    let name = model_name();
    DeviceSpec {
        kind: DeviceKind::Cpu,
        index: 0,
        slug: cpu_slug(&name, cores()),
        name,
        memory: memory::total(),
        memory_bandwidth: Field::absent("a processor does not tell; `memory.copy` measures it"),
        last_level_cache: last_level_cache(Path::new("/sys/devices/system/cpu/cpu0/cache")),
        gpu: None,
        cpu: Some(Box::new(CpuSpec {
            cores: cores(),
            simd: simd().to_owned(),
            virtualised: virtualised(),
            governor: governor(Path::new("/sys/devices/system/cpu/cpu0/cpufreq")),
        })),
    }
}

/// Cores this process may run on: its affinity mask, and the processor quota of its cgroup.
pub fn cores() -> u32 {
    // The standard library reads both; where it can read neither, one core is certain.
    thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// The processor's name, or what the machine is where the kernel gives none.
pub(crate) fn model_name() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| model_name_in(&text))
        .unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

fn cpuinfo_value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key && !value.trim().is_empty()).then(|| value.trim())
    })
}

fn model_name_in(cpuinfo: &str) -> Option<String> {
    if let Some(name) = cpuinfo_value(cpuinfo, "model name") {
        return Some(name.to_owned());
    }
    // 64-bit ARM kernels give numbers instead of a name.
    let implementer = cpuinfo_value(cpuinfo, "CPU implementer")?;
    let part = cpuinfo_value(cpuinfo, "CPU part")?;
    let known = ARM_PARTS.iter().find(|(i, p, _)| *i == implementer && *p == part);
    Some(known.map_or_else(
        || format!("ARM implementer {implementer} part {part}"),
        |(_, _, name)| (*name).to_owned(),
    ))
}

/// Implementer and part number, and the core they stand for: those of rented servers.
const ARM_PARTS: &[(&str, &str, &str)] = &[
    ("0x41", "0xd08", "ARM Cortex-A72"),
    ("0x41", "0xd0b", "ARM Cortex-A76"),
    ("0x41", "0xd0c", "ARM Neoverse N1"),
    ("0x41", "0xd40", "ARM Neoverse V1"),
    ("0x41", "0xd49", "ARM Neoverse N2"),
    ("0x41", "0xd4f", "ARM Neoverse V2"),
    ("0xc0", "0xac3", "Ampere-1"),
];

/// `cpu-amd-epyc-7b13`: the model without trademarks, core counts and clocks. Where that names a family and
/// no product (`cpu-amd-epyc-2c`, as hypervisors have it, or a core that many products have), the cores
/// that this process may use tell machines apart.
fn cpu_slug(name: &str, cores: u32) -> String {
    let plain = name.replace("(R)", " ").replace("(TM)", " ").replace("(tm)", " ");
    let plain = plain.split('@').next().unwrap_or_default();
    let words = plain.split_whitespace().filter(|word| {
        let lower = word.to_lowercase();
        let says_nothing = matches!(lower.as_str(), "cpu" | "processor");
        !says_nothing && !lower.ends_with("-core")
    });
    let slug = slug(&words.fold("cpu".to_owned(), |slug, word| format!("{slug} {word}")));
    let is_a_core = ARM_PARTS.iter().any(|(_, _, part)| *part == name);
    if is_a_core || !slug.contains(|c: char| c.is_ascii_digit()) {
        format!("{slug}-{cores}c")
    } else {
        slug
    }
}

/// What sets the clocks, where the kernel tells.
fn governor(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("scaling_governor")).ok()?;
    let name = text.trim();
    (!name.is_empty() && name.len() < 32).then(|| name.to_owned())
}

/// The size of the last cache level that cpu0 lists.
fn last_level_cache(folder: &Path) -> Field<Bytes> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Field::absent(format!("the kernel lists no caches in {}", folder.display()));
    };
    let read = |path: &Path, file: &str| fs::read_to_string(path.join(file)).ok();
    let largest = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let kind = read(&path, "type")?;
            let level: u32 = read(&path, "level")?.trim().parse().ok()?;
            let size = cache_size(read(&path, "size")?.trim())?;
            (kind.trim() != "Instruction").then_some((level, size))
        })
        .max_by_key(|(level, _)| *level);
    match largest {
        Some((_, size)) => Field::Known(size),
        None => Field::absent("the kernel gives no cache size (some hypervisors hide it)"),
    }
}

/// `32768K` or `33M`, as sysfs writes sizes.
fn cache_size(text: &str) -> Option<Bytes> {
    let (digits, factor) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1024.0),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 1024.0 * 1024.0),
            None => (text, 1.0),
        },
    };
    let count: u32 = digits.parse().ok()?;
    (count > 0).then(|| Bytes(f64::from(count) * factor))
}

/// The widest vector instructions that this processor has and the programs here can use.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn simd() -> &'static str {
    if is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if is_x86_feature_detected!("avx2") {
        "avx2"
    } else if is_x86_feature_detected!("avx") {
        "avx"
    } else {
        "sse2"
    }
}

#[cfg(target_arch = "aarch64")]
fn simd() -> &'static str {
    if std::arch::is_aarch64_feature_detected!("sve2") {
        "sve2"
    } else if std::arch::is_aarch64_feature_detected!("sve") {
        "sve"
    } else {
        "neon"
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn simd() -> &'static str {
    "unknown"
}

/// Whether a hypervisor is underneath, which x86 processors tell their guests.
pub(crate) fn virtualised() -> Field<bool> {
    match fs::read_to_string("/proc/cpuinfo") {
        Ok(text) => virtualised_in(&text),
        Err(error) => Field::absent(format!("/proc/cpuinfo cannot be read: {error}")),
    }
}

fn virtualised_in(cpuinfo: &str) -> Field<bool> {
    match cpuinfo_value(cpuinfo, "flags") {
        Some(flags) => Field::Known(flags.split_whitespace().any(|flag| flag == "hypervisor")),
        None => Field::absent("only x86 processors tell their guests"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPYC: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\n\
        model name\t: AMD EPYC 7B13 64-Core Processor\nflags\t\t: fpu sse2 avx2 hypervisor lahf_lm\n";
    const GRAVITON: &str = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve\n\
        CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd40\n";

    #[test]
    fn an_x86_processor_has_its_model_name() {
        assert_eq!(model_name_in(EPYC).as_deref(), Some("AMD EPYC 7B13 64-Core Processor"));
        assert_eq!(virtualised_in(EPYC), Field::Known(true));
        assert_eq!(virtualised_in(&EPYC.replace(" hypervisor", "")), Field::Known(false));
    }

    #[test]
    fn an_arm_processor_is_named_from_its_numbers() {
        assert_eq!(model_name_in(GRAVITON).as_deref(), Some("ARM Neoverse V1"));
        let unknown = GRAVITON.replace("0xd40", "0xfff");
        assert_eq!(model_name_in(&unknown).as_deref(), Some("ARM implementer 0x41 part 0xfff"));
        assert!(virtualised_in(GRAVITON).reason().is_some());
        assert_eq!(model_name_in(""), None);
    }

    #[test]
    fn slugs_keep_the_model_and_drop_the_noise() {
        for (name, slug) in [
            ("AMD EPYC 7B13 64-Core Processor", "cpu-amd-epyc-7b13"),
            ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cpu-intel-xeon-platinum-8481c"),
            ("ARM Neoverse V1", "cpu-arm-neoverse-v1-2c"),
            ("AMD EPYC", "cpu-amd-epyc-2c"),
            ("Intel(R) Xeon(R) Processor", "cpu-intel-xeon-2c"),
        ] {
            assert_eq!(cpu_slug(name, 2), slug);
        }
        assert_ne!(cpu_slug("AMD EPYC", 2), cpu_slug("AMD EPYC", 64));
    }

    #[test]
    fn the_last_level_is_the_highest_and_never_an_instruction_cache() {
        let folder = tempfile::tempdir().unwrap();
        for (index, level, kind, size) in [
            ("index0", "1", "Data", "32K"),
            ("index1", "1", "Instruction", "32K"),
            ("index2", "2", "Unified", "512K"),
            ("index3", "3", "Unified", "32768K"),
        ] {
            let path = folder.path().join(index);
            fs::create_dir(&path).unwrap();
            for (file, text) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(path.join(file), format!("{text}\n")).unwrap();
            }
        }
        assert_eq!(last_level_cache(folder.path()), Field::Known(Bytes(32_768.0 * 1024.0)));
        assert!(last_level_cache(&folder.path().join("none")).reason().is_some());
    }

    #[test]
    fn cache_sizes_are_read_in_both_units_and_zero_is_none() {
        assert_eq!(cache_size("33M"), Some(Bytes(33.0 * 1024.0 * 1024.0)));
        assert_eq!(cache_size("0K"), None);
        assert_eq!(cache_size("much"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_describes_itself() {
        let spec = device_spec();
        assert!(spec.slug.starts_with("cpu-"), "{}", spec.slug);
        assert!(spec.memory.known().unwrap().get() > 1e8);
        assert!(spec.cpu.unwrap().cores >= 1);
    }
}
