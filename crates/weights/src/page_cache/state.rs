//! The state of the page cache in which a load begins.

use std::time::Duration;

use warpmark_measure::WorkloadError;

use super::Residency;
use crate::WeightFiles;

/// The share of a file that a cold cache may still hold: the probing itself brings a little in.
const COLD: f64 = 0.05;

/// The share of a file that a warm cache must hold.
const WARM: f64 = 0.95;

/// How long a cache is given before it is asked to be empty, each time that it is asked.
const PAUSES: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(320),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Whether the page cache holds the files when a load begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCache {
    /// It holds next to nothing of them.
    Cold,
    /// It holds all of them.
    Warm,
}

impl PageCache {
    /// Both states.
    pub const ALL: [Self; 2] = [Self::Cold, Self::Warm];

    /// Its name in ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }

    /// Brings the page cache into this state, and says whether that could be seen.
    ///
    /// A cache that will not be emptied, or is too small to be warm, makes the benchmark unsupported
    /// here: it would measure something else than its name says.
    pub fn settle(self, files: &WeightFiles) -> Result<bool, WorkloadError> {
        if self == Self::Warm {
            files.warm()?;
            return self.judge(files.residency()?);
        }
        // A page that is on its way to the disk, or in a queue of another core, stays for a moment.
        let mut verdict = Ok(false);
        for pause in PAUSES {
            std::thread::sleep(pause);
            files.evict()?;
            verdict = self.judge(files.residency()?);
            if verdict.is_ok() {
                break;
            }
        }
        // The look brought a few pages in.
        files.evict()?;
        verdict
    }

    /// Holds what was seen against this state: no file may be warm for a cold load, nor cold for a
    /// warm one.
    fn judge(self, residency: Residency) -> Result<bool, WorkloadError> {
        let Residency::Shares { least, most } = residency else {
            return Ok(false);
        };
        match self {
            Self::Cold if most > COLD => Err(WorkloadError::Unsupported(format!(
                "the page cache could not be emptied: it still holds {:.0} % of the weights; \
                 keep them on a disk, not in a memory file system",
                most * 100.0
            ))),
            Self::Warm if least < WARM => Err(WorkloadError::Unsupported(format!(
                "the page cache holds only {:.0} % of the weights right after they were read: \
                 there is not enough free memory for them",
                least * 100.0
            ))),
            Self::Cold | Self::Warm => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cache: PageCache, least: f64, most: f64) -> Result<bool, String> {
        cache.judge(Residency::Shares { least, most }).map_err(|error| error.to_string())
    }

    #[test]
    fn one_shard_in_the_wrong_state_is_enough_to_refuse_the_load() {
        assert_eq!(judged(PageCache::Cold, 0.0, 0.02), Ok(true));
        assert_eq!(judged(PageCache::Warm, 0.97, 1.0), Ok(true));
        assert!(judged(PageCache::Cold, 0.0, 1.0).unwrap_err().contains("100 %"));
        assert!(judged(PageCache::Warm, 0.0, 1.0).unwrap_err().contains("only 0 %"));
    }

    #[test]
    fn a_state_that_cannot_be_seen_is_not_taken_for_granted() {
        for cache in PageCache::ALL {
            assert!(!cache.judge(Residency::Unknown).unwrap());
        }
    }
}
