//! Faults that are put in on purpose, to see that they are found.
//!
//! All of them are in what the simulator itself does between the shipped parts, or in the disk it gives them: nothing
//! that ships knows of them.

use consensus::VoterChange;
use prost::Message;
use types::MemberId;

use crate::dice::{MS, SECOND};
use crate::disks::Lie;
use crate::plan::{Faults, Plan};

/// One mistake that a server could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// Consensus is told that entries are on disk before they are.
    AcknowledgeBeforeSync,
    /// The same, at followers only.
    FollowerAnswersBeforeSync,
    /// Two read contexts are used in turns for ever.
    ReuseReadContext,
    /// The vote is not found again after a restart.
    ForgetVote,
    /// Nor is the term.
    ForgetHardState,
    /// Directories are not synced.
    SkipDirSync,
    /// The log is not.
    SkipLogSync,
    /// The state is not.
    SkipStateSync,
    /// After a crash an entry counts as applied whose effects were lost.
    AppliedBeforeData,
    /// The end of the log is lost at a restart.
    TruncateTail,
    /// A compaction removes a deletion at exactly its revision.
    DropTombstone,
    /// One member applies an entry twice.
    ApplyTwice,
    /// One member leaves entries out.
    SkipEntry,
    /// Answers of earlier terms count for the present one.
    IgnoreTerms,
    /// Followers answer linearizable reads by themselves.
    ReadWithoutIndex,
    /// Leaders do, without asking whether they still lead.
    LeaderReadsAlone,
    /// A change of the voters holds when it is written, not when it is applied.
    MembershipTooEarly,
    /// A snapshot lacks a row.
    SnapshotWithoutRow,
    /// A snapshot says that it is newer than it is.
    StaleSnapshot,
    /// The log lets go of entries that the state on disk does not have.
    ReleaseTooEarly,
    /// The leader's clock leaps ahead, and leases run out early.
    ClockLeap,
    /// Leases never run out.
    NeverExpire,
    /// Whoever is asked renews a lease.
    RenewAnywhere,
    /// Who leads no longer still ends leases.
    LeasesOutliveLeadership,
    DropWatchEvent,
    RepeatWatchEvent,
    ReorderWatchEvents,
    WrongPrevious,
    ProgressAhead,
}

impl Plant {
    pub const ALL: [Plant; 29] = [
        Plant::AcknowledgeBeforeSync,
        Plant::FollowerAnswersBeforeSync,
        Plant::ReuseReadContext,
        Plant::ForgetVote,
        Plant::ForgetHardState,
        Plant::SkipDirSync,
        Plant::SkipLogSync,
        Plant::SkipStateSync,
        Plant::AppliedBeforeData,
        Plant::TruncateTail,
        Plant::DropTombstone,
        Plant::ApplyTwice,
        Plant::SkipEntry,
        Plant::IgnoreTerms,
        Plant::ReadWithoutIndex,
        Plant::LeaderReadsAlone,
        Plant::MembershipTooEarly,
        Plant::SnapshotWithoutRow,
        Plant::StaleSnapshot,
        Plant::ReleaseTooEarly,
        Plant::ClockLeap,
        Plant::NeverExpire,
        Plant::RenewAnywhere,
        Plant::LeasesOutliveLeadership,
        Plant::DropWatchEvent,
        Plant::RepeatWatchEvent,
        Plant::ReorderWatchEvents,
        Plant::WrongPrevious,
        Plant::ProgressAhead,
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Plant> {
        Plant::ALL.into_iter().find(|plant| format!("{plant:?}").eq_ignore_ascii_case(name))
    }

    /// A run in which it has its chance.
    pub fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::of(seed);
        plan.fault_every = 4 * SECOND;
        plan.faults.disk_full = false;
        plan.faults.disk_error = false;
        plan.faults.rot = false;
        match self {
            Plant::AcknowledgeBeforeSync | Plant::FollowerAnswersBeforeSync => {
                plan.disk_sync = 20 * MS;
                plan.think = 50 * MS;
                plan.faults.crash = true;
                plan.faults.crash_all = true;
            }
            Plant::ForgetVote | Plant::ForgetHardState | Plant::IgnoreTerms => {
                plan.fault_every = 2 * SECOND;
                plan.faults.crash = true;
                plan.faults.pause = true;
                plan.faults.isolate_leader = true;
                plan.restart = 20 * MS;
                plan.network_delay = 200 * MS;
                plan.pre_vote = false;
                plan.loss = 50_000;
                plan.duplication = 20_000;
            }
            Plant::SkipDirSync
            | Plant::SkipLogSync
            | Plant::SkipStateSync
            | Plant::TruncateTail
            | Plant::AppliedBeforeData
            | Plant::ReleaseTooEarly => {
                plan.faults = Faults { crash: true, crash_all: true, ..Faults::default() };
                plan.wal_segment_bytes = 16 << 10;
                plan.backend_interval = 5 * SECOND;
                plan.think = 100 * MS;
            }
            Plant::ReuseReadContext | Plant::ReadWithoutIndex | Plant::LeaderReadsAlone => {
                plan.faults.isolate_leader = true;
                plan.faults.bad_link = true;
                plan.duplication = 50_000;
                plan.think = 100 * MS;
            }
            Plant::SnapshotWithoutRow | Plant::StaleSnapshot => {
                plan.catchup_entries = 5;
                plan.kept_entries = 4;
                plan.wal_segment_bytes = 16 << 10;
                plan.backend_interval = 100 * MS;
                plan.think = 50 * MS;
                plan.faults.crash = true;
                plan.faults.membership = true;
            }
            Plant::MembershipTooEarly => {
                // Two changes under way at once, of an even number of voters: then there are majorities that do not meet.
                plan.shrinks = true;
                plan.members = 4;
                plan.fickle = true;
                plan.fault_every = 8 * SECOND;
                plan.faults =
                    Faults { membership: true, partition: true, crash: seed.is_multiple_of(2), ..Faults::default() };
            }
            Plant::DropTombstone => {
                plan.compaction_every = 2 * SECOND;
                plan.think = 50 * MS;
                plan.faults.crash = true;
            }
            _ => plan.think = 200 * MS,
        }
        plan
    }

    /// Whether it is about what a restart finds.
    pub(crate) fn forgets(self) -> bool {
        matches!(self, Plant::ForgetVote | Plant::ForgetHardState | Plant::TruncateTail)
    }

    pub(crate) fn lie(self) -> Option<Lie> {
        match self {
            Plant::SkipDirSync => Some(Lie::SyncDir),
            Plant::SkipLogSync => Some(Lie::SyncData("/wal/")),
            Plant::SkipStateSync => Some(Lie::SyncData("redb")),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ConfChange {
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node_id: u64,
}

/// What an entry is going to do to the voters.
pub(crate) fn voter_change(data: &[u8]) -> Option<VoterChange> {
    let change = ConfChange::decode(data).ok()?;
    let member = MemberId(change.node_id);
    match change.kind {
        0 => Some(VoterChange::AddVoter(member)),
        1 => Some(VoterChange::Remove(member)),
        3 => Some(VoterChange::AddLearner(member)),
        _ => None,
    }
}
