//! The command line and its variables, as `clap` reads them. An empty variable counts as unset.

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::config::flags::Command;

/// Parses the arguments of this process. Prints help, the version or an error, and then exits.
pub(super) fn parse() -> Command {
    let is_empty = |name: &str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut command = without_variables(Command::command(), &is_empty);
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(at) = subcommand_after_place(&command, &words) {
        arguments[1..=at].rotate_right(1);
    }
    let matches = command.clone().get_matches_from(arguments);
    Command::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Whether a variable is set and not empty.
pub(super) fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The command without the variables that `is_empty` names.
fn without_variables(command: clap::Command, is_empty: &impl Fn(&str) -> bool) -> clap::Command {
    let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = command.mut_args(|argument| match argument.get_env().and_then(|name| name.to_str()) {
        Some(name) if is_empty(name) => argument.env(Resettable::Reset),
        Some(_) | None => argument,
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| without_variables(command, is_empty))
    })
}

/// The flags that may stand before a subcommand.
const PLACE_FLAGS: [&str; 3] = ["--config", "--config-dir", "--data-dir"];

/// The index of a subcommand that follows only flags that say where the files are. It reads them
/// behind its name.
fn subcommand_after_place(command: &clap::Command, words: &[String]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = words.get(at)?.as_str();
        match word.split_once('=') {
            None if PLACE_FLAGS.contains(&word) => at += 2,
            Some((flag, _)) if PLACE_FLAGS.contains(&flag) => at += 1,
            Some(_) | None => return command.find_subcommand(word).filter(|_| at > 1).map(|_| at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_file_before_the_subcommand_belongs_to_the_subcommand() {
        for (line, expected) in [
            ("gw --config g.toml check --offline", Some(3)),
            ("gw --config=g.toml keyring list", Some(2)),
            ("gw --config g.toml --log debug", None),
            ("gw --config check", None),
            ("gw --config-dir d list", Some(3)),
            ("gw --data-dir=d --config g.toml list", Some(4)),
            ("gw check --config g.toml", None),
            ("gw", None),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(subcommand_after_place(&Command::command(), &words), expected, "{line}");
        }
    }

    #[test]
    fn an_empty_variable_is_removed_from_every_command() {
        fn variables(command: &clap::Command) -> usize {
            let own = command.get_arguments().filter(|argument| argument.get_env().is_some()).count();
            own + command.get_subcommands().map(variables).sum::<usize>()
        }
        let all = variables(&Command::command());
        assert!(all > 50, "{all}");
        assert_eq!(variables(&without_variables(Command::command(), &|_| true)), 0);
        assert_eq!(variables(&without_variables(Command::command(), &|_| false)), all);
    }
}
