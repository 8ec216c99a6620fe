//! What the operator wrote: one value per flag, and where each was found.

use std::collections::BTreeMap;
use std::fmt;

use types::go_quote;

use crate::flag::{Flag, Kind, Status};
use crate::go::{self, NumberError};
use crate::log::LogLevel;
use crate::problem::{Notice, Problem};
use crate::url::Url;
use crate::{gate, table};

/// A flag's text, read according to its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Nanoseconds.
    Duration(i64),
    Urls(Vec<Url>),
    List(Vec<String>),
    Level(LogLevel),
    Gates(Vec<(String, bool)>),
}

impl Value {
    /// Reads `text` as a command line has it.
    ///
    /// # Errors
    /// The words etcd has for it, without the name of the flag.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        let number = |error| match error {
            NumberError::Syntax => "parse error".to_string(),
            NumberError::Range => "value out of range".to_string(),
        };
        Ok(match kind {
            Kind::Text | Kind::Secret | Kind::Ignored => Value::Text(text.to_string()),
            Kind::Bool => Value::Bool(go::parse_bool(text).ok_or("parse error")?),
            Kind::Int => Value::Int(go::parse_int(text).map_err(number)?),
            Kind::Uint => Value::Uint(go::parse_uint(text).map_err(number)?),
            Kind::Uint32 => Value::Uint(parse_uint32(text)?),
            Kind::Duration => Value::Duration(go::parse_duration(text).map_err(|_| "parse error")?),
            Kind::Choice(choices) => match choices.contains(&text) {
                true => Value::Text(text.to_string()),
                false => return Err("invalid value".to_string()),
            },
            Kind::Urls => Value::Urls(Url::parse_list(text).map_err(|error| error.to_string())?),
            Kind::Origins => {
                if text != "*" {
                    Url::parse_list(text).map_err(|error| error.to_string())?;
                }
                Value::Text(text.to_string())
            }
            Kind::List => {
                Value::List(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect())
            }
            Kind::Level => Value::Level(LogLevel::parse(text)?),
            Kind::Gates => Value::Gates(gate::parse(text)?),
        })
    }
}

fn parse_uint32(text: &str) -> Result<u64, String> {
    let error = |what| format!("strconv.ParseUint: parsing {}: {what}", go_quote(text));
    match go::parse_uint(text) {
        Ok(number) if number <= u64::from(u32::MAX) => Ok(number),
        Ok(_) | Err(NumberError::Range) => Err(error("value out of range")),
        Err(NumberError::Syntax) => Err(error("invalid syntax")),
    }
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    /// The variable of this name.
    Variable(String),
    /// The file that a variable names, such as `ETCD_NAME_FILE`; it may hold a secret.
    SecretFile {
        variable: String,
        path: String,
    },
    /// The key as it stands in the file, and `path:line:column`.
    File {
        key: String,
        place: String,
    },
}

impl Origin {
    /// How the operator would recognise it, for the flag called `flag`: `--name`, `ETCD_NAME`,
    /// `ETCD_NAME_FILE (/run/secrets/name)` or `name in etcd.yml:3:1`.
    pub(crate) fn called(&self, flag: &str) -> String {
        match self {
            Origin::CommandLine => format!("--{flag}"),
            Origin::Variable(name) => name.clone(),
            Origin::SecretFile { variable, path } => format!("{variable} ({path})"),
            Origin::File { key, place } => format!("{key} in {place}"),
        }
    }

    /// The variable that has the value or names the file with it.
    pub(crate) fn variable(&self) -> Option<&str> {
        match self {
            Origin::Variable(variable) | Origin::SecretFile { variable, .. } => Some(variable),
            Origin::CommandLine | Origin::File { .. } => None,
        }
    }
}

/// One value that was given, not defaulted.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The flag as it was called, maybe by an old name.
    pub flag: &'static Flag,
    pub value: Value,
    pub raw: String,
    pub origin: Origin,
}

impl Given {
    /// How the operator would recognise the setting; see [`Origin::called`].
    pub(crate) fn setting(&self) -> String {
        self.origin.called(self.flag.name)
    }

    /// The text that was read, unless it is, or may be, a secret.
    pub(crate) fn shown(&self) -> Option<&str> {
        let is_secret = table::kind(self.flag) == Kind::Secret || matches!(self.origin, Origin::SecretFile { .. });
        (!is_secret).then_some(self.raw.as_str())
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting())
    }
}

/// All that was given, by the newest name of each flag. What was not given has the table's default.
#[derive(Debug, Default)]
pub(crate) struct Written {
    given: BTreeMap<&'static str, Given>,
    /// Defaults that take the place of the table's.
    defaults: BTreeMap<&'static str, String>,
    /// Feature gates that were set by the flags older versions had for them.
    old_gates: BTreeMap<&'static str, Given>,
    pub notices: Vec<Notice>,
    pub problems: Vec<Problem>,
    /// Flags that already have a problem, by their newest name.
    faulty: Vec<&'static str>,
    /// Whether the settings came from a file.
    pub from_file: bool,
}

impl Written {
    /// Takes one value; what came later counts, except that gates add up and two names of one flag must agree.
    pub(crate) fn take(&mut self, given: Given) {
        match given.flag.status {
            Status::Legacy => self.notices.push(Notice::Setting {
                setting: given.setting(),
                what: "flag is no longer supported and has no effect".to_string(),
            }),
            Status::OldGate(gate) => {
                self.notices.push(Notice::Setting {
                    setting: given.setting(),
                    what: format!("old name; newer versions of etcd know only --feature-gates={gate}=true"),
                });
                self.old_gates.insert(gate, given);
            }
            Status::OldName(new) => {
                self.notices.push(Notice::Setting {
                    setting: given.setting(),
                    what: format!("old name; newer versions of etcd know only --{new}"),
                });
                self.keep(new, given);
            }
            _ => self.keep(given.flag.name, given),
        }
    }

    fn keep(&mut self, name: &'static str, mut given: Given) {
        // Gates add up, and the last word on each counts.
        if let (Some(Value::Gates(before)), Value::Gates(pairs)) =
            (self.given(name).map(|earlier| &earlier.value), &mut given.value)
        {
            pairs.splice(0..0, before.iter().cloned());
        }
        let earlier = self.given.insert(name, given);
        let (Some(earlier), given) = (earlier, &self.given[name]) else { return };
        if earlier.flag.name == given.flag.name {
            return;
        }
        let error = match name {
            "warning-unary-request-duration" => {
                "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are \
                 set. Use only --warning-unary-request-duration"
                    .to_string()
            }
            _ if earlier.value == given.value => return,
            _ => format!("--{} and --{} are one setting but differ", given.flag.name, earlier.flag.name),
        };
        let problem = Problem::new(error).setting(given).hint(format!("set only --{name}"));
        self.fault(name, problem);
    }

    /// Records a value that could not be read, or must not be; the flag then has its default.
    pub(crate) fn fault(&mut self, name: &'static str, problem: Problem) {
        self.problems.push(problem);
        self.faulty.push(name);
    }

    /// Notes that something is wrong with a flag that was told elsewhere.
    pub(crate) fn is_faulty(&mut self, name: &'static str) {
        self.faulty.push(name);
    }

    /// Whether nothing is wrong yet with any of these flags.
    pub(crate) fn sound(&self, names: &[&str]) -> bool {
        !names.iter().any(|name| self.faulty.contains(name))
    }

    /// What was given for the flag, if anything.
    pub(crate) fn given(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// All gates set by old flags.
    pub(crate) fn old_gates(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.old_gates.iter().map(|(gate, given)| (*gate, given))
    }

    /// Makes `text` the default of a flag, in place of the table's. It must be one that can be read.
    pub(crate) fn set_default(&mut self, name: &'static str, text: String) {
        self.defaults.insert(name, text);
    }

    /// Whether the flag has another default than the table's.
    pub(crate) fn has_own_default(&self, name: &str) -> bool {
        self.defaults.contains_key(name)
    }

    fn value(&self, name: &str) -> Value {
        if let Some(given) = self.given.get(name).filter(|_| self.sound(&[name])) {
            return given.value.clone();
        }
        let flag = table::find(name).expect("settings ask for flags of the table only");
        let default = self.defaults.get(name).map_or(flag.default, String::as_str);
        Value::parse(flag.kind, default).expect("a test reads every default")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("--{name} is {other:?}, not text"),
        }
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(on) => on,
            other => unreachable!("--{name} is {other:?}, not a boolean"),
        }
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => number,
            other => unreachable!("--{name} is {other:?}, not an integer"),
        }
    }

    pub(crate) fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(number) => number,
            other => unreachable!("--{name} is {other:?}, not an unsigned integer"),
        }
    }

    /// Nanoseconds.
    pub(crate) fn duration(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(nanos) => nanos,
            other => unreachable!("--{name} is {other:?}, not a duration"),
        }
    }

    pub(crate) fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("--{name} is {other:?}, not URLs"),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(parts) => parts,
            other => unreachable!("--{name} is {other:?}, not a list"),
        }
    }

    pub(crate) fn level(&self, name: &str) -> LogLevel {
        match self.value(name) {
            Value::Level(level) => level,
            other => unreachable!("--{name} is {other:?}, not a level"),
        }
    }

    pub(crate) fn gates(&self, name: &str) -> Vec<(String, bool)> {
        match self.value(name) {
            Value::Gates(pairs) => pairs,
            other => unreachable!("--{name} is {other:?}, not feature gates"),
        }
    }
}
