//! Mutants of the suite's kernels: what a slip of the pen would make of them, and whether it is found.
//!
//! A mutant is one place of a source changed. One that NVRTC refuses is none, and one whose text is the
//! kernel's own, but for the lines, changes nothing.

use super::text_tests::{findings, options};
use crate::compiler::{Unit, builds};
use crate::source::load;

/// The share of mutants, in percent, that have to be found.
const FOUND: usize = 95;

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
        found.push(Mutant { what: format!("line {line}: {from} as {to}"), source });
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

/// A text without what says where it comes from.
fn bare(ptx: &str) -> String {
    let lines = ptx.lines().filter(|line| !line.trim_start().starts_with(".loc"));
    lines.collect::<Vec<&str>>().join("\n")
}

/// Needs NVRTC; `scripts/kernel-ptx --mutants` brings it and runs this.
#[test]
#[ignore = "needs NVRTC, which cargo test must not require"]
fn what_a_slip_makes_of_a_kernel_is_found() {
    let options = options();
    let (mut all, mut missed) = (0, Vec::new());
    // The ways of one kernel are the same text with other numbers: one of them is enough.
    let builds = builds().into_iter();
    let builds = builds.filter(|(stem, ..)| !stem.contains("512") && !stem.contains("1024"));
    let one = |stem: &str| !stem.starts_with("attention") || stem == "attention-40-f16";
    for (stem, name, source) in builds.filter(|(stem, ..)| one(stem)) {
        let ptx = |source: &str| Unit { name: &name, source, options: &options }.ptx(80);
        let original = bare(&ptx(&source).unwrap());
        let (mut own, mut refused, mut same) = (0, 0, 0);
        for Mutant { what, source } in mutants(&source) {
            // What no driver loads is refused as well: an instruction with numbers that it cannot have.
            let text = ptx(&source).ok().filter(|text| load(text, |_, _| 0).is_ok());
            let Some(text) = text else {
                refused += 1;
                continue;
            };
            if bare(&text) == original {
                same += 1;
                continue;
            }
            own += 1;
            if findings(&text, 11, 12).is_empty() {
                missed.push(format!("{stem}, {what}"));
            }
        }
        println!(
            "{stem}: {own} mutants, {refused} refused by a compiler, {same} that change nothing"
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
