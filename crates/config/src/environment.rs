//! The `ETCD_*` variables. An empty variable counts as not set.

use std::collections::BTreeMap;

use crate::problem::{Notice, Problem};
use crate::written::{Given, Origin, Value, Written};
use crate::{go, help, table};

/// Variables that begin with `ETCD_` but stand for no flag, and are no mistake either.
const KNOWN: [&str; 1] = ["ETCD_UNSUPPORTED_ARCH"];

/// Adds the variables to what the command line gave; a variable whose flag is given too is a problem.
pub(crate) fn read(variables: &BTreeMap<String, String>, written: &mut Written, on_command_line: &[String]) {
    let mut names = BTreeMap::new();
    for flag in table::flags() {
        names.insert(flag.variable(), flag);
    }
    for (variable, raw) in variables {
        if !variable.starts_with("ETCD_") || raw.is_empty() || KNOWN.contains(&variable.as_str()) {
            continue;
        }
        if variable == "ETCD_VERSION" {
            written.notices.push(Notice::SpecialVariable { variable: variable.clone(), value: raw.clone() });
            continue;
        }
        let Some(flag) = names.get(variable) else {
            let near = help::nearest(variable, names.keys().map(String::as_str));
            let hint = near.map(|near| format!("did you mean {near}?"));
            written.notices.push(Notice::UnknownVariable { variable: variable.clone(), hint });
            continue;
        };
        let canonical = table::canonical(flag);
        if on_command_line.iter().any(|name| name == flag.name) {
            written.fault(canonical.name, Problem::conflict(variable.clone(), flag.name));
            continue;
        }
        let given = |value| Given { flag, value, raw: raw.clone(), origin: Origin::Environment };
        match Value::parse(canonical.kind, raw) {
            Ok(value) => written.take(given(value)),
            Err(why) => {
                let given = given(Value::Text(String::new()));
                let shown = go::quote(given.shown().unwrap_or("***"));
                let problem = Problem::new(format!("invalid value {shown} for {variable}: {why}")).setting(&given);
                let problem = match help::expected(canonical.kind) {
                    Some(expected) => problem.hint(format!("write {expected}")),
                    None => problem,
                };
                written.fault(canonical.name, problem);
            }
        }
    }
}
