//! The seeds of a target: small whole files of its format.

use std::fs;
use std::path::{Path, PathBuf};

use crate::targets::{Seeds, Target};

/// The folder of this package.
pub(crate) fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a target makes itself, the files of `corpus/<target>`, and those of the repository that it names.
pub(crate) fn of(target: &Target) -> Seeds {
    let mut seeds = (target.made)()?;
    let mut paths = Vec::new();
    let own = home().join("corpus").join(target.name);
    if own.is_dir() {
        collect(&own, &mut paths)?;
    }
    paths.sort();
    paths.extend(target.seeds.iter().map(|seed| home().join("..").join(seed)));
    for path in paths {
        seeds.push(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    if seeds.is_empty() {
        return Err(format!("no seeds in {}", own.display()).into());
    }
    Ok(seeds)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    Ok(())
}
