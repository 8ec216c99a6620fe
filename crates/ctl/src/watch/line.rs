//! What to watch: from the command line, or from a line of standard input, with what the environment adds.

use api::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;
use types::go_quote;

use crate::commands::WATCH_FLAGS;
use crate::failure::Failure;
use crate::flags::{self, Given, Word};
use crate::{range, txn};

const WORDS: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const EXCLUSIVE: &str = "`range_end` and `--prefix` are mutually exclusive";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";

/// Key and end of the range that variables name.
pub(super) struct Environment(Vec<Word>);

impl Environment {
    /// # Errors
    /// If there is an end without a key.
    pub(super) fn new(key: Word, range_end: Word) -> Result<Environment, Failure> {
        match (key.is_empty(), range_end.is_empty()) {
            (true, true) => Ok(Environment(Vec::new())),
            (true, false) => Err(Failure::arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}",
                go_quote(&range_end)
            ))),
            (false, true) => Ok(Environment(vec![key])),
            (false, false) => Ok(Environment(vec![key, range_end])),
        }
    }
}

/// A watch, and the command to run for its events.
#[derive(Debug)]
pub(super) struct Watch {
    pub request: WatchCreateRequest,
    pub command: Vec<Word>,
}

impl Watch {
    /// # Errors
    /// If words, flags and environment do not go together.
    pub(super) fn read(given: &Given, environment: &Environment) -> Result<Watch, String> {
        let dashes = given.words_before_dashes;
        let (words, command) = given.words.split_at(dashes.unwrap_or(given.words.len()));
        if dashes.is_some() && command.is_empty() {
            return Err(NO_COMMAND.to_owned());
        }
        let words = match (words, &environment.0[..]) {
            ([], []) => return Err(WORDS.to_owned()),
            ([_, ..], [_, ..]) => return Err(CONFLICT.to_owned()),
            ([], named) => named,
            (words, []) => words,
        };
        let (key, range_end) = match words {
            [_, _] if given.is_set("prefix") => {
                return Err(EXCLUSIVE.to_owned());
            }
            [key] if given.is_set("prefix") => range::with_prefix(key),
            [key] => (Bytes::copy_from_slice(key), Bytes::new()),
            [key, end] => (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end)),
            _ => return Err(WORDS.to_owned()),
        };
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision: given.int("rev"),
            prev_kv: given.is_set("prev-kv"),
            progress_notify: given.is_set("progress-notify"),
            ..WatchCreateRequest::default()
        };
        Ok(Watch { request, command: command.to_vec() })
    }
}

/// A line of standard input.
#[derive(Debug)]
pub(super) enum Line {
    Watch(Watch),
    Progress,
    /// What to tell; the next line may be better.
    Invalid(String),
}

impl Line {
    /// # Errors
    /// If it is a watch whose words or flags are wrong, which ends the program.
    pub(super) fn read(line: &[u8], environment: &Environment) -> Result<Line, Failure> {
        let shown = String::from_utf8_lossy(line);
        let words = txn::words(line)?;
        let [command, rest @ ..] = &words[..] else {
            return Ok(Line::Invalid(format!("Invalid command: {shown} (watch and progress supported)")));
        };
        match &command[..] {
            b"watch" if rest.is_empty() && environment.0.is_empty() => {
                Ok(Line::Invalid(format!("Invalid command {shown} (command type or key is not provided)")))
            }
            b"watch" => {
                let given = flags::read(rest.iter().cloned(), &WATCH_FLAGS).map_err(Failure::arguments)?;
                match Watch::read(&given, environment) {
                    Ok(watch) => Ok(Line::Watch(watch)),
                    Err(why) if why == EXCLUSIVE => Ok(Line::Invalid(format!("Invalid command {shown} ({why})"))),
                    Err(why) => Err(Failure::arguments(why)),
                }
            }
            b"progress" => Ok(Line::Progress),
            _ => Ok(Line::Invalid(format!("Invalid command {shown} (only support watch)"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(line: &str, environment: &[&str]) -> Result<Watch, String> {
        let environment = Environment(environment.iter().map(|word| word.as_bytes().to_vec()).collect());
        let words = line.split_whitespace().map(|word| word.as_bytes().to_vec());
        Watch::read(&flags::read(words, &WATCH_FLAGS)?, &environment)
    }

    #[test]
    fn key_range_and_command_are_told_apart() {
        let found = watch("a b --rev 3 -- echo --prefix", &[]).expect("it is right");
        assert_eq!((&found.request.key[..], &found.request.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!(found.request.start_revision, 3);
        assert_eq!(found.command, [&b"echo"[..], b"--prefix"]);
        let found = watch("-- echo", &["k", "l"]).expect("the key is in the environment");
        assert_eq!((&found.request.key[..], &found.request.range_end[..]), (&b"k"[..], &b"l"[..]));
        assert_eq!(watch("--prefix x", &[]).expect("a prefix").request.range_end, "y");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, environment, text) in [
            ("", &[][..], WORDS),
            ("-- echo", &[], WORDS),
            ("a b c", &[], WORDS),
            ("a --", &[], NO_COMMAND),
            ("b", &["a"], CONFLICT),
            ("b -- echo", &["a"], CONFLICT),
            ("a b --prefix", &[], EXCLUSIVE),
        ] {
            assert_eq!(watch(line, environment).expect_err(line), text);
        }
        assert!(Environment::new(Vec::new(), b"b".to_vec()).is_err());
    }

    #[test]
    fn a_line_that_means_nothing_is_told_and_passed_over() {
        let nothing = Environment(Vec::new());
        for (line, text) in [
            ("", "Invalid command:  (watch and progress supported)"),
            ("watch", "Invalid command watch (command type or key is not provided)"),
            ("put a", "Invalid command put a (only support watch)"),
        ] {
            assert!(matches!(Line::read(line.as_bytes(), &nothing), Ok(Line::Invalid(told)) if told == text), "{line}");
        }
        assert!(matches!(Line::read(b"progress", &nothing), Ok(Line::Progress)));
        assert!(Line::read(b"watch a --bogus", &nothing).is_err());
    }
}
