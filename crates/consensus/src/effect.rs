//! What the driver asks of its caller, and what it tells about itself.

use types::{HardState, Index, LogEntry, MemberId, Term};

/// One thing to do. Effects are carried out in the order given; those of one kind never overtake each other.
#[derive(Debug)]
pub enum Effect {
    /// Write and sync, then call [`crate::Driver::persisted`] with `number`. Several may be written and synced
    /// together; the highest number then stands for all.
    Persist { number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    /// Apply these committed entries, then call [`crate::Driver::applied`].
    Apply(Vec<LogEntry>),
    /// The read with this context is linearizable once everything up to `index` has been applied here.
    ReadReady { context: u64, index: Index },
    /// Reads with these contexts cannot be answered: leadership moved. Ask again.
    ReadsDropped(Vec<u64>),
    /// Term, role, leader or voters changed.
    StatusChanged(Status),
}

/// A member's part in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
}

/// Where consensus stands, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub role: Role,
    pub term: Term,
    /// `MemberId(0)` while no leader is known.
    pub leader: MemberId,
    /// Highest index known to be committed.
    pub commit: Index,
    /// Whether this member is the leader, the only voter, and has committed an entry of its term: then nobody else
    /// can commit anything, and whatever was acknowledged has been applied here.
    pub sole_voter: bool,
}

/// A change of the voters that an applied entry made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    AddVoter(MemberId),
    AddLearner(MemberId),
    Remove(MemberId),
    /// The entry was refused when it was applied: nothing changes, but raft must be told that it is done.
    Refused,
}
