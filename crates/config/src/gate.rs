//! Feature gates: etcd's switches for features in the making.

use types::go_quote;

use crate::flag::Status;
use crate::go;

/// One gate.
#[derive(Debug)]
pub(crate) struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    pub versions: &'static str,
    pub help: &'static str,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Off unless switched on.
    Alpha,
    /// On unless switched off.
    Beta,
}

impl Stage {
    pub(crate) fn default(self) -> bool {
        self == Stage::Beta
    }
}

const fn gate(name: &'static str, stage: Stage, versions: &'static str, help: &'static str, status: Status) -> Gate {
    Gate { name, stage, versions, help, status }
}

const fn refused(why: &'static str) -> Status {
    Status::Refused { why, harmless: None }
}

pub(crate) static GATES: [Gate; 9] = [
    gate("LeaseCheckpoint", Stage::Alpha, "3.6+", "Tell the cluster how long leases have left", Status::Works),
    gate(
        "LeaseCheckpointPersist",
        Stage::Alpha,
        "3.6+",
        "Keep what is left of leases over a restart; needs LeaseCheckpoint",
        Status::Works,
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        "3.6+",
        "Share the write buffer with transactions that only read first",
        Status::NoMeaning("reads never copy a write buffer here"),
    ),
    gate(
        "FastLeaseKeepAlive",
        Stage::Beta,
        "3.7+",
        "Renew a lease without waiting for earlier entries to be applied",
        Status::NoMeaning("leases are always renewed without waiting"),
    ),
    gate(
        "InitialCorruptCheck",
        Stage::Alpha,
        "3.6+",
        "Compare hashes with the other members before serving",
        Status::Works,
    ),
    gate("CompactHashCheck", Stage::Alpha, "3.6+", "Compare hashes of compactions between members", Status::Works),
    gate(
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        "3.6+",
        "Call the server unhealthy while it defragments",
        refused("it comes later; requests are served during defragmentation"),
    ),
    gate(
        "SetMemberLocalAddr",
        Stage::Alpha,
        "3.6+",
        "Call other members from the address in the peer URL",
        refused("it comes later; the system chooses the address"),
    ),
    gate(
        "PriorityRequest",
        Stage::Alpha,
        "3.7+",
        "Let the end of a lease pass the limit on waiting requests",
        refused("it comes later"),
    ),
];

/// The gate called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.name == name)
}

/// Reads `Name=true,Other=false` into pairs; `AllAlpha` and `AllBeta` stay as they are.
///
/// # Errors
/// The text of Kubernetes' feature gates, which etcd uses.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut pairs = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => return Err(format!("missing bool value for {}", part.trim())),
        };
        let on = go::parse_bool(value).ok_or_else(|| {
            format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing {}: invalid syntax",
                go_quote(value)
            )
        })?;
        if find(name).is_none() && !matches!(name, "AllAlpha" | "AllBeta") {
            return Err(format!("unrecognized feature gate: {name}"));
        }
        pairs.push((name.to_string(), on));
    }
    Ok(pairs)
}

/// What `gate` is set to by `pairs`, and by which name; the gate's own name counts before the group's.
pub(crate) fn setting(gate: &Gate, pairs: &[(String, bool)]) -> Option<(&'static str, bool)> {
    let group = if gate.stage == Stage::Alpha { "AllAlpha" } else { "AllBeta" };
    let value = |name: &str| pairs.iter().rev().find(|(n, _)| n == name).map(|(_, on)| *on);
    value(gate.name).map(|on| (gate.name, on)).or_else(|| value(group).map(|on| (group, on)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read() {
        let pairs = parse(" LeaseCheckpoint = true,,AllBeta=0").unwrap();
        assert_eq!(pairs, [("LeaseCheckpoint".to_string(), true), ("AllBeta".to_string(), false)]);
        let shared = find("TxnModeWriteWithSharedBuffer").unwrap();
        assert_eq!(setting(shared, &pairs), Some(("AllBeta", false)));
        assert_eq!(setting(find("LeaseCheckpoint").unwrap(), &pairs), Some(("LeaseCheckpoint", true)));
        assert_eq!(setting(find("CompactHashCheck").unwrap(), &pairs), None);
    }

    #[test]
    fn faults_have_etcds_words() {
        assert_eq!(parse("X=true").unwrap_err(), "unrecognized feature gate: X");
        assert_eq!(parse("LeaseCheckpoint").unwrap_err(), "missing bool value for LeaseCheckpoint");
        assert_eq!(
            parse("LeaseCheckpoint=maybe").unwrap_err(),
            r#"invalid value of LeaseCheckpoint=maybe, err: strconv.ParseBool: parsing "maybe": invalid syntax"#
        );
    }
}
