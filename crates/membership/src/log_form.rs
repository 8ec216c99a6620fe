//! How a change stands in the raft log: the kind, node id and context of a `raftpb.ConfChange`.
//!
//! The context is JSON: the member, and for additions whether it is really a promotion.

use serde::{Deserialize, Serialize};
use types::MemberId;

use crate::change::Change;
use crate::member::Member;
use crate::rows::DamagedRow;

/// Values of `raftpb.ConfChangeType`.
const ADD_NODE: i32 = 0;
const REMOVE_NODE: i32 = 1;
const UPDATE_NODE: i32 = 2;
const ADD_LEARNER_NODE: i32 = 3;

#[derive(Serialize, Deserialize)]
struct Context {
    #[serde(flatten)]
    member: Member,
    #[serde(default, rename = "isPromote")]
    is_promote: bool,
}

/// The fields of a `raftpb.ConfChange`, but for its request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    pub kind: i32,
    pub node: MemberId,
    pub context: Vec<u8>,
}

impl LoggedChange {
    pub fn new(change: &Change) -> LoggedChange {
        let of = |member: &Member, is_promote| json(&Context { member: member.clone(), is_promote });
        let (kind, context) = match change {
            Change::Add(member) if member.is_learner => (ADD_LEARNER_NODE, of(member, false)),
            Change::Add(member) => (ADD_NODE, of(member, false)),
            Change::Promote(id) => (ADD_NODE, of(&Member { id: *id, ..Member::default() }, true)),
            Change::Remove(_) => (REMOVE_NODE, Vec::new()),
            Change::Update { id, peer_urls } => {
                (UPDATE_NODE, json(&Member { id: *id, peer_urls: peer_urls.clone(), ..Member::default() }))
            }
        };
        LoggedChange { kind, node: change.member(), context }
    }

    /// The change these fields mean.
    ///
    /// # Errors
    /// If the kind is unknown, or the context is not the JSON it should be or about another member.
    pub fn parse(&self) -> Result<Change, DamagedRow> {
        let id = self.node;
        match self.kind {
            ADD_NODE | ADD_LEARNER_NODE => {
                let Context { member, is_promote } = self.parse_context()?;
                self.check_id(&member)?;
                let is_learner = member.is_learner || self.kind == ADD_LEARNER_NODE;
                let add = || Change::Add(Member { id, is_learner, ..member });
                Ok(if is_promote { Change::Promote(id) } else { add() })
            }
            REMOVE_NODE => Ok(Change::Remove(id)),
            UPDATE_NODE => {
                let Context { member, .. } = self.parse_context()?;
                self.check_id(&member)?;
                Ok(Change::Update { id, peer_urls: member.peer_urls })
            }
            kind => Err(DamagedRow { row: "membership change", what: format!("unknown kind {kind}") }),
        }
    }

    /// etcd's members panic where the two ids differ.
    fn check_id(&self, member: &Member) -> Result<(), DamagedRow> {
        if member.id == self.node {
            return Ok(());
        }
        let what = format!("member {} in an entry about member {}", member.id, self.node);
        Err(DamagedRow { row: "membership change", what })
    }

    fn parse_context(&self) -> Result<Context, DamagedRow> {
        let damaged = |error: serde_json::Error| DamagedRow { row: "membership change", what: error.to_string() };
        serde_json::from_slice(&self.context).map_err(damaged)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(is_learner: bool) -> Member {
        Member { id: MemberId(7), peer_urls: vec!["http://m:1".to_owned()], is_learner, ..Member::default() }
    }

    #[test]
    fn every_change_is_read_back() {
        for change in [
            Change::Add(member(false)),
            Change::Add(member(true)),
            Change::Promote(MemberId(7)),
            Change::Remove(MemberId(7)),
            Change::Update { id: MemberId(7), peer_urls: vec!["http://n:1".to_owned()] },
        ] {
            assert_eq!(LoggedChange::new(&change).parse(), Ok(change));
        }
    }

    #[test]
    fn the_context_has_etcds_bytes() {
        let add = LoggedChange::new(&Change::Add(member(true)));
        assert_eq!(add.context, br#"{"id":7,"peerURLs":["http://m:1"],"isLearner":true,"isPromote":false}"#);
        assert_eq!((add.kind, add.node), (ADD_LEARNER_NODE, MemberId(7)));
    }

    #[test]
    fn other_bytes_are_damage() {
        let logged = |kind, context: &[u8]| LoggedChange { kind, node: MemberId(7), context: context.to_vec() };
        assert!(logged(9, b"{}").parse().is_err() && logged(ADD_NODE, b"").parse().is_err());
        for kind in [ADD_NODE, ADD_LEARNER_NODE, UPDATE_NODE] {
            assert!(logged(kind, br#"{"id":7,"peerURLs":[]}"#).parse().is_ok());
            assert!(logged(kind, br#"{"id":8,"peerURLs":[]}"#).parse().is_err());
            assert!(logged(kind, br#"{"peerURLs":[]}"#).parse().is_err());
        }
    }
}
