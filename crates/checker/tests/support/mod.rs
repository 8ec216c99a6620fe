//! Random histories of a correct store, and a little randomness.

#![allow(dead_code, reason = "each test uses some of it")]

use bytes::Bytes;
use checker::{
    Change, Comparison, Event, History, KeyValue, Model, Operation, Outcome, Put, RangeQuery, Received, Relation,
    Request, Response, Step, Target, Txn, View, WatchSession,
};
use types::{KeyRange, LeaseId};

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Which operations a history has.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) operations: u64,
    pub(crate) keys: u64,
    pub(crate) unknown_percent: u64,
    pub(crate) leases: bool,
    pub(crate) compactions: bool,
    pub(crate) serializable: bool,
    /// How long an operation may wait before and after it happens; the next one happens 10 later.
    pub(crate) spread: u64,
}

pub(crate) const PLAIN: Mix = Mix {
    operations: 30,
    keys: 3,
    unknown_percent: 10,
    leases: true,
    compactions: false,
    serializable: false,
    spread: 40,
};

/// What a correct store did and told.
pub(crate) fn correct(random: &mut Random, mix: Mix) -> History {
    let mut history = History::new();
    let mut model = Model::new(1, true);
    let mut past = vec![model.clone()];
    let mut leases: Vec<LeaseId> = Vec::new();
    for number in 0..mix.operations {
        if mix.leases && !leases.is_empty() && random.chance(5) {
            let lapsed = leases.swap_remove(random.below(leases.len() as u64) as usize);
            note(&mut history, &mut model, &Request::Revoke(lapsed)).ok();
        }
        let request = request(random, mix, number, &mut leases, &model);
        let at = 1000 + number * 10;
        let is_unknown = random.chance(mix.unknown_percent);
        let outcome = if request.is_serializable() {
            let from = past.len().saturating_sub(1 + random.below(5) as usize);
            past[from].clone().apply(&request).map(|(answer, _)| answer)
        } else if is_unknown && random.chance(50) {
            Ok(checker::Answer { revision: 0, body: checker::Body::Revoked })
        } else {
            note(&mut history, &mut model, &request)
        };
        history.operations.push(Operation {
            client: number,
            session: None,
            invoked: at - random.below(mix.spread),
            returned: at + 1 + random.below(mix.spread),
            request,
            outcome: match outcome {
                _ if is_unknown => Outcome::Unknown,
                Ok(answer) => Outcome::Answered(answer),
                Err(refusal) => Outcome::Refused(refusal),
            },
        });
        past.push(model.clone());
    }
    history
}

fn note(history: &mut History, model: &mut Model, request: &Request) -> Result<checker::Answer, checker::Refusal> {
    let (mut answer, changes) = model.apply(request)?;
    if let (Request::KeepAlive(lease), checker::Body::KeptAlive { ttl }) = (request, &mut answer.body) {
        *ttl = if model.has_lease(*lease) { 10 } else { 0 };
    }
    if !changes.is_empty() {
        history.log.insert(model.revision(), changes);
    }
    Ok(answer)
}

fn key(random: &mut Random, mix: Mix) -> Bytes {
    Bytes::from(format!("k{}", random.below(mix.keys)))
}

fn keys(random: &mut Random, mix: Mix) -> KeyRange {
    match random.below(3) {
        0 => KeyRange::all(),
        1 => KeyRange::from_wire(key(random, mix), Bytes::from_static(b"k9")),
        _ => KeyRange::single(key(random, mix)),
    }
}

fn put(random: &mut Random, mix: Mix, number: u64, leases: &[LeaseId]) -> Put {
    let lease = match leases {
        [] => LeaseId::NONE,
        _ if random.chance(60) => LeaseId::NONE,
        _ => leases[random.below(leases.len() as u64) as usize],
    };
    Put { key: key(random, mix), value: Bytes::from(format!("v{number}")), lease, previous: random.chance(50) }
}

fn range(random: &mut Random, mix: Mix, model: &Model) -> RangeQuery {
    let revision = if random.chance(15) { model.revision() + 1 - random.below(4) as i64 } else { 0 };
    RangeQuery {
        keys: keys(random, mix),
        revision: revision.max(0),
        limit: random.below(3) as i64,
        count_only: random.chance(10),
        serializable: false,
    }
}

fn request(random: &mut Random, mix: Mix, number: u64, leases: &mut Vec<LeaseId>, model: &Model) -> Request {
    match random.below(20) {
        0..6 => Request::Put(put(random, mix, number, leases)),
        6..8 => Request::Delete { keys: keys(random, mix), previous: random.chance(50) },
        8..11 => {
            let compared = key(random, mix);
            let target = match random.below(3) {
                0 => Target::Version(random.below(3) as i64),
                1 => Target::Modified(model.get(&compared).map_or(0, |kv| kv.modified)),
                _ => Target::Value(model.get(&compared).map_or(Bytes::new(), |kv| kv.value)),
            };
            let relation = if random.chance(70) { Relation::Equal } else { Relation::Greater };
            let others = range(random, mix, model);
            let others = RangeQuery { revision: 0, ..others };
            let success = vec![Step::Put(put(random, mix, number, leases)), Step::Range(others.clone())];
            let failure = vec![Step::Range(others), Step::Delete { keys: keys(random, mix), previous: true }];
            Request::Txn(Txn { compare: vec![Comparison { key: compared, target, relation }], success, failure })
        }
        11..13 if mix.leases => {
            let lease = LeaseId(number as i64 + 1);
            leases.push(lease);
            Request::Grant { lease, ttl: 10 }
        }
        13 if mix.leases && !leases.is_empty() => {
            Request::Revoke(leases.swap_remove(random.below(leases.len() as u64) as usize))
        }
        14 if mix.leases && !leases.is_empty() => {
            Request::KeepAlive(leases[random.below(leases.len() as u64) as usize])
        }
        15 if mix.compactions => Request::Compact(model.revision() - random.below(4) as i64),
        16 if mix.serializable => {
            Request::Range(RangeQuery { serializable: true, revision: 0, ..range(random, mix, model) })
        }
        _ => Request::Range(range(random, mix, model)),
    }
}

/// What a correct watch of the findings' store gets: some live, some from history, progress now and then.
pub(crate) fn watched(random: &mut Random, replay: &checker::Replay, mut session: WatchSession) -> WatchSession {
    let from = if session.start == 0 { replay.last() + 1 } else { session.start };
    let response = |revision, received| Response { at: u64::MAX, revision, received };
    session.responses.push(response(replay.last(), Received::Created));
    let mut pending: Vec<Event> = Vec::new();
    for (revision, changes) in replay.since(from) {
        for change in changes {
            let is_filtered = if change.put.is_some() { session.no_puts } else { session.no_deletes };
            if !is_filtered && session.keys.contains(&change.key) {
                pending.push(event(replay, revision, change, session.previous));
            }
        }
        if !pending.is_empty() && random.chance(70) {
            let events = std::mem::take(&mut pending);
            session.responses.push(response(replay.last(), Received::Events { events, is_fragment: false }));
        }
        if pending.is_empty() && random.chance(20) {
            session.responses.push(response(revision, Received::Progress));
            // From here on the header may not go back.
            session.responses.last_mut().expect("just pushed").revision = replay.last().min(revision);
        }
    }
    if !pending.is_empty() {
        session.responses.push(response(replay.last(), Received::Events { events: pending, is_fragment: false }));
    }
    // Headers as of the last event: a watcher that keeps up.
    for response in &mut session.responses {
        match &response.received {
            Received::Events { events, .. } => response.revision = events.last().map_or(0, |event| event.kv.modified),
            Received::Created => response.revision = from - 1,
            _ => {}
        }
    }
    session.complete_to = Some(replay.last());
    session
}

pub(crate) fn event(replay: &checker::Replay, revision: i64, change: &Change, previous: bool) -> Event {
    let nothing = KeyValue {
        key: change.key.clone(),
        value: Bytes::new(),
        created: 0,
        modified: revision,
        version: 0,
        lease: LeaseId::NONE,
    };
    Event {
        is_delete: change.put.is_none(),
        kv: replay.get(&change.key, revision).cloned().unwrap_or(nothing),
        previous: replay.get(&change.key, revision - 1).filter(|_| previous).cloned(),
    }
}
