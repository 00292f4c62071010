//! The steps of a warp: its groups of lanes, one instruction after the other.

use super::finding::Fault;
use super::instruction::{Action, Instruction, NONE};
use super::launch::Run;
use super::matrix;
use super::value::Value;
use super::warp::{Group, State, Warp, first_of};

/// What happens after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    To(u32),
    /// The group is not what it was; another one may have its turn.
    Another,
}

impl Run<'_, '_> {
    /// Runs a warp until all its lanes have ended or are at a barrier.
    pub(super) fn warp(&mut self, warp: &mut Warp) {
        while let Some((group, forced)) = warp.turn() {
            self.group(warp, group, forced);
            if self.stopped.is_some() {
                return;
            }
            if self.counts.lanes > self.limits.instructions {
                let place = self.instruction(warp.groups.first().map_or(0, |group| group.pc)).place;
                let limit = self.limits.instructions;
                self.fault(Fault::Endless, place, warp.first, || {
                    format!("after {limit} instructions")
                });
                return;
            }
        }
    }

    /// Runs a group until it changes.
    fn group(&mut self, warp: &mut Warp, group: usize, mut forced: bool) {
        let limit = warp.limit(group);
        let (mut pc, lanes) = (warp.groups[group].pc, warp.groups[group].mask);
        let mut jumps = 0;
        loop {
            let i = self.instruction(pc);
            let mask = if i.guard == NONE {
                lanes
            } else {
                let holds = warp.rows[i.guard as usize][0];
                lanes & if i.unless { !holds } else { holds }
            };
            self.counts.kinds[i.kind as usize] += 1;
            self.counts.waits += u64::from(i.waits);
            self.counts.lanes += u64::from(mask.count_ones());
            let next = if let Action::Lanes(run) = i.action {
                if mask != 0 {
                    run(&mut warp.rows, i, mask);
                }
                Next::On
            } else {
                self.act(warp, i, pc, group, mask, forced)
            };
            forced = false;
            match next {
                Next::Another => return,
                Next::On => pc += 1,
                Next::To(target) => {
                    pc = target;
                    jumps += 1;
                    // A loop is left now and then, to see whether it ends at all.
                    if jumps > 1024 {
                        warp.groups[group].pc = pc;
                        return;
                    }
                }
            }
            warp.groups[group].pc = pc;
            if pc >= limit || self.stopped.is_some() {
                return;
            }
        }
    }

    /// All that is not arithmetic.
    fn act(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        pc: u32,
        group: usize,
        mask: u32,
        forced: bool,
    ) -> Next {
        let lanes = warp.groups[group].mask;
        match i.action {
            Action::Branch(target) if mask == lanes => return Next::To(target),
            Action::Branch(target) => {
                if mask != 0 {
                    warp.groups[group] =
                        Group { pc: pc + 1, mask: lanes & !mask, state: State::Runs };
                    warp.groups.push(Group { pc: target, mask, state: State::Runs });
                    return Next::Another;
                }
            }
            Action::Return => return ended(warp, pc, group, mask),
            Action::Barrier => {
                if mask != lanes {
                    self.fault(Fault::BarrierUnderCondition, i.place, warp.first, String::new);
                }
                warp.groups[group] = Group { pc, mask: lanes, state: State::AtBarrier };
                return Next::Another;
            }
            Action::SyncWarp | Action::Shuffle(_) | Action::Vote(_) => {
                if !self.is_complete(warp, i, mask, forced) {
                    warp.groups[group] = Group { pc, mask: lanes, state: State::Waits };
                    return Next::Another;
                }
                match i.action {
                    Action::Shuffle(how) => self.shuffle(warp, i, mask, how),
                    Action::Vote(vote) => Self::vote(warp, i, mask, vote),
                    _ => warp.epoch += 1,
                }
            }
            Action::ActiveMask => u32::write(&mut warp.rows, i.d, [lanes; 32], mask),
            _ if mask == 0 => {}
            Action::Fence => warp.fenced |= mask,
            Action::Trap => self.fault(Fault::Trap, i.place, first_of(warp, mask), String::new),
            Action::Assert => {
                self.fault(Fault::Assertion, i.place, first_of(warp, mask), String::new);
            }
            Action::Clock(clock) => self.read_clock(warp, i, mask, clock),
            Action::Parameter(access) => self.parameter(warp, i, mask, &access),
            Action::Load(access) => self.load(warp, i, mask, &access),
            Action::Store(access) => self.store(warp, i, mask, &access),
            Action::Atomic(access, operation, kind) => {
                self.atomic(warp, i, mask, &access, operation, kind);
            }
            Action::Multiply(_) | Action::LoadMatrix(..) if !matrix::is_whole(mask) => {
                self.fault(Fault::PartOfAWarp, i.place, first_of(warp, mask), || {
                    format!("lanes {mask:08x}")
                });
            }
            Action::Multiply(product) => {
                self.counts.products[product.arithmetic()] += product.operations();
                matrix::multiply(&mut warp.rows, i, &product);
            }
            Action::LoadMatrix(generic, transposed) => {
                self.load_matrix(warp, i, (generic, transposed));
            }
            Action::CopyAsync(bytes) => self.begin_copy(warp, i, pc, mask, bytes),
            Action::CommitCopies => commit(warp, mask),
            Action::AwaitCopies(groups) => self.await_copies(warp, i, mask, groups),
            Action::Lanes(_) | Action::Nothing => {}
        }
        Next::On
    }
}

/// Lanes end; the others of their group go on.
fn ended(warp: &mut Warp, pc: u32, group: usize, mask: u32) -> Next {
    if mask == 0 {
        return Next::On;
    }
    warp.alive &= !mask;
    let left = warp.groups[group].mask & !mask;
    if left == 0 {
        warp.groups.swap_remove(group);
    } else {
        warp.groups[group] = Group { pc: pc + 1, mask: left, state: State::Runs };
    }
    Next::Another
}

/// Copies that are under way become a group of their own.
fn commit(warp: &mut Warp, mask: u32) {
    warp.committed += 1;
    let group = warp.committed;
    for copy in warp.copies.iter_mut().filter(|copy| copy.group == 0 && mask >> copy.lane & 1 == 1)
    {
        copy.group = group;
    }
}
