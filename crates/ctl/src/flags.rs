//! Flags and words of a command line, in the syntax of Go's `pflag`.
//!
//! `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`; a boolean takes no separate value, and several
//! short ones may share a dash; flags and words may be mixed; `--` ends the flags.

use config::go as written;
use types::go_quote;

use crate::go;

/// A word of the command line. Keys and values need not be text.
pub(crate) type Word = Vec<u8>;

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Text,
    Duration,
    /// Commas separate its values, and it may be given several times.
    List,
}

impl Flag {
    pub(crate) const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind, default, help }
    }

    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", help)
    }

    pub(crate) const fn short(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }

    /// Whether `value` is one of the kind.
    ///
    /// # Errors
    /// Go's text on why not.
    pub(crate) fn check(&self, value: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(value);
        match self.kind {
            Kind::Bool => match written::parse_bool(&text) {
                Some(_) => Ok(()),
                None => Err(go::complaint("ParseBool", &text, written::NumberError::Syntax)),
            },
            Kind::Int => match written::parse_int(&text) {
                Ok(_) => Ok(()),
                Err(error) => Err(go::complaint("ParseInt", &text, error)),
            },
            Kind::Duration => written::parse_duration(&text).map(|_| ()),
            Kind::Text | Kind::List => Ok(()),
        }
    }

    /// As Go's messages call it: `-w, --write-out`.
    fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// What was given: the flags with their raw values, in order, and the words.
#[derive(Debug, Default)]
pub(crate) struct Given {
    flags: Vec<(&'static Flag, Vec<u8>)>,
    pub words: Vec<Word>,
    /// How many words stood before `--`, if there was one.
    pub words_before_dashes: Option<usize>,
    pub help: bool,
}

impl Given {
    /// The value given last. Values were checked when they were read.
    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        self.flags.iter().rev().find(|(flag, _)| flag.name == name).map(|(_, value)| &value[..])
    }

    /// All values given.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.flags.iter().filter(move |(flag, _)| flag.name == name).map(|(_, value)| &value[..])
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| written::parse_bool(&String::from_utf8_lossy(value)) == Some(true))
    }

    /// A number, 0 if it was not given.
    pub(crate) fn int(&self, name: &str) -> i64 {
        let number = self.value(name).map(|value| written::parse_int(&String::from_utf8_lossy(value)));
        number.and_then(Result::ok).unwrap_or(0)
    }

    /// A text, empty if it was not given.
    pub(crate) fn text(&self, name: &str) -> String {
        self.value(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }

    /// Reads `argument`, which is a flag or several short ones of those `known`, and its value from `rest` if it stands apart.
    ///
    /// # Errors
    /// Go's text on what is wrong with it.
    pub(crate) fn read_flag(
        &mut self,
        argument: &[u8],
        rest: &mut dyn Iterator<Item = Word>,
        known: &[&'static Flag],
    ) -> Result<(), String> {
        match argument.strip_prefix(b"--") {
            Some(body) => self.read_long(argument, body, rest, known),
            None => self.read_short(argument, rest, known),
        }
    }

    fn read_long(
        &mut self,
        argument: &[u8],
        body: &[u8],
        rest: &mut dyn Iterator<Item = Word>,
        known: &[&'static Flag],
    ) -> Result<(), String> {
        if body.starts_with(b"-") || body.starts_with(b"=") {
            return Err(format!("bad flag syntax: {}", String::from_utf8_lossy(argument)));
        }
        let (name, attached) = match body.iter().position(|byte| *byte == b'=') {
            Some(at) => (&body[..at], Some(body[at + 1..].to_vec())),
            None => (body, None),
        };
        let Some(&flag) = known.iter().find(|flag| flag.name.as_bytes() == name) else {
            if name == b"help" {
                self.help = true;
                return Ok(());
            }
            return Err(format!("unknown flag: --{}", String::from_utf8_lossy(name)));
        };
        let value = match attached {
            Some(value) => value,
            None if flag.kind == Kind::Bool => b"true".to_vec(),
            None => rest.next().ok_or_else(|| format!("flag needs an argument: --{}", flag.name))?,
        };
        self.take(flag, value)
    }

    fn read_short(
        &mut self,
        argument: &[u8],
        rest: &mut dyn Iterator<Item = Word>,
        known: &[&'static Flag],
    ) -> Result<(), String> {
        let mut body = &argument[1..];
        while let Some((&letter, after)) = body.split_first() {
            let shown = String::from_utf8_lossy(body).into_owned();
            let Some(&flag) = known.iter().find(|flag| flag.short == Some(letter as char)) else {
                if letter == b'h' {
                    self.help = true;
                    return Ok(());
                }
                return Err(format!("unknown shorthand flag: '{}' in -{shown}", letter as char));
            };
            let value = match after.split_first() {
                Some((b'=', value)) => value.to_vec(),
                _ if flag.kind == Kind::Bool => {
                    self.take(flag, b"true".to_vec())?;
                    body = after;
                    continue;
                }
                Some(_) => after.to_vec(),
                None => {
                    rest.next().ok_or_else(|| format!("flag needs an argument: '{}' in -{shown}", letter as char))?
                }
            };
            return self.take(flag, value);
        }
        Ok(())
    }

    fn take(&mut self, flag: &'static Flag, value: Vec<u8>) -> Result<(), String> {
        flag.check(&value).map_err(|why| {
            format!("invalid argument {} for {} flag: {why}", go_quote(&value), go_quote(flag.shown().as_bytes()))
        })?;
        self.flags.push((flag, value));
        Ok(())
    }
}

/// Reads the flags and words of a line that belongs to one command, such as a request of a transaction.
///
/// # Errors
/// Go's text on the first thing that is wrong.
pub(crate) fn read(arguments: impl IntoIterator<Item = Word>, flags: &'static [Flag]) -> Result<Given, String> {
    let mut given = Given::default();
    let known: Vec<&'static Flag> = flags.iter().collect();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if argument == b"--" {
            given.words_before_dashes = Some(given.words.len());
            given.words.extend(rest.by_ref());
        } else if is_flag(&argument) {
            given.read_flag(&argument, &mut rest, &known)?;
        } else {
            given.words.push(argument);
        }
    }
    Ok(given)
}

/// A lone dash is a word.
pub(crate) fn is_flag(argument: &[u8]) -> bool {
    argument.len() > 1 && argument[0] == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 4] = [
        Flag::switch("prefix", ""),
        Flag::switch("interactive", "").short('i'),
        Flag::new("rev", Kind::Int, "0", ""),
        Flag::new("write-out", Kind::Text, "simple", "").short('w'),
    ];

    fn line(text: &str) -> Result<Given, String> {
        read(text.split(' ').map(|word| word.as_bytes().to_vec()), &FLAGS)
    }

    #[test]
    fn flags_stand_anywhere_and_in_all_forms() {
        for text in ["a --rev 5 --prefix b -w json", "--rev=5 -wjson a --prefix=true b", "a b -w=json --prefix --rev 5"]
        {
            let given = line(text).expect("it is right");
            assert_eq!((given.int("rev"), given.is_set("prefix"), given.text("write-out")), (5, true, "json".into()));
            assert_eq!(given.words, [b"a", b"b"], "{text}");
        }
        assert_eq!(line("a --rev -1").expect("any word is a value").int("rev"), -1);
        assert!(!line("--prefix --prefix=false").expect("the last counts").is_set("prefix"));
        assert_eq!(line("-iw json").expect("booleans share a dash").text("write-out"), "json");
    }

    #[test]
    fn two_dashes_end_the_flags() {
        let given = line("a -- --rev -x").expect("words");
        assert_eq!(given.words, [&b"a"[..], b"--rev", b"-x"]);
        assert_eq!(given.words_before_dashes, Some(1));
        assert_eq!(line("-").expect("a lone dash").words, [b"-"]);
    }

    #[test]
    fn mistakes_are_told_as_go_tells_them() {
        for (text, message) in [
            ("--bogus", "unknown flag: --bogus"),
            ("put k -1", "unknown shorthand flag: '1' in -1"),
            ("--rev", "flag needs an argument: --rev"),
            ("-w", "flag needs an argument: 'w' in -w"),
            ("--rev x", r#"invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax"#),
            (
                "-i=x",
                r#"invalid argument "x" for "-i, --interactive" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
            ("---a", "bad flag syntax: ---a"),
        ] {
            assert_eq!(line(text).expect_err(text), message);
        }
    }
}
