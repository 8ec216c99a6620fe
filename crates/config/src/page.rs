//! `docs/configuration.md`, made from the table.

use std::fmt::Write as _;

use crate::flag::{FileKey, Flag, Status};
use crate::gate::{GATES, Stage};
use crate::table::{self, GROUPS};

const INTRODUCTION: &str = "# Configuration

Made from the table in `crates/config/src/table`; do not edit. To make it anew:
`QUORATE_WRITE_DOCS=1 cargo test -p config --lib page`.

Every setting can be given in these ways, with etcd's rules:

| way | form |
|---|---|
| flag | `--data-dir /x`, `--data-dir=/x`, one dash or two; booleans `--pre-vote=false` |
| variable | `ETCD_DATA_DIR=/x`; an empty one counts as not set; together with its flag it is an error |
| variable with a file | `ETCD_DATA_DIR_FILE=/run/secrets/dir`: the value is what the file holds, without the end of its last line; together with `ETCD_DATA_DIR` it is an error |
| file | `data-dir: /x`, YAML or JSON, named by `--config-file` or `ETCD_CONFIG_FILE`; all flags and other variables are then ignored, and the log says which |

What the variables of the Bitnami image do stands in [containers.md](containers.md).

Durations are Go's (`10ms`, `5s`, `1h30m`); in the file a bare number is nanoseconds, as with etcd. Text in the file may
be written as a number and the other way round; a key that is unknown or stands twice,
and what follows the first document, is ignored with a warning.

`works`: it does what it does in etcd. `refused`: the server does not start if it is set to anything but the default,
because what it asks for is not there. `no effect`: it is accepted, and a line of the log says why it does nothing here.

A mistake on the command line ends the program with exit code 2 and the usage on standard error; any other mistake with
exit code 1 and a line for each (JSON, or text on a terminal or with `--log-format=console`) that holds `error` (etcd's
text), `setting`, `value` and `hint`. Nothing is written to disk before all settings are found good.
";

fn page() -> String {
    let mut out = INTRODUCTION.to_string();
    for group in &GROUPS {
        let _ =
            write!(out, "\n## {}\n\n| flag | default | etcd | here | meaning |\n|---|---|---|---|---|\n", group.title);
        for flag in group.flags {
            let _ = writeln!(out, "{}", row(flag));
        }
    }
    out.push_str("\n## Feature gates\n\n| gate | default | etcd | here | meaning |\n|---|---|---|---|---|\n");
    for gate in &GATES {
        let default = gate.stage == Stage::Beta;
        let (here, why) = (here(&gate.status), why(&gate.status));
        let _ = writeln!(out, "| `{}` | `{default}` | {} | {here} | {}{why} |", gate.name, gate.versions, gate.help);
    }
    out.push_str("\n`AllAlpha` and `AllBeta` set all gates that are off, or on, by default.\n");
    out
}

fn row(flag: &'static Flag) -> String {
    let key = match flag.file {
        FileKey::Same => String::new(),
        FileKey::At(keys) => format!("<br>file: `{}`", keys.join("` or `")),
        FileKey::Nowhere => "<br>not in the file".to_string(),
    };
    let default = match (flag.name, flag.status, table::canonical(flag).default) {
        ("data-dir", ..) => "`${name}.quorate`".to_string(),
        (_, Status::Legacy, _) | (_, _, "") => String::new(),
        (.., default) => format!("`{default}`"),
    };
    let meaning = match flag.status {
        Status::OldName(new) => format!("old name of `--{new}`"),
        Status::OldGate(gate) => format!("old form of `--feature-gates={gate}=…`"),
        _ => format!("{}{}", flag.help, why(&flag.status)),
    };
    let versions = if flag.versions.is_empty() { "all" } else { flag.versions };
    let here = here(&table::canonical(flag).status);
    format!("| `{}`{key} | {default} | {versions} | {here} | {meaning} |", flag.name)
}

fn here(status: &Status) -> &'static str {
    match status {
        Status::Works => "works",
        Status::Refused { .. } => "refused",
        Status::NoMeaning(_) | Status::Legacy => "no effect",
        Status::OldGate(gate) => here(&crate::gate::find(gate).expect("a gate of the table").status),
        Status::OldName(_) => unreachable!("only new names are asked for"),
    }
}

fn why(status: &Status) -> String {
    match status {
        Status::Refused { why, .. } | Status::NoMeaning(why) => format!(" ({why})"),
        _ => String::new(),
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "reads and writes the page in the source tree")]
fn the_committed_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("QUORATE_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/configuration.md is stale: QUORATE_WRITE_DOCS=1 cargo test -p config --lib page"
    );
}
