//! Holds that last, give up once, give up for good, and are left open by a panic.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;
use crate::fake::FakeClock;
use crate::workload::Description;
use warpmark_record::Check;

/// A workload with a blocking kernel: which of its blocks give up, and what was done.
#[derive(Default)]
struct BlockedWorkload {
    kernel: FakeKernel,
    launches: u64,
    prepared: Vec<u64>,
    panics_at: Option<u64>,
}

#[derive(Default)]
struct FakeKernel {
    /// Whether each block lasts, in turn; all do after the last of them.
    lasting: RefCell<VecDeque<bool>>,
    open: RefCell<Vec<bool>>,
    /// The most launches that fit after it.
    room: Option<u64>,
    queued: RefCell<u64>,
}

impl Blocking for FakeKernel {
    fn block(&self) -> Result<(), WorkloadError> {
        *self.queued.borrow_mut() = 0;
        self.open.borrow_mut().push(false);
        Ok(())
    }

    fn unblock(&self) {
        if let Some(last) = self.open.borrow_mut().last_mut() {
            *last = true;
        }
    }

    fn lasted(&self) -> bool {
        let fits = self.room.is_none_or(|room| *self.queued.borrow() <= room);
        self.lasting.borrow_mut().pop_front().unwrap_or(true) && fits
    }
}

impl Workload for BlockedWorkload {
    fn describe(&self) -> Description {
        unreachable!("no row is made here")
    }

    fn prepare(&mut self, iterations: u64) -> Result<(), WorkloadError> {
        self.prepared.push(iterations);
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launches += 1;
        *self.kernel.queued.borrow_mut() += 1;
        assert_ne!(Some(self.launches), self.panics_at, "a library panics");
        Ok(())
    }

    fn blocking(&self) -> Option<&dyn Blocking> {
        Some(&self.kernel)
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        unreachable!("nothing is checked here")
    }
}

fn blocked_workload(lasting: &[bool]) -> BlockedWorkload {
    let kernel = FakeKernel {
        lasting: RefCell::new(lasting.iter().copied().collect()),
        ..FakeKernel::default()
    };
    BlockedWorkload { kernel, ..BlockedWorkload::default() }
}

#[test]
fn a_part_whose_hold_gives_up_once_is_taken_again_and_its_time_is_left_out() {
    let mut workload = blocked_workload(&[true, false, true]);
    let mut clock = FakeClock::reading([1.0, 5.0, 2.0, 3.0]);
    let mut launch_mode = LaunchMode::Blocked(200);
    let interval = time_interval(&mut workload, &mut clock, 500, &mut launch_mode).unwrap();
    assert_eq!((interval.wall, launch_mode), (Seconds(6.0), LaunchMode::Blocked(200)));
    assert_eq!((workload.launches, workload.prepared), (700, vec![500, 300]));
}

#[test]
fn a_hold_that_gives_up_twice_leaves_the_rest_to_come_as_it_is_launched() {
    let mut workload = blocked_workload(&[true, false, false]);
    let mut clock = FakeClock::reading([1.0, 5.0, 5.0, 2.0]);
    let mut launch_mode = LaunchMode::Blocked(200);
    let interval = time_interval(&mut workload, &mut clock, 500, &mut launch_mode).unwrap();
    assert_eq!((interval.wall, launch_mode), (Seconds(3.0), LaunchMode::GaveUp));
    assert_eq!(workload.prepared, [500, 300, 300]);
    assert!(launch_mode.caveat().unwrap().contains("later times"));
    assert!(workload.kernel.open.borrow().iter().all(|open| *open));
}

#[test]
fn a_short_queue_is_held_with_fewer_launches_and_a_very_short_one_not_at_all() {
    for (room, expected) in [
        (1000, LaunchMode::Blocked(200)),
        (64, LaunchMode::Blocked(50)),
        (20, LaunchMode::BlockingFailed),
    ] {
        let mut workload = blocked_workload(&[]);
        workload.kernel.room = Some(room);
        let mut clock = FakeClock::reading([1e-6]);
        let found = launch_mode(&mut workload, &mut clock, Some(Seconds(1e-6))).unwrap();
        assert_eq!(found, expected);
        assert_eq!(found.caveat().is_some(), expected == LaunchMode::BlockingFailed);
    }
    let free =
        launch_mode(&mut blocked_workload(&[]), &mut FakeClock::reading([1.0]), Some(Seconds(1.0)));
    assert_eq!(free.unwrap(), LaunchMode::Direct);
}

#[test]
fn a_panic_behind_a_hold_opens_it() {
    let mut workload = blocked_workload(&[]);
    workload.panics_at = Some(3);
    let mut clock = FakeClock::reading([1.0]);
    let mut launch_mode = LaunchMode::Blocked(200);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        time_interval(&mut workload, &mut clock, 5, &mut launch_mode).map(drop)
    }));
    assert!(panicked.is_err());
    assert_eq!(*workload.kernel.open.borrow(), [true]);
}
