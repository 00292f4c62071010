//! What launches of a kernel were found to count, kept with the kernel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use warpmark_ptx::{Counts, Geometry};

/// What a launch counts follows from this.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) geometry: Geometry,
    /// Without addresses, and with the lengths of what those point to.
    pub(crate) arguments: Vec<Vec<u8>>,
}

/// Estimates of a kernel, by what they follow from; `None` where the launch faults.
pub(crate) type Estimates = Mutex<HashMap<Key, Option<Arc<Counts>>>>;
