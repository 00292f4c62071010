//! The way into every exported function: counting, faults, and what must be there first.

use crate::card::Device;
use crate::faults::Fault;
use crate::machine::{Machine, machine};

/// A call. Its fault comes before it or after it; `driver` says whether its own codes may be such as
/// leave the context unusable.
fn call(
    name: &'static str,
    driver: bool,
    body: impl FnOnce(&mut Machine) -> Result<(), u32>,
) -> u32 {
    let mut machine = machine();
    let fault = machine.on_call(name);
    if fault == Some(Fault::Hangs) {
        // Without the lock: other threads go on, as they do beside a call that the driver holds.
        drop(machine);
        loop {
            std::thread::park();
        }
    }
    let early = fault.and_then(Fault::answer);
    let answer = early.unwrap_or_else(|| body(&mut machine).err().unwrap_or(0));
    if let Some(fault) = fault.filter(|_| driver || early.is_none()) {
        machine.strike(fault);
    }
    answer
}

/// A function of the driver that needs nothing.
pub(crate) fn anywhere(
    name: &'static str,
    body: impl FnOnce(&mut Machine) -> Result<(), u32>,
) -> u32 {
    call(name, true, body)
}

/// A function of the driver that needs `cuInit`.
pub(crate) fn started(
    name: &'static str,
    body: impl FnOnce(&mut Machine) -> Result<(), u32>,
) -> u32 {
    anywhere(name, |machine| {
        machine.started()?;
        body(machine)
    })
}

/// A function of the driver that needs a context, and one that works.
pub(crate) fn in_context(
    name: &'static str,
    body: impl FnOnce(&mut Device) -> Result<(), u32>,
) -> u32 {
    anywhere(name, |machine| body(machine.working()?))
}

/// The same for functions that need more than the device.
pub(crate) fn with_context(
    name: &'static str,
    body: impl FnOnce(&mut Machine) -> Result<(), u32>,
) -> u32 {
    anywhere(name, |machine| {
        machine.working()?;
        body(machine)
    })
}

/// A function of another library: a fault is answered with its own code, and breaks the context only if
/// it comes late.
pub(crate) fn elsewhere(
    name: &'static str,
    body: impl FnOnce(&mut Machine) -> Result<(), u32>,
) -> u32 {
    call(name, false, body)
}

/// Writes a result to where the caller wants it; a null pointer is refused with `code`.
pub(crate) fn put<T>(to: Option<&mut T>, value: T, code: u32) -> Result<(), u32> {
    *to.ok_or(code)? = value;
    Ok(())
}
