//! The apply thread: executes committed entries, publishes their events, answers those who wait for them.

use std::sync::Arc;
use std::time::Duration;

use backend::Backend;
use consensus::VoterChange;
use env::Clock;
use machine::{Applied, Machine, MachineError};
use types::{Index, LogEntry, MemberId, SnapshotMeta};
use watch::EventLog;

use crate::backend_thread::CommitBell;
use crate::error::Error;
use crate::fate::Fate;
use crate::housekeeping::Chores;
use crate::inbox::Inbox;
use crate::mailbox::{Address, Outgoing};
use crate::shared::Board;
use crate::stepper::{Answer, ReadsAwaitingApply, Stepper, ToConsensus, Waiters};

pub(crate) enum ToApply {
    Entries(Vec<LogEntry>),
    /// Reads that may be answered once everything up to the index is applied.
    Reads {
        index: Index,
        addresses: Vec<Address<Answer>>,
    },
    /// The received state of a snapshot takes the place of this member's own.
    Restore(SnapshotMeta),
    /// This member has become the leader, or is no longer.
    Leading(bool),
    Stop,
}

pub(crate) struct ApplyThread {
    pub(crate) member_id: MemberId,
    pub(crate) machine: Machine,
    pub(crate) backend: Backend,
    pub(crate) inbox: Arc<Inbox<ToApply>>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) bell: Arc<CommitBell>,
    pub(crate) chores: Arc<Chores>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Applying for longer is logged.
    pub(crate) warning_duration: Duration,
    /// Leases live this much longer when leadership begins: their clients could not reach a leader meanwhile.
    pub(crate) election_timeout: Duration,
}

impl ApplyThread {
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.fate.fail(format!("apply: {error}"));
        }
    }

    fn serve(&mut self) -> Result<(), MachineError> {
        let mut items = Vec::new();
        let mut applied = Applied::default();
        let mut outgoing = Outgoing::default();
        let mut reads = ReadsAwaitingApply::default();
        loop {
            self.inbox.take_all(&mut items, None);
            for item in items.drain(..) {
                match item {
                    ToApply::Entries(entries) => self.apply(&entries, &mut applied, &mut outgoing)?,
                    ToApply::Reads { index, addresses } => reads.add(index, addresses),
                    ToApply::Restore(snapshot) => {
                        self.fate.fail(format!("cannot install a snapshot at {} yet", snapshot.index));
                        return Ok(());
                    }
                    ToApply::Leading(leading) => self.lead(leading),
                    ToApply::Stop => return Ok(()),
                }
            }
            reads.answer(self.board.applied(), &mut outgoing);
            outgoing.deliver();
        }
    }

    fn apply(
        &mut self,
        entries: &[LogEntry],
        applied: &mut Applied,
        outgoing: &mut Outgoing<Answer>,
    ) -> Result<(), MachineError> {
        let start = self.clock.now();
        self.machine.apply(entries, start, applied)?;
        let took = self.clock.now().since(start);
        if took > self.warning_duration {
            let entries = entries.len();
            tracing::warn!(?took, "expected-duration" = ?self.warning_duration, entries, "apply request took too long");
        }
        if let Some(last) = entries.last() {
            self.board.set_applied(last.index);
        }
        self.bell.ring(&self.backend, &self.fate);
        // Events go out before the write is acknowledged.
        if !applied.events.is_empty() {
            self.events.publish(std::mem::take(&mut applied.events));
        }
        for change in applied.voter_changes.drain(..) {
            self.consensus.send(ToConsensus::ConfChanged(to_consensus(change)));
        }
        if std::mem::take(&mut applied.membership_changed) {
            self.note_membership();
        }
        if std::mem::take(&mut applied.compacted) {
            self.events.compact(self.machine.shared().view().compacted());
            self.chores.compaction_is_due();
        }
        let mut waiters = self.waiters.lock();
        for (id, _, result) in applied.results.drain(..) {
            if let Some(waiter) = waiters.remove(&id) {
                outgoing.add(waiter.address, result.map(Answer::Applied).map_err(Error::from));
            }
        }
        Ok(())
    }

    /// Requests ask for it all the time, so it is not looked up each time.
    pub(crate) fn note_membership(&self) {
        let membership = self.machine.shared().membership();
        self.board.set_is_learner(membership.member(self.member_id).is_some_and(|me| me.is_learner));
    }

    fn lead(&self, leading: bool) {
        let mut lessor = self.machine.shared().lessor().lock();
        if leading {
            lessor.promote(self.clock.now(), self.election_timeout);
        } else {
            lessor.demote();
        }
    }
}

/// What the machine says of the voters, in consensus' words: the two do not know each other.
pub fn to_consensus(change: machine::VoterChange) -> VoterChange {
    match change {
        machine::VoterChange::AddVoter(member) => VoterChange::AddVoter(member),
        machine::VoterChange::AddLearner(member) => VoterChange::AddLearner(member),
        machine::VoterChange::Remove(member) => VoterChange::Remove(member),
        machine::VoterChange::Unchanged => VoterChange::Refused,
    }
}
