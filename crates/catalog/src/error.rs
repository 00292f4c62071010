//! Why a catalog could not be used.

use std::path::PathBuf;

use crate::Location;

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
    #[error("{location}: {message}{}; see the head of models.toml for what an entry holds",
        if snippet.is_empty() { String::new() } else { format!(", at `{snippet}`") })]
    Syntax {
        /// Where.
        location: Location,
        /// What is wrong.
        message: String,
        /// The text at that place.
        snippet: String,
    },
    /// No such family.
    #[error("{location}: model {model:?} has the unknown family {family:?}; known: {}", known.join(", "))]
    UnknownFamily {
        /// Where.
        location: Location,
        /// Whose.
        model: String,
        /// The value.
        family: String,
        /// The families there are.
        known: Vec<&'static str>,
    },
    /// Two entries with one id.
    #[error(
        "{location}: the id {id:?} is taken since line {first_line}; give one of the two another id"
    )]
    DuplicateId {
        /// The second entry.
        location: Location,
        /// The id.
        id: String,
        /// The line of the first entry's id.
        first_line: usize,
    },
    /// A revision that pins nothing.
    #[error(
        "{location}: model {model:?} has the revision {value:?}, which is not 40 lower-case hex digits; \
         take the commit from the history of the repo's files on the hub, not a branch or a tag"
    )]
    Revision {
        /// Where.
        location: Location,
        /// Whose.
        model: String,
        /// The value.
        value: String,
    },
    /// An invalid value.
    #[error("{location}: model {model:?}: {field} = {value}: {advice}")]
    Invalid {
        /// Where.
        location: Location,
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
