//! What tells the state of a GPU: NVML on a real one, numbers in tests.

use warpmark_record::Field;
use warpmark_record::machine::GpuState;

/// Something that tells the state of a GPU.
pub trait Sensors: Send {
    /// One look. What cannot be read is absent with its reason; a look never fails as a whole.
    fn read(&mut self) -> GpuState;

    /// Processes other than this one on the card. Asked less often than [`Sensors::read`], which does
    /// not count them.
    fn other_processes(&mut self) -> Field<u32>;
}

/// Sensors made of numbers, for tests here and elsewhere: tells one state after the other, then the
/// last one for ever.
#[derive(Debug, Clone)]
pub struct FakeSensors {
    states: Vec<GpuState>,
    next: usize,
}

impl FakeSensors {
    /// Sensors that will tell these states.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(states: Vec<GpuState>) -> Self {
        assert!(!states.is_empty(), "fake sensors need at least one state");
        Self { states, next: 0 }
    }

    /// A state that is absent in every field, to fill in.
    pub fn silent() -> GpuState {
        let reason = "not set in this test";
        GpuState {
            sm_clock: Field::absent(reason),
            memory_clock: Field::absent(reason),
            power: Field::absent(reason),
            energy: Field::absent(reason),
            temperature: Field::absent(reason),
            throttle_causes: Field::absent(reason),
            gpu_utilisation: Field::absent(reason),
            memory_utilisation: Field::absent(reason),
            other_processes: Field::absent(reason),
        }
    }
}

impl Sensors for FakeSensors {
    fn read(&mut self) -> GpuState {
        let state = self.states[self.next.min(self.states.len() - 1)].clone();
        self.next += 1;
        state
    }

    fn other_processes(&mut self) -> Field<u32> {
        self.states[self.next.clamp(1, self.states.len()) - 1].other_processes.clone()
    }
}
