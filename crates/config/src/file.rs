//! The settings file: YAML or JSON, with the keys of etcd's.

use crate::flag::{Flag, Kind};
use crate::help;
use crate::problem::{Notice, Problem};
use crate::table;
use crate::written::{Given, Origin, Value, Written};
use crate::yaml::{self, Content, Document, Entry, Node, Place};

const SIZE_MAX_BYTES: usize = 1 << 20;

/// A bare number of nanoseconds below this is taken for a slip (a millisecond).
const NANOS_LIKELY: i64 = 1_000_000;

/// Reads the file's content into `written`.
pub(crate) fn read(path: &str, bytes: &[u8], written: &mut Written) {
    written.from_file = true;
    if bytes.len() > SIZE_MAX_BYTES {
        return written.problems.push(no_file(path, &format!("it is larger than {SIZE_MAX_BYTES} bytes")));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return written.problems.push(no_file(path, "it is not UTF-8 text"));
    };
    let mut reader = Reader { path, written };
    let document = yaml::parse(text).unwrap_or_else(|error| {
        let what = format!("this is neither YAML nor JSON: {}", error.what);
        reader.fault(error.place, &what, "write `key: value` lines");
        Document::default()
    });
    if let Some(place) = document.unread {
        let setting = format!("what follows {}", reader.at(place));
        let what = "only the first document of the file is read; this has no effect".to_string();
        reader.written.notices.push(Notice::Setting { setting, what });
    }
    match document.root {
        None | Some(Node { content: Content::Null, .. }) => {}
        Some(Node { content: Content::Map(entries), .. }) => reader.map("", entries),
        Some(node) => reader.fault(node.place, "the file must hold `key: value` lines", "write name: m1, for instance"),
    }
}

fn no_file(path: &str, why: &str) -> Problem {
    Problem::new(format!("{path} is no settings file: {why}"))
        .found(path.to_string())
        .hint("name a YAML or JSON file with `key: value` lines")
}

struct Reader<'a> {
    path: &'a str,
    written: &'a mut Written,
}

impl Reader<'_> {
    fn at(&self, place: Place) -> String {
        format!("{}:{}:{}", self.path, place.line, place.column)
    }

    fn fault(&mut self, place: Place, what: &str, hint: &str) {
        let at = self.at(place);
        self.written.problems.push(Problem::new(format!("{at}: {what}")).found(at).hint(hint));
    }

    fn map(&mut self, above: &str, entries: Vec<Entry>) {
        for at in 0..entries.len() {
            if let Some(earlier) =
                entries[..at].iter().find(|earlier| earlier.key.eq_ignore_ascii_case(&entries[at].key))
            {
                self.written.notices.push(Notice::Setting {
                    setting: format!("{above}{} in {}", entries[at].key, self.at(entries[at].place)),
                    what: format!("the key stands twice; the one in line {} has no effect", earlier.place.line),
                });
            }
        }
        for entry in entries {
            self.entry(above, entry);
        }
    }

    fn entry(&mut self, above: &str, entry: Entry) {
        let path = format!("{above}{}", entry.key);
        if let Some(flag) = find(&path) {
            return self.value(flag, &path, entry.value);
        }
        let is_map_of_ours = all_keys().any(|key| is_inside(key, &path));
        match entry.value.content {
            Content::Map(entries) if is_map_of_ours => self.map(&format!("{path}."), entries),
            Content::Null if is_map_of_ours => {}
            _ if is_map_of_ours => {
                let what = format!("{path} must be a map of keys and values");
                self.fault(entry.value.place, &what, "write its `key: value` lines below it, indented");
            }
            _ => self
                .written
                .notices
                .push(Notice::Setting { setting: format!("{path} in {}", self.at(entry.place)), what: unknown(&path) }),
        }
    }

    fn value(&mut self, flag: &'static Flag, key: &str, node: Node) {
        let canonical = table::canonical(flag);
        let origin = Origin::File { key: key.to_string(), place: self.at(node.place) };
        let list_hint = "write the texts with commas between them, or as a list";
        let value_hint = format!("write {}", help::expected(flag).unwrap_or_else(|| "one text".to_string()));
        let raw = match node.content {
            Content::Null => return,
            Content::Scalar(text) => text,
            Content::List(list) if matches!(canonical.kind, Kind::List | Kind::Urls | Kind::Origins) => {
                match scalars(list) {
                    Some(parts) => parts.join(","),
                    None => return self.fault(node.place, &format!("{key} must be a list of texts"), list_hint),
                }
            }
            Content::List(_) => {
                return self.fault(node.place, &format!("{key} must be one value, not a list"), &value_hint);
            }
            Content::Map(_) => {
                return self.fault(node.place, &format!("{key} must be one value, not a map"), &value_hint);
            }
        };
        // An empty state is `new`: etcd has it so, in the file only.
        if canonical.name == "initial-cluster-state" && raw.is_empty() {
            return;
        }
        match parse(canonical.kind, &raw) {
            Ok(value) => {
                if canonical.kind == Kind::Duration && raw.parse().is_ok_and(|nanos| (1..NANOS_LIKELY).contains(&nanos))
                {
                    self.written.notices.push(Notice::Setting {
                        setting: format!("{key} in {}", self.at(node.place)),
                        what: format!("a bare number is nanoseconds: {raw} is {raw}ns; write {raw}s for seconds"),
                    });
                }
                self.written.take(Given { flag, value, raw, origin });
            }
            Err(why) => {
                let given = Given { flag, value: Value::Text(String::new()), raw: raw.clone(), origin };
                let error = match (canonical.kind, canonical.name) {
                    (Kind::Urls, name) => format!("unexpected error setting up {name}: {why}"),
                    (_, "initial-cluster-state") => format!("unexpected clusterState {raw:?}"),
                    _ => format!("invalid value for {key}: {why}"),
                };
                let problem = Problem::new(error).setting(&given);
                let problem = match help::expected(flag) {
                    Some(expected) => problem.hint(format!("write {expected}")),
                    None => problem,
                };
                self.written.fault(canonical.name, problem);
            }
        }
    }
}

/// Reads a value as the file has it: more forms than on the command line.
pub(crate) fn parse(kind: Kind, raw: &str) -> Result<Value, String> {
    match (kind, raw) {
        (Kind::Duration, _) if raw.parse::<i64>().is_ok() => {
            Ok(Value::Duration(raw.parse().map_err(|_| "parse error".to_string())?))
        }
        (Kind::Bool, "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Ok(Value::Bool(true)),
        (Kind::Bool, "no" | "No" | "NO" | "off" | "Off" | "OFF") => Ok(Value::Bool(false)),
        _ => Value::parse(kind, raw),
    }
}

/// The flag of a key; case does not matter, as with etcd.
pub(crate) fn find(path: &str) -> Option<&'static Flag> {
    table::flags().find(|flag| flag.file_keys().iter().any(|key| key.eq_ignore_ascii_case(path)))
}

fn all_keys() -> impl Iterator<Item = &'static str> {
    table::flags().flat_map(Flag::file_keys).copied()
}

fn is_inside(key: &str, map: &str) -> bool {
    key.len() > map.len() && key.as_bytes()[map.len()] == b'.' && key[..map.len()].eq_ignore_ascii_case(map)
}

fn scalars(list: Vec<Node>) -> Option<Vec<String>> {
    list.into_iter()
        .map(|node| match node.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        })
        .collect()
}

/// What to say of a key that means nothing.
fn unknown(path: &str) -> String {
    match table::find(path).map(Flag::file_keys) {
        Some([]) => "unknown key, ignored: this can be set on the command line and in the environment only".to_string(),
        Some([key, ..]) => format!("unknown key, ignored: in the file it is {key}"),
        None => {
            let (map, key) = split(path);
            let beside = all_keys().filter(|other| split(other).0.eq_ignore_ascii_case(map));
            match help::nearest(key, beside.map(|other| split(other).1)) {
                Some(near) => format!("unknown key, ignored: did you mean {near}?"),
                None => "unknown key, ignored".to_string(),
            }
        }
    }
}

/// The map a key is in, empty for the file itself, and its name there.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}
