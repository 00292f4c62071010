//! The HTML report in a real Chromium: it opens from the disk, draws, sorts, asks for nothing, and fits a
//! telephone. The browser is `$WARPMARK_BROWSER`, or the first Chromium that is found.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::print_stdout, reason = "what a machine cannot test is said")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use warpmark_record::Record;
use warpmark_record::store::{self, Recording};
use warpmark_report::{Format, Style, render_run};

const PROBE: &str = include_str!("browser/probe.js");

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    width: u32,
    dark: bool,
}

const LOOKS: [Look; 4] = [
    Look { width: 1200, dark: false },
    Look { width: 1200, dark: true },
    Look { width: 390, dark: false },
    Look { width: 390, dark: true },
];

/// The browser. A name that `WARPMARK_BROWSER` gives must be there; without it, none is no failure.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("WARPMARK_BROWSER") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = files.into_iter().find(|file| file.is_file());
    if found.is_none() {
        println!("not tested: no Chromium on this machine (Debian: apt-get install chromium)");
    }
    found
}

/// The page with the probe in it, which its policy then allows too.
fn probed(page: &str) -> String {
    let hash = format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(PROBE)));
    let page = page.replacen("script-src ", &format!("script-src {hash} "), 1);
    assert!(page.contains(&hash), "the page has a policy for scripts");
    page.replacen("<body>", &format!("<body><script>{PROBE}</script>"), 1)
}

/// What the probe found, and what the browser wrote on its console.
fn look(browser: &Path, page: &str, look: Look) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("report.html"), probed(page)).unwrap();
    // A window is never narrower than 500, a frame may be.
    let frame = format!(
        "<!doctype html><iframe src=report.html width={} height=900 style=border:0></iframe>",
        look.width
    );
    let file = folder.path().join("frame.html");
    fs::write(&file, frame).unwrap();
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--window-size=1400,1000", "--timeout=60000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]);
    if look.dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let output = command.arg(format!("file://{}", file.display())).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let (probe, console): (Vec<&str>, Vec<&str>) =
        log.lines().filter(|line| line.contains("CONSOLE")).partition(|l| l.contains("probe:"));
    let found =
        probe.first().and_then(|line| line.split_once("probe:")?.1.rsplit_once("\", source"));
    let (found, _) = found.unwrap_or_else(|| panic!("the page did not answer: {log}"));
    (serde_json::from_str(found).unwrap(), console.join("\n"))
}

fn recorded() -> Recording {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/cpu-amd-epyc");
    store::read(&results).unwrap()
}

fn page(recording: &Recording) -> String {
    render_run(recording, Format::Html, Style::default()).unwrap()
}

fn list(found: &Value, name: &str) -> Vec<String> {
    let list = found[name].as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What must hold of every page however it is looked at.
fn assert_sound(found: &Value, console: &str, look: Look) {
    assert_eq!(console, "", "{look:?}: the console stays empty");
    for nothing in ["errors", "refused", "overlaps", "beyond", "requests"] {
        assert_eq!(list(found, nothing), Vec::<String>::new(), "{look:?}: {nothing}");
    }
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("charts") >= 1.0 && number("empty") < 0.5, "{look:?}: {found}");
    assert!((number("width") - f64::from(look.width)).abs() < 0.5, "{look:?}: {found}");
    assert!(number("page_width") <= number("width"), "{look:?}: no scrolling to the side: {found}");
    assert_eq!(found["dark"], look.dark);
    let bright = |name: &str| {
        let text = found[name].as_str().unwrap();
        let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
        digits.take(3).map(|part| part.parse::<u32>().unwrap()).sum::<u32>() > 3 * 128
    };
    assert_eq!((bright("paper"), bright("ink")), (!look.dark, look.dark), "{look:?}: {found}");
}

/// The first number of a cell, in units of its own prefix-free unit.
fn seconds(cell: &str) -> f64 {
    let (number, unit) = cell.split_once(' ').unwrap();
    let unit = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        other => panic!("{other} is no unit of time"),
    };
    number.parse::<f64>().unwrap() * unit
}

#[test]
fn a_recorded_run_opens_draws_and_sorts_in_light_dark_wide_and_narrow() {
    let Some(browser) = browser() else { return };
    let page = page(&recorded());
    for at in LOOKS {
        let (found, console) = look(&browser, &page, at);
        assert_sound(&found, &console, at);
        assert!(found["charts"].as_u64().unwrap() >= 5, "{found}");
        let times = |name: &str| -> Vec<f64> {
            let cells = found["sorted"][name].as_array().unwrap();
            cells.iter().map(|cell| seconds(cell.as_str().unwrap())).collect()
        };
        let (up, down) = (times("up"), times("down"));
        assert!(up.len() > 2 && up.is_sorted(), "{up:?}");
        assert!(down.is_sorted_by(|a, b| a >= b) && down[0] > down[down.len() - 1], "{down:?}");
        assert_eq!(found["sorted"]["sort"], "descending");
    }
}

#[test]
fn hostile_names_do_nothing_in_a_browser() {
    let Some(browser) = browser() else { return };
    let mut recording = recorded();
    let script = "</title></style></script><script>console.log('probe:{}')</script>\
                  <img src=http://example.org/x onerror=alert(1)>\u{1b}[31m\u{202e}";
    script.clone_into(&mut recording.runs[0].device.name);
    script.clone_into(&mut recording.runs[0].host.os);
    recording.runs[0].settings.insert(script.to_owned(), script.to_owned());
    for row in &mut recording.rows {
        row.caveats.push(script.to_owned());
        row.parameters.insert("dtype".to_owned(), script.into());
    }
    let page = page(&recording);
    for at in [LOOKS[0], LOOKS[2]] {
        let (found, console) = look(&browser, &page, at);
        assert_sound(&found, &console, at);
    }
}

#[test]
fn ten_thousand_rows_are_drawn_within_a_second() {
    let Some(browser) = browser() else { return };
    let mut recording = recorded();
    let rows = std::mem::take(&mut recording.rows);
    recording.rows = (0..10_000).map(|at| again(&rows[at % rows.len()], at)).collect();
    let page = page(&recording);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let (found, console) = look(&browser, &page, LOOKS[0]);
    assert_sound(&found, &console, LOOKS[0]);
    println!("{} bytes, drawn after {} ms", page.len(), found["drawn_ms"]);
    // A second is what is promised of an idle machine; tests share theirs.
    assert!(found["drawn_ms"].as_f64().unwrap() < 5_000.0, "{found}");
}

/// The row under another id, its times a little longer.
fn again(row: &Record, number: usize) -> Record {
    let mut row = row.clone();
    row.id = format!("{}/r{number}@{}", row.id.path(), row.id.engine()).parse().unwrap();
    if let Some(samples) = &mut row.samples {
        for time in &mut samples.wall_s {
            *time *= 1.0 + 1e-4 * number as f64;
        }
    }
    row
}
