//! Every flag this server knows: all of etcd 3.5 to 3.8, and its own.
//!
//! Adding a flag is adding a row here and, if it works, reading it in `settings`.

mod clustering;
mod logging;
mod member;
mod old;
mod security;

use crate::flag::{Flag, Kind, Status};

/// The groups of flags, in the order of the help text.
pub static GROUPS: [Group; 11] = [
    Group { title: "Member", flags: member::MEMBER },
    Group { title: "Clustering", flags: clustering::CLUSTERING },
    Group { title: "Discovery", flags: clustering::DISCOVERY },
    Group { title: "Security", flags: security::SECURITY },
    Group { title: "Auth", flags: security::AUTH },
    Group { title: "Profiling, monitoring and tracing", flags: logging::MONITORING },
    Group { title: "Logging", flags: logging::LOGGING },
    Group { title: "Unsafe", flags: member::UNSAFE },
    Group { title: "Program", flags: member::PROGRAM },
    Group { title: "Old names of etcd 3.5 and 3.6", flags: old::OLD_NAMES },
    Group { title: "Version 2, and flags long gone", flags: old::VERSION_2 },
];

/// Flags that belong together.
#[derive(Debug)]
pub struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// All flags, in the order of the help text.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// The flag called `name` (without dashes).
pub fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

/// The flag that holds the value of `flag`: itself, unless it is another one's old name.
pub fn canonical(flag: &'static Flag) -> &'static Flag {
    match flag.status {
        Status::OldName(new) => find(new).expect("a test holds every old name against the table"),
        _ => flag,
    }
}

/// How the text of `flag` is read.
pub fn kind(flag: &'static Flag) -> Kind {
    canonical(flag).kind
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::written::Value;

    #[test]
    fn names_and_file_keys_are_unique() {
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for flag in flags() {
            assert!(names.insert(flag.name), "{} stands twice in the table", flag.name);
            for key in flag.file_keys() {
                assert!(keys.insert(*key), "two flags claim the key {key}");
            }
        }
    }

    #[test]
    fn every_default_and_harmless_value_can_be_read() {
        for flag in flags() {
            Value::parse(kind(flag), canonical(flag).default).unwrap_or_else(|e| panic!("{}: {e}", flag.name));
            if let Status::Refused { harmless: Some(harmless), .. } = flag.status {
                for text in harmless {
                    Value::parse(flag.kind, text).unwrap_or_else(|e| panic!("{}={text}: {e}", flag.name));
                }
            }
        }
    }

    #[test]
    fn old_names_point_to_new_ones() {
        for flag in flags() {
            match flag.status {
                Status::OldName(new) => assert!(find(new).is_some(), "{} points to {new}", flag.name),
                Status::OldGate(gate) => assert!(crate::gate::find(gate).is_some(), "{} points to {gate}", flag.name),
                _ => assert!(!flag.help.is_empty(), "{} has no help", flag.name),
            }
        }
    }
}
