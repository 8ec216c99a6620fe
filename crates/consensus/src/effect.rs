//! What the driver asks of its caller, and what it tells about itself.

use bytes::Bytes;
use types::{HardState, Index, LogEntry, MemberId, Message, SnapshotMeta, Term};

/// One thing to do. Effects are carried out in the order given; those of one kind never overtake each other.
#[derive(Debug)]
pub enum Effect {
    /// Hand these to the transport, in order. Nothing they promise is still waiting for the disk. A message may be
    /// lost; it must not be altered.
    Send(Vec<Message>),
    /// The same, but there is no hurry: they tell what is committed, and whoever waits here for what is to be applied may be
    /// answered first.
    Tell(Vec<Message>),
    /// Write and sync, then call [`crate::Driver::persisted`] with `number`. Several may be written and synced
    /// together; the highest number then stands for all.
    Persist { number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    /// A snapshot that was received (and lies on the disk, whole) takes the place of log and state: begin the log anew
    /// after it with `entries`, sync, and call [`crate::Driver::persisted`] with `number`; put the state in its place, and
    /// call [`crate::Driver::applied`]. Entries handed out for applying later continue the new state.
    Restore { number: u64, snapshot: SnapshotMeta, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    /// Apply these committed entries, then call [`crate::Driver::applied`].
    Apply(Vec<LogEntry>),
    /// Read the entries from `from` up to but without `to` back from the log on disk, as many as `limit_bytes` allow but
    /// at least one, and call [`crate::Driver::fetched`]: a follower needs them. If they are gone, with none.
    Fetch { from: Index, to: Index, limit_bytes: u64 },
    /// The read with this context is linearizable once everything up to `index` has been applied here.
    ReadReady { context: u64, index: Index },
    /// Reads with these contexts were not answered in time, or leadership moved. Ask again, with a fresh context.
    ReadsDropped(Vec<u64>),
    /// What a follower attached to an answer ([`crate::Driver::set_report`]).
    Report { from: MemberId, report: Bytes },
    /// Term, role, leader or voters changed.
    StatusChanged(Status),
    /// From here on this member leads, or no longer: where what leads acts by the applied state. What was handed out for
    /// applying before has all that earlier leaders acknowledged. Of a later term if it is said again.
    Leading(bool),
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
    /// Whether this member leads and has committed an entry of its term.
    pub leads_in_term: bool,
    /// Whether, beyond that, this member is the only voter: then nobody else can commit anything, and whatever was
    /// acknowledged has been applied here.
    pub sole_voter: bool,
    /// To whom leadership is being handed over; `MemberId(0)` if to nobody.
    pub transferee: MemberId,
}

/// How far another member is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub member: MemberId,
    /// Its log is known to agree with the leader's up to here.
    pub matched: Index,
    /// The first entry it may still need from the leader's log.
    pub needs: Index,
    /// Whether it was heard of within the last election timeout.
    pub is_active: bool,
    pub is_learner: bool,
}

/// How the leader sends to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Nothing but what finds out where their logs agree.
    Probe,
    /// Entries, ahead of their answers.
    Replicate,
    /// Nothing: a snapshot is on its way.
    Snapshot,
}

/// How far a member's log is, the leader's own among them, and how the leader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress {
    pub member: MemberId,
    pub matched: Index,
    /// What it is sent next.
    pub next: Index,
    pub sending: Sending,
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
