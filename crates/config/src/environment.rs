//! The `ETCD_*` variables. An empty variable counts as not set.
//!
//! The value of `ETCD_NAME` may lie in a file that `ETCD_NAME_FILE` names, so that secrets of containers can be used. So with
//! all of them but those that name a file by themselves: `ETCD_CERT_FILE` is the flag `--cert-file`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use types::go_quote;

use crate::flag::{Flag, Status};
use crate::problem::{Notice, Problem, reason};
use crate::written::{Given, Origin, Value, Written};
use crate::{file, help, image, table};

/// Variables that begin with `ETCD_` but stand for no flag, and are no mistake either.
const KNOWN: [&str; 1] = ["ETCD_UNSUPPORTED_ARCH"];

/// No setting is as long; a file that is has been named by mistake.
const FILE_BYTES_MAX: usize = 64 << 10;

/// All variables that are set, by the name of what they set: a value from a file goes by the name without `_FILE`.
pub(crate) struct Variables(BTreeMap<String, Result<Variable, Problem>>);

/// The value of a variable, and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub value: String,
    pub origin: Origin,
}

impl Variables {
    /// Takes the environment as it is, and reads the files that it names.
    pub(crate) fn gather(
        environment: &BTreeMap<String, String>,
        read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Variables {
        let mut variables = BTreeMap::new();
        for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let Some(target) = set_through_file(name) else {
                let found = Variable { value: value.clone(), origin: Origin::Variable(name.clone()) };
                // What its file says, if there is one too, is a problem that stands there already.
                variables.entry(name.clone()).or_insert(Ok(found));
                continue;
            };
            let found = match environment.get(target).is_some_and(|value| !value.is_empty()) {
                true => Err(Problem::new(format!("{target} and {name} are both set"))
                    .found(name.clone())
                    .hint("keep one of them")),
                false => contents(name, value, read_file),
            };
            if !matches!(&found, Ok(found) if found.value.is_empty()) {
                variables.insert(target.to_owned(), found);
            }
        }
        Variables(variables)
    }

    /// The variable of this name, if it is set and can be read.
    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name)?.as_ref().ok()
    }

    /// The variable that sets `name`: that itself, or `name` with `_FILE` behind it, and the file.
    pub(crate) fn found_in(&self, name: &str) -> String {
        self.get(name).map_or_else(|| name.to_owned(), |found| found.origin.called(""))
    }

    /// Why the variable of this name, which is set, cannot be read.
    pub(crate) fn problem(&self, name: &str) -> Option<&Problem> {
        self.0.get(name)?.as_ref().err()
    }

    /// The names of all variables that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What `name` sets by naming a file.
fn set_through_file(name: &str) -> Option<&str> {
    let target = name.strip_suffix("_FILE")?;
    let is_setting = |name: &str| {
        let flag = table::flags().find(|flag| flag.variable() == name);
        flag.is_some_and(|flag| !matches!(flag.status, Status::Legacy) && flag.name != "version") || image::knows(name)
    };
    (is_setting(target) && !is_setting(name)).then_some(target)
}

fn contents(name: &str, path: &str, read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Variable, Problem> {
    let origin = Origin::SecretFile { variable: name.to_owned(), path: path.to_owned() };
    let problem = |why: &str| {
        let target = name.strip_suffix("_FILE").unwrap_or(name);
        Problem::new(format!("{name}: {why}"))
            .found(name.to_owned())
            .hint(format!("name a file that holds the value of {target}, or set that itself"))
    };
    let bytes = read_file(Path::new(path)).map_err(|error| problem(&format!("open {path}: {}", reason(&error))))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(problem(&format!("{path} is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| problem(&format!("{path} is not UTF-8 text")))?;
    Ok(Variable { value: text.trim_end_matches(['\n', '\r']).to_owned(), origin })
}

/// Adds the variables to what the command line gave; a variable whose flag is given too is a problem.
pub(crate) fn read(variables: &Variables, written: &mut Written, on_command_line: &[String]) {
    let mut flags = BTreeMap::new();
    for flag in table::flags() {
        flags.insert(flag.variable(), flag);
    }
    let mut links = Vec::new();
    for (name, found) in &variables.0 {
        if !name.starts_with("ETCD_") || KNOWN.contains(&name.as_str()) || image::knows(name) {
            continue;
        }
        let flag = match image::file_key(name) {
            _ if name == "ETCD_VERSION" => None,
            Some(key) => file::find(&key),
            None => flags.get(name).copied(),
        };
        match (flag, found) {
            (Some(flag), Ok(variable)) => take(flag, variable, written, on_command_line),
            (Some(flag), Err(problem)) => written.fault(table::canonical(flag).name, problem.clone()),
            (None, Err(problem)) => written.problems.push(problem.clone()),
            (None, Ok(variable)) if name == "ETCD_VERSION" => {
                let (variable, value) = (name.clone(), variable.value.clone());
                written.notices.push(Notice::SpecialVariable { variable, value });
            }
            (None, Ok(_)) if is_service_link(name) => links.push(name.as_str()),
            (None, Ok(_)) => {
                let mut known: Vec<&str> = flags.keys().map(String::as_str).collect();
                for name in image::names() {
                    known.push(name);
                }
                let near = help::nearest(name, known.into_iter());
                let hint = near.map(|near| format!("did you mean {near}?"));
                written.notices.push(Notice::UnknownVariable { variable: name.clone(), hint });
            }
        }
    }
    if !links.is_empty() {
        written.notices.push(Notice::Remark {
            setting: links.join(" "),
            what: "no settings: Kubernetes sets them for a service called etcd".to_string(),
        });
    }
}

fn take(flag: &'static Flag, variable: &Variable, written: &mut Written, on_command_line: &[String]) {
    let canonical = table::canonical(flag);
    let Variable { value: raw, origin } = variable;
    let name = origin.variable().unwrap_or_default();
    if on_command_line.iter().any(|given| given == flag.name) {
        return written.fault(canonical.name, Problem::conflict(name.to_owned(), flag.name));
    }
    let given = |value| Given { flag, value, raw: raw.clone(), origin: origin.clone() };
    // What is meant for the settings file may be written as there.
    let read = if image::file_key(name).is_some() { file::parse } else { Value::parse };
    match read(canonical.kind, raw) {
        Ok(value) => {
            let given = given(value);
            let earlier = written.given(flag.name).filter(|earlier| earlier.value != given.value);
            if let Some(earlier) = earlier.map(Given::setting) {
                let error = format!("{} and {earlier} are one setting but differ", given.setting());
                let problem = Problem::new(error).found(given.setting()).hint("keep one of them");
                return written.fault(canonical.name, problem);
            }
            written.take(given);
        }
        Err(why) => {
            let given = given(Value::Text(String::new()));
            let shown = go_quote(given.shown().unwrap_or("***"));
            let problem = Problem::new(format!("invalid value {shown} for {name}: {why}")).setting(&given);
            let problem = match help::expected(flag) {
                Some(expected) => problem.hint(format!("write {expected}")),
                None => problem,
            };
            written.fault(canonical.name, problem);
        }
    }
}

/// Whether this is what Kubernetes tells every container about a service that is called etcd.
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("ETCD_") else { return false };
    let is_port = |rest: &str| {
        let (number, protocol) = rest.split_once('_').unwrap_or((rest, ""));
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|known| protocol.starts_with(known))
    };
    matches!(rest, "PORT" | "SERVICE_HOST" | "SERVICE_PORT")
        || rest.starts_with("SERVICE_PORT_")
        || rest.strip_prefix("PORT_").is_some_and(is_port)
}
