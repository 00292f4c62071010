//! The header of a safetensors file: what is where, checked against the file's length.
//!
//! Nothing in the file is trusted: the length field is held against the file's size and the format's
//! own bound before a byte is allocated by it, and the offsets must cover the file without overlap,
//! gap or overhang.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use warpmark_measure::contained;

use super::{WeightsError, git_lfs};

/// The longest header that the format allows.
const LONGEST: u64 = 100_000_000;

/// The length field before the header.
const LENGTH_FIELD: u64 = 8;

/// A header that fits its file.
#[derive(Debug)]
pub struct Header {
    metadata: Metadata,
    data_start: u64,
}

impl Header {
    /// Reads and checks the header of a file. `path` is what errors call it.
    pub fn read(file: &File, path: &Path) -> Result<Self, WeightsError> {
        let length = file.metadata().map_err(WeightsError::io("look at", path))?.len();
        let mut field = [0; LENGTH_FIELD as usize];
        if length < LENGTH_FIELD {
            return Err(WeightsError::Truncated {
                path: path.to_owned(),
                expected: LENGTH_FIELD,
                found: length,
            });
        }
        git_lfs::refuse_pointer(file, path)?;
        file.read_exact_at(&mut field, 0).map_err(WeightsError::io("read", path))?;
        let header_length = u64::from_le_bytes(field);
        if header_length > LONGEST {
            return Err(WeightsError::Header {
                path: path.to_owned(),
                problem: format!(
                    "its header is said to be {header_length} bytes long and the format allows {LONGEST}"
                ),
            });
        }
        let data_start = LENGTH_FIELD + header_length;
        if data_start > length {
            return Err(WeightsError::Truncated {
                path: path.to_owned(),
                expected: data_start,
                found: length,
            });
        }
        let mut text = vec![0; header_length as usize];
        file.read_exact_at(&mut text, LENGTH_FIELD).map_err(WeightsError::io("read", path))?;
        Self::parse(&text, length, path)
    }

    /// Checks the text of a header against the length of its file.
    pub fn parse(text: &[u8], file_length: u64, path: &Path) -> Result<Self, WeightsError> {
        let unsound = |problem| WeightsError::Header { path: path.to_owned(), problem };
        let metadata = contained(|| serde_json::from_slice::<Metadata>(text))
            .map_err(|panic| unsound(panic.to_string()))?
            .map_err(|error| unsound(explain(&error)))?;
        let data_start = LENGTH_FIELD + text.len() as u64;
        let expected = data_start.checked_add(metadata.data_len() as u64);
        match expected {
            Some(expected) if expected == file_length => Ok(Self { metadata, data_start }),
            Some(expected) if expected < file_length => Err(WeightsError::Header {
                path: path.to_owned(),
                problem: format!("{} bytes follow the last tensor", file_length - expected),
            }),
            expected => Err(WeightsError::Truncated {
                path: path.to_owned(),
                expected: expected.unwrap_or(u64::MAX),
                found: file_length,
            }),
        }
    }

    /// The tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &TensorInfo)> {
        self.metadata.tensors().into_iter()
    }

    /// Where the tensors' bytes begin in the file.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Where a tensor's first byte stands in the file.
    pub fn offset(&self, tensor: &TensorInfo) -> u64 {
        self.data_start + tensor.data_offsets.0 as u64
    }
}

/// The library's error, with a word on what it means where it is terse.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.contains("offset") {
        format!("{text} (its tensors overlap, leave a gap or run backwards)")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn well_formed() -> Vec<u8> {
        br#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F16","shape":[3],"data_offsets":[16,22]}}"#
            .to_vec()
    }

    fn parse(text: &[u8], data: u64) -> Result<Header, WeightsError> {
        Header::parse(text, 8 + text.len() as u64 + data, Path::new("w.safetensors"))
    }

    #[test]
    fn a_sound_header_tells_where_its_tensors_are() {
        let text = well_formed();
        let header = parse(&text, 22).unwrap();
        let b = header.tensors().find(|(name, _)| name == "b").unwrap().1;
        assert_eq!(b.shape, [3]);
        assert_eq!(header.offset(b), 8 + text.len() as u64 + 16);
    }

    #[test]
    fn a_header_that_promises_more_than_the_file_holds_is_a_truncated_file() {
        let error = parse(&well_formed(), 21).unwrap_err();
        assert!(matches!(error, WeightsError::Truncated { .. }), "{error}");
        assert!(error.to_string().contains("w.safetensors"));
    }

    #[test]
    fn bytes_behind_the_last_tensor_are_refused() {
        assert!(parse(&well_formed(), 30).unwrap_err().to_string().contains("8 bytes follow"));
    }

    #[test]
    fn overlaps_gaps_and_lengths_that_do_not_fit_the_shape_are_refused() {
        for (a, b) in [("[0,16]", "[8,14]"), ("[0,16]", "[20,26]"), ("[16,0]", "[16,22]")] {
            let text = format!(
                r#"{{"a":{{"dtype":"F32","shape":[2,2],"data_offsets":{a}}},"b":{{"dtype":"F16","shape":[3],"data_offsets":{b}}}}}"#
            );
            let error = parse(text.as_bytes(), 26).unwrap_err().to_string();
            assert!(error.contains("malformed safetensors"), "{error}");
        }
        let huge =
            r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,16]}}"#;
        assert!(parse(huge.as_bytes(), 16).is_err());
        let unknown = r#"{"a":{"dtype":"Q4_K","shape":[4],"data_offsets":[0,4]}}"#;
        assert!(parse(unknown.as_bytes(), 4).unwrap_err().to_string().contains("Q4_K"));
    }

    #[test]
    fn a_length_field_beyond_the_file_allocates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        for (length, word) in [(u64::MAX, "the format allows"), (99_000_000, "truncated")] {
            std::fs::write(&path, length.to_le_bytes()).unwrap();
            let error = Header::read(&File::open(&path).unwrap(), &path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        std::fs::write(&path, [1, 2, 3]).unwrap();
        assert!(Header::read(&File::open(&path).unwrap(), &path).is_err());
    }

    proptest! {
        #[test]
        fn no_truncation_or_mutation_makes_the_parser_panic(
            cut in 0usize..120,
            flips in prop::collection::vec((0usize..120, any::<u8>()), 0..6),
            data in 0u64..64,
        ) {
            let mut text = well_formed();
            for (at, value) in flips {
                if let Some(byte) = text.get_mut(at) {
                    *byte = value;
                }
            }
            text.truncate(cut);
            if let Ok(header) = parse(&text, data) {
                let end = 8 + text.len() as u64 + data;
                for (_, tensor) in header.tensors() {
                    let last = header.offset(tensor) + (tensor.data_offsets.1 - tensor.data_offsets.0) as u64;
                    prop_assert!(last <= end);
                }
            }
        }
    }
}
