//! How a worker's process ended, in words with the next step.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use warpmark_record::Seconds;

use super::process::End;

/// Signals that end a process from within or without: the name, what it usually means, what to do.
const SIGNALS: [(Signal, &str, &str); 9] = [
    (
        Signal::KILL,
        "SIGKILL",
        "most often the kernel's out-of-memory killer (`dmesg | tail` tells); free host memory, or \
         leave the benchmark out",
    ),
    (
        Signal::SEGV,
        "SIGSEGV",
        "a library or the driver used memory that is not there; update the driver, and see whether it \
         happens again",
    ),
    (
        Signal::ABORT,
        "SIGABRT",
        "a library found itself in a state that it cannot go on from; update the driver, and see \
         whether it happens again",
    ),
    (
        Signal::BUS,
        "SIGBUS",
        "a mapped file was cut short or cannot be read; look at the disk, and fetch the weights again",
    ),
    (
        Signal::ILL,
        "SIGILL",
        "the program was built for another processor; build it on this machine",
    ),
    (Signal::FPE, "SIGFPE", "a library divided by zero; see whether it happens again"),
    (Signal::TERM, "SIGTERM", "somebody ended it, such as a job scheduler; look at its limits"),
    (Signal::INT, "SIGINT", "somebody interrupted it and not the run; start the run again"),
    (Signal::XCPU, "SIGXCPU", "its limit of processor time was reached; raise `ulimit -t`"),
];

/// How a worker ended that should not have, while it was `doing` something: a reason for its row.
/// `limit` is how long it was waited for.
pub(super) fn describe(end: &End, doing: &str, limit: Duration, last: Option<String>) -> String {
    let said = last.map(|last| format!(" (its last words: {last})")).unwrap_or_default();
    match end {
        End::Exited(status) => {
            let (what, meaning) = of_status(*status);
            format!("its process {what} while {doing}{said}{meaning}")
        }
        End::Hung { gone } => {
            let limit = Seconds(limit.as_secs_f64());
            let killed = if *gone {
                "and its process was killed"
            } else {
                "and its process does not end even when killed, since the driver holds it"
            };
            format!(
                "it hung while {doing}: nothing was heard of it for {limit}, {killed}{said}; look for \
                 an Xid in `dmesg`, or allow more time with --hang-limit"
            )
        }
    }
}

fn of_status(status: ExitStatus) -> (String, String) {
    let Some(number) = status.signal() else {
        let what = status
            .code()
            .map_or_else(|| format!("ended ({status})"), |code| format!("ended with code {code}"));
        return (what, String::new());
    };
    match SIGNALS.iter().find(|(signal, _, _)| signal.as_raw() == number) {
        Some((_, name, meaning)) => (format!("was killed by {name}"), format!(": {meaning}")),
        None => (format!("was killed by signal {number}"), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32, last: Option<&str>) -> String {
        let end = End::Exited(ExitStatus::from_raw(raw));
        describe(&end, "taking samples", Duration::from_secs(1), last.map(str::to_owned))
    }

    #[test]
    fn a_signal_is_named_with_what_it_means() {
        let killed = ended(9, None);
        assert!(killed.starts_with("its process was killed by SIGKILL while taking samples: most"));
        // A core dump is a bit beside the signal.
        let aborted = ended(0x80 | 6, Some("free(): invalid pointer"));
        assert!(aborted.contains("SIGABRT") && aborted.contains("invalid pointer"), "{aborted}");
        assert!(ended(31, None).ends_with("was killed by signal 31 while taking samples"));
    }

    #[test]
    fn an_exit_code_is_told_as_it_is() {
        assert_eq!(ended(70 << 8, None), "its process ended with code 70 while taking samples");
    }

    #[test]
    fn a_hang_says_how_long_it_was_waited_for_and_whether_killing_helped() {
        let hung = |gone| describe(&End::Hung { gone }, "loading", Duration::from_mins(2), None);
        assert!(hung(true).contains("for 120 s, and its process was killed"), "{}", hung(true));
        assert!(hung(false).contains("does not end even when killed"), "{}", hung(false));
    }
}
