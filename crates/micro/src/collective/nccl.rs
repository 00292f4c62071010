//! The part of NCCL that is called, by the signatures of its `nccl.h` (2.x, which has kept them since 2.2).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use libloading::Library;

/// `ncclFloat32`.
const FLOAT32: c_int = 7;
/// `ncclSum`.
const SUM: c_int = 0;

const NAME: &str = "libnccl.so.2";

type Status = c_int;
type Handle = *mut c_void;

/// NCCL's functions. The library stays loaded: it has threads of its own.
pub(super) struct Nccl {
    version: unsafe extern "C" fn(*mut c_int) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
    init_all: unsafe extern "C" fn(*mut Handle, c_int, *const c_int) -> Status,
    destroy: unsafe extern "C" fn(Handle) -> Status,
    group_start: unsafe extern "C" fn() -> Status,
    group_end: unsafe extern "C" fn() -> Status,
    all_reduce: unsafe extern "C" fn(
        CUdeviceptr,
        CUdeviceptr,
        usize,
        c_int,
        c_int,
        Handle,
        CUstream,
    ) -> Status,
    all_gather:
        unsafe extern "C" fn(CUdeviceptr, CUdeviceptr, usize, c_int, Handle, CUstream) -> Status,
    broadcast: unsafe extern "C" fn(
        CUdeviceptr,
        CUdeviceptr,
        usize,
        c_int,
        c_int,
        Handle,
        CUstream,
    ) -> Status,
    _library: Library,
}

/// One card's end of the connection between all.
pub(super) struct Communicator {
    handle: Handle,
    nccl: &'static Nccl,
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // SAFETY: made by `communicators`, and given back only here.
        let _ = unsafe { (self.nccl.destroy)(self.handle) };
    }
}

static LOADED: OnceLock<Result<Nccl, String>> = OnceLock::new();

/// NCCL, loaded once for the life of the process, or why it cannot be used and the line that brings it.
pub(super) fn loaded() -> Result<&'static Nccl, String> {
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Nccl, String> {
    // SAFETY: loading runs the library's constructors; it is NVIDIA's own.
    let library = unsafe { Library::new(NAME) }.map_err(|error| {
        let reason = error.to_string();
        let absent = reason.contains(&format!("{NAME}: cannot open shared object file"));
        let why = if absent { format!("{NAME} was not found") } else { reason };
        format!(
            "NCCL cannot be loaded ({why}); `pip install nvidia-nccl-cu12` and the folder of that file in \
             LD_LIBRARY_PATH, or the distribution's libnccl2 bring it"
        )
    })?;
    /// A function by its name.
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: the type is that of the field, which is NCCL's own.
            *unsafe { library.get($name) }
                .map_err(|_| format!("{NAME} lacks a function ({})", $name.escape_ascii()))?
        };
    }
    Ok(Nccl {
        version: function!(b"ncclGetVersion"),
        error: function!(b"ncclGetErrorString"),
        init_all: function!(b"ncclCommInitAll"),
        destroy: function!(b"ncclCommDestroy"),
        group_start: function!(b"ncclGroupStart"),
        group_end: function!(b"ncclGroupEnd"),
        all_reduce: function!(b"ncclAllReduce"),
        all_gather: function!(b"ncclAllGather"),
        broadcast: function!(b"ncclBroadcast"),
        _library: library,
    })
}

impl Nccl {
    fn told(&self, doing: &str, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NCCL answers with a text of its own for every number.
        let text = unsafe { (self.error)(status) };
        let words = if text.is_null() {
            format!("error {status}")
        } else {
            // SAFETY: it is not null, and NCCL's texts end with a zero and never go.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        Err(format!("{doing}: NCCL says: {words}"))
    }

    /// Its version, as `2.27.3`; empty where it does not tell.
    pub(super) fn version(&self) -> String {
        let mut code = 0;
        // SAFETY: writes one integer.
        let told = unsafe { (self.version)(&raw mut code) };
        // Two digits for the minor version up to 2.8, and more after it.
        let (major, minor, patch) = match code {
            code if told != 0 || code <= 0 => return String::new(),
            code if code < 10_000 => (code / 1000, code / 100 % 10, code % 100),
            code => (code / 10_000, code / 100 % 100, code % 100),
        };
        format!("{major}.{minor}.{patch}")
    }

    /// One communicator for each of the cards, by their indices.
    pub(super) fn communicators(
        &'static self,
        cards: &[c_int],
    ) -> Result<Vec<Communicator>, String> {
        let mut handles = vec![std::ptr::null_mut(); cards.len()];
        let count = c_int::try_from(cards.len()).map_err(|error| error.to_string())?;
        // SAFETY: both lists are as long as is said.
        let status = unsafe { (self.init_all)(handles.as_mut_ptr(), count, cards.as_ptr()) };
        self.told("connecting the cards", status)?;
        Ok(handles.into_iter().map(|handle| Communicator { handle, nccl: self }).collect())
    }

    /// Queues what all cards take part in: nothing begins before the last of them is told.
    pub(super) fn together(
        &self,
        queue: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        // SAFETY: takes nothing, and is ended below whatever happens.
        self.told("beginning a collective", unsafe { (self.group_start)() })?;
        let queued = queue();
        // SAFETY: ends what was begun.
        let ended = self.told("a collective", unsafe { (self.group_end)() });
        queued.and(ended)
    }

    /// Sums of `count` elements from every card, to every card.
    pub(super) fn all_reduce(
        &self,
        from: CUdeviceptr,
        to: CUdeviceptr,
        count: usize,
        communicator: &Communicator,
        stream: CUstream,
    ) -> Result<(), String> {
        let handle = communicator.handle;
        // SAFETY: both arrays have `count` elements, on the card and in the context of the stream.
        let status = unsafe { (self.all_reduce)(from, to, count, FLOAT32, SUM, handle, stream) };
        self.told("an all-reduce", status)
    }

    /// `count` elements from each card, one after the other, to every card.
    pub(super) fn all_gather(
        &self,
        from: CUdeviceptr,
        to: CUdeviceptr,
        count: usize,
        communicator: &Communicator,
        stream: CUstream,
    ) -> Result<(), String> {
        let handle = communicator.handle;
        // SAFETY: as for sums, and `to` has room for what all cards give.
        let status = unsafe { (self.all_gather)(from, to, count, FLOAT32, handle, stream) };
        self.told("an all-gather", status)
    }

    /// `count` elements from the first card, to every card.
    pub(super) fn broadcast(
        &self,
        from: CUdeviceptr,
        to: CUdeviceptr,
        count: usize,
        communicator: &Communicator,
        stream: CUstream,
    ) -> Result<(), String> {
        let handle = communicator.handle;
        // SAFETY: as for sums.
        let status = unsafe { (self.broadcast)(from, to, count, FLOAT32, 0, handle, stream) };
        self.told("a broadcast", status)
    }
}
