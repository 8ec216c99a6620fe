//! What the raft log holds, apart from any raft library's own types.

use bytes::Bytes;

use crate::{Index, MemberId, Term};

/// What an entry's `data` means. The numbers are those of etcd's `raftpb.EntryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// `data` is an encoded `InternalRaftRequest`, or empty for the entry that opens a term.
    Normal = 0,
    /// `data` is an encoded `raftpb.ConfChange`.
    ConfChange = 1,
    /// `data` is an encoded `raftpb.ConfChangeV2`.
    ConfChangeV2 = 2,
}

impl EntryKind {
    /// The kind with this number, if there is one.
    pub fn from_number(number: u8) -> Option<EntryKind> {
        match number {
            0 => Some(EntryKind::Normal),
            1 => Some(EntryKind::ConfChange),
            2 => Some(EntryKind::ConfChangeV2),
            _ => None,
        }
    }
}

/// One entry of the raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub term: Term,
    pub index: Index,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// What raft must find again after a crash, besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    /// Whom this member voted for in `term`; 0 for nobody.
    pub vote: MemberId,
    /// An index known to be committed; it may trail the true one.
    pub commit: Index,
}
