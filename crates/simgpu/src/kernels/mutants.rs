//! Mutants of the suite's kernels: what a slip of the pen would make of them, and whether it is found.
//!
//! A mutant is one place of a source changed. One that NVRTC refuses is none, and one whose text is the
//! kernel's own, but for the lines, changes nothing.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::text_tests::{findings, options};
use crate::compiler::{Unit, builds};
use crate::source::load;

/// The share of mutants, in percent, that have to be found.
const FOUND: usize = 95;

/// How many of a source are tried at most, in even steps through it, unless `EVERY_MUTANT` is set: all of
/// them take the long sources half an hour.
const TRIED: usize = 100;

/// What is written in the place of what. Every place of a source where it stands is a mutant.
const SLIPS: [(&str, &str); 45] = [
    // Barriers and what is atomic.
    ("__syncthreads();", ""),
    ("atomicAdd(sum, mine)", "*sum = mine"),
    ("atomicAdd(mine, 1u)", "*mine += 1u"),
    ("atomicAdd", "atomicExch"),
    ("atomicXor", "atomicOr"),
    // Indices.
    ("threadIdx.x", "(threadIdx.x + 1)"),
    ("threadIdx.x", "(threadIdx.x / 2)"),
    ("blockIdx.x", "(blockIdx.x + 1)"),
    ("blockIdx.x", "0"),
    ("blockDim.x", "(blockDim.x - 1)"),
    ("gridDim.x", "(gridDim.x + 1)"),
    ("u * THREADS", "u * THREADS + 1"),
    ("u * THREADS", "u"),
    ("[at]", "[at + 1]"),
    ("[i]", "[i + 1]"),
    ("a += first_vector();", ""),
    ("c += first_vector();", ""),
    ("b += first_vector();", ""),
    // Bounds and steps.
    (" < ", " <= "),
    (" < ", " > "),
    (" - 1)", ")"),
    (" + 1 ", " + 2 "),
    ("++", "+= 2"),
    ("+= THREADS", "+= THREADS / 2"),
    ("UNROLL)", "UNROLL / 2)"),
    ("u < UNROLL", "u < UNROLL - 1"),
    ("round < rounds", "round + 1 < rounds"),
    ("step < steps", "step + 1 < steps"),
    // Masks and conditions.
    ("mine & mask", "mask"),
    ("mine & mask", "mine | ~mask"),
    ("if (amount)", "if (!amount)"),
    (" == ", " != "),
    (" != ", " == "),
    // Arithmetic and conversions.
    (" * ", " + "),
    (" + ", " - "),
    (" ^ ", " | "),
    (" >> ", " << "),
    (" | ", " & "),
    (" & ", " | "),
    ("v.z", "v.x"),
    ("w[u].y", "w[u].x"),
    ("(u16)", "(u8)"),
    ("(int)", "(short)"),
    ("0x8000u", "0x4000u"),
    ("__fmul_rn(s, y)", "__fmul_rn(y, y)"),
];

/// A mutant: what was changed, and its source.
struct Mutant {
    what: String,
    source: String,
    /// Whether a half of a vector of zeros becomes the least one, 6e-8: below every tolerance.
    least_half: bool,
}

/// The byte ranges of a source that are code and no comment.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    source.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let code = line.find("//").map_or(line, |end| &line[..end]);
        (!code.trim().is_empty()).then_some((start, code))
    })
}

/// All mutants of a source: the slips, and every number one greater.
fn mutants(source: &str) -> Vec<Mutant> {
    let mut found = Vec::new();
    let mut change = |start: usize, at: usize, from: &str, to: &str| {
        let place = start + at;
        let line = source[..place].matches('\n').count() + 1;
        let source = format!("{}{to}{}", &source[..place], &source[place + from.len()..]);
        let of_zeros = source[..place].ends_with("make_uint4(")
            || source[..place].ends_with("make_uint4(0, ")
            || source[..place].ends_with("make_uint4(0, 0, ")
            || source[..place].ends_with("make_uint4(0, 0, 0, ");
        let least_half = of_zeros && from == "0";
        found.push(Mutant { what: format!("line {line}: {from} as {to}"), source, least_half });
    };
    for (start, code) in code_lines(source) {
        for (from, to) in SLIPS {
            for (at, _) in code.match_indices(from) {
                change(start, at, from, to);
            }
        }
        // Numbers that stand alone, in code that is no preprocessor's.
        let bytes = code.as_bytes();
        let mut at = 0;
        while at < bytes.len() && !code.starts_with('#') {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let part_of_a_word =
                |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
            let alone = at == 0 || !part_of_a_word(bytes[at - 1]);
            let ends = bytes.get(at + digits).is_none_or(|byte| !part_of_a_word(*byte));
            if digits > 0 && alone && ends {
                let number: u64 = code[at..at + digits].parse().unwrap();
                change(start, at, &code[at..at + digits], &(number + 1).to_string());
            }
            at += digits.max(1);
        }
    }
    found
}

/// A text without what says where it comes from, and without the bound of its blocks: numbers here only
/// grow, and what fits the kernel's bound fits a greater one.
fn bare(ptx: &str) -> String {
    let is_left_out =
        |line: &&str| matches!(line.split_whitespace().next(), Some(".loc" | ".maxntid"));
    let lines = ptx.lines().filter(|line| !is_left_out(line));
    lines.collect::<Vec<&str>>().join("\n")
}

/// The kernels of a text, by name.
fn names(ptx: &str) -> Vec<String> {
    load(ptx, |_, _| 0).unwrap().entries().iter().map(|entry| entry.name.clone()).collect()
}

/// What became of a mutant.
enum Fate {
    /// No compiler or driver takes it.
    Refused,
    /// Its text is the kernel's own.
    Same,
    Found,
    Missed(String),
}

fn fate(mutant: &Mutant, name: &str, options: &[String], original: &str) -> Fate {
    // What no driver loads is refused as well: an instruction with numbers that it cannot have.
    let unit = Unit { name, source: &mutant.source, options };
    match unit.ptx(80).ok().filter(|text| load(text, |_, _| 0).is_ok()) {
        None => Fate::Refused,
        Some(text) if mutant.least_half || bare(&text) == original => Fate::Same,
        // The driver has no function of a name that is asked for.
        Some(text) if names(&text) != names(original) => Fate::Found,
        Some(text) if findings(&text, 11, 24).is_empty() => Fate::Missed(mutant.what.clone()),
        Some(_) => Fate::Found,
    }
}

/// What becomes of all mutants, tried on all processors.
fn fates(mutants: &[Mutant], name: &str, options: &[String], original: &str) -> Vec<Fate> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let one = || {
        let mut own = Vec::new();
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.push(fate(mutant, name, options, original));
        }
        own
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Needs NVRTC; `scripts/kernel-ptx --mutants` brings it and runs this.
#[test]
#[ignore = "needs NVRTC, which cargo test must not require"]
fn what_a_slip_makes_of_a_kernel_is_found() {
    let options = options();
    let every = std::env::var_os("EVERY_MUTANT").is_some();
    let (mut all, mut missed) = (0, Vec::new());
    // The ways of one kernel are the same text with other numbers: one of them is enough.
    let left_out = |stem: &str| {
        stem.contains("512")
            || stem.contains("1024")
            || stem == "decode-bf16"
            || stem == "pass-bf16"
            || (stem.starts_with("attention") && stem != "attention-40-f16")
    };
    for (stem, name, source) in builds().into_iter().filter(|(stem, ..)| !left_out(stem)) {
        let unit = Unit { name: &name, source: &source, options: &options };
        let original = bare(&unit.ptx(80).unwrap());
        let mutants = mutants(&source);
        let step = if every { 1 } else { mutants.len().div_ceil(TRIED) };
        let tried: Vec<Mutant> = mutants.into_iter().step_by(step).collect();
        let (mut own, mut refused, mut same) = (0, 0, 0);
        for fate in fates(&tried, &name, &options, &original) {
            match fate {
                Fate::Refused => refused += 1,
                Fate::Same => same += 1,
                Fate::Found => own += 1,
                Fate::Missed(what) => {
                    own += 1;
                    missed.push(format!("{stem}, {what}"));
                }
            }
        }
        println!(
            "{stem}, each of {step}: {own} mutants, {refused} refused by a compiler, {same} that \
             change nothing"
        );
        all += own;
    }
    println!("{all} mutants, {} missed: {missed:#?}", missed.len());
    assert!(all >= 100, "{all} mutants");
    assert!(100 * (all - missed.len()) >= FOUND * all, "{} of {all} missed", missed.len());
}

#[test]
fn a_mutant_is_one_place_changed_and_comments_stay() {
    let all = mutants("// a < b\nx[i] = y < 3; // y < 3\n#define N 4\n");
    let changed: Vec<&str> =
        all.iter().map(|mutant| mutant.source.lines().nth(1).unwrap()).collect();
    let expected = [
        "x[i + 1] = y < 3; // y < 3",
        "x[i] = y <= 3; // y < 3",
        "x[i] = y > 3; // y < 3",
        "x[i] = y < 4; // y < 3",
    ];
    assert_eq!(changed, expected);
    assert_eq!(all[0].what, "line 2: [i] as [i + 1]");
}
