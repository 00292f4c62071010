//! Letting the processes that measure find the CUDA libraries that this machine's driver serves.

use std::ffi::OsString;

use anyhow::Context;

use crate::{sources, state};

/// The variable that the loader reads when a process starts.
pub(crate) const VARIABLE: &str = "LD_LIBRARY_PATH";

/// Set in a process that was started anew for the sake of its libraries, so that none does so twice.
const AGAIN: &str = "WARPMARK_LIBRARIES_FOUND";

/// What the loader's search path has to be; `None` where it is good as it is.
pub(crate) fn search_path() -> anyhow::Result<Option<OsString>> {
    let links = state::place(&sources::cache()?, "libraries")?;
    warpmark_device::probe::search_path(&links).with_context(|| {
        format!("links to the CUDA libraries cannot be made in {}", links.display())
    })
}

/// Starts this program anew where its own search path leads to libraries that the driver does not serve:
/// the loader has read the path, and reads it once.
#[cfg(unix)]
pub(crate) fn start_anew_with_them() -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    if std::env::var_os(AGAIN).is_some() {
        return Ok(());
    }
    let Some(path) = search_path()? else { return Ok(()) };
    let program = std::env::current_exe().context("the program's own file was not found")?;
    let mut command = std::process::Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, path).env(AGAIN, "1");
    // It returns only where it fails.
    Err(command.exec()).with_context(|| format!("{} could not be started anew", program.display()))
}

#[cfg(not(unix))]
pub(crate) fn start_anew_with_them() -> anyhow::Result<()> {
    Ok(())
}

/// The shell command that sets the search path for other programs too; empty where nothing has to change.
pub(crate) fn shell_command(path: Option<&OsString>) -> String {
    path.map_or_else(String::new, |path| {
        let quoted = path.to_string_lossy().replace('\'', r"'\''");
        format!("export {VARIABLE}='{quoted}'\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_gets_the_path_in_quotes_and_nothing_where_it_is_good() {
        let path = OsString::from("/a b:/it's");
        assert_eq!(shell_command(Some(&path)), "export LD_LIBRARY_PATH='/a b:/it'\\''s'\n");
        assert_eq!(shell_command(None), "");
    }
}
