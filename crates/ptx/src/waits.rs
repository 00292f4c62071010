//! Where a warp waits for device memory: at the first instruction that needs what was loaded before it.

use super::instruction::{Action, Instruction, NONE, Space};

/// What is under way in the order of the text.
#[derive(Debug, Default, Clone)]
struct UnderWay {
    /// Registers that loads will fill.
    registers: Vec<u32>,
    /// Whether copies to shared memory are under way.
    copies: bool,
}

impl UnderWay {
    /// Whether an instruction needs any of it.
    fn holds_up(&self, i: &Instruction) -> bool {
        match i.action {
            Action::AwaitCopies(_) => self.copies,
            _ if self.registers.is_empty() => false,
            // What a load names beside its address is where it puts what it gets.
            Action::Load(_) => self.registers.contains(&i.a),
            _ => [i.a, i.b, i.c].iter().chain(&i.list).any(|slot| self.registers.contains(slot)),
        }
    }

    fn begin(&mut self, i: &Instruction) {
        match i.action {
            Action::Load(access) if matches!(access.space, Space::Global | Space::Generic) => {
                self.registers.extend(&i.list);
            }
            Action::Atomic(access, ..) if access.space == Space::Global && i.d != NONE => {
                self.registers.push(i.d);
            }
            Action::CopyAsync(_) => self.copies = true,
            _ => {}
        }
    }
}

/// Marks the instructions at which a warp waits. All that was asked for before arrives together: a wait is
/// one latency, whatever was under way.
pub(super) fn mark(code: &mut [Instruction]) {
    let mut under_way = UnderWay::default();
    let mut rounds = Vec::new();
    for (at, i) in code.iter_mut().enumerate() {
        if under_way.holds_up(i) {
            i.waits = true;
            under_way = UnderWay::default();
        }
        under_way.begin(i);
        if let Action::Branch(target) = i.action
            && target as usize <= at
        {
            rounds.push((target as usize, at, under_way.clone()));
        }
    }
    // What is under way at the end of a loop is waited for in its next round.
    for (first, last, under_way) in rounds {
        let waits = code[first..=last].iter().position(|i| under_way.holds_up(i));
        if let Some(at) = waits {
            code[first + at].waits = true;
        }
    }
}

/// Bytes of device memory that a thread has under way at once, at the most.
pub(super) fn most_under_way(code: &[Instruction]) -> u32 {
    let (mut most, mut bytes) = (0, 0);
    for i in code {
        if i.waits {
            bytes = 0;
        }
        bytes += match i.action {
            Action::Load(access) if access.space == Space::Global => {
                access.bytes * i.list.len() as u32
            }
            Action::CopyAsync(bytes) => bytes,
            _ => 0,
        };
        most = most.max(bytes);
    }
    most
}
