//! What the workloads of a session are fed, made once.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use warpmark_record::BenchmarkId;

type ByBenchmark = HashMap<(BenchmarkId, TypeId), Rc<dyn Any>>;

/// Inputs by benchmark and type, if any are kept.
///
/// A service makes the workload of a size anew for each pass, and the time of its answers must not hold
/// what requests bring along: encoded texts, spectrograms. A run keeps none, so that those of one
/// benchmark are not in the memory of the next.
#[derive(Default)]
pub(super) struct InputCache(RefCell<Option<ByBenchmark>>);

impl InputCache {
    /// Keeps inputs from here on.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().get_or_insert_default();
    }

    /// What was kept for a benchmark.
    fn find<T: 'static>(&self, id: &BenchmarkId) -> Option<Rc<T>> {
        let key = (id.clone(), TypeId::of::<T>());
        Rc::clone(self.0.borrow().as_ref()?.get(&key)?).downcast().ok()
    }

    /// What a benchmark is fed: what was kept for it, or what is made for it now.
    pub(super) fn or_make<T: 'static, E>(
        &self,
        id: &BenchmarkId,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Rc<T>, E> {
        if let Some(found) = self.find(id) {
            return Ok(found);
        }
        let inputs = Rc::new(make()?);
        if let Some(kept) = self.0.borrow_mut().as_mut() {
            kept.insert((id.clone(), TypeId::of::<T>()), Rc::clone(&inputs) as Rc<dyn Any>);
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BenchmarkId {
        text.parse().unwrap()
    }

    #[test]
    fn inputs_are_made_anew_until_they_are_kept_and_once_for_each_benchmark_then() {
        let kept = InputCache::default();
        let (one, two) = (id("image/m/unet/f32/b1@warpmark"), id("image/m/unet/f32/b2@warpmark"));
        let count = std::cell::Cell::new(0);
        let make = || {
            count.set(count.get() + 1);
            Ok::<_, ()>(count.get())
        };
        assert_eq!(*kept.or_make(&one, make).unwrap(), 1);
        assert_eq!(*kept.or_make(&one, make).unwrap(), 2);
        kept.begin();
        assert_eq!(*kept.or_make(&one, make).unwrap(), 3);
        assert_eq!(*kept.or_make(&two, make).unwrap(), 4);
        kept.begin();
        assert_eq!(*kept.or_make(&one, make).unwrap(), 3);
        assert_eq!(*kept.or_make(&two, make).unwrap(), 4);
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let kept = InputCache::default();
        kept.begin();
        let id = id("speech/w/decode/f32/b1@warpmark");
        assert_eq!(kept.or_make(&id, || Err::<u8, _>("full")), Err("full"));
        assert_eq!(kept.or_make(&id, || Ok::<u8, &str>(7)), Ok(Rc::new(7)));
    }
}
