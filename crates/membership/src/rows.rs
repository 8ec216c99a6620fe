//! The stored forms: rows of the tables `members`, `members_removed` and `cluster`, and raft's configuration in `meta`.
//! All JSON or plain text, as etcd writes them.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use types::MemberId;

use crate::member::Member;
use crate::membership::ConfState;
use crate::version::{ClusterVersion, Downgrade};

/// Key of the agreed version in `cluster`.
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// Key of the downgrade in `cluster`.
pub const DOWNGRADE: &[u8] = b"downgrade";
/// Key of raft's configuration in `meta`.
pub const CONF_STATE: &[u8] = b"confState";
/// Value of every row of `members_removed`.
pub const REMOVED: &[u8] = b"removed";

/// A stored row is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("stored {row} is damaged: {what}")]
pub struct DamagedRow {
    pub row: &'static str,
    pub what: String,
}

/// The key of a member's row: its id in lower-case hex.
pub fn member_key(id: MemberId) -> Vec<u8> {
    id.to_string().into_bytes()
}

/// Reads what [`member_key`] wrote.
///
/// # Errors
/// If it is not a hex number.
pub fn parse_member_key(key: &[u8]) -> Result<MemberId, DamagedRow> {
    let id = std::str::from_utf8(key).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    id.map(MemberId).ok_or_else(|| damaged("member id", key.escape_ascii()))
}

/// A member's row.
pub fn member(member: &Member) -> Vec<u8> {
    json(member)
}

/// Reads what [`member`] wrote.
///
/// # Errors
/// If it is not a member's JSON.
pub fn parse_member(value: &[u8]) -> Result<Member, DamagedRow> {
    serde_json::from_slice(value).map_err(|error| damaged("member", error))
}

/// The row of the agreed version.
pub fn cluster_version(version: ClusterVersion) -> Vec<u8> {
    version.to_string().into_bytes()
}

/// Reads what [`cluster_version`] wrote.
///
/// # Errors
/// If it is not a version.
pub fn parse_cluster_version(value: &[u8]) -> Result<ClusterVersion, DamagedRow> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|error| damaged("cluster version", error))
}

/// The row of the downgrade.
pub fn downgrade(downgrade: &Downgrade) -> Vec<u8> {
    json(downgrade)
}

/// Reads what [`downgrade`] wrote.
///
/// # Errors
/// If it is not a downgrade's JSON.
pub fn parse_downgrade(value: &[u8]) -> Result<Downgrade, DamagedRow> {
    serde_json::from_slice(value).map_err(|error| damaged("downgrade", error))
}

/// The row of raft's configuration.
pub fn conf_state(state: &ConfState) -> Vec<u8> {
    let ids = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect();
    json(&ConfStateJson { voters: ids(&state.voters), learners: ids(&state.learners), auto_leave: false })
}

/// Reads what [`conf_state`] wrote.
///
/// # Errors
/// If it is not a configuration's JSON.
pub fn parse_conf_state(value: &[u8]) -> Result<ConfState, DamagedRow> {
    let read: ConfStateJson = serde_json::from_slice(value).map_err(|error| damaged("raft configuration", error))?;
    let ids = |ids: Vec<u64>| ids.into_iter().map(MemberId).collect();
    Ok(ConfState { voters: ids(read.voters), learners: ids(read.learners) })
}

#[derive(Serialize, Deserialize)]
struct ConfStateJson {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default)]
    auto_leave: bool,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs have a JSON form")
}

fn damaged(row: &'static str, what: impl std::fmt::Display) -> DamagedRow {
    DamagedRow { row, what: format!("{what}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::member::Attributes;

    #[test]
    fn rows_have_etcds_bytes() {
        let mut written = Member {
            id: MemberId(13_597_615_121_834_486_656),
            peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
            is_learner: true,
            attributes: Attributes { name: "m1".to_owned(), client_urls: vec!["http://127.0.0.1:2379".to_owned()] },
        };
        let row = br#"{"id":13597615121834486656,"peerURLs":["http://127.0.0.1:2380"],"isLearner":true,"name":"m1","clientURLs":["http://127.0.0.1:2379"]}"#;
        assert_eq!(member(&written), row);
        (written.is_learner, written.attributes) = (false, Attributes::default());
        assert_eq!(member(&written), br#"{"id":13597615121834486656,"peerURLs":["http://127.0.0.1:2380"]}"#);
        assert_eq!(member_key(MemberId(0xbc_0012)), b"bc0012");

        let state = ConfState { voters: vec![MemberId(1), MemberId(2)], learners: vec![MemberId(3)] };
        assert_eq!(conf_state(&state), br#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#);
        assert_eq!(conf_state(&ConfState::default()), br#"{"auto_leave":false}"#);
        assert_eq!(cluster_version(ClusterVersion { major: 3, minor: 5 }), b"3.5.0");
        let down = Downgrade { target_version: "3.4.0".to_owned(), enabled: true };
        assert_eq!(downgrade(&down), br#"{"target-version":"3.4.0","enabled":true}"#);
    }

    #[test]
    fn null_lists_are_empty_and_other_bytes_are_damage() {
        let read = parse_member(br#"{"id":1,"peerURLs":null,"clientURLs":null}"#).unwrap();
        assert_eq!(read, Member { id: MemberId(1), ..Member::default() });
        assert!(parse_member(b"{").is_err() && parse_member_key(b"xyz").is_err() && parse_conf_state(b"").is_err());
        assert!(parse_cluster_version(b"three").is_err() && parse_downgrade(b"1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in any::<u64>(), is_learner in any::<bool>(), name in ".{0,12}",
            urls in prop::collection::vec(".{0,20}", 0..3), ids in prop::collection::vec(any::<u64>(), 0..4),
        ) {
            let attributes = Attributes { name, client_urls: urls.clone() };
            let written = Member { id: MemberId(id), peer_urls: urls, is_learner, attributes };
            prop_assert_eq!(parse_member(&member(&written)), Ok(written));
            prop_assert_eq!(parse_member_key(&member_key(MemberId(id))), Ok(MemberId(id)));
            let ids: Vec<MemberId> = ids.into_iter().map(MemberId).collect();
            let state = ConfState { voters: ids.clone(), learners: ids };
            prop_assert_eq!(parse_conf_state(&conf_state(&state)), Ok(state));
        }
    }
}
