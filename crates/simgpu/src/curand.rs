//! cuRAND: numbers of the asked distribution from a generator of our own, another one than the real
//! library's.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::call::{elsewhere, put};
use crate::contents::{Bytes, Element};
use crate::machine::Machine;
use crate::profile::Work;

const NOT_INITIALIZED: u32 = 101;
const LENGTH_NOT_MULTIPLE: u32 = 105;
const LAUNCH_FAILURE: u32 = 201;
const INITIALIZATION_FAILED: u32 = 203;

#[derive(Default)]
struct Generator {
    state: u64,
    stream: u64,
}

static GENERATORS: LazyLock<Mutex<HashMap<u64, Generator>>> = LazyLock::new(Mutex::default);

fn generator<T>(handle: u64, act: impl FnOnce(&mut Generator) -> T) -> Result<T, u32> {
    let mut generators = GENERATORS.lock().unwrap_or_else(PoisonError::into_inner);
    generators.get_mut(&handle).map(act).ok_or(NOT_INITIALIZED)
}

impl Generator {
    /// In (0, 1], as cuRAND's uniform numbers.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / f64::powi(2.0, 53) + f64::powi(2.0, -54)
    }

    /// Box and Muller's.
    fn normal(&mut self) -> f64 {
        let (radius, turn) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    }
}

#[unsafe(no_mangle)]
extern "C" fn curandCreateGenerator(handle: Option<&mut u64>, _kind: c_int) -> u32 {
    elsewhere("curandCreateGenerator", |machine| {
        machine.working().map_err(|_| INITIALIZATION_FAILED)?;
        let new = machine.handle();
        let mut generators = GENERATORS.lock().unwrap_or_else(PoisonError::into_inner);
        generators.insert(new, Generator::default());
        put(handle, new, INITIALIZATION_FAILED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn curandDestroyGenerator(handle: u64) -> u32 {
    elsewhere("curandDestroyGenerator", |_| {
        let mut generators = GENERATORS.lock().unwrap_or_else(PoisonError::into_inner);
        generators.remove(&handle).map(drop).ok_or(NOT_INITIALIZED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn curandSetPseudoRandomGeneratorSeed(handle: u64, seed: u64) -> u32 {
    elsewhere("curandSetPseudoRandomGeneratorSeed", |_| {
        generator(handle, |generator| generator.state = seed)
    })
}

#[unsafe(no_mangle)]
extern "C" fn curandSetStream(handle: u64, stream: u64) -> u32 {
    elsewhere("curandSetStream", |_| generator(handle, |generator| generator.stream = stream))
}

fn generate(
    machine: &mut Machine,
    handle: u64,
    at: u64,
    count: usize,
    element: Element,
    number: impl Fn(&mut Generator) -> f64,
) -> Result<(), u32> {
    let (stream, bytes) = generator(handle, |generator| {
        let size = element.size() as usize;
        let bytes: Vec<u8> =
            (0..count).flat_map(|_| element.encode(number(generator))[..size].to_vec()).collect();
        (generator.stream, bytes)
    })?;
    let device = machine.working().map_err(|_| LAUNCH_FAILURE)?;
    let len = bytes.len() as u64;
    let (contents, offset) = device.memory.contents(at, len).map_err(|_| LAUNCH_FAILURE)?;
    contents.write(offset, len, Arc::new(Bytes(bytes)));
    let work = Work { bytes: len as f64, flops: None };
    device.work(stream, work).map_err(|_| LAUNCH_FAILURE)
}

macro_rules! distributions {
    ($($uniform:ident, $normal:ident, $type:ty, $element:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $uniform(handle: u64, at: u64, count: usize) -> u32 {
            elsewhere(stringify!($uniform), |machine| {
                generate(machine, handle, at, count, Element::$element, Generator::uniform)
            })
        }

        /// Made in pairs, so that the count must be even.
        #[unsafe(no_mangle)]
        extern "C" fn $normal(handle: u64, at: u64, count: usize, mean: $type, deviation: $type) -> u32 {
            elsewhere(stringify!($normal), |machine| {
                if !count.is_multiple_of(2) {
                    return Err(LENGTH_NOT_MULTIPLE);
                }
                let (mean, deviation) = (f64::from(mean), f64::from(deviation));
                generate(machine, handle, at, count, Element::$element, |generator| {
                    mean + deviation * generator.normal()
                })
            })
        }
    )*};
}

distributions! {
    curandGenerateUniform, curandGenerateNormal, f32, F32;
    curandGenerateUniformDouble, curandGenerateNormalDouble, f64, F64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_mean_and_deviation_of_their_distribution() {
        let mut generator = Generator::default();
        let moments = |numbers: Vec<f64>| {
            let n = numbers.len() as f64;
            let mean = numbers.iter().sum::<f64>() / n;
            (mean, (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
        };
        let (mean, deviation) = moments((0..10_000).map(|_| generator.uniform()).collect());
        assert!(
            (mean - 0.5).abs() < 0.02 && (deviation - 0.289).abs() < 0.02,
            "{mean} {deviation}"
        );
        let (mean, deviation) = moments((0..10_000).map(|_| generator.normal()).collect());
        assert!(mean.abs() < 0.05 && (deviation - 1.0).abs() < 0.05, "{mean} {deviation}");
    }
}
