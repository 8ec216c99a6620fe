//! What members ask each other beside raft messages, and how it is refused; in texts that etcd's members know.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/etcdhttp/peer.go`, `server/lease/leasehttp/http.go`, `server/etcdserver/corrupt.go`.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::LeaseId;

use crate::host::LeaseTimes;

/// A request from another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    Members,
    /// `authorization` is the token of the client on whose behalf it comes.
    Promote {
        id: u64,
        authorization: Option<String>,
    },
    /// Revision 0 is the current one.
    HashKv {
        revision: i64,
    },
    KeepAlive {
        lease: LeaseId,
    },
    TimeToLive {
        lease: LeaseId,
        keys: bool,
    },
    DowngradeEnabled,
    Version,
}

/// The answer that goes with each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerResponse {
    /// To `Members` and `Promote`: etcd's JSON array of members, ascending by id.
    Members(Bytes),
    HashKv(HashKv),
    /// The lease's new TTL in seconds.
    KeptAlive {
        lease: LeaseId,
        ttl: i64,
    },
    TimeToLive(LeaseTimes),
    DowngradeEnabled(bool),
    Version(Versions),
}

/// A hash of the keys at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub revision: i64,
    pub hash: u32,
    /// -1 if never compacted.
    pub compact_revision: i64,
}

/// What `/version` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    #[serde(rename = "etcdserver")]
    pub server: String,
    /// `not_decided` until the cluster has one.
    #[serde(rename = "etcdcluster")]
    pub cluster: String,
}

/// Why a member does not do what another asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("lease not found")]
    LeaseNotFound,
    /// It did not catch up with what is committed in time: ask again.
    #[error("waiting for node to catch up its applied index has timed out")]
    NotCaughtUp,
    /// Only the leader knows: ask again, or another.
    #[error("not a primary lessor")]
    NotPrimary,
    #[error("membership: ID not found")]
    MemberNotFound,
    #[error("membership: can only promote a learner member")]
    MemberNotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("cluster ID mismatch")]
    WrongCluster,
    /// Anything else; the text is for people.
    #[error("{0}")]
    Other(String),
}

impl PeerError {
    /// The status it travels with; that of others depends on what was asked.
    pub(crate) fn status(&self, other: StatusCode) -> StatusCode {
        match self {
            PeerError::LeaseNotFound | PeerError::MemberNotFound => StatusCode::NOT_FOUND,
            PeerError::NotCaughtUp => StatusCode::REQUEST_TIMEOUT,
            PeerError::MemberNotLearner | PeerError::LearnerNotReady | PeerError::WrongCluster => {
                StatusCode::PRECONDITION_FAILED
            }
            PeerError::NotPrimary | PeerError::Compacted | PeerError::FutureRevision => StatusCode::BAD_REQUEST,
            PeerError::Other(_) => other,
        }
    }

    /// The error an answer's text stands for.
    pub(crate) fn from_text(text: &str) -> PeerError {
        let text = text.trim_end();
        let known = [
            PeerError::LeaseNotFound,
            PeerError::NotCaughtUp,
            PeerError::NotPrimary,
            PeerError::MemberNotFound,
            PeerError::MemberNotLearner,
            PeerError::LearnerNotReady,
            PeerError::Compacted,
            PeerError::FutureRevision,
            PeerError::WrongCluster,
        ];
        known
            .into_iter()
            .find(|error| text.contains(&error.to_string()))
            .unwrap_or_else(|| PeerError::Other(text.to_owned()))
    }
}

/// The JSON forms of a hash request and its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HashKvRequest {
    #[serde(default)]
    pub(crate) revision: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HashKvResponse {
    pub(crate) header: HashKvHeader,
    pub(crate) hash: u32,
    pub(crate) compact_revision: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HashKvHeader {
    #[serde(default)]
    pub(crate) revision: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_again_by_their_text() {
        for error in
            [PeerError::LeaseNotFound, PeerError::Compacted, PeerError::LearnerNotReady, PeerError::WrongCluster]
        {
            assert_eq!(PeerError::from_text(&format!("{error}\n")), error);
        }
        let prefixed = PeerError::from_text("etcdserver: mvcc: required revision is a future revision\n");
        assert_eq!(prefixed, PeerError::FutureRevision);
        assert_eq!(PeerError::from_text("no\n"), PeerError::Other("no".into()));
    }
}
