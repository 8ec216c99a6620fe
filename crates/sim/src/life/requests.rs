//! Requests of clients: taken, proposed or read, and answered.

use checker::{Answer, Outcome, Request};
use consensus::{ProposeError, Role};
use types::MemberId;

use super::Life;
use crate::planted::Plant;
use crate::translate;
use crate::world::World;

pub(super) struct Waiter {
    pub(super) operation: usize,
    /// The answer, if it is not the machine's: a renewal that had to go through the log.
    pub(super) answer: Option<Answer>,
}

impl World {
    /// A request reaches a member.
    pub(crate) fn arrive(&mut self, at: MemberId, operation: usize) {
        if self.members.get(&at).is_none_or(|member| member.life.is_none()) {
            // Nobody listens there.
            return self.tell(operation, Outcome::Failed);
        }
        self.with_life(at, |world, life| {
            let session = life.number;
            if let Some(asked) = world.operations.get_mut(operation) {
                asked.session = Some(session);
            }
            world.serve(at, life, operation);
        });
    }

    fn serve(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let request = &self.operations[operation].request;
        let membership = life.machine.shared().membership();
        let is_learner = membership.member(id).is_none_or(|member| member.is_learner);
        if request.is_serializable() {
            return self.read(id, life, operation);
        }
        if is_learner {
            return self.tell(operation, Outcome::Failed);
        }
        match request {
            Request::Range(_) => self.begin_read(id, life, operation),
            Request::Txn(txn) if translate::reads_only(txn) => self.begin_read(id, life, operation),
            Request::KeepAlive(_) => {
                let leader = life.driver.status().leader;
                if leader == id {
                    // Once all is applied that it or an earlier leader has committed, it need not ask the others.
                    let status = life.driver.status();
                    match status.leads_in_term && life.machine.applied() >= status.commit {
                        true => self.read(id, life, operation),
                        false => self.begin_read(id, life, operation),
                    }
                } else if leader == MemberId(0) || self.network.is_cut(id, leader) {
                    self.tell(operation, Outcome::Failed);
                } else if self.strikes(Plant::RenewAnywhere) {
                    self.read(id, life, operation);
                } else {
                    // Only once: the other may not lead any more either.
                    let after = self.plan.network_delay + self.dice.below(self.plan.network_delay);
                    self.forward_renewal(leader, after, operation);
                }
            }
            _ if life.wal_is_full => self.tell(operation, Outcome::Failed),
            _ if life.driver.takes_proposals() => {
                self.propose(id, life, operation);
                self.turn(id, life);
            }
            _ => life.held.push_back((operation, self.now + self.plan.request_timeout)),
        }
    }

    pub(super) fn begin_read(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        if self.strikes(Plant::ReadWithoutIndex) {
            return self.read(id, life, operation);
        }
        if self.plant == Some(Plant::LeaderReadsAlone) && life.status.role == Role::Leader {
            self.planted += 1;
            return self.read(id, life, operation);
        }
        life.reads.push(operation);
        self.turn(id, life);
    }

    pub(super) fn propose(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let request = &self.operations[operation].request;
        let Some(entry) = translate::entry(request) else { return };
        let request_id = life.take_id();
        self.note("propose", (id.0, operation, request_id));
        life.waiters.insert(request_id, Waiter { operation, answer: None });
        if let Err(error) = life.driver.propose([translate::encode(request_id, entry)]) {
            life.waiters.remove(&request_id);
            match error {
                ProposeError::NoLeader => life.held.push_back((operation, self.now + self.plan.request_timeout)),
                ProposeError::Dropped => self.tell(operation, Outcome::Failed),
            }
        }
    }

    /// Reads from the state as it stands.
    pub(super) fn read(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let shared = life.machine.shared();
        let request = self.operations[operation].request.clone();
        let result = match &request {
            Request::Range(query) => shared.range(&translate::range_request(query)),
            Request::Txn(txn) => shared.read_only_txn(&translate::txn_request(txn)),
            Request::KeepAlive(lease) => return self.renew(id, life, operation, *lease),
            _ => return,
        };
        let outcome = match result {
            Ok(reply) => match translate::answer(&request, reply) {
                Ok(answer) => Outcome::Answered(answer),
                Err(what) => return self.stop(what),
            },
            Err(failure) => match translate::failure(failure) {
                Ok(error) => translate::refusal(&error).map_or(Outcome::Failed, Outcome::Refused),
                Err(what) => return self.stop(what),
            },
        };
        self.tell(operation, outcome);
    }

    pub(super) fn drop_overdue(&mut self, life: &mut Life) {
        let now = self.now;
        life.held.retain(|(_, until)| *until >= now);
        let operations = &self.operations;
        life.waiters.retain(|_, waiter| operations[waiter.operation].returned == 0);
    }
}
