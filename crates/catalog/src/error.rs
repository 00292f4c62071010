//! Why a catalog could not be used.

use std::path::PathBuf;

use crate::Place;

/// Why a catalog could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file could not be read.
    #[error("cannot read the catalog {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TOML, a wrong type, an unknown or a missing key.
    #[error("{place}: {message}{}; see the head of models.toml for what a stanza holds",
        if snippet.is_empty() { String::new() } else { format!(", at `{snippet}`") })]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// The text at that place.
        snippet: String,
    },
    /// No such family.
    #[error("{place}: model {model:?} has the unknown family {family:?}; known: {}", known.join(", "))]
    UnknownFamily {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The value.
        family: String,
        /// The families there are.
        known: Vec<&'static str>,
    },
    /// Two stanzas with one id.
    #[error(
        "{place}: the id {id:?} is taken since line {first_line}; give one of the two another id"
    )]
    DuplicateId {
        /// The second stanza.
        place: Place,
        /// The id.
        id: String,
        /// The line of the first stanza's id.
        first_line: usize,
    },
    /// A revision that pins nothing.
    #[error(
        "{place}: model {model:?} has the revision {value:?}, which is not 40 lower-case hex digits; \
         take the commit from the history of the repo's files on the hub, not a branch or a tag"
    )]
    Revision {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The value.
        value: String,
    },
    /// A value that cannot be meant.
    #[error("{place}: model {model:?}: {field} = {value}: {advice}")]
    Invalid {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The dotted name of the key.
        field: String,
        /// The value.
        value: String,
        /// What is wrong with it, and what would be right.
        advice: String,
    },
    /// No model of that name.
    #[error("there is no model {id:?}; known: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        id: String,
        /// The names there are.
        known: Vec<String>,
    },
}
