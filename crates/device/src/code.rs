//! The driver's result codes, by our own table.
//!
//! cudarc prints an error by asking the driver for its text: that panics when the library is missing,
//! and a code newer than cudarc's bindings ends the process. Nothing here asks anybody.

use std::fmt;

use cudarc::driver::DriverError;

/// A call into the CUDA driver that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct CudaError {
    /// The function that was called.
    pub call: &'static str,
    /// What it answered, a `CUresult`.
    pub code: u32,
}

impl CudaError {
    /// The error of `call` without printing through cudarc. Made for `map_err`:
    /// `.map_err(CudaError::of("cuMemAllocAsync"))`.
    pub fn of(call: &'static str) -> impl Fn(DriverError) -> Self {
        move |error| Self { call, code: error.0 as u32 }
    }

    /// The code's name in `cuda.h`, if it is one we know.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(code, _)| *code == self.code).map(|(_, name)| *name)
    }

    /// What to do about it, where there is something to be done outside the program.
    pub fn advice(self) -> Option<&'static str> {
        ADVICE.iter().find(|(code, _)| *code == self.code).map(|(_, advice)| *advice)
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} answered {name} ({})", self.call, self.code)?,
            None => {
                write!(f, "{} answered code {}, which cuda.h 13.0 lacks", self.call, self.code)?;
            }
        }
        match self.advice() {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

/// The text of a driver error that came out of cudarc, safe for any code.
pub fn describe(error: &DriverError) -> String {
    let error = CudaError::of("the CUDA driver")(*error);
    error.to_string()
}

const ADVICE: &[(u32, &str)] = &[
    (2, "the device is out of memory; end other processes that use it, or take a smaller size"),
    (
        34,
        "this libcuda is the stub that the CUDA toolkit ships for linking; take its folder (usually \
         lib64/stubs) out of LD_LIBRARY_PATH so that the driver's own library is found",
    ),
    (
        46,
        "another process has the device in exclusive mode; end it, or run `nvidia-smi -c DEFAULT`",
    ),
    (
        100,
        "the driver sees no device; look at `nvidia-smi`, and in a container start it with access to \
         the GPU (docker: `--gpus all`)",
    ),
    (101, "the device index does not exist; `nvidia-smi -L` lists those that do"),
    (
        200,
        "the driver cannot read this machine code, as when it was compiled by a toolkit newer than the \
         driver; update the driver, or use the libraries of the driver's own CUDA version",
    ),
    (
        209,
        "the code was compiled for another architecture, or by a toolkit newer than the driver; \
         `warpmark doctor` says which",
    ),
    (222, "the kernel was compiled by a toolkit newer than the driver; update the driver"),
    (
        304,
        "the operating system refused the driver; look at the permissions of /dev/nvidia* and, in a \
         container, at its device rules",
    ),
    (800, "this user may not use the device; look at the permissions of /dev/nvidia*"),
    (
        802,
        "the system is not ready; on a machine with NVSwitch start the fabric manager \
         (`systemctl start nvidia-fabricmanager`)",
    ),
    (
        803,
        "the driver's library and its kernel module differ in version; reboot, or reload the module, \
         after a driver update; in a container, remove a libcuda that is not the host's",
    ),
    (
        804,
        "a forward-compatibility libcuda is in use on a card that does not support it; take its folder \
         (usually cuda/compat) out of LD_LIBRARY_PATH, or update the driver",
    ),
    (805, "the MPS server cannot be reached; start it, or unset CUDA_MPS_PIPE_DIRECTORY"),
    (
        999,
        "the driver failed without saying why; `nvidia-smi` and `dmesg` may tell, and reloading the \
         module (`modprobe -r nvidia_uvm && modprobe nvidia_uvm`) or a reboot often fixes it",
    ),
];

/// `CUresult` of cuda.h 13.0.
const NAMES: &[(u32, &str)] = &[
    (0, "CUDA_SUCCESS"),
    (1, "CUDA_ERROR_INVALID_VALUE"),
    (2, "CUDA_ERROR_OUT_OF_MEMORY"),
    (3, "CUDA_ERROR_NOT_INITIALIZED"),
    (4, "CUDA_ERROR_DEINITIALIZED"),
    (5, "CUDA_ERROR_PROFILER_DISABLED"),
    (6, "CUDA_ERROR_PROFILER_NOT_INITIALIZED"),
    (7, "CUDA_ERROR_PROFILER_ALREADY_STARTED"),
    (8, "CUDA_ERROR_PROFILER_ALREADY_STOPPED"),
    (34, "CUDA_ERROR_STUB_LIBRARY"),
    (36, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER"),
    (46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
    (47, "CUDA_ERROR_MULTICAST_RESOURCE_FULL"),
    (100, "CUDA_ERROR_NO_DEVICE"),
    (101, "CUDA_ERROR_INVALID_DEVICE"),
    (102, "CUDA_ERROR_DEVICE_NOT_LICENSED"),
    (200, "CUDA_ERROR_INVALID_IMAGE"),
    (201, "CUDA_ERROR_INVALID_CONTEXT"),
    (202, "CUDA_ERROR_CONTEXT_ALREADY_CURRENT"),
    (205, "CUDA_ERROR_MAP_FAILED"),
    (206, "CUDA_ERROR_UNMAP_FAILED"),
    (207, "CUDA_ERROR_ARRAY_IS_MAPPED"),
    (208, "CUDA_ERROR_ALREADY_MAPPED"),
    (209, "CUDA_ERROR_NO_BINARY_FOR_GPU"),
    (210, "CUDA_ERROR_ALREADY_ACQUIRED"),
    (211, "CUDA_ERROR_NOT_MAPPED"),
    (212, "CUDA_ERROR_NOT_MAPPED_AS_ARRAY"),
    (213, "CUDA_ERROR_NOT_MAPPED_AS_POINTER"),
    (214, "CUDA_ERROR_ECC_UNCORRECTABLE"),
    (215, "CUDA_ERROR_UNSUPPORTED_LIMIT"),
    (216, "CUDA_ERROR_CONTEXT_ALREADY_IN_USE"),
    (217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED"),
    (218, "CUDA_ERROR_INVALID_PTX"),
    (219, "CUDA_ERROR_INVALID_GRAPHICS_CONTEXT"),
    (220, "CUDA_ERROR_NVLINK_UNCORRECTABLE"),
    (221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND"),
    (222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
    (223, "CUDA_ERROR_JIT_COMPILATION_DISABLED"),
    (224, "CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY"),
    (225, "CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC"),
    (226, "CUDA_ERROR_CONTAINED"),
    (227, "CUDA_ERROR_INSUFFICIENT_LOADER_VERSION"),
    (300, "CUDA_ERROR_INVALID_SOURCE"),
    (301, "CUDA_ERROR_FILE_NOT_FOUND"),
    (302, "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND"),
    (303, "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED"),
    (304, "CUDA_ERROR_OPERATING_SYSTEM"),
    (400, "CUDA_ERROR_INVALID_HANDLE"),
    (401, "CUDA_ERROR_ILLEGAL_STATE"),
    (402, "CUDA_ERROR_LOSSY_QUERY"),
    (500, "CUDA_ERROR_NOT_FOUND"),
    (600, "CUDA_ERROR_NOT_READY"),
    (700, "CUDA_ERROR_ILLEGAL_ADDRESS"),
    (701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    (702, "CUDA_ERROR_LAUNCH_TIMEOUT"),
    (703, "CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING"),
    (704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED"),
    (705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED"),
    (708, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE"),
    (709, "CUDA_ERROR_CONTEXT_IS_DESTROYED"),
    (710, "CUDA_ERROR_ASSERT"),
    (711, "CUDA_ERROR_TOO_MANY_PEERS"),
    (712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"),
    (713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"),
    (714, "CUDA_ERROR_HARDWARE_STACK_ERROR"),
    (715, "CUDA_ERROR_ILLEGAL_INSTRUCTION"),
    (716, "CUDA_ERROR_MISALIGNED_ADDRESS"),
    (717, "CUDA_ERROR_INVALID_ADDRESS_SPACE"),
    (718, "CUDA_ERROR_INVALID_PC"),
    (719, "CUDA_ERROR_LAUNCH_FAILED"),
    (720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"),
    (721, "CUDA_ERROR_TENSOR_MEMORY_LEAK"),
    (800, "CUDA_ERROR_NOT_PERMITTED"),
    (801, "CUDA_ERROR_NOT_SUPPORTED"),
    (802, "CUDA_ERROR_SYSTEM_NOT_READY"),
    (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    (805, "CUDA_ERROR_MPS_CONNECTION_FAILED"),
    (806, "CUDA_ERROR_MPS_RPC_FAILURE"),
    (807, "CUDA_ERROR_MPS_SERVER_NOT_READY"),
    (808, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED"),
    (809, "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED"),
    (810, "CUDA_ERROR_MPS_CLIENT_TERMINATED"),
    (811, "CUDA_ERROR_CDP_NOT_SUPPORTED"),
    (812, "CUDA_ERROR_CDP_VERSION_MISMATCH"),
    (900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
    (901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"),
    (902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"),
    (903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"),
    (904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"),
    (905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"),
    (906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"),
    (907, "CUDA_ERROR_CAPTURED_EVENT"),
    (908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"),
    (909, "CUDA_ERROR_TIMEOUT"),
    (910, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"),
    (911, "CUDA_ERROR_EXTERNAL_DEVICE"),
    (912, "CUDA_ERROR_INVALID_CLUSTER_SIZE"),
    (913, "CUDA_ERROR_FUNCTION_NOT_LOADED"),
    (914, "CUDA_ERROR_INVALID_RESOURCE_TYPE"),
    (915, "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"),
    (916, "CUDA_ERROR_KEY_ROTATION"),
    (917, "CUDA_ERROR_STREAM_DETACHED"),
    (918, "CUDA_ERROR_GRAPH_RECAPTURE_FAILURE"),
    (919, "CUDA_ERROR_FABRIC_NOT_READY"),
    (999, "CUDA_ERROR_UNKNOWN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_code_has_its_name_and_what_to_do() {
        let text = CudaError { call: "cuInit", code: 803 }.to_string();
        assert!(
            text.starts_with("cuInit answered CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): "),
            "{text}"
        );
        assert!(text.contains("reboot"), "{text}");
    }

    #[test]
    fn a_code_newer_than_the_table_is_printed_as_a_number() {
        let text = CudaError { call: "cuInit", code: 4242 }.to_string();
        assert!(text.starts_with("cuInit answered code 4242"), "{text}");
    }

    #[test]
    fn the_table_agrees_with_cudarcs_bindings() {
        use cudarc::driver::sys::cudaError_enum as code;
        for known in [
            code::CUDA_ERROR_STUB_LIBRARY,
            code::CUDA_ERROR_NO_DEVICE,
            code::CUDA_ERROR_OUT_OF_MEMORY,
            code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            code::CUDA_ERROR_ILLEGAL_ADDRESS,
            code::CUDA_ERROR_UNKNOWN,
        ] {
            // Debug of the bare enum is derived; only DriverError's asks the driver.
            let error = CudaError::of("x")(DriverError(known));
            assert_eq!(error.name(), Some(format!("{known:?}").as_str()));
        }
    }

    #[test]
    fn codes_rise_so_that_none_is_listed_twice() {
        for table in [NAMES, ADVICE] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        assert!(ADVICE.iter().all(|(code, _)| NAMES.iter().any(|(known, _)| known == code)));
    }
}
