//! A change of the members, and why it is refused.

use thiserror::Error;
use types::MemberId;

use crate::member::Member;

/// What an entry of the log does to the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a voter or a learner, as the member says.
    Add(Member),
    /// Makes a learner a voter.
    Promote(MemberId),
    Remove(MemberId),
    /// Gives a member other peer URLs.
    Update {
        id: MemberId,
        peer_urls: Vec<String>,
    },
}

/// Why a change is refused. The same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MembershipError {
    #[error("membership: ID removed")]
    IdRemoved,
    #[error("membership: ID exists")]
    IdExists,
    #[error("membership: ID not found")]
    IdNotFound,
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    #[error("membership: can only promote a learner member")]
    NotLearner,
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    #[error("membership: the only voter cannot be removed")]
    OnlyVoter,
}

impl Change {
    /// The member it is about.
    pub fn member(&self) -> MemberId {
        match self {
            Change::Add(member) => member.id,
            Change::Promote(id) | Change::Remove(id) | Change::Update { id, .. } => *id,
        }
    }
}
