//! What the terminal understands, and what its user wants of it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::{PoisonError, RwLock};

use clap::{Args, ValueEnum};
use warpmark_report::Style;

/// Which output gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// Where a terminal shows it, and neither `NO_COLOR` nor `CLICOLOR=0` is set
    #[default]
    Auto,
    /// Into files and pipes, too
    Always,
    /// None
    Never,
}

/// How the program speaks, whatever it does.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Terminal")]
pub struct TerminalOptions {
    /// Show no progress and no remarks; errors and warnings stay
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: ColorChoice,
}

/// What the command line says about the terminal.
static CHOSEN: RwLock<TerminalOptions> =
    RwLock::new(TerminalOptions { quiet: false, color: ColorChoice::Auto });

/// Tables that go into a file are so wide.
const WIDTH_OF_FILES: u16 = 100;

/// No terminal is narrower, whatever it says.
const NARROWEST: u16 = 40;

/// Takes what the command line says.
pub fn choose(options: TerminalOptions) {
    *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = options;
}

fn chosen() -> TerminalOptions {
    *CHOSEN.read().unwrap_or_else(PoisonError::into_inner)
}

/// Whether progress and remarks are kept quiet. Errors and warnings never are.
pub(crate) fn quiet() -> bool {
    chosen().quiet
}

/// How tables are drawn: as wide as the terminal, or 100 columns into a file.
pub(crate) fn style() -> Style {
    Style {
        width: width().unwrap_or(WIDTH_OF_FILES),
        color: is_colored(io::stdout().is_terminal()),
        ascii: is_ascii(),
    }
}

/// How tables are drawn into a file that the user names: without a terminal's colours and width.
pub(crate) fn style_of_files() -> Style {
    Style { width: WIDTH_OF_FILES, color: is_colored(false), ascii: is_ascii() }
}

/// The columns of the terminal, or what `COLUMNS` says of them.
pub(crate) fn width() -> Option<u16> {
    let told = variable("COLUMNS").and_then(|text| text.to_str()?.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    told.or_else(|| Some(seen())).filter(|columns| *columns > 0).map(|width| width.max(NARROWEST))
}

/// A variable of the environment; an empty one is an unset one.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a stream that is a terminal, or none, gets colours.
pub(crate) fn is_colored(terminal: bool) -> bool {
    colored(chosen().color, terminal, variable)
}

/// Whether a terminal takes more than lines: colours, bars that are drawn over and over.
pub(crate) fn is_capable() -> bool {
    capable(&variable)
}

/// Whether the locale's encoding holds nothing beyond ASCII for sure.
pub(crate) fn is_ascii() -> bool {
    ascii(variable)
}

/// The order in which others ask, too: the command line, `NO_COLOR` (<https://no-color.org>),
/// `CLICOLOR_FORCE` and `CLICOLOR` (<https://bixense.com/clicolors>), the terminal.
fn colored(
    choice: ColorChoice,
    terminal: bool,
    variable: impl Fn(&str) -> Option<OsString>,
) -> bool {
    match choice {
        ColorChoice::Always => return true,
        ColorChoice::Never => return false,
        ColorChoice::Auto => {}
    }
    if variable("NO_COLOR").is_some() {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let refused = variable("CLICOLOR").is_some_and(|value| value == "0");
    terminal && !refused && capable(&variable)
}

fn capable(variable: &impl Fn(&str) -> Option<OsString>) -> bool {
    variable("TERM").is_some_and(|name| name != "dumb")
}

/// A locale that nobody has set says nothing: most containers have none, before terminals in UTF-8.
fn ascii(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        !locale.contains("utf-8") && !locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value)).filter(|value| !value.is_empty())
        }
    }

    #[test]
    fn colours_follow_the_command_line_then_the_environment_then_the_terminal() {
        let auto = |terminal, variables: &[_]| colored(ColorChoice::Auto, terminal, of(variables));
        let xterm = ("TERM", "xterm");
        assert!(auto(true, &[xterm]));
        assert!(!auto(false, &[xterm]));
        for variables in [
            &[xterm, ("NO_COLOR", "1")][..],
            &[xterm, ("CLICOLOR", "0")],
            &[xterm, ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
            &[("TERM", "dumb")],
            &[("TERM", "")],
            &[],
        ] {
            assert!(!auto(true, variables), "{variables:?}");
        }
        assert!(auto(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!auto(false, &[xterm, ("CLICOLOR_FORCE", "0")]));
        assert!(auto(true, &[xterm, ("NO_COLOR", "")]));
        assert!(colored(ColorChoice::Always, false, of(&[("NO_COLOR", "1")])));
        assert!(!colored(ColorChoice::Never, true, of(&[xterm, ("CLICOLOR_FORCE", "1")])));
    }

    #[test]
    fn a_locale_that_is_set_and_is_not_in_utf_8_gets_ascii() {
        for (name, value) in [
            ("LC_ALL", "C"),
            ("LANG", "POSIX"),
            ("LC_CTYPE", "en_US.ISO-8859-1"),
            ("LANG", "de_DE"),
        ] {
            assert!(ascii(of(&[(name, value)])), "{name}={value}");
        }
        for variables in [
            &[("LANG", "C.UTF-8")][..],
            &[("LANG", "de_DE.utf8")],
            &[("LC_ALL", "C.UTF-8"), ("LANG", "C")],
            &[("LC_ALL", ""), ("LANG", "en_GB.UTF-8")],
            &[],
        ] {
            assert!(!ascii(of(variables)), "{variables:?}");
        }
    }
}
