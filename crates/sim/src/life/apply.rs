//! Committed entries become state, answers, events, and changes of the voters.

use std::time::Duration;

use checker::{Outcome, Request};
use consensus::VoterChange;
use machine::{Applied, ApplyError, Reply};
use types::{Index, LogEntry, MemberId, SnapshotMeta};

use super::Life;
use super::log::ToWal;
use super::requests::Waiter;
use super::state::Commit;
use crate::dice::{MS, SECOND};
use crate::planted::Plant;
use crate::translate;
use crate::world::{Event, LifeEvent, World};

pub(super) enum ToApply {
    Entries(Vec<LogEntry>),
    Reads { index: Index, operations: Vec<usize> },
    Restore(SnapshotMeta),
    Leading(bool),
}

/// The machine remembers its digest at every so-manieth entry.
const DIGEST_EVERY: u64 = 1000;

impl World {
    pub(super) fn kick_apply(&mut self, id: MemberId, life: &mut Life) {
        if !life.applying.is_empty() || life.to_apply.is_empty() {
            return;
        }
        life.applying = life.to_apply.drain(..).collect();
        let lasts =
            if self.dice.percent(self.plan.slow_apply) { self.dice.about(50 * MS) } else { self.dice.between(20, 500) };
        self.again(id, life, lasts, LifeEvent::ApplyDone);
    }

    pub(super) fn apply_done(&mut self, id: MemberId, life: &mut Life) {
        for item in std::mem::take(&mut life.applying) {
            match item {
                ToApply::Entries(entries) => self.apply(id, life, entries),
                ToApply::Reads { index, operations } => life.awaiting_apply.push((index, operations)),
                ToApply::Restore(snapshot) => self.install(id, life, &snapshot),
                ToApply::Leading(leading) => self.lead(id, life, leading),
            }
            if self.faults.stopping.is_some() || self.found.is_some() {
                return;
            }
        }
        let applied = life.machine.applied();
        let ready: Vec<usize> =
            life.awaiting_apply.extract_if(.., |(index, _)| *index <= applied).flat_map(|(_, reads)| reads).collect();
        for operation in ready {
            self.read(id, life, operation);
        }
        if self.strikes(Plant::ReleaseTooEarly) {
            life.to_wal.push_back(ToWal::Release { before: applied.next(), needed: applied.next() });
        }
        life.hub.advance();
        self.serve_streams(id, life);
        if life.commit == Commit::Idle && life.backend.staged_bytes() > 0 {
            life.commit = Commit::Waiting;
            self.again(id, life, self.plan.backend_interval, LifeEvent::Commit);
        }
        self.turn(id, life);
    }

    fn apply(&mut self, id: MemberId, life: &mut Life, mut entries: Vec<LogEntry>) {
        entries.retain(|entry| entry.index > life.machine.applied());
        for entry in &entries {
            match self.ledger.applied(entry, id) {
                Ok(is_first) => self.counts.applied_entries += u64::from(is_first),
                Err(what) => return self.fail("OneHistory", what),
            }
        }
        self.spoil_entries(id, life, &mut entries);
        let mut applied = Applied::default();
        if let Err(error) = life.machine.apply(&entries, self.local_time(id), &mut applied) {
            return self.stop(format!("apply: {error}"));
        }
        for events in &applied.events {
            if let Err(what) = self.ledger.revision(events, self.now, id) {
                return self.fail("OneHistory", what);
            }
        }
        if let Some(last) = entries.last() {
            self.note("applied", (id.0, last.index.0, life.machine.shared().view().revision()));
        }
        self.report_digest(life);
        life.events.publish(std::mem::take(&mut applied.events));
        for change in applied.voter_changes.drain(..) {
            let is_removed = change == machine::VoterChange::Remove(id);
            let change = match change {
                machine::VoterChange::AddVoter(member) => VoterChange::AddVoter(member),
                machine::VoterChange::AddLearner(member) => VoterChange::AddLearner(member),
                machine::VoterChange::Remove(member) => VoterChange::Remove(member),
                machine::VoterChange::Unchanged => VoterChange::Refused,
            };
            if let Err(error) = life.driver.conf_changed(change) {
                return self.stop(format!("consensus: {error}"));
            }
            if is_removed {
                let after = self.dice.between(500, 2000) * MS;
                self.schedule(after, Event::Retire(id));
            }
        }
        if applied.compacted {
            let compacted = life.machine.shared().view().compacted();
            life.events.compact(compacted);
            if !life.is_pruning {
                life.is_pruning = true;
                self.again(id, life, 10 * MS, LifeEvent::Prune);
            }
            self.drop_tombstone(life, compacted);
        }
        for (request, _, result) in applied.results.drain(..) {
            if let Some(waiter) = life.waiters.remove(&request) {
                self.answer(life, &waiter, result);
            }
        }
    }

    fn report_digest(&mut self, life: &mut Life) {
        let newest = Index(life.machine.applied().0 / DIGEST_EVERY * DIGEST_EVERY);
        if newest > life.reported
            && let Some(digest) = life.machine.shared().digest_at(newest)
        {
            life.reported = newest;
            life.driver.set_report([newest.0.to_be_bytes(), digest.to_be_bytes()].concat().into());
        }
    }

    fn answer(&mut self, life: &Life, waiter: &Waiter, result: Result<Reply, ApplyError>) {
        let request = &self.operations[waiter.operation].request;
        let outcome = match (&waiter.answer, result) {
            (Some(answer), Ok(_)) => Outcome::Answered(match request {
                Request::KeepAlive(lease) => life.while_it_lasts(*lease, answer.clone()),
                _ => answer.clone(),
            }),
            (None, Ok(reply)) => match translate::answer(request, reply) {
                Ok(answer) => Outcome::Answered(answer),
                Err(what) => return self.fail("UnreadableReply", what),
            },
            (_, Err(error)) => translate::refusal(&error).map_or(Outcome::Failed, Outcome::Refused),
        };
        self.tell(waiter.operation, outcome);
    }

    fn lead(&mut self, id: MemberId, life: &Life, leading: bool) {
        self.disturbed.push(self.now);
        let now = self.local_time(id);
        let extend = Duration::from_micros(self.plan.tick * self.plan.election_ticks);
        let mut lessor = life.machine.shared().lessor().lock();
        if leading {
            lessor.promote(now, extend);
        } else if self.plant != Some(Plant::LeasesOutliveLeadership) {
            lessor.demote();
        }
        drop(lessor);
        if leading && self.plant == Some(Plant::ClockLeap) {
            self.planted += 1;
            if let Some(member) = self.members.get_mut(&id) {
                member.clock.leap(20 * SECOND);
            }
        }
    }

    /// The received state takes the place of the old one, under the watchers that are there.
    fn install(&mut self, id: MemberId, life: &mut Life, snapshot: &SnapshotMeta) {
        life.receives_snapshot = false;
        if let Err(error) = life.machine.adopt_received((snapshot.index, snapshot.term)) {
            return self.stop(format!("snapshot: {error}"));
        }
        life.commit = Commit::Idle;
        let view = life.machine.shared().view();
        life.events.reset(view.revision(), view.compacted());
        self.counts.snapshots += 1;
        self.note("snapshot installed", (id.0, snapshot.index.0, view.revision()));
        if !life.is_pruning {
            life.is_pruning = true;
            self.again(id, life, 10 * MS, LifeEvent::Prune);
        }
        life.driver.applied(snapshot.index);
    }
}

impl Life {
    pub(super) fn is_restoring(&self) -> bool {
        let is_restore = |item: &ToWal| matches!(item, ToWal::Restore { .. });
        let is_install = |item: &ToApply| matches!(item, ToApply::Restore(_));
        self.to_wal.iter().chain(&self.writing).any(is_restore)
            || self.to_apply.iter().chain(&self.applying).any(is_install)
    }
}
