//! One model, loaded again and again.

use std::collections::BTreeMap;

use warpmark_measure::{Clock, Description, WallClock, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, ItemUnit, Items, Memory, Value, Work};

use super::LoadSession;
use crate::weights::{Loaded, PageCache};

/// One model, loaded again and again.
pub(super) struct Load<'a> {
    id: BenchmarkId,
    session: &'a mut LoadSession,
    cache: PageCache,
    /// Whether the state of the page cache was seen and not only asked for.
    seen: bool,
    loaded: Option<Loaded>,
    stages: BTreeMap<String, f64>,
}

impl<'a> Load<'a> {
    /// The loads of an open session from that state of the page cache, which is tried once now: a
    /// load that cannot begin in it is refused before anything is loaded.
    pub(super) fn new(
        id: BenchmarkId,
        session: &'a mut LoadSession,
        cache: PageCache,
    ) -> Result<Self, WorkloadError> {
        let seen = cache.settle(&session.files)?;
        Ok(Self { id, session, cache, seen, loaded: None, stages: BTreeMap::new() })
    }
}

impl Workload for Load<'_> {
    fn describe(&self) -> Description {
        let session = &*self.session;
        let text = |value: &str| Value::Text(value.to_owned());
        let mut caveats = Vec::new();
        if !self.seen {
            caveats.push(format!(
                "the page cache was asked to be {}; whether it was cannot be seen on this file system",
                self.cache.name()
            ));
        }
        if self.cache == PageCache::Cold {
            caveats.push(
                "cold is this kernel's page cache; a hypervisor or the disk may still hold the file"
                    .to_owned(),
            );
        }
        Description {
            id: self.id.clone(),
            parameters: BTreeMap::from([
                ("model".to_owned(), text(&session.model.id)),
                ("dtype".to_owned(), text(&session.format.to_string())),
                ("checkpoint".to_owned(), text(&session.stored_as())),
                ("page_cache".to_owned(), text(self.cache.name())),
            ]),
            work: Work {
                flops: None,
                bytes: Some(session.bytes),
                items: Some(Items { count: 1.0, unit: ItemUnit::Load }),
            },
            data: None,
            weights: Some(session.files.stamp()),
            caveats,
        }
    }

    fn prepare(&mut self, iterations: u64) -> Result<(), WorkloadError> {
        if iterations != 1 {
            return Err(WorkloadError::Failed(format!(
                "{iterations} loads in one sample: only the first would find the page cache {}",
                self.cache.name()
            )));
        }
        self.loaded = None;
        self.seen &= self.cache.settle(&self.session.files)?;
        self.session.marks.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let session = &*self.session;
        let loaded =
            session.wanted.load_trusted(&session.checkpoint, &session.files, &session.device)?;
        let mut clock = WallClock::default();
        clock.start().map_err(WorkloadError::failed)?;
        let family = session.model.family();
        family.first_run(&session.model, &loaded)?;
        let first_run = clock.finish().map_err(WorkloadError::failed)?.wall;
        self.stages = BTreeMap::from([
            ("open_s".to_owned(), loaded.stages.open.0),
            ("read_s".to_owned(), loaded.stages.read.0),
            ("host_to_device_s".to_owned(), loaded.stages.host_to_device.0),
            ("first_run_s".to_owned(), first_run.0),
        ]);
        // Kept until the next `prepare`: giving memory back is no part of a load.
        self.loaded = Some(loaded);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.session.device.synchronize().map_err(WorkloadError::failed)
    }

    /// Holds a load (the last timed one, or before that one whose every weight is looked at) against
    /// the files: the number of tensors, their shapes, and all values of one of them.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let session = &*self.session;
        let loaded = if let Some(loaded) = self.loaded.take() {
            loaded
        } else {
            session.wanted.load(&session.checkpoint, &session.files, &session.device)?
        };
        session.check(&loaded)
    }

    fn stages(&mut self) -> BTreeMap<String, f64> {
        self.stages.clone()
    }

    fn memory(&mut self) -> Option<Memory> {
        let loaded = self.loaded.as_ref()?;
        Some(self.session.marks.read(loaded.held()))
    }
}
