//! Libraries of several CUDA versions side by side: each tells its version, and is the simulator otherwise.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::Command;

use super::Library;

/// A toolkit's version, as `(12, 9)`.
pub type Version = (u32, u32);

/// The C of a library that tells a version; everything else is found in the simulator, which it needs.
fn source(library: Library, (major, minor): Version) -> Option<String> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match library {
        Library::Nvrtc => write!(
            text,
            "int nvrtcVersion(int *a, int *b) {{ *a = {major}; *b = {minor}; return 0; }}"
        ),
        Library::Cublaslt => write!(
            text,
            "unsigned long cublasLtGetVersion(void) {{ return {}; }}",
            10_000 * major + 100 * minor
        ),
        _ => return None,
    };
    Some(text)
}

/// Makes the library of each version in the folder, under the name with its major version, and the first one
/// under the bare name too.
///
/// # Errors
/// There is no C compiler, or the folder cannot be written.
pub(super) fn install(
    folder: &Path,
    simulator: &Path,
    library: Library,
    versions: &[Version],
) -> io::Result<()> {
    for (place, version) in versions.iter().enumerate() {
        let Some(text) = source(library, *version) else { return Ok(()) };
        let file = folder.join(format!("{}.{}", library.name(), version.0));
        let code = folder.join("version.c");
        std::fs::write(&code, text)?;
        // By its path, so that it is found wherever a link to this one stands; it has no name of its own.
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]).arg(&file);
        let status = compiler.arg(&code).arg(simulator).status()?;
        if !status.success() {
            return Err(io::Error::other("cc made no library that tells a version"));
        }
        if place == 0 {
            let link = folder.join(library.name());
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&file, link)?;
        }
    }
    Ok(())
}
