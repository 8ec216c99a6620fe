//! From arguments, environment and file to settings, or to what to print instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::environment::Variables;
use crate::log::LogFormat;
use crate::mounts::{self, Mounts};
use crate::problem::{Notice, Problem, reason, render};
use crate::settings::Settings;
use crate::written::Written;
use crate::{arguments, check, environment, file, help, image};

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
        Err(bad) => return bad_syntax(&[format!("argument is not UTF-8: {}", bad.display())], ""),
    };
    let (variables, mut unreadable) = texts(env);

    if let Some(program @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
        let problem = Problem::new(format!("`quorate {program}` is not there yet"))
            .found(program.to_string())
            .hint("HAProxy or nginx can stand in front of the members in its place");
        return refuse(refusal(&[problem], None, surroundings));
    }
    let colour = variables.get("NO_COLOR").is_none_or(String::is_empty);
    let variables = Variables::gather(&variables, surroundings.read_file);
    let arguments = arguments::parse(&args);
    if arguments.help {
        return Outcome::Print { stdout: help::help(), stderr: help::usage(), exit: 0 };
    }
    let on_command_line: Vec<String> = arguments.given.iter().map(|given| given.flag.name.to_string()).collect();
    let mut written = Written::default();
    for given in arguments.given {
        written.take(given);
    }
    arguments.faulty.iter().for_each(|name| written.is_faulty(name));
    if arguments.faults.is_empty() && arguments.stray.is_none() && written.bool("version") {
        return Outcome::Print {
            stdout: help::version(surroundings.compatible_version),
            stderr: String::new(),
            exit: 0,
        };
    }
    // Of a settings file, too.
    let mut is_check = written.bool("check-config");
    let of_flag = Some(written.text("config-file")).filter(|path| !path.is_empty());
    let of_variable = variables.get("ETCD_CONFIG_FILE");
    let path = of_flag.map(|path| (path, "--config-file".to_string()));
    match path.or_else(|| of_variable.map(|found| (found.value.clone(), found.origin.called("")))) {
        Some((path, setting)) => {
            written = from_file(&path, setting, &on_command_line, &variables, surroundings);
            unreadable.retain(|name| image::knows(name));
        }
        None => environment::read(&variables, &mut written, &on_command_line),
    }
    is_check |= written.bool("check-config");
    let not_text = |name: &String| Problem::new(format!("{name} is not UTF-8 text")).found(name.clone());
    written.problems.extend(unreadable.iter().map(|name| not_text(name).hint("write its value as UTF-8 text")));
    image::apply(&variables, &mut written, &mounts(surroundings));
    check::check(&mut written);
    if let Some(stray) = arguments.stray {
        let problem = Problem::new(format!("'{stray}' is not a valid flag"))
            .hint("flags begin with a dash; a boolean takes its value after an equals sign, as in --pre-vote=false");
        written.problems.insert(0, problem);
    }
    let told = || tell(&written.problems, &written.notices, log_format(&written), surroundings);
    if !arguments.faults.is_empty() {
        return bad_syntax(&arguments.faults, &told());
    }
    if !written.problems.is_empty() {
        return refuse(told());
    }
    let settings = Settings::build(&mut written, colour, surroundings);
    if is_check {
        return checked(&settings, &written, surroundings);
    }
    Outcome::Run(Box::new(Loaded { settings, notices: written.notices }))
}

/// What is left to check without anything outside: the members.
fn checked(settings: &Settings, written: &Written, surroundings: &Surroundings<'_>) -> Outcome {
    let format = log_format(written);
    let is_listed = settings.discovery_srv.is_none() && settings.discovery_registry.is_none();
    match settings.initial_cluster() {
        Err(problem) if is_listed => refuse(tell(&[problem], &written.notices, format, surroundings)),
        found => {
            let notes = found.map(|cluster| settings.notes_on(&cluster)).unwrap_or_default();
            let notices: Vec<_> = written.notices.iter().cloned().chain(notes).collect();
            let stderr = tell(&[], &notices, format, surroundings);
            Outcome::Print { stdout: "the settings are good\n".to_string(), stderr, exit: 0 }
        }
    }
}

/// The variables that are text, and the names of those of ours that are not.
fn texts(env: impl Iterator<Item = (OsString, OsString)>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut variables = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (name, value) in env {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => drop(variables.insert(name, value)),
            Err(_) if name.starts_with("ETCD_") || image::knows(&name) => unreadable.push(name),
            Err(_) => {}
        }
    }
    (variables, unreadable)
}

/// `setting` is what named the file.
fn from_file(
    path: &str,
    setting: String,
    on_command_line: &[String],
    variables: &Variables,
    surroundings: &Surroundings<'_>,
) -> Written {
    let mut written = Written::default();
    written.notices.push(Notice::FileLoaded { path: path.to_string() });
    let flags = on_command_line
        .iter()
        .filter(|name| !matches!(name.as_str(), "config-file" | "check-config"))
        .map(|name| format!("--{name}"));
    let variables = variables
        .names()
        .filter(|name| name.starts_with("ETCD_") && *name != "ETCD_CONFIG_FILE" && !image::knows(name))
        .map(String::from);
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
                .found(setting)
                .hint("name a file that can be read in --config-file or ETCD_CONFIG_FILE"),
        ),
    }
    written
}

/// What is mounted where; nothing, if the kernel does not tell.
fn mounts(surroundings: &Surroundings<'_>) -> Mounts {
    let read = (surroundings.read_file)(Path::new(mounts::FILE));
    read.map(|bytes| Mounts::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

fn log_format(written: &Written) -> Option<LogFormat> {
    match written.text("log-format").as_str() {
        "json" => Some(LogFormat::Json),
        "console" => Some(LogFormat::Console),
        _ => None,
    }
}

fn refuse(stderr: String) -> Outcome {
    Outcome::Print { stdout: String::new(), stderr, exit: EXIT_REFUSED }
}

/// Problems as they are told before there is a log: as lines of one, in its `format` if that has been chosen.
pub fn refusal(problems: &[Problem], format: Option<LogFormat>, surroundings: &Surroundings<'_>) -> String {
    tell(problems, &[], format, surroundings)
}

fn tell(
    problems: &[Problem],
    notices: &[Notice],
    format: Option<LogFormat>,
    surroundings: &Surroundings<'_>,
) -> String {
    let usual = if surroundings.terminal { LogFormat::Console } else { LogFormat::Json };
    render(problems, notices, format.unwrap_or(usual), surroundings.wall)
}

/// What Go's flag parser says, then what is wrong beside it, then the usage.
fn bad_syntax(faults: &[String], others: &str) -> Outcome {
    let stderr = format!("{}\n{others}{}", faults.join("\n"), help::usage());
    Outcome::Print { stdout: String::new(), stderr, exit: EXIT_SYNTAX }
}

#[cfg(test)]
mod tests;
