//! The names of result codes.

use std::ffi::{CStr, c_char};

use super::INVALID_VALUE;
use crate::call::{anywhere, put};

const NAMES: [(u32, &CStr); 22] = [
    (0, c"CUDA_SUCCESS"),
    (1, c"CUDA_ERROR_INVALID_VALUE"),
    (2, c"CUDA_ERROR_OUT_OF_MEMORY"),
    (3, c"CUDA_ERROR_NOT_INITIALIZED"),
    (100, c"CUDA_ERROR_NO_DEVICE"),
    (101, c"CUDA_ERROR_INVALID_DEVICE"),
    (200, c"CUDA_ERROR_INVALID_IMAGE"),
    (201, c"CUDA_ERROR_INVALID_CONTEXT"),
    (209, c"CUDA_ERROR_NO_BINARY_FOR_GPU"),
    (218, c"CUDA_ERROR_INVALID_PTX"),
    (222, c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
    (400, c"CUDA_ERROR_INVALID_HANDLE"),
    (500, c"CUDA_ERROR_NOT_FOUND"),
    (600, c"CUDA_ERROR_NOT_READY"),
    (700, c"CUDA_ERROR_ILLEGAL_ADDRESS"),
    (701, c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    (702, c"CUDA_ERROR_LAUNCH_TIMEOUT"),
    (710, c"CUDA_ERROR_ASSERT"),
    (716, c"CUDA_ERROR_MISALIGNED_ADDRESS"),
    (719, c"CUDA_ERROR_LAUNCH_FAILED"),
    (801, c"CUDA_ERROR_NOT_SUPPORTED"),
    (999, c"CUDA_ERROR_UNKNOWN"),
];

fn name(code: u32) -> Result<*const c_char, u32> {
    let known = NAMES.iter().find(|(known, _)| *known == code);
    known.map(|(_, name)| name.as_ptr()).ok_or(INVALID_VALUE)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: u32, text: Option<&mut *const c_char>) -> u32 {
    anywhere("cuGetErrorName", |_| put(text, name(code)?, INVALID_VALUE))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(code: u32, text: Option<&mut *const c_char>) -> u32 {
    anywhere("cuGetErrorString", |_| put(text, name(code)?, INVALID_VALUE))
}
