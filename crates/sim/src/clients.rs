//! Clients: each does one thing after the other, waits for its answer, and does not know what came of it if none comes.

use bytes::Bytes;
use checker::{Comparison, Operation, Outcome, Put, RangeQuery, Relation, Request, Step, Target, Txn};
use types::{KeyRange, LeaseId, MemberId};

use crate::dice::{MS, Micros, SECOND};
use crate::world::{Event, World};

/// How many keys there are of the plain ones, and of those under leases.
const KEYS: u64 = 8;
const LEASED_KEYS: u64 = 4;

pub(crate) struct Client {
    /// Where it sends its requests, until that fails.
    home: Option<MemberId>,
    waits_for: Option<usize>,
    leases: Vec<Held>,
    /// The newest revision it has seen.
    revision: i64,
    compacts_at: Option<Micros>,
}

/// A lease that a client has.
struct Held {
    lease: LeaseId,
    /// When it stops renewing it.
    abandons_at: Micros,
}

impl World {
    pub(crate) fn begin_clients(&mut self) {
        for client in 0..self.plan.clients as usize {
            self.clients.push(Client {
                home: None,
                waits_for: None,
                leases: Vec::new(),
                revision: 1,
                compacts_at: (client == 0).then_some(self.plan.compaction_every),
            });
            let after = SECOND + self.dice.below(SECOND);
            self.schedule(after, Event::Think { client });
        }
    }

    /// The client's next request.
    pub(crate) fn think(&mut self, client: usize) {
        if self.is_ending || self.clients[client].waits_for.is_some() {
            return;
        }
        let request = self.choose(client);
        let home = match self.clients[client].home.filter(|home| !self.members[home].is_gone) {
            Some(home) => home,
            None => {
                let there: Vec<MemberId> =
                    self.members.iter().filter(|(_, member)| !member.is_gone).map(|(id, _)| *id).collect();
                *self.dice.pick(&there).expect("a cluster has members")
            }
        };
        self.clients[client].home = Some(home);
        let operation = self.operations.len();
        self.operations.push(Operation {
            client: client as u64,
            session: None,
            invoked: self.now,
            returned: 0,
            request,
            outcome: Outcome::Unknown,
        });
        self.clients[client].waits_for = Some(operation);
        self.note("invoke", (client, operation, home.0));
        let after = self.dice.between(50, 2000);
        self.schedule(after, Event::Arrive { at: home, operation });
        self.schedule(self.plan.request_timeout, Event::GiveUp { operation });
    }

    /// A member has an outcome; it takes its time to get there.
    pub(crate) fn tell(&mut self, operation: usize, outcome: Outcome) {
        let after = self.dice.between(50, 2000);
        self.schedule(after, Event::Tell { operation, outcome });
    }

    pub(crate) fn told(&mut self, operation: usize, outcome: Outcome) {
        if self.operations[operation].returned != 0 {
            return;
        }
        self.operations[operation].returned = self.now;
        let client = self.operations[operation].client as usize;
        self.clients[client].waits_for = None;
        match &outcome {
            Outcome::Answered(answer) => {
                self.counts.acknowledged += 1;
                self.note("answered", (operation, answer.revision));
                let revision = answer.revision;
                self.clients[client].revision = self.clients[client].revision.max(revision);
                self.lease_moves(client, operation, &outcome);
            }
            Outcome::Refused(refusal) => self.note("refused", (operation, *refusal as u8)),
            Outcome::Failed | Outcome::Unknown => {
                self.counts.unknown += u64::from(outcome == Outcome::Unknown);
                self.note("failed", (operation, outcome == Outcome::Unknown));
                self.clients[client].home = None;
            }
        }
        self.operations[operation].outcome = outcome;
        let after = self.dice.about(self.plan.think).max(MS);
        self.schedule(after, Event::Think { client });
    }

    pub(crate) fn given_up(&mut self, operation: usize) {
        self.told(operation, Outcome::Unknown);
    }

    fn lease_moves(&mut self, client: usize, operation: usize, outcome: &Outcome) {
        let Outcome::Answered(answer) = outcome else { return };
        match self.operations[operation].request {
            Request::Grant { lease, .. } => {
                let abandons_at = self.now + self.dice.about(60 * SECOND);
                self.clients[client].leases.push(Held { lease, abandons_at });
            }
            Request::KeepAlive(lease) if answer.body == (checker::Body::KeptAlive { ttl: 0 }) => {
                self.clients[client].leases.retain(|held| held.lease != lease);
            }
            Request::Revoke(lease) => self.clients[client].leases.retain(|held| held.lease != lease),
            _ => {}
        }
    }

    fn choose(&mut self, client: usize) -> Request {
        let now = self.now;
        if self.clients[client].compacts_at.is_some_and(|at| at <= now) {
            self.clients[client].compacts_at = Some(now + self.plan.compaction_every);
            let back = self.dice.below(10) as i64;
            return Request::Compact((self.clients[client].revision - back).max(1));
        }
        self.clients[client].leases.retain(|held| held.abandons_at > now);
        let lease = self.clients[client].leases.first().map(|held| held.lease);
        let number = self.operations.len();
        if let Some(lease) = lease.filter(|_| self.dice.percent(self.plan.renewals)) {
            return Request::KeepAlive(lease);
        }
        match (self.dice.below(100), lease) {
            (0..25, _) => Request::Put(self.put(number)),
            (25..32, _) => Request::Delete { keys: self.keys(), previous: self.dice.percent(50) },
            (32..47, _) => Request::Txn(self.txn(number)),
            (47..60, Some(lease)) => Request::Put(self.leased_put(number, lease)),
            (60..62, Some(lease)) => Request::Revoke(lease),
            (47..55, None) => Request::Grant {
                lease: LeaseId(number as i64 + 1),
                ttl: self.dice.between(2, self.plan.ttl_max) as i64,
            },
            _ => Request::Range(self.range(client)),
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.dice.below(KEYS)))
    }

    fn keys(&mut self) -> KeyRange {
        match self.dice.below(8) {
            0 => KeyRange::from_wire(self.key(), Bytes::from_static(b"k9")),
            1 => KeyRange::prefix(b"l"),
            _ => KeyRange::single(self.key()),
        }
    }

    fn put(&mut self, number: usize) -> Put {
        Put { key: self.key(), value: value(number), lease: LeaseId::NONE, previous: self.dice.percent(30) }
    }

    fn leased_put(&mut self, number: usize, lease: LeaseId) -> Put {
        let key = Bytes::from(format!("l{}", self.dice.below(LEASED_KEYS)));
        Put { key, value: value(number), lease, previous: self.dice.percent(30) }
    }

    fn range(&mut self, client: usize) -> RangeQuery {
        let keys = match self.dice.below(3) {
            0 => KeyRange::all(),
            _ => self.keys(),
        };
        let back = self.dice.below(20) as i64;
        let revision = if self.dice.percent(10) { (self.clients[client].revision - back).max(1) } else { 0 };
        RangeQuery {
            keys,
            revision,
            limit: if self.dice.percent(20) { self.dice.between(1, 4) as i64 } else { 0 },
            count_only: self.dice.percent(5),
            serializable: self.dice.percent(25),
        }
    }

    fn txn(&mut self, number: usize) -> Txn {
        let key = self.key();
        let newest = self.newest_revision();
        let target = match self.dice.below(4) {
            0 => Target::Version(self.dice.below(4) as i64),
            1 => Target::Created(0),
            2 => Target::Modified(newest - self.dice.below(10) as i64),
            _ => Target::Value(value(number.saturating_sub(self.dice.below(20) as usize))),
        };
        let relation = *self.dice.pick(&[Relation::Equal, Relation::Greater, Relation::Less]).expect("not empty");
        let read = Step::Range(RangeQuery::now(KeyRange::single(key.clone())));
        if self.dice.percent(15) {
            return Txn {
                compare: Vec::new(),
                success: vec![read, Step::Range(RangeQuery::now(self.keys()))],
                failure: Vec::new(),
            };
        }
        let mut success = vec![Step::Put(self.put(number))];
        if self.dice.percent(30) {
            success.push(Step::Delete { keys: KeyRange::prefix(b"l"), previous: true });
        }
        success.push(read.clone());
        Txn { compare: vec![Comparison { key, target, relation }], success, failure: vec![read] }
    }
}

/// Every write has its own.
fn value(number: usize) -> Bytes {
    Bytes::from(format!("v{number}"))
}
