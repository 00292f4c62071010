//! Opening a GPU and asking the driver what it is.

mod facts;

use std::collections::BTreeMap;
use std::ptr;

use cudarc::driver::sys::{CUdevice, CUdevice_attribute, CUmemPool_attribute};
use cudarc::driver::{CudaContext, CudaEvent, result};
use warpmark_record::machine::GpuSpec;
use warpmark_record::{Bytes, DeviceKind, DeviceSpec, Field, Hertz, Seconds};

use crate::code::CudaError;
use crate::driver::{self, OpenError};
use crate::footprint::Baseline;
use crate::{CudaDevice, datasheet, nvml, probe, slug};

use CUdevice_attribute as Attribute;
use facts::{bandwidth, real_name, uuid_hash, variables};

/// Every GPU that this process may see, in the driver's order. Makes no context.
///
/// # Errors
/// As [`crate::open`]; an empty list is [`OpenError::NoDevice`] or [`OpenError::Hidden`].
pub fn list() -> Result<Vec<DeviceSpec>, OpenError> {
    let count = driver::start_driver()?;
    (0..count).map(|index| Card::get(index).and_then(|card| card.spec(index))).collect()
}

/// Describes the GPU of this index; makes no context.
pub(crate) fn describe(index: u32) -> Result<DeviceSpec, OpenError> {
    find(index)?.spec(index)
}

fn find(index: u32) -> Result<Card, OpenError> {
    let count = driver::start_driver()?;
    if index >= count {
        let visible = driver::visible_devices();
        return Err(OpenError::NoSuchDevice { index, count, visible });
    }
    Card::get(index)
}

/// Opens the GPU of this index on the calling thread.
pub(crate) fn open(index: u32) -> Result<CudaDevice, OpenError> {
    let card = find(index)?;
    // Before the context exists, so that `idle` is idle and this process is not among the others.
    let spec = card.spec(index)?;
    let sensors = card.sensors();
    let used_before = nvml::used(sensors.as_ref());
    let failed = |call| move |error| OpenError::Device { index, error: CudaError::of(call)(error) };

    let ordinal = index as usize;
    #[allow(clippy::disallowed_methods, reason = "the one place that opens a context")]
    let context = CudaContext::new(ordinal).map_err(failed("cuDevicePrimaryCtxRetain"))?;
    let mut settings = BTreeMap::new();

    // SAFETY: without tracking, cudarc does not order streams among themselves; everything here runs
    // on the one stream below. It must come before the first allocation: it only affects later ones.
    unsafe { context.disable_event_tracking() };
    settings.insert("cuda_event_tracking".to_owned(), "off".to_owned());

    // The per-thread stream and not one of our own: candle's backend works on it too, so that one pair
    // of events times cudarc's work and candle's alike. (`new_stream` would also put the context into
    // multi-stream mode.) The price is that another thread would get another stream behind the same
    // handle, hence the rule that the opening thread drives the device.
    let stream = context.per_thread_stream();
    settings.insert("cuda_stream".to_owned(), "per-thread default stream of one thread".to_owned());

    let threshold = match card.keep_freed_memory(context.has_async_alloc()) {
        Field::Known(()) => "maximum".to_owned(),
        Field::Absent { absent } => format!("not set: {absent}"),
    };
    settings.insert("cuda_pool_release_threshold".to_owned(), threshold);
    let power = match &sensors {
        Ok(sensors) => sensors.power_sensor().to_owned(),
        Err(reason) => format!("none: {reason}"),
    };
    settings.insert("power_sensor".to_owned(), power);
    settings.extend(variables());
    let free = context.mem_get_info().map_err(CudaError::of("cuMemGetInfo"));
    let baseline = Baseline {
        context: nvml::grown(sensors.as_ref(), used_before),
        free: free.map(|(free, _total)| Bytes::from_count(free)).into(),
    };
    Ok(CudaDevice { spec, ordinal, context, stream, settings, baseline })
}

/// The time between two events that have both completed, on any driver that is new enough to be opened.
///
/// [`CudaEvent::elapsed_ms`] of cudarc calls a function that drivers before 12.8 lack, and panics there.
///
/// # Errors
/// The driver's refusal: events made without timing, or not yet complete.
pub fn elapsed(start: &CudaEvent, end: &CudaEvent) -> Result<Seconds, CudaError> {
    const CALL: &str = "cuEventElapsedTime";
    let driver = probe::driver().map_err(|_| CudaError { call: CALL, code: 3 })?;
    let ask = driver.elapsed()?;
    let mut milliseconds = 0.0f32;
    // SAFETY: both events live as long as the borrows; the driver writes one float and keeps nothing.
    let code = unsafe { ask(&raw mut milliseconds, start.cu_event(), end.cu_event()) };
    probe::check(CALL, code)?;
    Ok(Seconds(f64::from(milliseconds) / 1e3))
}

/// A device handle: enough to ask, without a context.
struct Card {
    handle: CUdevice,
    index: u32,
}

impl Card {
    fn get(index: u32) -> Result<Self, OpenError> {
        // A driver counts devices in an int.
        let ordinal = i32::try_from(index).unwrap_or(i32::MAX);
        let handle = result::device::get(ordinal)
            .map_err(CudaError::of("cuDeviceGet"))
            .map_err(|error| OpenError::Device { index, error })?;
        Ok(Self { handle, index })
    }

    fn failed(&self) -> impl Fn(CudaError) -> OpenError {
        let index = self.index;
        move |error| OpenError::Device { index, error }
    }

    fn attribute(&self, attribute: Attribute) -> Result<i64, CudaError> {
        // SAFETY: the handle is from `device::get`.
        let value = unsafe { result::device::get_attribute(self.handle, attribute) };
        value.map(i64::from).map_err(CudaError::of("cuDeviceGetAttribute"))
    }

    /// An attribute that zero would be no answer for.
    fn positive(&self, attribute: Attribute) -> Field<u32> {
        match self.attribute(attribute) {
            Ok(value) if value > 0 => Field::Known(value as u32),
            Ok(value) => Field::absent(format!("the driver reports {value}")),
            Err(error) => Field::absent(error.to_string()),
        }
    }

    fn flag(&self, attribute: Attribute) -> Field<bool> {
        self.attribute(attribute).map(|value| value != 0).into()
    }

    fn bytes(&self, attribute: Attribute) -> Field<Bytes> {
        self.positive(attribute).map(|count| Bytes(f64::from(count)))
    }

    /// The driver reports clocks in kHz.
    fn clock(&self, attribute: Attribute) -> Field<Hertz> {
        self.positive(attribute).map(|khz| Hertz(f64::from(khz) * 1e3))
    }

    fn name(&self) -> Result<String, CudaError> {
        result::device::get_name(self.handle).map_err(CudaError::of("cuDeviceGetName"))
    }

    fn memory(&self) -> Field<Bytes> {
        // SAFETY: the handle is from `device::get`.
        let total = unsafe { result::device::total_mem(self.handle) };
        total.map(Bytes::from_count).map_err(CudaError::of("cuDeviceTotalMem")).into()
    }

    fn compute_capability(&self) -> Result<(u32, u32), CudaError> {
        let major = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok((major as u32, minor as u32))
    }

    /// `0000:3b:00.0`, the form that NVML and the kernel share. The function is always 0 on a GPU.
    fn pci_id(&self) -> Result<String, CudaError> {
        let domain = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?;
        let bus = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?;
        let slot = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?;
        Ok(format!("{domain:04x}:{bus:02x}:{slot:02x}.0"))
    }

    /// The same card through NVML.
    fn sensors(&self) -> Result<nvml::Card, String> {
        let id = self.pci_id().map_err(|error| format!("NVML needs the PCI id: {error}"))?;
        nvml::Card::at(&id)
    }

    /// Tells the default pool to keep what is freed, for otherwise each synchronisation gives memory
    /// back to the system and the next allocation pays for it again inside the timed region.
    fn keep_freed_memory(&self, pools: bool) -> Field<()> {
        if !pools {
            return Field::absent("the device has no memory pools");
        }
        let mut threshold = u64::MAX;
        // SAFETY: the handle is from `device::get`; this attribute is a u64, which outlives the call.
        let set = unsafe {
            result::device::get_default_mem_pool(self.handle).and_then(|pool| {
                result::mem_pool::set_attribute(
                    pool,
                    CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                    ptr::from_mut(&mut threshold).cast(),
                )
            })
        };
        set.map_err(CudaError::of("cuMemPoolSetAttribute")).into()
    }

    fn spec(&self, index: u32) -> Result<DeviceSpec, OpenError> {
        let name = self.name().map_err(self.failed())?;
        let memory = self.memory();
        let gpu = self.gpu(&name, &memory).map_err(self.failed())?;
        Ok(DeviceSpec {
            kind: kind(),
            index,
            slug: slug(&name),
            name,
            memory,
            memory_bandwidth: bandwidth(&gpu.memory_clock, &gpu.memory_bus_bits, &gpu.datasheet),
            last_level_cache: self.bytes(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
            gpu: Some(Box::new(gpu)),
            cpu: None,
        })
    }

    fn gpu(&self, name: &str, memory: &Field<Bytes>) -> Result<GpuSpec, CudaError> {
        let sensors = self.sensors();
        let told = nvml::Told::by(sensors.as_ref());
        let sm_count = self.positive(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        let memory_clock = self.clock(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
        Ok(GpuSpec {
            compute_capability: self.compute_capability()?,
            cuda_driver_version: probe::driver().map_or(Ok(0), probe::Driver::version)?,
            datasheet: datasheet::find(real_name(name), memory, &sm_count),
            sm_count,
            sm_clock: self.clock(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
            // NVML counts memory clocks as the driver does, and still answers where the driver says 0.
            memory_clock: if memory_clock.known().is_some() {
                memory_clock
            } else {
                told.memory_clock_max
            },
            memory_bus_bits: self.positive(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
            shared_memory_per_sm: self
                .bytes(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
            shared_memory_per_block: self
                .bytes(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
            registers_per_sm: self
                .positive(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR),
            warp_size: self.positive(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE),
            ecc: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED),
            integrated: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED),
            memory_pools: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED),
            pci_id: self.pci_id().into(),
            uuid_hash: result::device::get_uuid(self.handle)
                .map(uuid_hash)
                .map_err(CudaError::of("cuDeviceGetUuid"))
                .into(),
            driver_version: told.driver_version,
            power_limit: told.power_limit,
            power_limit_default: told.power_limit_default,
            pcie_now: told.pcie_now,
            pcie_max: told.pcie_max,
            mig: told.mig,
            persistence: told.persistence,
            other_processes: told.other_processes,
            idle: told.state,
        })
    }
}

/// What is below this driver.
fn kind() -> DeviceKind {
    let simulated = probe::driver().is_ok_and(probe::Driver::is_simulated);
    if simulated { DeviceKind::Simulated } else { DeviceKind::Cuda }
}
