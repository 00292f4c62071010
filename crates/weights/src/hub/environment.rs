//! What the environment says about the hub, read as the hub's own tools (`huggingface_hub`) read it.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder that the hub's tools keep repositories in: `HF_HUB_CACHE`, else `hub` below `HF_HOME`, else
/// below `huggingface` in `XDG_CACHE_HOME` or `~/.cache`. `None` where not even `HOME` is set.
pub fn cache_folder() -> Option<PathBuf> {
    Environment::of_process().cache_folder()
}

/// The variables of a process, or of a test.
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'static> {
    pub(super) fn of_process() -> Self {
        Self(&|name| std::env::var_os(name))
    }
}

impl Environment<'_> {
    /// A variable's value; one that is empty is not set.
    pub(super) fn value(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.value(name)?);
        match path.strip_prefix("~") {
            Ok(below) => Some(PathBuf::from(self.value("HOME")?).join(below)),
            Err(_) => Some(path),
        }
    }

    /// The folder of the hub's tools.
    pub(super) fn home(&self) -> Option<PathBuf> {
        // The XDG specification has relative paths ignored.
        let caches = self.folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let caches = caches.or_else(|| Some(self.folder("HOME")?.join(".cache")));
        self.folder("HF_HOME").or_else(|| Some(caches?.join("huggingface")))
    }

    pub(super) fn cache_folder(&self) -> Option<PathBuf> {
        self.folder("HF_HUB_CACHE")
            .or_else(|| self.folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.home()?.join("hub")))
    }
}

#[cfg(feature = "hub")]
pub(super) use client::*;

/// What only a client asks.
#[cfg(feature = "hub")]
mod client {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::Environment;
    use crate::hub::HubError;

    /// Where a token came from, with the token.
    pub(in super::super) struct Token {
        pub(in super::super) text: String,
        /// The variable or the file.
        pub(in super::super) from: String,
    }

    impl Environment<'_> {
        /// Whether the network is not to be used.
        pub(in super::super) fn is_offline(&self) -> bool {
            let is_yes = |value: &OsStr| {
                let value = value.to_string_lossy().trim().to_ascii_lowercase();
                ["1", "true", "yes", "on"].contains(&value.as_str())
            };
            // As the hub's tools have it, the second is looked at only where the first says nothing.
            self.value("HF_HUB_OFFLINE")
                .or_else(|| self.value("TRANSFORMERS_OFFLINE"))
                .is_some_and(|value| is_yes(&value))
        }

        pub(in super::super) fn endpoint(&self) -> Option<String> {
            self.value("HF_ENDPOINT").map(|value| value.to_string_lossy().into_owned())
        }

        /// The token: `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, else what the file `HF_TOKEN_PATH` holds, or
        /// `token` in the hub's folder, where the hub's own command keeps it.
        pub(in super::super) fn token(&self) -> Result<Option<Token>, HubError> {
            for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
                if let Some(value) = self.value(name) {
                    let Some(text) = value.to_str() else { return Err(malformed(name)) };
                    if let Some(token) = Token::read(text, name)? {
                        return Ok(Some(token));
                    }
                }
            }
            let named = self.folder("HF_TOKEN_PATH");
            let Some(path) = named.clone().or_else(|| Some(self.home()?.join("token"))) else {
                return Ok(None);
            };
            match read_briefly(&path) {
                Ok(text) => Token::read(&text, &path.display().to_string()),
                Err(error) if named.is_none() && is_absence(&error) => Ok(None),
                Err(error) => Err(HubError::TokenFile { path, reason: error.to_string() }),
            }
        }
    }

    impl Token {
        /// A token without the white space around it and without line breaks, as `huggingface_hub` takes
        /// it; `None` of nothing but those.
        pub(in super::super) fn read(text: &str, from: &str) -> Result<Option<Self>, HubError> {
            let text = text.replace(['\r', '\n'], "").trim().to_owned();
            if text.is_empty() {
                return Ok(None);
            }
            // What else stands in it could not be sent as a header.
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(malformed(from));
            }
            Ok(Some(Self { text, from: from.to_owned() }))
        }
    }

    fn malformed(from: &str) -> HubError {
        HubError::MalformedToken { from: from.to_owned() }
    }

    /// The text of a file that should be short.
    fn read_briefly(path: &Path) -> std::io::Result<String> {
        use std::io::Read;
        const LONGEST: u64 = 1 << 16;
        let mut text = String::new();
        std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Whether it says that there is no such file, also where its folder belongs to somebody else.
    fn is_absence(error: &std::io::Error) -> bool {
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        [NotFound, NotADirectory, PermissionDenied].contains(&error.kind())
    }
}

#[cfg(all(test, feature = "hub"))]
#[path = "environment_tests.rs"]
mod tests;
