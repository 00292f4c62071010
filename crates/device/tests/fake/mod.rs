//! Libraries in C that stand in for NVIDIA's, in a folder for one child process.

use std::fmt::{Display, Write as _};
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use warpmark_device::symbols;

/// A folder with fake libraries, for one child.
pub(crate) struct Fake {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Fake {
    pub(crate) fn nothing() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// A driver that has every function except `without`.
    pub(crate) fn driver(without: &[&str]) -> Self {
        let fake = Self::nothing();
        let written = include_str!("driver.c");
        let mut source = String::new();
        for name in without {
            // Renaming takes the function away under its own name.
            writeln!(source, "#define {name} taken_away_{name}").unwrap();
        }
        source.push_str(written);
        for name in symbols::DRIVER {
            if !written.contains(&format!("int {name}(")) && !without.contains(name) {
                writeln!(source, "int {name}(void) {{ return 801; }}").unwrap();
            }
        }
        fake.compile("libcuda.so.1", &source);
        fake
    }

    pub(crate) fn and_nvml(self) -> Self {
        self.compile("libnvidia-ml.so.1", include_str!("nvml.c"));
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.variables.push((name, format!("{value}")));
        self
    }

    pub(crate) fn with_garbage(self, library: &str) -> Self {
        fs::write(self.folder.path().join(library), "no library").unwrap();
        self
    }

    /// Where a file of the folder lies.
    pub(crate) fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn compile(&self, library: &str, source: &str) {
        let file = self.folder.path().join("source.c");
        fs::write(&file, source).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let output = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O0", "-w", "-o"])
            .arg(self.folder.path().join(library))
            .arg(&file)
            .output()
            .unwrap_or_else(|error| panic!("the tests need a C compiler; {compiler}: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn run(&self, ask: &str) -> Output {
        let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env_remove("CUDA_VISIBLE_DEVICES")
            // A toolkit that this user has installed is not of the fake machine.
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.folder.path())
            .env("FAKE_ASK", ask)
            .env("LD_LIBRARY_PATH", format!("{}:{path}", self.folder.path().display()));
        // A setting of the test comes after, and what it names in front.
        for (name, value) in &self.variables {
            if *name == "LD_LIBRARY_PATH" {
                command.env(name, format!("{value}:{}:{path}", self.folder.path().display()));
            } else {
                command.env(name, value);
            }
        }
        command.output().unwrap()
    }

    pub(crate) fn ask(&self, ask: &str) -> Value {
        let output = self.run(ask);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the child died: {}\n{text}\n{errors}", output.status);
        let answer = text.lines().find_map(|line| line.strip_prefix("ANSWER "));
        serde_json::from_str(answer.unwrap_or_else(|| panic!("no answer in\n{text}"))).unwrap()
    }

    /// Asks for `auto` and for `cuda` and expects the same refusal of both.
    pub(crate) fn refusal(&self) -> String {
        let [auto, cuda] = ["auto", "cuda"].map(|ask| self.ask(ask)["error"].clone());
        assert_eq!(auto, cuda, "auto fell back in silence");
        let text = auto.as_str().unwrap_or_else(|| panic!("no error")).to_owned();
        assert!(text.contains("--device cpu"), "no way out is told: {text}");
        text
    }
}
