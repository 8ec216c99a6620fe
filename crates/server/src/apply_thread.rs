//! The apply thread: executes committed entries, publishes their events, answers those who wait for them.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use backend::Backend;
use bytes::Bytes;
use consensus::VoterChange;
use env::Clock;
use machine::{Alarms, Applied, Machine, MachineError};
use membership::check_server_version;
use types::{EntryKind, Index, LogEntry, MemberId, SnapshotMeta};
use watch::EventLog;

use crate::backend_thread::CommitBell;
use crate::divergence::{self, Divergence};
use crate::error::Error;
use crate::fate::Fate;
use crate::housekeeping::Chores;
use crate::mailbox::{Address, Outgoing};
use crate::request_id::{RequestIds, encode};
use crate::shared::{Board, COMPATIBLE_VERSION};
use crate::snapshots::Arrivals;
use crate::stepper::{Answer, Proposal, ReadsAwaitingApply, Stepper, ToConsensus, Waiters};

pub(crate) enum ToApply {
    Entries(Vec<LogEntry>),
    /// Reads that may be answered once everything up to the index is applied.
    Reads {
        index: Index,
        addresses: Vec<Address<Answer>>,
    },
    /// The received state of a snapshot takes the place of this member's own.
    Restore(SnapshotMeta),
    /// What a follower says of its state.
    Report {
        from: MemberId,
        report: Bytes,
    },
    /// This member leads, and what stands before this is all that earlier leaders acknowledged; or it leads no longer.
    Leading(bool),
    Stop,
}

/// The machine remembers a digest of every so many entries.
const DIGEST_EVERY: u64 = 1000;
/// How long a member that was removed goes on; etcd's.
const LEAVE_DELAY: Duration = Duration::from_secs(1);

/// The state machine, with what is told of its work. Held by whoever has the turn at the [`ApplyQueue`].
pub(crate) struct Applier {
    pub(crate) member_id: MemberId,
    pub(crate) outbox: peer::Outbox,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) ids: Arc<RequestIds>,
    /// What is known of the members' digests, while this one leads.
    pub(crate) divergence: Option<Divergence>,
    /// Up to here this member has said its digests.
    pub(crate) reported: Index,
    pub(crate) machine: Machine,
    /// The alarms that the log has told of.
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) backend: Backend,
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
    pub(crate) work: Work,
}

/// Reused from turn to turn.
#[derive(Default)]
pub(crate) struct Work {
    /// To be carried out next.
    pub(crate) items: Vec<ToApply>,
    applied: Applied,
    outgoing: Outgoing<Answer>,
    reads: ReadsAwaitingApply,
}

impl Applier {
    /// Carries out the items that were put into `work`. Returns whether it is over: the member stops.
    pub(crate) fn work(&mut self) -> bool {
        let mut work = std::mem::take(&mut self.work);
        let done = self.carry_out(&mut work);
        self.work = work;
        done.unwrap_or_else(|error| {
            self.fate.fail(format!("apply: {error}"));
            true
        })
    }

    /// Whether the backend is so far behind that applying may have to wait for it.
    pub(crate) fn is_held_up(&self) -> bool {
        self.bell.is_held_up(&self.backend)
    }

    fn carry_out(&mut self, work: &mut Work) -> Result<bool, MachineError> {
        let mut is_over = false;
        for item in work.items.drain(..) {
            match item {
                ToApply::Entries(entries) => self.apply(&entries, &mut work.applied, &mut work.outgoing)?,
                ToApply::Reads { index, addresses } => work.reads.add(index, addresses),
                ToApply::Restore(snapshot) => self.restore(&snapshot)?,
                ToApply::Report { from, report } => {
                    if let Some((index, digest)) = divergence::parse_report(&report) {
                        self.note_digest(from, index, digest);
                    }
                }
                ToApply::Leading(leading) => self.lead(leading),
                ToApply::Stop => is_over = true,
            }
        }
        work.reads.answer(self.board.applied(), &mut work.outgoing);
        work.outgoing.deliver();
        Ok(is_over)
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
        self.board.figures.note_applied(&std::mem::take(&mut applied.counts), took);
        if took > self.warning_duration {
            self.board.figures.slow_applies.increment();
            let entries = entries.len();
            tracing::warn!(?took, "expected-duration" = ?self.warning_duration, entries, "apply request took too long");
        }
        // Raft hears of changed voters before it hears that their entries are applied.
        let mut changes: Vec<_> =
            applied.voter_changes.drain(..).map(to_consensus).map(ToConsensus::ConfChanged).collect();
        let voters_were_to_change = !changes.is_empty();
        self.consensus.send_all(&mut changes);
        // Events go out before the write is acknowledged, or seen by a linearizable read: who has seen it and watches from
        // now on is not shown it again.
        if !applied.events.is_empty() {
            self.events.publish(std::mem::take(&mut applied.events));
        }
        if let Some(last) = entries.last() {
            self.board.set_applied(last.index);
            self.report_digest(last.index);
        }
        self.bell.ring(&self.backend, &self.fate);
        if std::mem::take(&mut applied.membership_changed) {
            self.board.figures.note_versions_before(applied.versions_before.drain(..));
            self.note_membership();
        }
        if std::mem::take(&mut applied.alarms_changed) {
            self.note_alarms();
        }
        if voters_were_to_change {
            // Refused ones too: until raft knows that one is applied, it makes nothing of the next.
            self.consensus.look_again();
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
        // An empty entry begins a term. Whatever was proposed before, and is not in the log by now, was lost with the old
        // leader; or it is still on its way, which is no better to wait for.
        let begun = entries.iter().rev().find(|entry| entry.kind == EntryKind::Normal && entry.data.is_empty());
        if let Some(begun) = begun {
            for (_, waiter) in waiters.extract_if(|_, waiter| waiter.term < begun.term) {
                outgoing.add(waiter.address, Err(Error::TimeoutLeaderFailure));
            }
        }
        Ok(())
    }

    /// Says what this member's digest is, once there is a new one.
    fn report_digest(&mut self, applied: Index) {
        let index = Index(applied.0 / DIGEST_EVERY * DIGEST_EVERY);
        if index <= self.reported {
            return;
        }
        self.reported = index;
        if let Some(digest) = self.machine.shared().digest_at(index) {
            self.consensus.send(ToConsensus::Report(divergence::report(index, digest)));
            self.note_digest(self.member_id, index, digest);
        }
    }

    fn note_digest(&mut self, member: MemberId, index: Index, digest: u64) {
        let Some(divergence) = &mut self.divergence else { return };
        let membership = self.machine.shared().membership();
        // A stranger's word is nothing, and is not kept.
        if membership.member(member).is_none() {
            return;
        }
        let voters = membership.conf_state().voters;
        let raised = self.machine.shared().alarms();
        for corrupt in divergence.note(member, index, digest, &voters) {
            if raised.is_corrupt(corrupt) {
                continue;
            }
            tracing::error!(member = %corrupt, %index, "members hold different states; raising the alarm");
            let id = self.ids.next();
            let data = encode(id, Request::Alarm(divergence::raise_corrupt(corrupt)));
            self.consensus.send(ToConsensus::Propose(Proposal { id, data, reply_to: None }));
        }
    }

    /// The received state takes the place of this member's. Its log begins anew already.
    fn restore(&mut self, snapshot: &SnapshotMeta) -> Result<(), MachineError> {
        let (machine, applied) = (&mut self.machine, (snapshot.index, snapshot.term));
        // Until then this member has nothing to answer, and others on the same machine may have.
        let installing = &self.board.figures.installing;
        installing.increment();
        let adopted = env::give_way("install", || machine.adopt_received(applied));
        installing.subtract(1);
        match adopted {
            Ok(adopted) => adopted?,
            Err(error) => {
                // Nothing after it can be applied without it, and nothing is.
                self.fate.fail(format!("cannot start a thread: {error}"));
                return Ok(());
            }
        }
        self.reported = snapshot.index;
        let view = self.machine.shared().view();
        let (revision, compacted) = (view.revision(), view.compacted());
        tracing::info!(index = snapshot.index.0, revision, "installed a snapshot");
        self.events.reset(revision, compacted);
        self.board.set_applied(snapshot.index);
        self.note_membership();
        self.note_alarms();
        self.chores.compaction_is_due();
        self.arrivals.done();
        Ok(())
    }

    /// Says which alarms have come and gone, in etcd's words.
    fn note_alarms(&mut self) {
        let alarms = self.machine.shared().alarms();
        for (from, alarm) in alarms.without(&self.alarms) {
            tracing::warn!(alarm = alarm.name(), %from, "alarm raised");
        }
        for (from, alarm) in self.alarms.without(&alarms) {
            tracing::warn!(alarm = alarm.name(), %from, "alarm disarmed");
        }
        self.alarms = alarms;
    }

    /// Tells who belongs to the cluster now: the transport, whoever asks requests all the time, and this member itself.
    pub(crate) fn note_membership(&self) {
        let membership = self.machine.shared().membership();
        self.board.set_is_learner(membership.member(self.member_id).is_some_and(|me| me.is_learner));
        let members = membership.members().map(|member| (member.id, member.peer_urls.clone())).collect::<Vec<_>>();
        self.outbox.set_members(&members, membership.removed().collect());
        if membership.is_removed(self.member_id) {
            self.leave();
        }
        let own = COMPATIBLE_VERSION.parse().expect("this server's own version is one");
        if let Err(too_old) = check_server_version(own, membership.version(), membership.downgrade()) {
            self.fate.fail(too_old.to_string());
        }
    }

    /// This member was removed. The others are told what it has committed before it stops.
    fn leave(&self) {
        let fate = self.fate.clone();
        let leave = move || {
            if !fate.wait_stopped(LEAVE_DELAY) {
                fate.remove();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("leave".into()).spawn(leave) {
            self.fate.fail(format!("cannot start a thread: {error}"));
        }
    }

    fn lead(&mut self, leading: bool) {
        // What another leader knew, this one does not.
        self.divergence = leading.then(Divergence::default);
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
