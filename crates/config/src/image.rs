//! The variables of the Bitnami image of etcd, which many Compose files are written for.
//!
//! Its scripts do things around etcd that a single program does by itself, or cannot do yet. Where one of its own variables is
//! set, its two promises hold here too: it does not start open to everybody unless it is told to, and it has its own
//! defaults for what nobody set. `docs/containers.md` has the table for operators.
//!
//! Source: bitnami/containers `bitnami/etcd`, `etcd-env.sh` and `libetcd.sh`, of etcd 3.6.

use std::path::Path;

use crate::environment::Variables;
use crate::mounts::Mounts;
use crate::problem::{Notice, Problem};
use crate::written::Written;

/// One of the image's own variables.
struct Own {
    name: &'static str,
    meaning: Meaning,
}

enum Meaning {
    /// It decides about access; see [`access`].
    Access,
    /// It asks for something that is not there, unless it says no.
    Refused { why: &'static str, hint: &'static str },
    /// Nothing here needs it.
    NoEffect(&'static str),
}

const ACCESS_YES: &str = "ALLOW_NONE_AUTHENTICATION";
const PASSWORD: &str = "ETCD_ROOT_PASSWORD";
/// Not the image's own, though files in the field have it.
const USER: &str = "ETCD_ROOT_USER";
/// Begins variables that become keys of the settings file.
const FILE_KEYS: &str = "ETCD_CFG_";
/// Where the image has its volume.
const VOLUME: &str = "/bitnami";
/// And in it the data.
const DATA: &str = "/bitnami/etcd/data";

const BACKUPS: &str = "the server takes no backups by itself; the image's snapshot job used it";
const START_FROM: &str = "it belongs to ETCD_START_FROM_SNAPSHOT";
const NAMES: &str = "members find each other by --initial-cluster alone";

const OWN: [Own; 12] = [
    Own { name: ACCESS_YES, meaning: Meaning::Access },
    Own { name: PASSWORD, meaning: Meaning::Access },
    Own {
        name: "ETCD_START_FROM_SNAPSHOT",
        meaning: Meaning::Refused {
            why: "starting from a snapshot comes later",
            hint: "leave it out, and copy the keys with a client instead",
        },
    },
    Own {
        name: "ETCD_DISASTER_RECOVERY",
        meaning: Meaning::Refused {
            why: "restoring from a snapshot when most members are lost comes later",
            hint: "leave it out; --force-new-cluster makes a surviving member a cluster of one",
        },
    },
    Own { name: "ETCD_INIT_SNAPSHOTS_DIR", meaning: Meaning::NoEffect(START_FROM) },
    Own { name: "ETCD_INIT_SNAPSHOT_FILENAME", meaning: Meaning::NoEffect(START_FROM) },
    Own { name: "ETCD_SNAPSHOTS_DIR", meaning: Meaning::NoEffect(BACKUPS) },
    Own { name: "ETCD_SNAPSHOT_HISTORY_LIMIT", meaning: Meaning::NoEffect(BACKUPS) },
    Own { name: "ETCD_ON_K8S", meaning: Meaning::NoEffect(NAMES) },
    Own { name: "ETCD_CLUSTER_DOMAIN", meaning: Meaning::NoEffect(NAMES) },
    Own { name: "ETCD_PREUPGRADE_START_DELAY", meaning: Meaning::NoEffect("the image's upgrade hook used it") },
    Own { name: "ETCD_EXTRA_AUTH_FLAGS", meaning: Meaning::NoEffect("the image's calls of etcdctl used it") },
];

/// Whether it is a variable of the image that stands for no flag.
pub(crate) fn knows(name: &str) -> bool {
    names().any(|known| known == name)
}

/// The names of all those.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    OWN.iter().map(|own| own.name).chain([USER])
}

/// The key of the settings file that a variable stands for: `snapshot-count` for `ETCD_CFG_SNAPSHOT_COUNT`.
pub(crate) fn file_key(variable: &str) -> Option<String> {
    let name = variable.strip_prefix(FILE_KEYS)?;
    let key = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    Some(match name {
        "CERT_FILE" | "KEY_FILE" | "CLIENT_CERT_AUTH" | "TRUSTED_CA_FILE" | "AUTO_TLS" => {
            format!("client-transport-security.{}", key(name))
        }
        _ => match (name.strip_prefix("CLIENT_"), name.strip_prefix("PEER_")) {
            (Some(name), _) => format!("client-transport-security.{}", key(name)),
            (_, Some(name)) => format!("peer-transport-security.{}", key(name)),
            _ => key(name),
        },
    })
}

/// Adds what the image's variables ask for: problems, notices, and its defaults. `mounts` are those of this process.
pub(crate) fn apply(variables: &Variables, written: &mut Written, mounts: &Mounts) {
    for own in &OWN {
        if let Some(problem) = variables.problem(own.name) {
            written.problems.push(problem.clone());
        }
        let Some(variable) = variables.get(own.name) else { continue };
        match own.meaning {
            Meaning::Refused { why, hint } if is_yes(&variable.value) => {
                let error = format!("{} is refused: {why}", own.name);
                written.problems.push(Problem::new(error).found_at(&variable.origin, &variable.value).hint(hint));
            }
            Meaning::NoEffect(why) => {
                let what = format!("has no effect: {why}");
                written.notices.push(Notice::Remark { setting: variable.origin.called(""), what });
            }
            Meaning::Access | Meaning::Refused { .. } => {}
        }
    }
    if let Some(user) = variables.get(USER).filter(|user| user.value != "root") {
        let error = format!("{USER} is refused: the user who may do everything is always called root");
        written.problems.push(Problem::new(error).found_at(&user.origin, &user.value).hint("leave it out"));
    }
    let present: Vec<String> =
        variables.names().filter(|name| is_own(name)).map(|name| variables.found_in(name)).collect();
    if !present.is_empty() {
        access(variables, &present, written);
        defaults(&present, written, mounts);
    }
}

/// Whether only who uses the image has this variable.
fn is_own(name: &str) -> bool {
    name.starts_with(FILE_KEYS) || OWN.iter().any(|own| own.name == name)
}

/// Nobody who asked for a password gets a server without one.
fn access(variables: &Variables, present: &[String], written: &mut Written) {
    let later = "users and passwords come later, and until then whoever reaches the port may read and write everything";
    let is_open = variables.get(ACCESS_YES).is_some_and(|variable| is_yes(&variable.value));
    if let Some(password) = variables.get(PASSWORD) {
        let problem = Problem::new(format!("{PASSWORD} is refused: {later}")).found(password.origin.called(""));
        let hint = format!("leave it out, set {ACCESS_YES}=yes, and let only those reach the port who may");
        written.problems.push(problem.hint(hint));
    } else if !is_open && variables.problem(PASSWORD).is_none() && variables.problem(ACCESS_YES).is_none() {
        let error =
            format!("neither {PASSWORD} nor {ACCESS_YES}=yes is set, and {} of the Bitnami image is", present[0]);
        let hint =
            format!("set {ACCESS_YES}=yes if everybody who reaches the port may read and write everything: {later}");
        written.problems.push(Problem::new(error).found(present.join(" ")).hint(hint));
    }
}

/// Clients are heard on all addresses, and data lies in the image's volume, if there is one. A settings file says by
/// itself what it wants.
fn defaults(present: &[String], written: &mut Written, mounts: &Mounts) {
    if written.from_file {
        return;
    }
    let mut defaults = vec![("listen-client-urls", "http://0.0.0.0:2379".to_string())];
    if mounts.has_between(Path::new(VOLUME), Path::new(DATA)) {
        defaults.push(("data-dir", DATA.to_string()));
    }
    for (name, value) in defaults {
        if written.given(name).is_some() {
            continue;
        }
        let what = format!("{value}, as in the Bitnami image, because {} is set", present[0]);
        written.notices.push(Notice::Remark { setting: format!("--{name}"), what });
        written.set_default(name, value);
    }
    // Where listeners are given, the image does not ask for more.
    written.set_default("advertise-client-urls", "http://localhost:2379".to_string());
}

/// As the image reads switches: what is not a yes is a no.
fn is_yes(value: &str) -> bool {
    ["1", "yes", "true"].iter().any(|yes| yes.eq_ignore_ascii_case(value))
}
