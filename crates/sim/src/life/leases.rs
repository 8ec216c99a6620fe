//! Leases: what has run out is ended, who renews is answered by the leader.

use api::etcdserverpb::internal_raft_request::Request as Entry;
use api::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use bytes::Bytes;
use checker::{Answer, Body, Outcome};
use lease::RenewError;
use types::{LeaseId, MemberId, Term};

use super::Life;
use super::requests::Waiter;
use crate::dice::{MS, Micros};
use crate::planted::Plant;
use crate::translate;
use crate::world::{Event, LifeEvent, World};

impl World {
    pub(super) fn look_at_leases(&mut self, id: MemberId, life: &mut Life) {
        self.again(id, life, 500 * MS, LifeEvent::LeaseLook);
        let now = self.local_time(id);
        let (expired, checkpoints) = {
            let mut lessor = life.machine.shared().lessor().lock();
            (lessor.expired(now, 500), lessor.checkpoints(now, 1000))
        };
        let mut requests = Vec::new();
        if !self.strikes(Plant::NeverExpire) {
            requests.extend(expired.into_iter().map(|lease| Entry::LeaseRevoke(LeaseRevokeRequest { id: lease.0 })));
        }
        if !checkpoints.is_empty() {
            let checkpoints =
                checkpoints.into_iter().map(|(lease, remaining_ttl)| LeaseCheckpoint { id: lease.0, remaining_ttl });
            requests.push(Entry::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: checkpoints.collect() }));
        }
        // As in `server`: whoever leads no longer may have missed that they were renewed.
        if requests.is_empty() || !life.driver.leads() || !life.driver.takes_proposals() {
            return;
        }
        let data: Vec<Bytes> = requests.into_iter().map(|request| translate::encode(life.take_id(), request)).collect();
        // Asked again in three seconds if it is lost.
        let _ = life.driver.propose(data);
        self.turn(id, life);
    }

    pub(super) fn forward_renewal(&mut self, leader: MemberId, after: Micros, operation: usize) {
        let asked = &self.operations[operation];
        if asked.returned == 0 && self.now < asked.invoked + self.plan.request_timeout {
            self.schedule(after, Event::Arrive { at: leader, operation });
        }
    }

    /// The leader's part of a renewal, as `keep_alive_here` of `server`: first it renews, then it makes sure that it led meanwhile.
    pub(super) fn renew(&mut self, id: MemberId, life: &mut Life, operation: usize, lease: LeaseId) {
        if let Some(renewed) = life.renewals.remove(&operation) {
            return self.confirm_renewal(life, operation, lease, renewed);
        }
        let now = self.local_time(id);
        let revision = life.machine.shared().view().revision();
        let renewed = life.machine.shared().lessor().lock().renew(lease, now);
        let answer = |ttl| Answer { revision, body: Body::KeptAlive { ttl } };
        match renewed {
            Ok(renewal) if renewal.clear_checkpoint => {
                self.clear_checkpoint(life, operation, lease, answer(renewal.ttl));
            }
            Ok(renewal) => {
                life.renewals.insert(operation, (answer(renewal.ttl), life.driver.term()));
                self.begin_read(id, life, operation);
            }
            Err(RenewError::NotPrimary) if self.plant == Some(Plant::RenewAnywhere) => {
                let ttl =
                    life.machine.shared().lessor().lock().time_to_live(lease, now).map_or(0, |ttl| ttl.granted_ttl);
                self.tell(operation, Outcome::Answered(answer(ttl)));
            }
            Err(RenewError::NotPrimary) => self.tell(operation, Outcome::Failed),
            Err(RenewError::NotFound | RenewError::Expired) => {
                life.renewals.insert(operation, (answer(0), life.driver.term()));
                self.begin_read(id, life, operation);
            }
        }
    }

    /// What an earlier leader proposed late is applied by now, and may have ended the lease or shortened it.
    fn confirm_renewal(&mut self, life: &mut Life, operation: usize, lease: LeaseId, (answer, term): (Answer, Term)) {
        if !life.driver.leads() || life.driver.term() != term {
            return self.tell(operation, Outcome::Failed);
        }
        let is_renewed = answer.body != Body::KeptAlive { ttl: 0 };
        let is_shortened = life.machine.shared().lessor().lock().is_shortened(lease);
        if is_renewed && is_shortened {
            return self.clear_checkpoint(life, operation, lease, answer);
        }
        let answer = life.while_it_lasts(lease, answer);
        self.tell(operation, Outcome::Answered(answer));
    }

    /// The renewal is answered once the log has that the lease has all of its time.
    fn clear_checkpoint(&mut self, life: &mut Life, operation: usize, lease: LeaseId, answer: Answer) {
        let checkpoint = LeaseCheckpoint { id: lease.0, remaining_ttl: 0 };
        let request = Entry::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: vec![checkpoint] });
        let request_id = life.take_id();
        life.waiters.insert(request_id, Waiter { operation, answer: Some(answer) });
        // If it is lost, the client's patience ends.
        let _ = life.driver.propose([translate::encode(request_id, request)]);
    }
}

impl Life {
    /// The answer to a renewal, unless the lease is gone.
    pub(super) fn while_it_lasts(&self, lease: LeaseId, answer: Answer) -> Answer {
        match self.machine.shared().lessor().lock().contains(lease) {
            true => answer,
            false => Answer { body: Body::KeptAlive { ttl: 0 }, ..answer },
        }
    }
}
