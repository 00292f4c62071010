//! Which device to measure, and the one function that opens it.

use std::fmt;
use std::str::FromStr;

use warpmark_record::DeviceSpec;

use crate::driver::OpenError;
use crate::{CpuDevice, Device, cuda};

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU, or the CPU where there is no GPU.
    #[default]
    Auto,
    /// The host's processor.
    Cpu,
    /// The GPU of this index, as the driver counts.
    Cuda(u32),
    /// Every GPU, for what measures several.
    All,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(index) => f.pad(&format!("cuda:{index}")),
            Self::All => f.pad("all"),
        }
    }
}

/// A device name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no device; write auto, cpu, cuda, or cuda:N with N from 0 up (`nvidia-smi -L` lists them)"
)]
pub struct ChoiceError(pub String);

impl FromStr for DeviceChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let wrong = || ChoiceError(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "all" => Ok(Self::All),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                // `parse` alone would take "+1".
                if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(wrong());
                }
                index.parse().map(Self::Cuda).map_err(|_| wrong())
            }
        }
    }
}

/// A device that was opened.
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Why `auto` took the CPU; `None` when the device is the one that was asked for, or a GPU.
    pub note: Option<String>,
}

/// A device that was looked at and not opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// What it says of itself.
    pub spec: DeviceSpec,
    /// Why `auto` took the CPU, as in [`Opened::note`].
    pub note: Option<String>,
}

/// Opens a device: the only function of the project that does.
///
/// `threads` is what CPU workloads will use; it is kept, not started, here.
///
/// `Auto` takes the CPU, and says why in [`Opened::note`], only where there is no GPU to use: no driver
/// library, no device, or all of them hidden by `CUDA_VISIBLE_DEVICES`. A driver that is there and
/// broken is an error under `Auto` too, since someone who rents a GPU must not be given figures of a
/// CPU.
///
/// # Errors
/// [`OpenError`], each with what to do next. Never panics, with whatever libraries are installed.
pub fn open(choice: DeviceChoice, threads: usize) -> Result<Opened, OpenError> {
    if threads == 0 {
        return Err(OpenError::NoThreads);
    }
    let cpu = || Device::Cpu(CpuDevice { spec: crate::cpu::device_spec(), threads });
    let (device, note) = choose(choice, cpu, |index| cuda::open(index).map(Device::Cuda))?;
    Ok(Opened { device, note })
}

/// Describes the device that [`open`] would open, without opening it: no context is made and no
/// memory taken on a GPU.
///
/// # Errors
/// As [`open`].
pub fn look(choice: DeviceChoice) -> Result<Described, OpenError> {
    let (spec, note) = choose(choice, crate::cpu::device_spec, cuda::describe)?;
    Ok(Described { spec, note })
}

/// The one place that decides between CPU and GPU.
fn choose<T>(
    choice: DeviceChoice,
    cpu: impl FnOnce() -> T,
    gpu: impl FnOnce(u32) -> Result<T, OpenError>,
) -> Result<(T, Option<String>), OpenError> {
    match choice {
        DeviceChoice::Cpu => Ok((cpu(), None)),
        DeviceChoice::Cuda(index) => gpu(index).map(|found| (found, None)),
        DeviceChoice::All => Err(OpenError::Several),
        DeviceChoice::Auto => match gpu(0) {
            Ok(found) => Ok((found, None)),
            Err(absence) if absence.is_plain_absence() => Ok((cpu(), Some(why_cpu(&absence)))),
            Err(error) => Err(error),
        },
    }
}

fn why_cpu(absence: &OpenError) -> String {
    let why = match absence {
        OpenError::NoDriver(reason) => reason.clone(),
        OpenError::Hidden { value } => format!("CUDA_VISIBLE_DEVICES is \"{value}\""),
        _ => "the CUDA driver sees no device".to_owned(),
    };
    format!("measuring the CPU: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_device_is_read() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:13", DeviceChoice::Cuda(13)),
            ("all", DeviceChoice::All),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        assert_eq!("cuda:13".parse::<DeviceChoice>().unwrap().to_string(), "cuda:13");
    }

    #[test]
    fn anything_else_is_refused_with_its_own_text() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:1.0", "cuda:4294967296", "CPU"]
        {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("\"{text}\" is no device")), "{error}");
        }
    }

    #[test]
    fn no_threads_are_refused() {
        assert_eq!(open(DeviceChoice::Cpu, 0).err(), Some(OpenError::NoThreads));
    }

    #[test]
    fn the_cpu_opens_with_the_threads_it_was_given() {
        let opened = open(DeviceChoice::Cpu, 3).unwrap();
        assert_eq!(opened.note, None);
        let looked = look(DeviceChoice::Cpu).unwrap();
        assert_eq!((&looked.spec, &looked.note), (opened.device.spec(), &None));
        let Device::Cpu(cpu) = opened.device else { panic!("not the CPU") };
        assert_eq!(cpu.threads, 3);
    }
}
