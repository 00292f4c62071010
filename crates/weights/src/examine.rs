//! Cached files held against what they must be: a disk or a hand that changed a byte is found and named,
//! and the file made anew.
//!
//! A load looks at the header and at the numbers, and a wrong byte is a number like any other. What must
//! be in a file is known: its seed gives a synthetic one byte for byte, and a file of the hub is called by
//! its SHA-256. Both take a reading of the whole file, so it is done where something went wrong, and by
//! `fetch`.

use super::{Cache, Checkpoint, Progress, Source, WeightSpec, WeightsError, gguf, hub, synthetic};

impl WeightSpec {
    /// Examines the files that are cached of a model, and says which were damaged and are removed. Nothing is
    /// fetched or written.
    ///
    /// # Errors
    /// A damaged file that cannot be removed; and what a file's reading has to say.
    pub fn examine(
        &self,
        checkpoint: &Checkpoint,
        source: &Source,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, WeightsError> {
        let damage = match (self, source) {
            (Self::Plain(tensors, _), Source::Synthetic { seed }) => {
                synthetic::examine(checkpoint, tensors, *seed, cache, progress)?
            }
            (Self::Quantised(tensors, quantisation), Source::Synthetic { seed }) => {
                gguf::examine(checkpoint, tensors, (*quantisation, *seed), cache, progress)?
            }
            (_, Source::Hub(options)) => return hub::examine(checkpoint, options, progress),
            // What is right in a folder is known to its owner alone.
            (_, Source::Folder(_)) => None,
        };
        Ok(damage.into_iter().collect())
    }
}
