//! Starts the command as a user would, in a world of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several test programs, not a crate")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[cfg(target_os = "linux")]
pub mod machine;

pub mod models;
pub mod records;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// An empty home, cache and results folder, gone at the end of the test.
pub struct World {
    folder: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command, with nothing of the machine's own settings.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_warpmark"))
    }

    /// Another program in the same surroundings.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars() {
            let terminal = ["COLUMNS", "NO_COLOR", "LANG"].contains(&name.as_str());
            let prefixes = ["WARPMARK_", "HF_", "CLICOLOR", "LC_"];
            if terminal || prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path("home")).env("WARPMARK_CACHE", self.path("cache"));
        command.env_remove("XDG_CACHE_HOME");
        command
    }

    /// The same command with interrupts heeded: a shell starts what works in the background with them
    /// ignored, and so they would stay.
    pub fn interruptible(&self, command: &Command) -> Command {
        self.launched_by(&["env", "--default-signal=INT"], command)
    }

    /// The same command, started by another program whose arguments end with it.
    pub fn launched_by(&self, launcher: &[&str], command: &Command) -> Command {
        let mut started = Command::new(launcher[0]);
        started.current_dir(self.folder.path()).args(&launcher[1..]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        started.arg(command.get_program()).args(command.get_args());
        started
    }

    /// Runs it with arguments.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command().args(arguments).output().unwrap())
    }

    /// The arguments of a run that takes seconds in a debug build.
    pub fn tiny_run(&self) -> Command {
        let mut command = self.command();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml");
        command.args(["run", "--device", "cpu", "--filter", "tiny", "--models"]).arg(models);
        command
    }

    /// The file in the cache whose name ends so.
    pub fn cached(&self, ending: &str) -> Option<PathBuf> {
        let files = std::fs::read_dir(self.path("cache")).ok()?.flatten();
        files
            .into_iter()
            .map(|file| file.path())
            .find(|path| path.to_string_lossy().ends_with(ending))
    }

    /// The one results file.
    pub fn results(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path("results")];
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(folder).into_iter().flatten() {
                let path = item.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

/// How an interrupted run says how much it kept.
pub fn kept(rows: usize) -> String {
    match rows {
        1 => "1 finished row is in".to_owned(),
        rows => format!("{rows} finished rows are in"),
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code, showing everything if it differs.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n{self:#?}");
        self
    }

    /// Asserts that the message says all of this, without a panic or a backtrace.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing:\n{self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}
