//! Paths as a worker is told them: names of files may be in any encoding, and JSON is in UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name as text where it is text, else as its bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for Name {
    fn from(path: &Path) -> Self {
        let text = path.to_str().map(|text| Self::Text(text.to_owned()));
        text.unwrap_or_else(|| Self::Bytes(path.as_os_str().as_bytes().to_vec()))
    }
}

impl From<Name> for PathBuf {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => text.into(),
            Name::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// A path.
pub(super) mod one {
    use super::{Deserialize, Deserializer, Name, Path, PathBuf, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        Name::from(path).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Name::deserialize(from).map(PathBuf::from)
    }
}

/// A path, or none.
pub(super) mod maybe {
    use super::{Deserialize, Deserializer, Name, PathBuf, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde asks for the field as it is")]
    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Name::from).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Name>::deserialize(from)?.map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AudioOption, CatalogOption};
    use super::*;

    #[test]
    fn a_worker_is_told_a_name_in_any_encoding() {
        for name in [&b"caf\xc3\xa9.wav"[..], b"caf\xe9.wav"] {
            let path = PathBuf::from(OsString::from_vec(name.to_vec()));
            let audio = AudioOption { audio: Some(path.clone()), reference_text: None };
            let told = serde_json::to_string(&audio).unwrap();
            let heard: AudioOption = serde_json::from_str(&told).unwrap();
            assert_eq!((heard.audio, heard.reference_text), (Some(path), None));
        }
        let heard: CatalogOption = serde_json::from_str(r#"{"models":null}"#).unwrap();
        assert_eq!(heard.models, None);
    }
}
