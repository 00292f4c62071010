//! What was looked at and how it stands.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing: `CUDA driver`, `NVRTC`, ...
    pub what: String,
    /// How it stands.
    pub state: FindingState,
    /// What was found, in a sentence.
    pub detail: String,
    /// What to do, as a command where there is one. Something in order may still carry advice.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// There, and in order.
    Ok,
    /// Not there. Whether that matters depends on what one wants to measure.
    Missing,
    /// There, and wrong; or it will disturb measurements.
    Broken,
}
