//! Help, usage and version texts, all from the table; and the nearest name to a wrong one.

use std::fmt::Write as _;

use crate::flag::{Flag, Kind, Status};
use crate::gate::{GATES, Stage};
use crate::table::{self, GROUPS};

/// For standard error, after a mistake.
pub(crate) fn usage() -> String {
    "Usage:

  quorate [flags]
    Start the server. Without flags: one member on localhost:2379, data in default.quorate.

  quorate --version
    Show the version.

  quorate -h | --help
    Show all flags.

  quorate healthcheck [--ready] [flags]
    Ask the member that these flags and the variables tell of (by default: the first process, as in a container)
    whether it is alive, or whether it is ready to serve; exits with 0 if it is.

  quorate --config-file PATH
    Take all settings from a YAML or JSON file; other flags and variables are then ignored.
"
    .to_string()
}

/// For standard output: every flag by group, with its default and what becomes of it here.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "\nEvery flag is also a variable (--data-dir is ETCD_DATA_DIR, or ETCD_DATA_DIR_FILE for a file with the value) and a \
         key of the settings file (data-dir).\n",
    );
    for group in &GROUPS {
        let _ = write!(out, "\n{}:\n", group.title);
        for flag in group.flags {
            let _ = write!(out, "  --{}{}\n    {}.\n", flag.name, shown_default(flag), sentence(flag));
        }
    }
    out.push_str("\nFeature gates (--feature-gates):\n");
    for gate in &GATES {
        let default = gate.stage == Stage::Beta;
        let note = note(&gate.status).map(|note| format!(" ({note})")).unwrap_or_default();
        let _ = write!(out, "  {} '{default}' ({})\n    {}{note}.\n", gate.name, gate.versions, gate.help);
    }
    out
}

fn shown_default(flag: &'static Flag) -> String {
    match (flag.status, flag.name) {
        (Status::Legacy, _) | (_, "version") => String::new(),
        (_, "data-dir") => " '${name}.quorate'".to_string(),
        _ => format!(" '{}'", table::canonical(flag).default),
    }
}

/// What the flag is for, and what becomes of it.
pub(crate) fn sentence(flag: &Flag) -> String {
    match flag.status {
        Status::OldName(new) => format!("Old name of --{new}"),
        Status::OldGate(gate) => format!("Old form of --feature-gates={gate}=..."),
        _ => match note(&flag.status) {
            Some(note) => format!("{} ({note})", flag.help),
            None => flag.help.to_string(),
        },
    }
}

fn note(status: &Status) -> Option<String> {
    match status {
        Status::Refused { why, .. } => Some(format!("refused: {why}")),
        Status::NoMeaning(why) => Some(format!("no effect: {why}")),
        _ => None,
    }
}

/// Four lines, the first as etcd has it.
pub(crate) fn version(compatible: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let commit = option_env!("QUORATE_GIT_SHA").unwrap_or("not recorded");
    let (os, arch) = (std::env::consts::OS, go_architecture());
    format!("etcd Version: {compatible}\nGit SHA: {commit}\nQuorate Version: {own}\nOS/Arch: {os}/{arch}\n")
}

/// The architecture by the name etcd's users know.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What may be written for a flag's value, where the fault itself does not say it.
pub(crate) fn expected(flag: &'static Flag) -> Option<String> {
    let flag = table::canonical(flag);
    Some(match flag.kind {
        Kind::Int | Kind::Uint if flag.name.ends_with("-bytes") => {
            "a whole number of bytes, such as 4294967296 for 4 GiB".to_string()
        }
        Kind::Bool => "true or false".to_string(),
        Kind::Int => "a whole number".to_string(),
        Kind::Uint | Kind::Uint32 => "a whole number of at least 0".to_string(),
        Kind::Duration => "a duration such as 10ms, 5s or 1h30m".to_string(),
        Kind::Choice(choices) => choices.join(" or "),
        Kind::Level => "debug, info, warn, error, panic or fatal".to_string(),
        Kind::Urls => "http://ip:port or unix:///path, several with commas".to_string(),
        Kind::Gates => "Name=true,Other=false with names from --help".to_string(),
        Kind::Origins => "* or http://host:port, several with commas".to_string(),
        Kind::Text | Kind::Secret | Kind::List | Kind::Ignored => return None,
    })
}

/// Longer names are not looked for: comparing costs time, and none of ours is near.
const NAME_BYTES_MAX: usize = 80;

/// The candidate most like `name`, if one is like it at all (a third of it may differ).
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let limit = name.chars().count() / 3;
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be added, dropped or replaced to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = || ["snapshot-count", "data-dir", "wal-dir"].into_iter();
        assert_eq!(nearest("snapshot-cuont", names()), Some("snapshot-count"));
        assert_eq!(nearest("datadir", names()), Some("data-dir"));
        assert_eq!(nearest("something-else", names()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn help_names_every_flag() {
        let help = help();
        for flag in table::flags() {
            assert!(help.contains(&format!("  --{}", flag.name)), "{}", flag.name);
        }
    }
}
