//! Starts a process for each target and watches it, so that an abort, an endless loop or a full memory
//! is a finding like a panic.

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::child::{AT, FOUND, TIME_LIMIT};
use crate::corpus;
use crate::options::Options;
use crate::targets::Target;

/// A target that fails more often is left: its kind of fault is known by then.
const MOST_FOUND: usize = 10;

/// How a child ended.
enum End {
    /// With all inputs fed.
    Whole,
    /// At the input of that number, for that reason.
    At(u64, String),
}

/// Feeds every target, and says what was found.
pub(crate) fn search(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let (mut held, mut failed) = (0, 0);
    for target in &options.targets {
        let found = search_one(options, target)?;
        if found == 0 {
            held += 1;
        } else {
            failed += 1;
        }
    }
    println!("{held} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn search_one(options: &Options, target: &'static Target) -> Result<usize, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let start = Instant::now();
    let (mut first, mut found, mut most) = (0, 0, 0);
    while first < options.inputs && found < MOST_FOUND {
        match watch((options, target, first), folder.path(), &mut most)? {
            End::Whole => first = options.inputs,
            End::At(number, reason) => {
                found += 1;
                let kept = keep(target, &folder.path().join(target.file))?;
                println!("{}: input {number}: {reason}; kept as {}", target.name, kept.display());
                first = number + 1;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {first} inputs in {seconds:.1} s, {} KiB held at most, {found} failed",
        target.name,
        u64::div_ceil(most, 1024)
    );
    Ok(found)
}

/// One child, from its start to its end; `most` rises to the most bytes that an input made it hold.
fn watch(
    (options, target, first): (&Options, &Target, u64),
    scratch: &Path,
    most: &mut u64,
) -> Result<End, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(target.name)
        .arg("--child")
        .arg(scratch)
        .args(["--first", &first.to_string(), "--inputs", &options.inputs.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = lines_of(&mut child)?;
    let mut at = first;
    // The child tells every 256th input.
    let patience = TIME_LIMIT * 8;
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) => match line.split_once(' ') {
                Some((AT, rest)) => {
                    let (number, held) = rest.split_once(' ').ok_or("a torn line")?;
                    at = number.parse()?;
                    *most = held.parse::<u64>()?.max(*most);
                }
                Some((FOUND, rest)) => {
                    let (number, reason) = rest.split_once(' ').ok_or("a torn line")?;
                    child.wait()?;
                    return Ok(End::At(number.parse()?, reason.to_owned()));
                }
                _ => return Err(format!("the child said {line:?}").into()),
            },
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                return Ok(End::At(at + 255, format!("nothing for {} s", patience.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                return Ok(if status.success() {
                    End::Whole
                } else {
                    End::At(at + 255, format!("the process ended: {status}"))
                });
            }
        }
    }
}

fn lines_of(child: &mut Child) -> Result<Receiver<String>, Box<dyn Error>> {
    let out = child.stdout.take().ok_or("the child has no standard output")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Copies the input at work to where findings are kept.
fn keep(target: &Target, scratch: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let input = fs::read(scratch)?;
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let folder = corpus::home().join("found");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-{:016x}", target.name, hasher.finish()));
    fs::write(&path, input)?;
    Ok(path)
}
