//! From arguments, environment and file to settings, or to what to print instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::log::LogFormat;
use crate::problem::{Notice, Problem, reason, render};
use crate::settings::Settings;
use crate::written::Written;
use crate::{arguments, check, environment, file, help};

/// What the machine around the process is like.
pub struct Surroundings<'a> {
    /// Reads a whole file; [`crate::read_file`] but for tests.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// The address to advertise for a wildcard listener; [`crate::default_host`] but for tests.
    pub default_host: &'a dyn Fn() -> Option<IpAddr>,
    /// Whether standard error is a terminal: problems are then text for people, else JSON lines.
    pub terminal: bool,
    /// Time since the Unix epoch, for those lines.
    pub wall: Duration,
    /// The etcd version this server is compatible with, for `--version`.
    pub compatible_version: &'static str,
}

/// What to do now.
#[derive(Debug)]
pub enum Outcome {
    /// Start.
    Run(Box<Loaded>),
    /// Print and exit: help, version, or what is wrong.
    Print { stdout: String, stderr: String, exit: i32 },
}

/// Settings that are good to start with.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// To be logged once there is a log.
    pub notices: Vec<Notice>,
}

/// Exit code for arguments that Go's flag parser refuses.
const EXIT_SYNTAX: i32 = 2;
/// Exit code for settings that are well formed but cannot be used.
const EXIT_REFUSED: i32 = 1;

/// Reads all settings. `args` come without the name of the program.
///
/// A settings file makes all flags and variables count for nothing; a variable and its flag together are a problem.
///
/// Source: etcd-io/etcd `server/etcdmain/config.go` (`parse`), `pkg/flags/flag.go`.
pub fn load(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
    surroundings: &Surroundings<'_>,
) -> Outcome {
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let args = match args {
        Ok(args) => args,
        Err(bad) => return bad_syntax(&[format!("argument is not UTF-8: {}", bad.display())]),
    };
    let (variables, unreadable) = texts(env);

    if let Some(program @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
        let problem = Problem::new(format!("`quorate {program}` comes later: this version is the server only"));
        return refuse(&[problem], None, surroundings);
    }
    let arguments = arguments::parse(&args);
    if arguments.help {
        return Outcome::Print { stdout: help::help(), stderr: help::usage(), exit: 0 };
    }
    if !arguments.faults.is_empty() {
        return bad_syntax(&arguments.faults);
    }
    if let Some(stray) = arguments.stray {
        let problem = Problem::new(format!("'{stray}' is not a valid flag"))
            .hint("flags begin with a dash; a boolean takes its value after an equals sign, as in --pre-vote=false");
        return refuse(&[problem], None, surroundings);
    }

    let on_command_line: Vec<String> = arguments.given.iter().map(|given| given.flag.name.to_string()).collect();
    let mut written = Written::default();
    for given in arguments.given {
        written.take(given);
    }
    if written.bool("version") {
        return Outcome::Print {
            stdout: help::version(surroundings.compatible_version),
            stderr: String::new(),
            exit: 0,
        };
    }
    let path = Some(written.text("config-file")).filter(|path| !path.is_empty());
    match path.or_else(|| variables.get("ETCD_CONFIG_FILE").filter(|path| !path.is_empty()).cloned()) {
        Some(path) => written = from_file(&path, &on_command_line, &variables, surroundings),
        None => {
            written.problems.extend(unreadable.iter().map(|name| Problem::new(format!("{name} is not UTF-8 text"))));
            environment::read(&variables, &mut written, &on_command_line);
        }
    }

    check::check(&mut written);
    if !written.problems.is_empty() {
        return refuse(&written.problems, log_format(&written), surroundings);
    }
    let colour = variables.get("NO_COLOR").is_none_or(String::is_empty);
    let settings = Settings::build(&mut written, colour, surroundings);
    Outcome::Run(Box::new(Loaded { settings, notices: written.notices }))
}

/// The variables that are text, and the names of those of ours that are not.
fn texts(env: impl Iterator<Item = (OsString, OsString)>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut variables = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (name, value) in env {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => drop(variables.insert(name, value)),
            Err(_) if name.starts_with("ETCD_") => unreadable.push(name),
            Err(_) => {}
        }
    }
    (variables, unreadable)
}

fn from_file(
    path: &str,
    on_command_line: &[String],
    variables: &BTreeMap<String, String>,
    surroundings: &Surroundings<'_>,
) -> Written {
    let mut written = Written::default();
    written.notices.push(Notice::FileLoaded { path: path.to_string() });
    let flags = on_command_line.iter().filter(|name| *name != "config-file").map(|name| format!("--{name}"));
    let variables = variables
        .iter()
        .filter(|(name, value)| name.starts_with("ETCD_") && *name != "ETCD_CONFIG_FILE" && !value.is_empty())
        .map(|(name, _)| name.clone());
    let unused: Vec<String> = flags.chain(variables).collect();
    if !unused.is_empty() {
        written.notices.push(Notice::Setting {
            setting: unused.join(" "),
            what: format!("without effect, because {path} has all settings"),
        });
    }
    match (surroundings.read_file)(Path::new(path)) {
        Ok(bytes) => file::read(path, &bytes, &mut written),
        Err(error) => written.problems.push(
            Problem::new(format!("open {path}: {}", reason(&error)))
                .hint("name a file that can be read in --config-file or ETCD_CONFIG_FILE"),
        ),
    }
    written
}

fn log_format(written: &Written) -> Option<LogFormat> {
    match written.text("log-format").as_str() {
        "json" => Some(LogFormat::Json),
        "console" => Some(LogFormat::Console),
        _ => None,
    }
}

fn refuse(problems: &[Problem], format: Option<LogFormat>, surroundings: &Surroundings<'_>) -> Outcome {
    let stderr = refusal(problems, format, surroundings);
    Outcome::Print { stdout: String::new(), stderr, exit: EXIT_REFUSED }
}

/// Problems as they are told before there is a log: as lines of one, in its `format` if that has been chosen.
pub fn refusal(problems: &[Problem], format: Option<LogFormat>, surroundings: &Surroundings<'_>) -> String {
    let usual = if surroundings.terminal { LogFormat::Console } else { LogFormat::Json };
    render(problems, format.unwrap_or(usual), surroundings.wall)
}

fn bad_syntax(faults: &[String]) -> Outcome {
    let stderr = format!("{}\n{}", faults.join("\n"), help::usage());
    Outcome::Print { stdout: String::new(), stderr, exit: EXIT_SYNTAX }
}

#[cfg(test)]
mod tests;
