//! The project's own words for what the field has a name for: none of them comes back.
//!
//! docs/GLOSSARY.md has the word that stands for each. Keys of stored records keep theirs.

use std::path::{Path, PathBuf};

/// Old words and what is said now. They are searched as whole words.
const OLD: [(&str, &str); 32] = [
    ("cannot be meant", "invalid"),
    ("is no sound", "is a malformed"),
    ("stanza", "entry"),
    ("stanzas", "entries"),
    ("Stanza", "Entry"),
    ("STANZA", "ENTRY"),
    ("book peak", "theoretical peak"),
    ("the card's book", "the card's datasheet"),
    ("BookEntry", "DatasheetEntry"),
    ("NotSettled", "NotConverged"),
    ("Feeding", "LaunchMode"),
    ("Lap", "TimedInterval"),
    ("laps", "timed intervals"),
    ("OwnReport", "CriterionOutput"),
    ("own_report", "criterion_output"),
    ("aftermath", "check_sticky_error"),
    ("given_back", "trim_pool"),
    ("guarded", "catch_panic"),
    ("is_meant", "is_worker"),
    ("Sight", "AttentionMask"),
    ("read_apart", "decode_ragged"),
    ("few_rows", "skinny_gemm"),
    ("many_rows", "large_gemm"),
    ("multiply_each", "linear"),
    ("all_powers", "exp_rows"),
    ("curve_of_sum", "activation_of_sum"),
    ("Spoken", "InputAudio"),
    ("Begun", "DecodeState"),
    ("MicroRequest", "MicroOptions"),
    ("join_the_threads", "init_rayon_pool"),
    ("--most", "--max-batch"),
    ("--delay", "--max-queue-delay"),
];

/// Where a word may stand all the same: as the ISA's own, or in what is no text of ours.
const ELSEWHERE: [(&str, &str); 2] = [
    // A guarded instruction has a predicate.
    ("crates/ptx/", "guarded"),
    // The aliases of old flags are tested.
    ("tests/serve.rs", "--"),
];

#[test]
fn old_words_have_not_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for part in ["crates", "tests", "docs", "benches", "examples", "fuzz/src", "scripts", "peers"] {
        texts(&root.join(part), &mut files);
    }
    files.extend(["README.md", "CONTRIBUTING.md", "models.toml"].map(|file| root.join(file)));
    assert!(files.len() > 400, "{} files: the tree is not here", files.len());
    let found: Vec<String> = files.iter().flat_map(|path| old_words(root, path)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What stands in a file, a line for each.
fn old_words(root: &Path, path: &Path) -> Vec<String> {
    let name = path.strip_prefix(root).unwrap().display().to_string();
    if name == "tests/words.rs" {
        return Vec::new();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for (old, new) in OLD {
        let excused = |(file, word): &(&str, &str)| name.starts_with(file) && old.starts_with(word);
        if ELSEWHERE.iter().any(excused) {
            continue;
        }
        for (at, _) in text.match_indices(old).filter(|(at, _)| is_word(&text, *at, old.len())) {
            let line = 1 + text[..at].matches('\n').count();
            found.push(format!("{name}:{line}: say \"{new}\" for \"{old}\""));
        }
    }
    found
}

/// Whether no letter, digit, underscore or hyphen continues the word at either end.
fn is_word(text: &str, at: usize, length: usize) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    !text[..at].chars().next_back().is_some_and(continues)
        && !text[at + length..].chars().next().is_some_and(continues)
}

/// The texts below a folder that people write.
fn texts(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, files);
        } else if path.extension().is_some_and(|kind| {
            ["rs", "md", "toml", "py", "cu", "sh"].iter().any(|known| kind == *known)
        }) {
            files.push(path);
        }
    }
}

#[test]
fn a_word_is_found_whole_and_not_within_another() {
    assert!(is_word("a lap of", 2, 3) && is_word("lap", 0, 3) && is_word("(lap)", 1, 3));
    assert!(!is_word("overlap", 4, 3) && !is_word("laps", 0, 3) && !is_word("lap_of", 0, 3));
}
