//! What is planned for cards that are only described.

use super::*;
use crate::tests::{h200, t4};

fn planned(spec: &DeviceSpec, options: &RunOptions) -> Vec<Entry> {
    plan(spec, options).into_iter().flat_map(|group| group.entries).collect()
}

fn full() -> RunOptions {
    RunOptions { full: true, ..RunOptions::default() }
}

fn named<'a>(entries: &'a [Entry], path: &str) -> &'a Entry {
    let path = format!("micro/matmul/{path}");
    entries.iter().find(|entry| entry.id.path() == path).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn a_t4_says_why_not_what_it_lacks() {
    for entry in planned(&t4(), &full()) {
        let arithmetic = &entry.id.segments()[2];
        let lacks = ["bf16.f32", "tf32.f32", "fp8.f32"].contains(&arithmetic.as_str());
        let said = entry.skip.as_ref().is_some_and(|reason| reason.contains("this card has 7.5"));
        assert_eq!(said, lacks, "{entry:?}");
        // A T4's f64 is left out above 4096, where one product takes seconds; nothing else is.
        assert!(lacks || arithmetic == "f64.f64" || entry.skip.is_none(), "{entry:?}");
    }
}

#[test]
fn an_h200_multiplies_everything() {
    let entries = planned(&h200(), &full());
    assert!(entries.iter().all(|entry| entry.skip.is_none()));
    for arithmetic in [
        "f16.f32",
        "f16.f16",
        "bf16.f32",
        "tf32.f32",
        "f32.f32",
        "f64.f64",
        "int8.int32",
        "fp8.f32",
    ] {
        named(&entries, &format!("{arithmetic}/16384x16384x16384"));
        named(&entries, &format!("{arithmetic}/best"));
    }
    named(&entries, "f16.f32/256x4096x14336");
}

#[test]
fn a_small_card_skips_what_does_not_fit_with_both_figures() {
    let mut card = t4();
    card.memory = warpmark_record::Field::Known(Bytes(2.0 * f64::powi(2.0, 30)));
    let entries = planned(&card, &full());
    let reason = named(&entries, "f32.f32/16384x16384x16384").skip.as_ref().unwrap();
    assert!(reason.contains("3.03 GiB") && reason.contains("2.00 GiB"), "{reason}");
    // The search goes on among what fits.
    assert_eq!(named(&entries, "f32.f32/best").skip, None);
}

#[test]
fn matrices_that_fit_the_cache_are_multiplied_warm_and_cold() {
    let entries = planned(&h200(), &full());
    let cold = named(&entries, "f16.f32/1024x1024x1024/cold");
    let warm = named(&entries, "f16.f32/1024x1024x1024/warm");
    let cache = h200().last_level_cache.known().unwrap().0;
    assert!(cold.memory_estimate.0 - warm.memory_estimate.0 >= 4.0 * cache, "{cold:?}");
    // 48 MiB fit the whole of 50 and not the half.
    named(&entries, "f32.f32/2048x2048x2048/mixed");
    named(&entries, "f32.f32/2048x2048x2048/cold");
    assert!(!entries.iter().any(|e| e.id.path() == "micro/matmul/f32.f32/2048x2048x2048/warm"));
    // 96 MiB do not fit 50.
    named(&entries, "f16.f32/4096x4096x4096");
    assert!(!entries.iter().any(|e| e.id.path() == "micro/matmul/f16.f32/1024x1024x1024"));
    // 6 MiB do not fit 4.
    named(&planned(&t4(), &full()), "f16.f32/1024x1024x1024");
}

#[test]
fn a_cache_of_unknown_size_is_a_caveat_and_no_guess() {
    let mut card = t4();
    card.last_level_cache = warpmark_record::Field::absent("not told");
    let problem = Problem::square(Dtype::F16, Dtype::F32, 1024);
    let cases = single(&card, &full(), problem, None);
    assert_eq!((cases.len(), cases[0].1.cache), (1, Cache::Exceeded));
    assert!(cases[0].1.caveat.as_ref().unwrap().contains("unknown (not told)"));
}

#[test]
fn only_who_asks_for_it_searches_long() {
    let quick = RunOptions::default();
    assert!(!planned(&h200(), &quick).iter().any(|e| e.id.segments()[3] == "best"));
    let long = RunOptions { exhaustive: true, ..quick };
    let (_, case) = fastest(&h200(), &long, Dtype::F16, Dtype::F32).unwrap();
    let (_, short) = fastest(&h200(), &full(), Dtype::F16, Dtype::F32).unwrap();
    assert!(case.problems.len() > 50 * short.problems.len());
    assert!(case.search_limit > short.search_limit);
    named(&planned(&h200(), &long), "f16.f32/best");
}
