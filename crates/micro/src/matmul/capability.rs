//! Which arithmetic a GPU has, by its compute capability.

use warpmark_record::DeviceSpec;

use super::Problem;
use crate::data::Dtype;

/// What an arithmetic takes.
struct Need {
    dtype: Dtype,
    accumulate: Dtype,
    /// The first compute capability that has it.
    since: (u32, u32),
    /// Why earlier ones have not.
    because: &'static str,
}

const fn need(dtype: Dtype, accumulate: Dtype, since: (u32, u32), because: &'static str) -> Need {
    Need { dtype, accumulate, since, because }
}

/// From the table of arithmetic throughput in the CUDA C++ Programming Guide, and the types that
/// `cublasLtMatmul` documents for each architecture.
const NEEDS: [Need; 8] = [
    need(Dtype::F16, Dtype::F32, (5, 3), "no f16 before the Tegra X1"),
    need(Dtype::F16, Dtype::F16, (5, 3), "no f16 before the Tegra X1"),
    need(Dtype::Bf16, Dtype::F32, (8, 0), "no bf16 before Ampere"),
    need(Dtype::Tf32, Dtype::F32, (8, 0), "no TF32 before Ampere"),
    need(Dtype::F32, Dtype::F32, (1, 0), "no f32"),
    need(Dtype::F64, Dtype::F64, (1, 3), "no f64 before the second Tesla generation"),
    need(Dtype::Int8, Dtype::Int32, (6, 1), "no 8-bit dot product before the small Pascals"),
    need(Dtype::Fp8, Dtype::F32, (8, 9), "no FP8 before Ada and Hopper"),
];

/// Every arithmetic that is asked of a GPU, in the order of the plan.
pub(super) fn arithmetics() -> impl Iterator<Item = (Dtype, Dtype)> {
    NEEDS.iter().map(|need| (need.dtype, need.accumulate))
}

/// Why the GPU cannot multiply so, if it cannot.
pub(super) fn lacking(problem: &Problem, spec: &DeviceSpec) -> Option<String> {
    let (major, minor) = spec.gpu.as_ref()?.compute_capability;
    let need = NEEDS
        .iter()
        .find(|need| (need.dtype, need.accumulate) == (problem.dtype, problem.accumulate))?;
    ((major, minor) < need.since).then(|| {
        format!(
            "{} needs compute capability {}.{} ({}); this card has {major}.{minor}",
            problem.arithmetic(),
            need.since.0,
            need.since.1,
            need.because
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{h200, t4};

    /// What a card of this compute capability lacks, by name.
    fn lacks(major: u32, minor: u32) -> Vec<String> {
        let mut card = t4();
        card.gpu.as_mut().unwrap().compute_capability = (major, minor);
        let problems = arithmetics().map(|(dtype, sum)| Problem::square(dtype, sum, 1024));
        problems.filter(|p| lacking(p, &card).is_some()).map(|p| p.arithmetic()).collect()
    }

    #[test]
    fn each_generation_lacks_what_later_ones_brought() {
        assert_eq!(lacks(6, 0), ["bf16.f32", "tf32.f32", "int8.int32", "fp8.f32"]);
        assert_eq!(lacks(7, 5), ["bf16.f32", "tf32.f32", "fp8.f32"]);
        assert_eq!(lacks(8, 0), ["fp8.f32"]);
        assert_eq!(lacks(8, 6), ["fp8.f32"]);
        assert_eq!(lacks(8, 9), [] as [&str; 0]);
        assert_eq!(lacks(12, 0), [] as [&str; 0]);
    }

    #[test]
    fn the_reason_names_what_is_there_and_what_would_be_needed() {
        let fp8 = Problem::square(Dtype::Fp8, Dtype::F32, 1024);
        let reason = lacking(&fp8, &t4()).unwrap();
        assert!(reason.contains("8.9") && reason.contains("this card has 7.5"), "{reason}");
        assert_eq!(lacking(&fp8, &h200()), None);
    }
}
