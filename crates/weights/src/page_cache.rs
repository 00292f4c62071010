//! The kernel's cache of file pages: emptied of a file, filled with it, and asked what it holds.
//!
//! A load from a cold cache measures the disk, one from a warm cache the memory; a number is worth
//! nothing without knowing which. Emptying is a request that file systems may ignore, so whether it
//! worked is found out and not assumed.

mod state;

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::{WeightFiles, WeightsError};

pub use state::PageCache;

/// Places of a file that are asked after.
const PROBES: u64 = 64;

/// How much of the files the kernel's page cache holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Residency {
    /// These shares of them, between 0 and 1.
    Shares {
        /// Of the file that it holds least of.
        least: f64,
        /// Of the file that it holds most of.
        most: f64,
    },
    /// The kernel or the file system cannot tell.
    Unknown,
}

impl WeightFiles {
    /// Asks the kernel to forget the files' pages. It may decline: see [`WeightFiles::residency`].
    pub fn evict(&self) -> Result<(), WeightsError> {
        self.paths().iter().try_for_each(|path| evict(path))
    }

    /// Reads the files once, so that the page cache holds them if it is large enough.
    pub fn warm(&self) -> Result<(), WeightsError> {
        self.paths().iter().try_for_each(|path| warm(path))
    }

    /// How much of the files the page cache holds. Asking may bring a few pages in.
    pub fn residency(&self) -> Result<Residency, WeightsError> {
        let (mut least, mut most): (f64, f64) = (1.0, 0.0);
        for path in self.paths() {
            match resident_share(path)? {
                Some(share) => (least, most) = (least.min(share), most.max(share)),
                None => return Ok(Residency::Unknown),
            }
        }
        Ok(Residency::Shares { least, most })
    }
}

/// Asks the kernel to forget the file. Pages that were never written to the disk cannot be forgotten,
/// so they are written first.
fn evict(path: &Path) -> Result<(), WeightsError> {
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    file.sync_data().map_err(WeightsError::io("sync", path))?;
    forget(&file, path)
}

fn forget(file: &File, path: &Path) -> Result<(), WeightsError> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed)
        .map_err(|error| WeightsError::io("empty the page cache of", path)(error.into()))
}

/// Reads the file once, so that the cache holds it if it is large enough.
fn warm(path: &Path) -> Result<(), WeightsError> {
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset).map_err(WeightsError::io("read", path))? {
            0 => return Ok(()),
            count => offset += count as u64,
        }
    }
}

/// The share of the file that the cache holds, by asking at places spread evenly over it; `None`
/// where the kernel or the file system cannot tell.
///
/// Asking may itself start a small read-ahead; [`evict`] again before measuring a cold load.
fn resident_share(path: &Path) -> Result<Option<f64>, WeightsError> {
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let length = file.metadata().map_err(WeightsError::io("look at", path))?.len();
    if length == 0 {
        return Ok(None);
    }
    let probes = PROBES.min(length);
    let mut resident = 0u64;
    for probe in 0..probes {
        // The middle of the probe's part of the file, reckoned without overflow.
        let offset =
            (u128::from(length) * (2 * u128::from(probe) + 1) / (2 * u128::from(probes))) as u64;
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(&file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => resident += 1,
            Err(Errno::AGAIN) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(resident as f64 / probes as f64))
}

#[cfg(test)]
mod tests {
    use warpmark_record::WeightsStamp;

    use super::*;

    #[test]
    fn shards_in_different_states_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        for path in &paths {
            std::fs::write(path, vec![1; 4 << 20]).unwrap();
        }
        let stamp = WeightsStamp::Folder { name: "test".to_owned() };
        let files = WeightFiles::new(paths.to_vec(), stamp);
        files.evict().unwrap();
        warm(&paths[1]).unwrap();
        // Not every file system can be emptied, or tells; those that can must show the difference.
        if resident_share(&paths[0]).unwrap() == Some(0.0) {
            files.evict().unwrap();
            warm(&paths[1]).unwrap();
            assert_eq!(files.residency().unwrap(), Residency::Shares { least: 0.0, most: 1.0 });
        }
        files.warm().unwrap();
        let all = Residency::Shares { least: 1.0, most: 1.0 };
        assert!([all, Residency::Unknown].contains(&files.residency().unwrap()));
    }
}
