//! What members say to one another, apart from any raft library's own types and from any wire format.

use bytes::Bytes;

use crate::{Index, LogEntry, MemberId, Term};

/// What a [`Message`] is about. The numbers are those of etcd's `raftpb.MessageType`; those that never travel between
/// members (0, 1, 10, 11, 12) are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// A follower hands proposals on to the leader.
    Propose = 2,
    Append = 3,
    AppendResponse = 4,
    Vote = 5,
    VoteResponse = 6,
    /// The state itself follows, for a member that is too far behind for entries.
    Snapshot = 7,
    Heartbeat = 8,
    HeartbeatResponse = 9,
    /// Asks the leader to make `from` the leader.
    TransferLeader = 13,
    /// The leader asks a follower to start an election at once.
    TimeoutNow = 14,
    /// A follower asks the leader for a read index.
    ReadIndex = 15,
    ReadIndexResponse = 16,
    PreVote = 17,
    PreVoteResponse = 18,
}

impl MessageKind {
    /// The kind with this number, if members may send it.
    pub fn from_number(number: i32) -> Option<MessageKind> {
        Some(match number {
            2 => MessageKind::Propose,
            3 => MessageKind::Append,
            4 => MessageKind::AppendResponse,
            5 => MessageKind::Vote,
            6 => MessageKind::VoteResponse,
            7 => MessageKind::Snapshot,
            8 => MessageKind::Heartbeat,
            9 => MessageKind::HeartbeatResponse,
            13 => MessageKind::TransferLeader,
            14 => MessageKind::TimeoutNow,
            15 => MessageKind::ReadIndex,
            16 => MessageKind::ReadIndexResponse,
            17 => MessageKind::PreVote,
            18 => MessageKind::PreVoteResponse,
            _ => return None,
        })
    }
}

/// One message from member to member. Which fields mean something depends on the kind; the others are zero.
///
/// Entries of a [`MessageKind::Propose`] carry kind and data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageKind,
    pub to: MemberId,
    pub from: MemberId,
    pub term: Term,
    /// The term of the entry at `index`.
    pub log_term: Term,
    pub index: Index,
    pub entries: Vec<LogEntry>,
    pub commit: Index,
    pub snapshot: Option<SnapshotMeta>,
    pub reject: bool,
    pub reject_hint: Index,
    /// Of reads: what tells one round from another. Of votes: why. Of append responses: see `consensus`.
    pub context: Bytes,
}

impl Message {
    /// A message with nothing but its kind and its ends.
    pub fn new(kind: MessageKind, from: MemberId, to: MemberId) -> Message {
        Message {
            kind,
            to,
            from,
            term: Term(0),
            log_term: Term(0),
            index: Index(0),
            entries: Vec::new(),
            commit: Index(0),
            snapshot: None,
            reject: false,
            reject_hint: Index(0),
            context: Bytes::new(),
        }
    }
}

/// What a snapshot of the state stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effects the state holds.
    pub index: Index,
    pub term: Term,
    /// The members that vote as of `index`, sorted.
    pub voters: Vec<MemberId>,
    /// And those that do not, sorted.
    pub learners: Vec<MemberId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_numbers_and_local_ones_none() {
        for number in -1..30 {
            match MessageKind::from_number(number) {
                Some(kind) => assert_eq!(kind as i32, number),
                None => assert!([-1, 0, 1, 10, 11, 12].contains(&number) || number > 18, "{number}"),
            }
        }
    }
}
