//! Weights from a folder that the user points at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use warpmark_record::{WeightsStamp, source};

use super::{WeightFiles, WeightsError, component, git_lfs};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The part of a sharded checkpoint's index that matters here.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a folder: where the model comes in components, the files that its entry lists;
/// else the shards that the folder's index lists, else those that the entry lists, where one of them is
/// there, else `model.safetensors`, else the one safetensors file in it.
pub(super) fn locate(path: &Path, files: &[String]) -> Result<WeightFiles, WeightsError> {
    let problem = |problem: String| WeightsError::Folder { path: path.to_owned(), problem };
    let metadata = std::fs::metadata(path)
        .map_err(|error| problem(format!("{error}; give the folder that holds the weights")))?;
    if !metadata.is_dir() {
        return Err(problem("not a folder; give the folder that holds the file".to_owned()));
    }
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name =
        name.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let stamp = WeightsStamp::Folder { name };
    if files.iter().any(|file| component::of(file).is_some()) {
        return components(path, files, stamp);
    }
    let paths = if path.join(INDEX).is_file() {
        shards(&path.join(INDEX), path)?
    } else if files.len() > 1 && files.iter().any(|file| path.join(file).is_file()) {
        listed(path, files, "the checkpoint comes in shards")?
    } else if path.join(SINGLE).is_file() {
        vec![path.join(SINGLE)]
    } else {
        vec![only_file(path)?]
    };
    Ok(WeightFiles::new(paths, stamp))
}

/// The files of a model in components: those that its entry lists, or in place of one the shards that
/// the index beside it lists.
fn components(
    path: &Path,
    files: &[String],
    stamp: WeightsStamp,
) -> Result<WeightFiles, WeightsError> {
    let index = |file: &str| path.join(format!("{file}.index.json"));
    let whole = |file: &&String| path.join(file).is_file() || !index(file).is_file();
    let (whole, sharded): (Vec<&String>, Vec<&String>) = files.iter().partition(whole);
    let mut names: Vec<String> = whole.into_iter().cloned().collect();
    let mut paths = listed(path, &names, "a model in components is laid out as its repository")?;
    for file in sharded {
        let folder = path.join(component::of(file).unwrap_or_default());
        let found = shards(&index(file), &folder)?;
        names.extend(found.iter().map(|_| file.clone()));
        paths.extend(found);
    }
    Ok(WeightFiles::of_repo(paths, &names, stamp))
}

/// The files that an entry lists, all of which must be in the folder; `why` says so to whoever lacks one.
fn listed(folder: &Path, files: &[String], why: &str) -> Result<Vec<PathBuf>, WeightsError> {
    let missing: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| !folder.join(file).is_file()).collect();
    if missing.is_empty() {
        return Ok(files.iter().map(|file| folder.join(file)).collect());
    }
    let problem = format!(
        "it has no {}: {why}; fetch what is missing, or give the folder above",
        missing.join(", ")
    );
    Err(WeightsError::Folder { path: folder.to_owned(), problem })
}

/// The shards of a folder that an index lists.
fn shards(index: &Path, folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let problem = |problem: String| WeightsError::Folder { path: index.to_owned(), problem };
    let text = read_bounded(index)?;
    git_lfs::refuse_pointer_text(&text, index)?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|error| problem(format!("no index of a sharded checkpoint: {error}")))?;
    let files: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if files.is_empty() {
        return Err(problem("its weight_map lists no file".to_owned()));
    }
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        if file.contains('/') || file == ".." {
            return Err(problem(format!("{file:?} lies outside of the folder")));
        }
        let path = folder.join(&file);
        if !path.is_file() {
            return Err(problem(format!("it lists {file:?}, which is not there; fetch it too")));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The whole text of an index, which is small: 150,000 tensors take 16 MiB.
fn read_bounded(path: &Path) -> Result<Vec<u8>, WeightsError> {
    const MOST: u64 = 16 << 20;
    let file = source::open(path).map_err(WeightsError::io("open", path))?;
    let mut text = Vec::new();
    file.take(MOST + 1).read_to_end(&mut text).map_err(WeightsError::io("read", path))?;
    if text.len() as u64 > MOST {
        let problem = "longer than 16 MiB, which no index of a checkpoint is".to_owned();
        return Err(WeightsError::Folder { path: path.to_owned(), problem });
    }
    Ok(text)
}

fn only_file(folder: &Path) -> Result<PathBuf, WeightsError> {
    let problem = |problem: String| WeightsError::Folder { path: folder.to_owned(), problem };
    let entries = std::fs::read_dir(folder).map_err(WeightsError::io("list", folder))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    found.sort();
    match found.len() {
        0 => Err(problem("no .safetensors file in it; convert the checkpoint".to_owned())),
        1 => Ok(found.swap_remove(0)),
        count => Err(problem(format!(
            "{count} .safetensors files, neither {SINGLE} nor {INDEX} among them; \
             leave one, or add the index"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// What an entry lists that says nothing.
    fn nothing_said() -> Vec<String> {
        vec![SINGLE.to_owned()]
    }

    fn names(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = folder(files);
        let located = locate(folder.path(), &nothing_said()).map_err(|error| error.to_string())?;
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(located.paths().iter().map(name).collect())
    }

    #[test]
    fn a_single_file_is_taken_by_its_usual_name_or_by_being_alone() {
        assert_eq!(names(&[("other.safetensors", "")]).unwrap(), ["other.safetensors"]);
        let two = [("model.safetensors", ""), ("model.fp16.safetensors", "")];
        assert_eq!(names(&two).unwrap(), ["model.safetensors"]);
    }

    #[test]
    fn shards_are_those_of_the_index_each_once() {
        let index = r#"{"metadata":{},"weight_map":{"a":"s2.safetensors","b":"s1.safetensors","c":"s1.safetensors"}}"#;
        let files =
            [(INDEX, index), ("s1.safetensors", ""), ("s2.safetensors", ""), ("x.safetensors", "")];
        assert_eq!(names(&files).unwrap(), ["s1.safetensors", "s2.safetensors"]);
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_said_with_the_next_step() {
        let index = r#"{"weight_map":{"a":"gone.safetensors"}}"#;
        let outside = r#"{"weight_map":{"a":"../x.safetensors"}}"#;
        for (files, word) in [
            (&[("notes.txt", "")][..], "no .safetensors"),
            (&[("a.safetensors", ""), ("b.safetensors", "")][..], "add the index"),
            (&[(INDEX, "{}")][..], "weight_map"),
            (&[(INDEX, index)][..], "fetch it too"),
            (&[(INDEX, outside)][..], "outside"),
        ] {
            let error = names(files).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let file = folder(&[("model.safetensors", "")]);
        let error = locate(&file.path().join("model.safetensors"), &nothing_said())
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a folder"), "{error}");
        let error = locate(&file.path().join("gone"), &nothing_said()).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("give the folder"), "{error}");
    }

    #[test]
    fn shards_without_an_index_are_those_of_the_entry_and_a_missing_one_is_named() {
        let entry = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"].map(str::to_owned);
        let half = folder(&[(&entry[0], "")]);
        let error = locate(half.path(), &entry).unwrap_err().to_string();
        assert!(error.contains("no model-2-of-2") && error.contains("fetch"), "{error}");
        std::fs::write(half.path().join(&entry[1]), "").unwrap();
        let located = locate(half.path(), &entry).unwrap();
        assert_eq!(located.paths(), [&entry[0], &entry[1]].map(|file| half.path().join(file)));
        // One file that holds them all is as good.
        let merged = folder(&[(SINGLE, "")]);
        assert_eq!(locate(merged.path(), &entry).unwrap().paths(), [merged.path().join(SINGLE)]);
    }

    #[test]
    fn a_component_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("unet")).unwrap();
        std::fs::write(folder.path().join("unet/x.safetensors"), "").unwrap();
        let files = ["unet/x.safetensors", "vae/x.safetensors"].map(str::to_owned);
        let error = locate(folder.path(), &files).unwrap_err().to_string();
        assert!(error.contains("vae/x.safetensors") && error.contains("fetch"), "{error}");
        assert!(!error.contains("unet/x"), "{error}");
        let located = locate(folder.path(), &files[..1]).unwrap();
        assert_eq!(located.paths(), [folder.path().join("unet/x.safetensors")]);
    }

    #[test]
    fn a_component_may_come_in_shards_beside_others_that_do_not() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["unet", "text_encoder"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("unet/x.safetensors", "");
        let index = r#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
        write("text_encoder/m.safetensors.index.json", index);
        write("text_encoder/m-1.safetensors", "");
        write("text_encoder/m-2.safetensors", "");
        let files = ["unet/x.safetensors", "text_encoder/m.safetensors"].map(str::to_owned);
        let located = locate(folder.path(), &files).unwrap();
        let expected =
            ["unet/x.safetensors", "text_encoder/m-1.safetensors", "text_encoder/m-2.safetensors"];
        assert_eq!(located.paths(), expected.map(|file| folder.path().join(file)));
        write(
            "text_encoder/m.safetensors.index.json",
            "version https://git-lfs.github.com/spec/v1",
        );
        let error = locate(folder.path(), &files).unwrap_err().to_string();
        assert!(error.contains("git lfs pull"), "{error}");
    }

    #[test]
    fn the_record_gets_the_folders_name_and_not_the_path_to_it() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("my-gpt2");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join(SINGLE), "").unwrap();
        let stamp = locate(&inner.join("."), &nothing_said()).unwrap().stamp();
        assert_eq!(stamp, WeightsStamp::Folder { name: "my-gpt2".to_owned() });
    }
}
