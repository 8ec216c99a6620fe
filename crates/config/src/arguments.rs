//! The command line, in the syntax of Go's `flag` package.
//!
//! One dash or two; `--name value`, `--name=value`; a boolean takes no separate value; `--` and the first word that is
//! no flag end the flags. Unlike Go's, this parser goes on after a fault, so that all of them can be told.

use types::go_quote;

use crate::flag::{Flag, Kind};
use crate::written::{Given, Origin, Value};
use crate::{help, table};

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub given: Vec<Given>,
    /// Lines for standard error, if the syntax is at fault.
    pub faults: Vec<String>,
    /// The newest names of the flags that they are about, as far as there are such flags.
    pub faulty: Vec<&'static str>,
    /// `-h` or `--help` came before any fault.
    pub help: bool,
    /// The first word that is no flag.
    pub stray: Option<String>,
}

/// Reads the arguments, without the name of the program.
pub(crate) fn parse(arguments: &[String]) -> Arguments {
    let mut result = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument.len() < 2 || !argument.starts_with('-') {
            result.stray = Some(argument.clone());
            break;
        }
        if argument == "--" {
            result.stray = rest.next().cloned();
            break;
        }
        let body = argument.strip_prefix("--").unwrap_or(&argument[1..]);
        if body.starts_with(['-', '=']) {
            result.faults.push(format!("bad flag syntax: {argument}"));
            continue;
        }
        let (name, attached) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            if matches!(name, "h" | "help") {
                result.help = result.faults.is_empty();
                break;
            }
            let names = table::flags().map(|flag| flag.name);
            result.faults.push(match help::nearest(name, names) {
                Some(near) => format!("flag provided but not defined: -{name} (did you mean --{near}?)"),
                None => format!("flag provided but not defined: -{name}"),
            });
            continue;
        };
        let raw = match attached {
            Some(value) => value,
            None if takes_no_value(flag) => "true".to_string(),
            None => match rest.next() {
                Some(value) => value.clone(),
                None => {
                    result.faulty.push(table::canonical(flag).name);
                    result.faults.push(format!("flag needs an argument: -{name}"));
                    break;
                }
            },
        };
        match Value::parse(table::kind(flag), &raw) {
            Ok(value) => result.given.push(Given { flag, value, raw, origin: Origin::CommandLine }),
            Err(why) => {
                result.faulty.push(table::canonical(flag).name);
                result.faults.push(fault(flag, &raw, &why));
            }
        }
    }
    result
}

fn takes_no_value(flag: &'static Flag) -> bool {
    matches!(table::kind(flag), Kind::Bool | Kind::Ignored)
}

fn fault(flag: &'static Flag, raw: &str, why: &str) -> String {
    let kind = table::kind(flag);
    let raw = if kind == Kind::Secret { "***" } else { raw };
    let what = if kind == Kind::Bool { "boolean value" } else { "value" };
    let of = if kind == Kind::Bool { "for" } else { "for flag" };
    let text = format!("invalid {what} {} {of} -{}: {why}", go_quote(raw), flag.name);
    match help::expected(flag) {
        Some(expected) => format!("{text} (write {expected})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Arguments {
        parse(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn one_dash_and_two_with_and_without_equals_are_the_same() {
        for line in ["-name a", "--name a", "-name=a", "--name=a"] {
            let arguments = read(line);
            assert_eq!((arguments.given[0].flag.name, arguments.given[0].raw.as_str()), ("name", "a"), "{line}");
        }
    }

    #[test]
    fn booleans_take_only_an_attached_value() {
        assert_eq!(read("--pre-vote").given[0].value, Value::Bool(true));
        assert_eq!(read("--pre-vote=F").given[0].value, Value::Bool(false));
        assert_eq!(read("--pre-vote false").stray.as_deref(), Some("false"));
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        assert_eq!(read("x --name=a").stray.as_deref(), Some("x"));
        assert_eq!(read("--name=a -- b").stray.as_deref(), Some("b"));
        assert_eq!(read("--name=a -").stray.as_deref(), Some("-"));
        assert_eq!(read("--name=a --").stray, None);
    }

    #[test]
    fn faults_begin_with_gos_words_and_all_are_told() {
        for (line, want) in [
            ("--bogus", "flag provided but not defined: -bogus"),
            ("--snapshot-cuont=5", "flag provided but not defined: -snapshot-cuont (did you mean --snapshot-count?)"),
            ("--name", "flag needs an argument: -name"),
            ("---x", "bad flag syntax: ---x"),
            ("-=x", "bad flag syntax: -=x"),
            ("--snapshot-count=abc", r#"invalid value "abc" for flag -snapshot-count: parse error"#),
            ("--heartbeat-interval=-1", r#"invalid value "-1" for flag -heartbeat-interval: parse error"#),
            ("--grpc-keepalive-timeout=5", r#"invalid value "5" for flag -grpc-keepalive-timeout: parse error"#),
            ("--pre-vote=maybe", r#"invalid boolean value "maybe" for -pre-vote: parse error"#),
            ("--initial-cluster-state=x", r#"invalid value "x" for flag -initial-cluster-state: invalid value"#),
            (
                "--listen-client-urls=foo",
                r#"invalid value "foo" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"#,
            ),
            (
                "--quota-backend-bytes=99999999999999999999",
                r#"invalid value "99999999999999999999" for flag -quota-backend-bytes: value out of range"#,
            ),
            (
                "--max-concurrent-streams=4294967296",
                r#"invalid value "4294967296" for flag -max-concurrent-streams: strconv.ParseUint: parsing "4294967296": value out of range"#,
            ),
            ("--log-level=foo", r#"invalid value "foo" for flag -log-level: unrecognized level: "foo""#),
            (
                "--feature-gates=X=true",
                r#"invalid value "X=true" for flag -feature-gates: unrecognized feature gate: X"#,
            ),
        ] {
            let faults = read(line).faults;
            assert!(faults.len() == 1 && faults[0].starts_with(want), "{line}: {faults:?}");
        }
        assert_eq!(read("--bogus --pre-vote=x --max-wals=y").faults.len(), 3);
    }

    #[test]
    fn help_counts_only_before_a_fault() {
        assert!(read("--name a -h").help && read("-help").help);
        assert!(!read("--bogus -h").help);
    }

    #[test]
    fn legacy_flags_take_any_value_or_none() {
        assert_eq!(read("--v --snapshot=3 --vv=x --name=a").given.len(), 4);
    }
}
