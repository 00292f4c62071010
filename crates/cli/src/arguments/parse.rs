//! From the words of the command line and the environment to options.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches, ValueEnum};

use crate::terminal::{self, ColorChoice, TerminalOptions};

/// Reads the command line and the environment. A variable that is empty counts as unset.
///
/// # Errors
/// What clap has to say of them; help and version are among it.
pub fn parse<T: CommandFactory + FromArgMatches>() -> Result<T, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Errors and help are printed before there are options.
    terminal::choose(TerminalOptions { quiet: false, color: color_of(&words) });
    let mut command = without_empty_variables(T::command());
    let matches = command.try_get_matches_from_mut(words)?;
    T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What the words say of colours, up to what is for another program.
fn color_of(words: &[OsString]) -> ColorChoice {
    let mut words = words.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let mut choice = ColorChoice::default();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('=').map(|value| value.to_owned().into()),
            None => None,
        };
        let known = value.and_then(|value| ColorChoice::from_str(&value, false).ok());
        choice = known.unwrap_or(choice);
    }
    choice
}

/// Takes from every option the variable that is set to nothing.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|option| {
        let variable = option.get_env().map(ToOwned::to_owned);
        match variable {
            Some(name) if std::env::var_os(&name).is_some_and(|value| value.is_empty()) => {
                option.env(None::<&'static str>)
            }
            _ => option,
        }
    });
    command.mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_colours_is_known_before_the_rest_of_the_command_line() {
        let of = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            color_of(&words)
        };
        assert_eq!(of("warpmark --color never report"), ColorChoice::Never);
        assert_eq!(of("warpmark report --color=always"), ColorChoice::Always);
        assert_eq!(of("warpmark ab a b -- --color always"), ColorChoice::Auto);
        assert_eq!(of("warpmark --color"), ColorChoice::Auto);
    }
}
