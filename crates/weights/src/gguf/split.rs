//! Names of the parts into which `llama-gguf-split` cuts a file: `name-00001-of-00003.gguf`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A checkpoint with all of its files that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    /// Its name, without that of a part.
    pub(super) name: String,
    /// Its parts in their order.
    pub(super) parts: Vec<PathBuf>,
    /// How many there should be, and the number of each that is there; nothing of a file that is whole.
    counted: Option<(u32, Vec<u32>)>,
}

impl Whole {
    /// The name of the first part that is not there.
    pub(super) fn missing(&self) -> Option<String> {
        let (count, there) = self.counted.as_ref()?;
        let missing = (1..=*count).find(|part| !there.contains(part))?;
        Some(format!("{}-{missing:05}-of-{count:05}.gguf", self.name))
    }
}

/// Puts the parts of a whole together, by their names.
pub(super) fn together(mut paths: Vec<PathBuf>) -> Vec<Whole> {
    paths.sort();
    let mut wholes: BTreeMap<(String, Option<u32>), Whole> = BTreeMap::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (name, part) =
            part(&stem).map_or((stem.as_str(), None), |(name, part)| (name, Some(part)));
        let whole =
            wholes.entry((name.to_owned(), part.map(|(_, count)| count))).or_insert(Whole {
                name: name.to_owned(),
                parts: Vec::new(),
                counted: part.map(|(_, count)| (count, Vec::new())),
            });
        whole.parts.push(path);
        if let (Some((number, _)), Some((_, there))) = (part, whole.counted.as_mut()) {
            there.push(number);
        }
    }
    wholes.into_values().collect()
}

/// The name, the number and the count of a part, numbers from 1.
fn part(stem: &str) -> Option<(&str, (u32, u32))> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        let five = text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
        if five { text.parse::<u32>().ok() } else { None }
    };
    let (number, count) = (digits(number)?, digits(count)?);
    (number >= 1 && number <= count).then_some((name, (number, count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wholes(names: &[&str]) -> Vec<(String, usize, Option<String>)> {
        let whole = |whole: Whole| (whole.name.clone(), whole.parts.len(), whole.missing());
        together(names.iter().map(PathBuf::from).collect()).into_iter().map(whole).collect()
    }

    #[test]
    fn parts_are_one_checkpoint_in_their_order_and_other_files_each_their_own() {
        let found =
            wholes(&["m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "m.gguf", "m-1-of-2.gguf"]);
        let own = |name: &str, parts| (name.to_owned(), parts, None);
        assert_eq!(found, [own("m", 1), own("m", 2), own("m-1-of-2", 1)]);
        let parts = together(vec!["m-00002-of-00002.gguf".into(), "m-00001-of-00002.gguf".into()]);
        let expected = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"].map(PathBuf::from);
        assert_eq!(parts[0].parts, expected);
    }

    #[test]
    fn the_first_part_that_is_not_there_is_named() {
        let found = wholes(&["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert_eq!(found[0].2.as_deref(), Some("m-00002-of-00003.gguf"));
    }
}
