//! A real NVRTC, which needs no GPU.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use super::Unit;

/// NVRTC, loaded from a file.
pub(super) struct Nvrtc {
    library: Library,
    /// What it looks for by name alone, and finds since it is loaded already.
    _builtins: Vec<Library>,
}

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> u32;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> u32;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> u32;
type Get = unsafe extern "C" fn(Handle, *mut c_char) -> u32;
type Destroy = unsafe extern "C" fn(*mut Handle) -> u32;

impl Nvrtc {
    /// Loads the library, and the one beside it that it needs.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let files = std::fs::read_dir(folder)
            .map_err(|error| format!("{}: {error}\n", folder.display()))?;
        let builtins = files.flatten().map(|file| file.path()).filter(|file| {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with("libnvrtc-builtins.so"))
        });
        // SAFETY: NVIDIA's libraries do nothing when they are loaded.
        let builtins = builtins.filter_map(|file| unsafe { Library::new(file) }.ok()).collect();
        // SAFETY: as above.
        let library = unsafe { Library::new(path) }
            .map_err(|error| format!("{}: {error}\n", path.display()))?;
        Ok(Self { library, _builtins: builtins })
    }

    fn function<T: Copy>(&self, name: &str) -> Result<T, String> {
        // SAFETY: the callers name the type that NVRTC's header gives the function.
        let found = unsafe { self.library.get::<T>(name.as_bytes()) };
        found.map(|symbol| *symbol).map_err(|error| format!("{name}: {error}\n"))
    }

    /// Compiles to PTX with line information; the error is the compiler's log.
    pub(super) fn compile(&self, unit: &Unit<'_>, architecture: u32) -> Result<String, String> {
        let create: Create = self.function("nvrtcCreateProgram")?;
        let compile: Compile = self.function("nvrtcCompileProgram")?;
        let destroy: Destroy = self.function("nvrtcDestroyProgram")?;
        // A path of its own: a bare name would be put into the folder of whoever compiles.
        let text =
            |text: &str| CString::new(text).map_err(|error| format!("{}: {error}\n", unit.name));
        let (source, name) = (text(unit.source)?, text(&format!("/kernels/{}", unit.name))?);
        let mut options = vec![text(&format!("--gpu-architecture=compute_{architecture}"))?];
        options.push(text("--generate-line-info")?);
        for option in unit.options {
            options.push(text(option)?);
        }
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: both texts end with a zero and live on; no headers are given.
        let made = unsafe {
            create(
                &raw mut handle,
                source.as_ptr(),
                name.as_ptr(),
                0,
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        if made != 0 {
            return Err(format!("nvrtcCreateProgram answered {made}\n"));
        }
        // SAFETY: the program was made, and the options live on.
        let code = unsafe { compile(handle, pointers.len() as c_int, pointers.as_ptr()) };
        let found = if code == 0 {
            self.text(handle, "nvrtcGetPTX")
        } else {
            self.text(handle, "nvrtcGetProgramLog")
        };
        // SAFETY: made above, and destroyed only here.
        unsafe { destroy(&raw mut handle) };
        if code == 0 { found } else { Err(found.unwrap_or_else(|error| error)) }
    }

    /// One of a program's texts, without its final zero.
    fn text(&self, handle: Handle, what: &str) -> Result<String, String> {
        let size: Size = self.function(&format!("{what}Size"))?;
        let get: Get = self.function(what)?;
        let mut len = 0;
        // SAFETY: the program is alive; one number is written.
        let mut code = unsafe { size(handle, &raw mut len) };
        let mut bytes = vec![0_u8; len];
        if code == 0 {
            // SAFETY: there is room for as many bytes as were asked for.
            code = unsafe { get(handle, bytes.as_mut_ptr().cast()) };
        }
        if code != 0 {
            return Err(format!("{what} answered {code}\n"));
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }
}
