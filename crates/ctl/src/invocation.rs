//! From the command line to one command with its flags and words.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use types::go_quote;

use crate::commands::{self, Command, Does};
use crate::failure::Failure;
use crate::flags::{self, Flag, Given, Word};
use crate::{help, settings};

/// One command as it was given.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The name the program was called by.
    pub program: String,
    /// All flags, global ones too, and the words after the command's name.
    pub given: Given,
}

pub(crate) type Run = fn(&Invocation) -> Result<(), Failure>;

pub(crate) enum Step {
    Run(Invocation, Run),
    Help(String),
    /// Help for what there is no help for: a complaint, and the program's help.
    UnknownTopic {
        complaint: String,
        help: String,
    },
}

/// A command line that says nothing: what is wrong, and the help that may be needed.
#[derive(Debug)]
pub(crate) struct Misuse {
    pub help: String,
    pub failure: Failure,
}

/// Reads the arguments, the first of which is the program.
///
/// # Errors
/// If there is no such command or flag.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Step, Misuse> {
    let mut rest = arguments.into_iter().map(OsString::into_vec);
    let program = program_name(&rest.next().unwrap_or_default());
    let mut path: Vec<&'static Command> = Vec::new();
    let mut given = Given::default();
    let mut asks_for_help = false;
    while let Some(argument) = rest.next() {
        let group = path.last().map_or(Some(commands::COMMANDS), |command| command.subcommands());
        if argument == b"--" {
            given.words_before_dashes = Some(given.words.len());
            given.words.extend(rest.by_ref());
        } else if flags::is_flag(&argument) {
            let known: Vec<&'static Flag> = visible(&path).collect();
            if let Err(why) = given.read_flag(&argument, &mut rest, &known) {
                return Err(Misuse { help: help::text(&program, &path), failure: Failure::error(why) });
            }
        } else if path.is_empty() && argument == b"help" && !asks_for_help {
            asks_for_help = true;
        } else if let Some(group) = group {
            let found = find(group, &argument).filter(|_| given.words.is_empty());
            let Some(command) = found else {
                if !asks_for_help {
                    return Err(unknown(&program, &path, &argument));
                }
                given.words.push(argument);
                continue;
            };
            path.push(command);
            if matches!(command.does, Does::Later) && !asks_for_help {
                return later(&program, &path, rest);
            }
        } else {
            given.words.push(argument);
        }
    }
    if asks_for_help && path.is_empty() && !given.words.is_empty() {
        let topic = given.words.iter().map(|word| quoted_topic(word)).collect::<Vec<_>>().join(" ");
        let complaint = format!("Unknown help topic [{topic}]");
        return Ok(Step::UnknownTopic { complaint, help: help::text(&program, &path) });
    }
    if asks_for_help || given.help {
        return Ok(Step::Help(help::text(&program, &path)));
    }
    match path.last().map(|command| &command.does) {
        Some(Does::RunAlone(_)) if !given.words.is_empty() => {
            let failure = unknown_to(&help::full_name(&program, &path), &given.words[0]);
            Err(Misuse { help: help::text(&program, &path), failure })
        }
        Some(Does::Run(run) | Does::RunAlone(run)) => Ok(Step::Run(Invocation { program, given }, *run)),
        _ => Ok(Step::Help(help::text(&program, &path))),
    }
}

fn program_name(argument: &[u8]) -> String {
    let name = argument.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty());
    name.map_or_else(|| "quoratectl".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
}

/// The flags of the commands on the path and the global ones.
fn visible(path: &[&'static Command]) -> impl Iterator<Item = &'static Flag> {
    path.iter().rev().flat_map(|command| command.flags).chain(settings::FLAGS)
}

/// The command of that name, or the only one whose name begins so.
fn find(group: &'static [Command], word: &[u8]) -> Option<&'static Command> {
    let is = |command: &&Command| {
        command.name.as_bytes() == word || command.aliases.iter().any(|alias| alias.as_bytes() == word)
    };
    let mut beginning = group.iter().filter(|command| command.name.as_bytes().starts_with(word));
    group.iter().find(is).or_else(|| beginning.next().filter(|_| beginning.next().is_none()))
}

fn unknown(program: &str, path: &[&'static Command], word: &[u8]) -> Misuse {
    let parent = help::full_name(program, path);
    let failure = unknown_to(&parent, word);
    Misuse { help: String::new(), failure: failure.after(format!("Run '{parent} --help' for usage.")) }
}

fn unknown_to(parent: &str, word: &[u8]) -> Failure {
    Failure::error(format!("unknown command {} for {}", go_quote(word), go_quote(parent)))
}

/// As Go's `%#q`: between backquotes, if it can be.
fn quoted_topic(word: &[u8]) -> String {
    let is_plain = |symbol: char| symbol == '\t' || !(symbol.is_ascii_control() || "`\u{feff}".contains(symbol));
    match str::from_utf8(word) {
        Ok(text) if text.chars().all(is_plain) => format!("`{text}`"),
        _ => go_quote(word),
    }
}

/// A command that does nothing yet takes any flags and words.
fn later(program: &str, path: &[&'static Command], mut rest: impl Iterator<Item = Word>) -> Result<Step, Misuse> {
    if rest.any(|word| matches!(&word[..], b"-h" | b"--help")) {
        return Ok(Step::Help(help::text(program, path)));
    }
    let failure = Failure::error(format!("{} is not there yet", help::full_name(program, path)));
    Err(Misuse { help: String::new(), failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: &str) -> Result<Step, Misuse> {
        read(line.split(' ').map(OsString::from))
    }

    fn words(line: &str) -> Vec<String> {
        match step(line) {
            Ok(Step::Run(invocation, _)) => {
                invocation.given.words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
            }
            _ => panic!("{line} is a command"),
        }
    }

    #[test]
    fn flags_may_stand_before_between_and_after_commands() {
        for line in ["q -w json member list x", "q member -w json list x", "q member list x -w json", "q mem li x"] {
            assert_eq!(words(line), ["x"], "{line}");
        }
        assert_eq!(words("q put k -- -1"), ["k", "-1"]);
        assert_eq!(words("q lock l -- sh -c 'x'"), ["l", "sh", "-c", "'x'"]);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let misuse = |line| match step(line) {
            Err(misuse) => misuse.failure.text().to_owned(),
            Ok(_) => panic!("{line} is no command"),
        };
        assert_eq!(misuse("q bogus"), r#"unknown command "bogus" for "q""#);
        assert_eq!(misuse("q member bogus"), r#"unknown command "bogus" for "q member""#);
        assert_eq!(misuse("q completion bash x"), r#"unknown command "x" for "q completion bash""#);
        assert_eq!(misuse("q e"), r#"unknown command "e" for "q""#);
        assert_eq!(misuse("q get --bogus"), "unknown flag: --bogus");
        assert_eq!(misuse("q user add root --no-password"), "q user add is not there yet");
    }

    #[test]
    fn help_comes_for_groups_flags_and_the_word() {
        for line in ["q", "q member", "q get -h", "q --help", "q help get", "q put --help k v", "q user add --help"] {
            assert!(matches!(step(line), Ok(Step::Help(_))), "{line}");
        }
    }

    #[test]
    fn for_a_topic_that_there_is_not_the_programs_help_comes() {
        let complaint = |line| match step(line) {
            Ok(Step::UnknownTopic { complaint, .. }) => complaint,
            _ => panic!("{line} is known"),
        };
        assert_eq!(complaint("q help bogus"), "Unknown help topic [`bogus`]");
        assert_eq!(complaint("q help bogus put"), "Unknown help topic [`bogus` `put`]");
        assert_eq!(complaint("q help a`b \x07"), "Unknown help topic [\"a`b\" \"\\a\"]");
        for line in ["q help put bogus", "q help alarm bogus", "q help alarm list bogus"] {
            assert!(matches!(step(line), Ok(Step::Help(_))), "{line}");
        }
    }
}
