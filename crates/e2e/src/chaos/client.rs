//! A client that makes one random request after the other, of a member until that fails, then of another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use checker::{
    Answer, Body, Comparison, KeyValue, Operation, Outcome, Put, RangeQuery, Refusal, Relation, Request, Step, Target,
    Txn,
};
use fastrand::Rng;
use testkit::grpc::{Client as Connection, Status};
use tokio::time::{sleep, timeout};
use types::{KeyRange, LeaseId};

use super::{Shared, wire};
use crate::refusal;

/// How long one request is waited for; what becomes of it after that is not known.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two requests: eight clients make some 2,000 requests in two seconds of good health.
const PAUSE: Duration = Duration::from_millis(5);

const FILLERS: usize = 500;

const KEYS: usize = 8;

/// Longer than any run.
const TTL: i64 = 600;

pub(super) struct Client {
    shared: Arc<Shared>,
    number: u64,
    random: Rng,
    /// Requests made, for values that differ.
    made: u64,
    /// The revision at which it last saw each key.
    seen: BTreeMap<Bytes, i64>,
    /// Whether it takes a member's own state for the cluster's.
    deceived: bool,
    /// Leases it was granted and has not asked to revoke.
    leases: Vec<LeaseId>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, number: u64, seed: u64, deceived: bool) -> Client {
        let random = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number));
        Client { shared, number, random, made: 0, seen: BTreeMap::new(), deceived, leases: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        let mut connected = None;
        while !self.shared.stopping() {
            let (connection, session) = match connected.take() {
                Some(held) => held,
                None => match self.connect().await {
                    Some(fresh) => fresh,
                    None => continue,
                },
            };
            let request = self.request();
            if self.make(&connection, session, request).await {
                connected = Some((connection, session));
            }
            sleep(PAUSE).await;
        }
    }

    /// Puts `bytes` bytes to one key, in [`FILLERS`] values.
    pub(super) async fn fill(mut self, address: SocketAddr, bytes: usize) -> Result<()> {
        let (connection, session) = (Connection::connect(address).await?, self.shared.session());
        for number in 0..FILLERS {
            let mut value = format!("filler {number} ").into_bytes();
            value.resize(value.len() + bytes / FILLERS, b'v');
            let (key, value) = (Bytes::from_static(b"filler"), value.into());
            let put = Put { key, value, lease: LeaseId::NONE, previous: false };
            ensure!(self.make(&connection, session, Request::Put(put)).await, "a put was not answered");
        }
        Ok(())
    }

    async fn connect(&mut self) -> Option<(Connection, u64)> {
        let address = self.random.choice(self.shared.addresses())?;
        match timeout(PATIENCE / 4, Connection::connect(address)).await {
            Ok(Ok(connection)) => Some((connection, self.shared.session())),
            _ => {
                sleep(PAUSE * 4).await;
                None
            }
        }
    }

    /// Makes a request and records what came of it. Returns whether the connection is good for another.
    async fn make(&mut self, connection: &Connection, session: u64, request: Request) -> bool {
        let invoked = self.shared.now();
        let called = match &request {
            Request::Range(query) if self.deceived => {
                let local = Request::Range(RangeQuery { serializable: true, ..query.clone() });
                timeout(PATIENCE, wire::call(connection, &local)).await
            }
            _ => timeout(PATIENCE, wire::call(connection, &request)).await,
        };
        let returned = self.shared.now();
        let (outcome, good) = match called {
            Ok(Ok(answer)) => {
                self.learn(&request, &answer);
                (Outcome::Answered(answer), true)
            }
            Ok(Err(status)) => match refused(&status) {
                Some(outcome) => (outcome, true),
                None => (Outcome::Unknown, false),
            },
            Err(_) => (Outcome::Unknown, false),
        };
        let client = self.number;
        self.shared.record(Operation { client, session: Some(session), invoked, returned, request, outcome });
        good
    }

    fn learn(&mut self, request: &Request, answer: &Answer) {
        match (request, &answer.body) {
            (Request::Grant { lease, .. }, _) => self.leases.push(*lease),
            (Request::Put(put), _) => drop(self.seen.insert(put.key.clone(), answer.revision)),
            (Request::Range(query), Body::Range { kvs, .. }) if query.revision == 0 => self.learn_keys(kvs),
            (_, Body::Txn { bodies, .. }) => {
                for body in bodies {
                    if let Body::Range { kvs, .. } = body {
                        self.learn_keys(kvs);
                    }
                }
            }
            _ => {}
        }
    }

    fn learn_keys(&mut self, kvs: &[KeyValue]) {
        for kv in kvs {
            self.seen.insert(kv.key.clone(), kv.modified);
        }
    }

    fn key(&mut self) -> Bytes {
        format!("key{}", self.random.usize(..KEYS)).into()
    }

    fn put(&mut self) -> Put {
        self.made += 1;
        let value = format!("{}.{}", self.number, self.made).into();
        let held = if self.random.u8(..10) == 0 { self.random.choice(&self.leases).copied() } else { None };
        Put { key: self.key(), value, lease: held.unwrap_or(LeaseId::NONE), previous: self.random.u8(..4) == 0 }
    }

    fn request(&mut self) -> Request {
        match self.random.u8(..100) {
            0..30 => Request::Put(self.put()),
            30..50 => Request::Range(RangeQuery::now(KeyRange::single(self.key()))),
            50..60 => Request::Range(RangeQuery { serializable: true, ..RangeQuery::now(KeyRange::prefix(b"key")) }),
            60..65 => Request::Range(RangeQuery { limit: 3, ..RangeQuery::now(KeyRange::prefix(b"key")) }),
            65..72 => Request::Delete { keys: KeyRange::single(self.key()), previous: self.random.bool() },
            72..90 => self.guarded_update(),
            90..96 => self.several_at_once(),
            96..98 => {
                self.made += 1;
                let lease = LeaseId(((self.number + 1) << 32 | self.made).cast_signed());
                Request::Grant { lease, ttl: TTL }
            }
            98 => match self.leases.pop() {
                Some(lease) => Request::Revoke(lease),
                None => Request::Range(RangeQuery::now(KeyRange::prefix(b"key"))),
            },
            _ => match self.random.choice(&self.leases) {
                Some(lease) => Request::KeepAlive(*lease),
                None => Request::Range(RangeQuery::now(KeyRange::prefix(b"key"))),
            },
        }
    }

    /// A write that is to happen only if nobody came in between.
    fn guarded_update(&mut self) -> Request {
        let put = Put { lease: LeaseId::NONE, ..self.put() };
        let key = put.key.clone();
        let modified = self.seen.get(&key).copied().unwrap_or(0);
        Request::Txn(Txn {
            compare: vec![Comparison {
                key: key.clone(),
                target: Target::Modified(modified),
                relation: Relation::Equal,
            }],
            success: vec![Step::Put(put)],
            failure: vec![Step::Range(RangeQuery::now(KeyRange::single(key)))],
        })
    }

    /// Two writes and a read of all, in one revision.
    fn several_at_once(&mut self) -> Request {
        let (first, mut second) = (self.put(), self.put());
        while second.key == first.key {
            second.key = self.key();
        }
        let all = RangeQuery::now(KeyRange::prefix(b"key"));
        Request::Txn(Txn {
            compare: Vec::new(),
            success: vec![Step::Put(first), Step::Put(second), Step::Range(all)],
            failure: Vec::new(),
        })
    }
}

/// What an error says about the request, if it says anything: refused for a reason, or never carried out.
fn refused(status: &Status) -> Option<Outcome> {
    let text = (status.code, status.message.as_str());
    Some(match text {
        _ if text == refusal::COMPACTED => Outcome::Refused(Refusal::Compacted),
        _ if text == refusal::FUTURE_REVISION => Outcome::Refused(Refusal::FutureRevision),
        _ if text == refusal::LEASE_NOT_FOUND => Outcome::Refused(Refusal::LeaseNotFound),
        _ if text == refusal::LEASE_EXISTS => Outcome::Refused(Refusal::LeaseExists),
        _ if text == refusal::NO_SPACE => Outcome::Failed,
        _ => return None,
    })
}
