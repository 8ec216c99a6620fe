//! Consensus: what came is handed to it, and what it wants done is handed on.

use consensus::{Effect, Role, Status};
use types::{MemberId, Message, MessageKind};

use super::Life;
use super::apply::ToApply;
use super::log::ToWal;
use crate::planted::Plant;
use crate::world::World;

impl World {
    /// What `server::Stepper` does whenever something has come.
    pub(crate) fn turn(&mut self, id: MemberId, life: &mut Life) {
        life.driver.applied(life.machine.applied());
        loop {
            // The server waits a moment first; here any moment will do.
            if !life.rounds.is_empty() && !life.reads.is_empty() && self.dice.percent(10) {
                life.driver.hurry_reads();
            }
            if !life.reads.is_empty() {
                let context = self.read_context(life);
                let reads = std::mem::take(&mut life.reads);
                life.rounds.entry(context).or_default().extend(reads);
                life.driver.read_index(context);
            }
            let mut effects = Vec::new();
            life.driver.drain(&mut effects);
            for effect in effects {
                self.carry_out(id, life, effect);
            }
            let may_propose = !life.held.is_empty() && life.driver.takes_proposals();
            if !may_propose && life.reads.is_empty() {
                break;
            }
            for (operation, _) in std::mem::take(&mut life.held) {
                self.propose(id, life, operation);
            }
        }
        self.kick_wal(id, life);
        self.kick_apply(id, life);
    }

    pub(super) fn take_message(&mut self, id: MemberId, life: &mut Life, mut message: Message) {
        if self.plant == Some(Plant::IgnoreTerms)
            && matches!(message.kind, MessageKind::AppendResponse | MessageKind::VoteResponse)
        {
            let term = life.driver.status().term;
            if message.term < term {
                self.planted += 1;
                message.term = term;
            }
        }
        // The transport refuses who was removed.
        if life.machine.shared().membership().is_removed(message.from) {
            return;
        }
        if let Err(error) = life.driver.step(message) {
            return self.stop(error.to_string());
        }
        self.turn(id, life);
    }

    fn read_context(&mut self, life: &mut Life) -> u64 {
        life.next_id += 1;
        if self.strikes(Plant::ReuseReadContext) { life.next_id % 2 } else { life.next_id }
    }

    fn carry_out(&mut self, id: MemberId, life: &mut Life, effect: Effect) {
        match effect {
            // Told before what waits here is answered: any delay is the network's as well.
            Effect::Send(messages) | Effect::Tell(messages) => {
                for message in messages {
                    self.send(id, life, message);
                }
            }
            Effect::Persist { number, entries, hard_state } => {
                if self.plant == Some(Plant::MembershipTooEarly) {
                    self.change_voters_too_early(life, &entries);
                }
                life.to_wal.push_back(ToWal::Persist { number, entries, hard_state });
                let leads = life.status.role == Role::Leader;
                let is_early = self.plant == Some(Plant::AcknowledgeBeforeSync)
                    || (self.plant == Some(Plant::FollowerAnswersBeforeSync) && !leads);
                if is_early {
                    self.planted += 1;
                    life.driver.persisted(number);
                }
            }
            Effect::Restore { number, snapshot, entries, hard_state } => {
                life.to_wal.push_back(ToWal::Restore { number, snapshot, entries, hard_state });
            }
            Effect::Fetch { from, to, limit_bytes } => life.to_wal.push_back(ToWal::Fetch { from, to, limit_bytes }),
            Effect::Apply(entries) => life.to_apply.push_back(ToApply::Entries(entries)),
            Effect::ReadReady { context, index } => {
                let operations = life.rounds.remove(&context).unwrap_or_default();
                life.to_apply.push_back(ToApply::Reads { index, operations });
            }
            Effect::ReadsDropped(contexts) => {
                let dropped = contexts.iter().filter_map(|context| life.rounds.remove(context)).flatten();
                life.reads.extend(dropped.collect::<Vec<_>>());
            }
            Effect::Report { from, report } => self.compare_digest(life, from, &report),
            Effect::StatusChanged(status) => self.status_changed(id, life, status),
            Effect::Leading(leading) => life.to_apply.push_back(ToApply::Leading(leading)),
        }
    }

    fn status_changed(&mut self, id: MemberId, life: &mut Life, status: Status) {
        let before = std::mem::replace(&mut life.status, status);
        if (before.term, before.role, before.leader) == (status.term, status.role, status.leader) {
            return;
        }
        self.note("status", (id.0, status.term.0, status.role as u8, status.leader.0));
        if status.role == Role::Leader {
            match self.leaders.leads(status.term, id) {
                Ok(true) => self.counts.elections += 1,
                Ok(false) => {}
                Err(what) => self.fail("OneLeaderATerm", what),
            }
        }
        self.disturbed.push(self.now);
    }
}
