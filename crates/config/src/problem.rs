//! What is wrong with the settings (the server does not start), and what is worth saying about them (it does).

use std::fmt;
use std::io;
use std::time::Duration;

use types::go_quote;

use crate::log::{Field, Line, LogFormat};
use crate::written::{Given, Origin};

/// One reason not to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Problem {
    /// A value that cannot be used; `error` is etcd's text for it where etcd has one, and names the flag.
    pub(crate) fn new(error: impl Into<String>) -> Problem {
        Problem { message: "failed to verify flags", fields: vec![("error", error.into())] }
    }

    /// A variable and its flag are both set.
    pub(crate) fn conflict(variable: String, flag: &str) -> Problem {
        let message = "conflicting environment variable is shadowed by corresponding command-line flag \
                       (either unset environment variable or disable flag))";
        let hint = format!("unset {variable}, or leave --{flag} out");
        Problem { message, fields: vec![("environment-variable", variable), ("hint", hint)] }
    }

    /// Adds where the value was found, and its text.
    pub(crate) fn setting(mut self, given: &Given) -> Problem {
        if let Origin::SecretFile { variable, .. } = &given.origin {
            // What is said of the value may quote it, in whole or in part.
            let mut parts = given.raw.split([',', '=', ' ', '\n']).filter(|part| !part.is_empty());
            let quotes_it = parts.any(|part| {
                let quoted = go_quote(part);
                self.error().contains(part) || self.error().contains(quoted.trim_matches('"'))
            });
            let error = format!("the value in the file that {variable} names cannot be used");
            let errors = self.fields.iter_mut().filter(|(key, _)| quotes_it && *key == "error");
            errors.for_each(|(_, text)| text.clone_from(&error));
        }
        self.fields.push(("setting", given.setting()));
        if let Some(shown) = given.shown() {
            self.fields.push(("value", shown.to_string()));
        }
        self
    }

    /// Adds where something was found.
    pub(crate) fn found(mut self, setting: String) -> Problem {
        self.fields.push(("setting", setting));
        self
    }

    /// Adds the text that was found.
    pub(crate) fn value(mut self, value: &str) -> Problem {
        self.fields.push(("value", value.to_string()));
        self
    }

    /// Adds where a value that is no flag's was found, and its text, unless that may be a secret.
    pub(crate) fn found_at(mut self, origin: &Origin, value: &str) -> Problem {
        self.fields.push(("setting", origin.called("")));
        if !matches!(origin, Origin::SecretFile { .. }) {
            self.fields.push(("value", value.to_string()));
        }
        self
    }

    /// Adds what to write instead.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.fields.push(("hint", hint.into()));
        self
    }

    /// The text etcd would have in `error`, or what is wrong otherwise.
    pub fn error(&self) -> &str {
        self.field("error").unwrap_or(self.message)
    }

    /// A field by its name: `error`, `setting`, `value`, `hint`, `environment-variable`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Writes the problem to the log, as the reason for which the program ends.
    pub fn log(&self) {
        let (setting, value, hint) = (self.field("setting"), self.field("value"), self.field("hint"));
        tracing::error!(fatal = true, error = self.error(), setting, value, hint, "{}", self.message);
    }

    fn line(&self, format: LogFormat, wall: Duration) -> String {
        let fields: Vec<_> = self.fields.iter().map(|(key, value)| (*key, Field::Text(value.clone()))).collect();
        Line { level: "fatal", wall, caller: "config/problem.rs", message: self.message, fields: &fields }
            .render(format)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error())?;
        match (self.field("setting").or(self.field("environment-variable")), self.field("value")) {
            (Some(setting), Some(value)) => write!(f, " ({setting} is {value:?})")?,
            (Some(setting), None) if !self.error().contains(setting) => write!(f, " ({setting})")?,
            _ => {}
        }
        match self.field("hint") {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

/// Something the operator should know, to be logged once there is a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A variable that begins like ours but is none.
    UnknownVariable { variable: String, hint: Option<String> },
    /// `ETCD_VERSION`, which cannot be what its name says.
    SpecialVariable { variable: String, value: String },
    /// A setting that has no effect, or not the one it seems to have.
    Setting { setting: String, what: String },
    /// A setting that does nothing here, or something else than it says, and nobody need care.
    Remark { setting: String, what: String },
    /// The settings come from this file.
    FileLoaded { path: String },
}

impl Notice {
    /// Writes the notice to the log.
    pub fn log(&self) {
        match self {
            Notice::UnknownVariable { variable, hint } => {
                tracing::warn!("environment-variable" = variable, hint, "{UNKNOWN_VARIABLE}");
            }
            Notice::SpecialVariable { variable, value } => {
                tracing::warn!(key = variable, value, "{SPECIAL_VARIABLE}");
            }
            Notice::Setting { setting, what } => tracing::warn!(setting, "{what}"),
            Notice::Remark { setting, what } => tracing::info!(setting, "{what}"),
            Notice::FileLoaded { path } => tracing::info!(path, "{FILE_LOADED}"),
        }
    }

    /// The line of a warning, for a start that comes to nothing; a remark gets none.
    fn warning(&self, format: LogFormat, wall: Duration) -> Option<String> {
        let (message, fields) = match self {
            Notice::UnknownVariable { variable, hint } => {
                let hint = hint.as_ref().map(|hint| ("hint", hint));
                (UNKNOWN_VARIABLE, [Some(("environment-variable", variable)), hint])
            }
            Notice::SpecialVariable { variable, value } => {
                (SPECIAL_VARIABLE, [Some(("key", variable)), Some(("value", value))])
            }
            Notice::Setting { setting, what } => (what.as_str(), [Some(("setting", setting)), None]),
            Notice::Remark { .. } | Notice::FileLoaded { .. } => return None,
        };
        let fields = fields.into_iter().flatten();
        Some(match format {
            LogFormat::Json => {
                let fields: Vec<_> = fields.map(|(key, value)| (key, Field::Text(value.clone()))).collect();
                Line { level: "warn", wall, caller: "config/problem.rs", message, fields: &fields }.render(format)
            }
            LogFormat::Console => {
                let fields: String = fields.map(|(key, value)| format!(" {key}={value}")).collect();
                format!("quorate: warning: {message}{fields}\n")
            }
        })
    }
}

const UNKNOWN_VARIABLE: &str = "unrecognized environment variable";
const SPECIAL_VARIABLE: &str = "cannot set special environment variable";

const FILE_LOADED: &str = "loaded server configuration, other configuration command line flags and environment \
                           variables will be ignored if provided";

/// The system's words for an error as etcd has them: in small letters, and without the number that Rust adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// All problems, a line each, as the log would show them; before them the warnings, which may be what is behind them.
pub(crate) fn render(problems: &[Problem], notices: &[Notice], format: LogFormat, wall: Duration) -> String {
    let problem = |problem: &Problem| match format {
        LogFormat::Json => problem.line(format, wall),
        LogFormat::Console => format!("quorate: {problem}\n"),
    };
    notices.iter().filter_map(|notice| notice.warning(format, wall)).chain(problems.iter().map(problem)).collect()
}
