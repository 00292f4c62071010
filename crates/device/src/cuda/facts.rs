//! What follows from a driver's answers, and what stands beside them in the environment.

use cudarc::driver::sys::CUuuid;
use warpmark_record::machine::DatasheetEntry;
use warpmark_record::{BytesPerSecond, Field, Hertz};

/// Variables that change what the driver and its libraries do, where they are set.
const VARIABLES: [&str; 6] = [
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_FORCE_PTX_JIT",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_VISIBLE_DEVICES",
];

pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    VARIABLES.into_iter().filter_map(|name| {
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        Some((format!("env_{}", name.to_ascii_lowercase()), value))
    })
}

/// The name of the card that a simulated one imitates, which has a datasheet; others are as they are.
pub(super) fn real_name(name: &str) -> &str {
    name.strip_suffix(" (simulated)").unwrap_or(name)
}

/// Memory bandwidth as clock and bus allow it: 2 transfers per reported clock × bus width in bytes.
///
/// The factor 2 holds for GDDR5, GDDR6, GDDR6X and every HBM as the driver reports their clocks (T4:
/// 2 × 5001 MHz × 256 bit = 320 GB/s). Where the driver gives no clock or no bus width, as on cards
/// that share the host's memory, the datasheet is taken; where it has none either, the value is absent.
pub(super) fn bandwidth(
    clock: &Field<Hertz>,
    bus_bits: &Field<u32>,
    datasheet: &Field<DatasheetEntry>,
) -> Field<BytesPerSecond> {
    if let (Some(clock), Some(bits)) = (clock.known(), bus_bits.known()) {
        return Field::Known(BytesPerSecond(2.0 * clock.get() * f64::from(*bits) / 8.0));
    }
    match datasheet.known().and_then(|entry| entry.bandwidth.as_ref()) {
        Some(figure) => Field::Known(figure.value),
        None => Field::absent(
            "the driver tells no memory clock or bus width, and the datasheet no bandwidth",
        ),
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every version, unlike the standard library's.
pub(super) fn uuid_hash(uuid: CUuuid) -> String {
    let hash = uuid.bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte.cast_unsigned())).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasheet;

    fn no_datasheet() -> Field<DatasheetEntry> {
        Field::absent("no entry")
    }

    #[test]
    fn a_simulated_card_is_looked_up_under_the_name_of_the_real_one() {
        assert_eq!(real_name("Tesla T4 (simulated)"), "Tesla T4");
        assert_eq!(real_name("Tesla T4"), "Tesla T4");
    }

    #[test]
    fn bandwidth_is_two_transfers_a_clock() {
        let t4 = bandwidth(&Field::Known(Hertz(5.001e9)), &Field::Known(256), &no_datasheet());
        assert!((t4.known().unwrap().get() / 320.064e9 - 1.0).abs() < 1e-12);
        let a100 = bandwidth(&Field::Known(Hertz(1.215e9)), &Field::Known(5120), &no_datasheet());
        assert!((a100.known().unwrap().get() / 1555.2e9 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn without_a_memory_clock_the_datasheet_is_asked_and_without_a_datasheet_it_is_absent() {
        let silent = Field::absent("the driver reports 0");
        let t4 = datasheet::find("Tesla T4", &Field::absent("x"), &Field::Known(40));
        assert_eq!(
            bandwidth(&silent, &Field::Known(256), &t4).known(),
            Some(&BytesPerSecond(320e9))
        );
        assert!(bandwidth(&silent, &Field::Known(256), &no_datasheet()).reason().is_some());
    }

    #[test]
    fn the_hash_of_a_uuid_is_fnv_1a() {
        // From the definition: the hash of "a" is af63dc4c8601ec8c.
        let one = "a".bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        assert_eq!(format!("{one:016x}"), "af63dc4c8601ec8c");
        let hash = uuid_hash(CUuuid { bytes: [1; 16] });
        assert_eq!(hash.len(), 16);
        assert_ne!(hash, uuid_hash(CUuuid { bytes: [2; 16] }));
    }
}
