//! The store as plainly as it can be said, and requests at random, which both must answer alike.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{self as pb, Compare, RequestOp, request_op, response_op};
use api::mvccpb::KeyValue;
use bytes::Bytes;
use machine::validate::check_txn;
use proptest::prelude::*;
use prost::Message;
use types::KeyRange;

use crate::harness::{Member, compact, delete_request, grant, op, put_request, range, revoke};

type Keys = BTreeMap<Bytes, KeyValue>;
type Outcome<T> = Result<T, &'static str>;

const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const NO_LEASE: &str = "requested lease not found";
const NO_KEY: &str = "key not found";

#[derive(Clone)]
pub(crate) struct Model {
    keys: Keys,
    revision: i64,
    compacted: i64,
    leases: BTreeSet<i64>,
    /// The keys as they were at each revision.
    history: BTreeMap<i64, Keys>,
}

impl Model {
    pub(crate) fn new() -> Model {
        let history = BTreeMap::from([(1, Keys::new())]);
        Model { keys: Keys::new(), revision: 1, compacted: -1, leases: BTreeSet::new(), history }
    }

    /// Carries out a request; returns the header's revision and the encoded rest, or the error's text.
    pub(crate) fn apply(&mut self, request: &Request) -> Outcome<(i64, Vec<u8>)> {
        // All or nothing, the naive way.
        let mut next = self.clone();
        let body = match request {
            Request::Put(put) => {
                next.check_lease(put)?;
                next.check_kept(put)?;
                next.put(put).encode_to_vec()
            }
            Request::DeleteRange(delete) => next.delete(delete).encode_to_vec(),
            Request::Range(asked) => {
                next.check_revision(asked.revision.max(0))?;
                next.range(asked).encode_to_vec()
            }
            Request::Txn(txn) => {
                let before = next.keys.clone();
                next.check_puts(txn, &before)?;
                next.check_ranges(txn, &before)?;
                next.txn(txn, &before).encode_to_vec()
            }
            Request::Compaction(compaction) => {
                if compaction.revision <= next.compacted {
                    return Err(COMPACTED);
                }
                if compaction.revision > next.revision {
                    return Err(FUTURE);
                }
                next.compacted = compaction.revision;
                Vec::new()
            }
            Request::LeaseGrant(granted) => {
                if !next.leases.insert(granted.id) {
                    return Err("lease already exists");
                }
                pb::LeaseGrantResponse { id: granted.id, ttl: granted.ttl, ..Default::default() }.encode_to_vec()
            }
            Request::LeaseRevoke(revoked) => {
                if !next.leases.remove(&revoked.id) {
                    return Err(NO_LEASE);
                }
                next.keys.retain(|_, kv| kv.lease != revoked.id);
                Vec::new()
            }
            other => panic!("not modelled: {other:?}"),
        };
        // Nothing but a put or a deletion changes the keys, and every put changes them: its revision is new.
        if next.keys != self.keys {
            next.revision += 1;
            next.history.insert(next.revision, next.keys.clone());
        }
        *self = next;
        Ok((self.revision, body))
    }

    fn check_lease(&self, put: &pb::PutRequest) -> Outcome<()> {
        if put.lease == 0 || self.leases.contains(&put.lease) { Ok(()) } else { Err(NO_LEASE) }
    }

    fn check_kept(&self, put: &pb::PutRequest) -> Outcome<()> {
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && !self.keys.contains_key(&put.key) { Err(NO_KEY) } else { Ok(()) }
    }

    fn check_revision(&self, revision: i64) -> Outcome<()> {
        match revision {
            0 => Ok(()),
            _ if revision > self.revision => Err(FUTURE),
            _ if revision < self.compacted => Err(COMPACTED),
            _ => Ok(()),
        }
    }

    fn put(&mut self, put: &pb::PutRequest) -> pb::PutResponse {
        let before = self.keys.get(&put.key).cloned();
        let old = before.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value { old.value } else { put.value.clone() },
            lease: if put.ignore_lease { old.lease } else { put.lease },
            create_revision: if before.is_some() { old.create_revision } else { self.revision + 1 },
            mod_revision: self.revision + 1,
            version: old.version + 1,
        };
        self.keys.insert(put.key.clone(), kv);
        pb::PutResponse { header: None, prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
        let deleted: Vec<KeyValue> = self.keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        self.keys.retain(|key, _| !range.contains(key));
        let prev_kvs = if delete.prev_kv { deleted.clone() } else { vec![] };
        pb::DeleteRangeResponse { header: None, deleted: deleted.len() as i64, prev_kvs }
    }

    fn range(&self, asked: &pb::RangeRequest) -> pb::RangeResponse {
        let keys = if asked.revision <= 0 { &self.keys } else { &self.history[&asked.revision] };
        let range = KeyRange::from_wire(asked.key.clone(), asked.range_end.clone());
        let mut kvs: Vec<KeyValue> = keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        if asked.count_only {
            return pb::RangeResponse { count, ..Default::default() };
        }
        kvs.retain(|kv| asked.min_mod_revision == 0 || kv.mod_revision >= asked.min_mod_revision);
        kvs.retain(|kv| asked.max_create_revision == 0 || kv.create_revision <= asked.max_create_revision);
        if asked.sort_order == 2 {
            kvs.reverse();
        }
        let more = asked.limit > 0 && kvs.len() as i64 > asked.limit;
        if more {
            kvs.truncate(asked.limit as usize);
        }
        pb::RangeResponse { header: None, kvs, more, count }
    }

    fn branch<'t>(txn: &'t pb::TxnRequest, before: &Keys) -> (bool, &'t [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| holds(compare, before));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn check_puts(&self, txn: &pb::TxnRequest, before: &Keys) -> Outcome<()> {
        for op in Self::branch(txn, before).1 {
            match op.request.as_ref().unwrap() {
                request_op::Request::RequestPut(put) => {
                    self.check_kept(put)?;
                    self.check_lease(put)?;
                }
                request_op::Request::RequestTxn(inner) => self.check_puts(inner, before)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, txn: &pb::TxnRequest, before: &Keys) -> Outcome<()> {
        for op in Self::branch(txn, before).1 {
            match op.request.as_ref().unwrap() {
                request_op::Request::RequestRange(range) => self.check_revision(range.revision)?,
                request_op::Request::RequestTxn(inner) => self.check_ranges(inner, before)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, txn: &pb::TxnRequest, before: &Keys) -> pb::TxnResponse {
        let (succeeded, ops) = Self::branch(txn, before);
        let responses = ops.iter().map(|op| self.op(op, before)).collect();
        pb::TxnResponse { header: None, succeeded, responses }
    }

    fn op(&mut self, op: &RequestOp, before: &Keys) -> pb::ResponseOp {
        let header = |model: &Model| {
            let revision = model.revision + i64::from(model.keys != *before);
            Some(pb::ResponseHeader { revision, ..Default::default() })
        };
        let response = match op.request.as_ref().unwrap() {
            request_op::Request::RequestPut(put) => {
                let response = self.put(put);
                response_op::Response::ResponsePut(pb::PutResponse { header: header(self), ..response })
            }
            request_op::Request::RequestDeleteRange(delete) => {
                let response = self.delete(delete);
                response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse { header: header(self), ..response })
            }
            request_op::Request::RequestRange(range) => {
                let response = self.range(range);
                response_op::Response::ResponseRange(pb::RangeResponse { header: header(self), ..response })
            }
            request_op::Request::RequestTxn(inner) => {
                let response = self.txn(inner, before);
                let header = Some(pb::ResponseHeader::default());
                response_op::Response::ResponseTxn(pb::TxnResponse { header, ..response })
            }
        };
        pb::ResponseOp { response: Some(response) }
    }
}

fn holds(compare: &Compare, keys: &Keys) -> bool {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let found: Vec<&KeyValue> = keys.values().filter(|kv| range.contains(&kv.key)).collect();
    let missing = KeyValue::default();
    let is_value = compare.target() == CompareTarget::Value;
    let found = match found[..] {
        [] if is_value => return false,
        [] => vec![&missing],
        _ => found,
    };
    found.into_iter().all(|kv| {
        let order = match &compare.target_union {
            Some(TargetUnion::Version(operand)) => kv.version.cmp(operand),
            Some(TargetUnion::CreateRevision(operand)) => kv.create_revision.cmp(operand),
            Some(TargetUnion::ModRevision(operand)) => kv.mod_revision.cmp(operand),
            Some(TargetUnion::Lease(operand)) => kv.lease.cmp(operand),
            Some(TargetUnion::Value(operand)) => kv.value.cmp(operand),
            None => unreachable!("every compare made here has an operand"),
        };
        match compare.result() {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
        }
    })
}

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn key() -> impl Strategy<Value = &'static str> {
    (0..KEYS.len()).prop_map(|at| KEYS[at])
}

fn end() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(""), 1 => Just("\0"), 3 => key()]
}

fn any_put() -> impl Strategy<Value = Request> {
    (key(), 0..4u8, 0..4i64, any::<bool>(), 0..12u8).prop_map(|(key, value, lease, prev_kv, keep)| {
        let (ignore_value, ignore_lease) = (keep == 0 || keep == 2, keep == 1 || keep == 2);
        let value = if ignore_value { String::new() } else { "v".repeat(value.into()) };
        let lease = if ignore_lease { 0 } else { lease };
        Request::Put(pb::PutRequest { lease, prev_kv, ignore_value, ignore_lease, ..put_request(key, &value) })
    })
}

fn any_delete() -> impl Strategy<Value = Request> {
    (key(), end(), any::<bool>()).prop_map(|(key, end, prev_kv)| {
        Request::DeleteRange(pb::DeleteRangeRequest { prev_kv, ..delete_request(key, end) })
    })
}

fn any_range() -> impl Strategy<Value = Request> {
    let revision = prop_oneof![4 => Just(0), 1 => Just(-1), 3 => 1..20i64];
    let filter = || prop_oneof![4 => Just(0), 1 => 1..20i64];
    (key(), end(), revision, 0..4i64, 0..3i32, any::<bool>(), filter(), filter()).prop_map(
        |(key, end, revision, limit, sort_order, count_only, min_mod_revision, max_create_revision)| {
            Request::Range(pb::RangeRequest {
                revision,
                limit,
                sort_order,
                count_only,
                min_mod_revision,
                max_create_revision,
                ..range(key, end)
            })
        },
    )
}

fn any_compare() -> impl Strategy<Value = Compare> {
    (key(), end(), 0..4i32, 0..5i32, 0..8i64).prop_map(|(key, end, result, target, operand)| {
        let target_union = Some(match target {
            0 => TargetUnion::Version(operand),
            1 => TargetUnion::CreateRevision(operand),
            2 => TargetUnion::ModRevision(operand),
            3 => TargetUnion::Value("v".repeat(operand as usize % 4).into()),
            _ => TargetUnion::Lease(operand % 4),
        });
        Compare { result, target, key: key.into(), range_end: end.into(), target_union }
    })
}

/// Also what no front end lets pass, but a log may hold: a key written twice, say.
pub(crate) fn any_unchecked_txn() -> impl Strategy<Value = Request> {
    let leaf = prop_oneof![3 => any_put(), 1 => any_delete(), 2 => any_range()].prop_map(op).boxed();
    let txn = |ops: BoxedStrategy<RequestOp>| {
        let branch = || prop::collection::vec(ops.clone(), 0..4);
        (prop::collection::vec(any_compare(), 0..2), branch(), branch())
            .prop_map(|(compare, success, failure)| Request::Txn(pb::TxnRequest { compare, success, failure }))
    };
    txn(leaf.prop_recursive(2, 12, 4, move |inner| txn(inner.boxed()).prop_map(op)).boxed())
}

fn any_txn() -> impl Strategy<Value = Request> {
    // What etcd's front end lets pass, save deletions "to the end", which it forgets when it looks for overlaps: with
    // them a key can be put twice.
    any_unchecked_txn().prop_filter("invalid", |request| match request {
        Request::Txn(txn) => check_txn(txn, 128).is_ok() && !deletes_and_puts(txn),
        _ => unreachable!(),
    })
}

/// Whether a deletion on some path may hit a key that is put on it too.
fn deletes_and_puts(txn: &pb::TxnRequest) -> bool {
    fn gather(txn: &pb::TxnRequest, puts: &mut Vec<Bytes>, deletes: &mut Vec<KeyRange>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match op.request.as_ref().unwrap() {
                request_op::Request::RequestPut(put) => puts.push(put.key.clone()),
                request_op::Request::RequestDeleteRange(delete) => {
                    deletes.push(KeyRange::from_wire(delete.key.clone(), delete.range_end.clone()));
                }
                request_op::Request::RequestTxn(inner) => gather(inner, puts, deletes),
                request_op::Request::RequestRange(_) => {}
            }
        }
    }
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    gather(txn, &mut puts, &mut deletes);
    puts.iter().any(|key| deletes.iter().any(|range| range.contains(key)))
}

pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => any_put(),
        2 => any_delete(),
        2 => any_range(),
        6 => any_txn(),
        1 => (0..20i64).prop_map(compact),
        2 => (1..4i64).prop_map(|id| grant(id, 10)),
        1 => (1..4i64).prop_map(revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn answers_as_the_model(requests in prop::collection::vec(any_request(), 1..40)) {
        let (mut member, mut model) = (Member::new(), Model::new());
        for request in requests {
            let expected = model.apply(&request);
            let read_beside_the_log = match &request {
                Request::Range(range) => Some(member.machine.shared().range(range)),
                Request::Txn(txn) => member.machine.shared().read_only_txn(txn).map(Some).transpose(),
                _ => None,
            };
            let found = member.apply(request.clone()).map(|reply| {
                (reply.revision, reply.body.into_bytes().unwrap().to_vec())
            });
            let found = found.map_err(|error| error.to_string());
            let expected = expected.map_err(str::to_owned);
            prop_assert_eq!(&found, &expected, "{:?}", request);
            let is_write = matches!(&request, Request::Txn(txn) if !is_read_only(txn));
            if let Some(read) = read_beside_the_log.filter(|_| !is_write) {
                let read = read.map(|reply| (reply.revision, reply.body.into_bytes().unwrap().to_vec()));
                prop_assert_eq!(read.map_err(|error| error.to_string()), expected, "{:?}", request);
            }
            let lessor = member.machine.shared().lessor().lock();
            for &lease in &model.leases {
                let keys: Vec<&[u8]> = lessor.keys(types::LeaseId(lease)).unwrap().collect();
                let attached: Vec<&[u8]> =
                    model.keys.values().filter(|kv| kv.lease == lease).map(|kv| &kv.key[..]).collect();
                prop_assert_eq!(keys, attached);
            }
        }
    }
}

fn is_read_only(txn: &pb::TxnRequest) -> bool {
    let is_range = |op: &RequestOp| matches!(op.request, Some(request_op::Request::RequestRange(_)));
    txn.success.iter().chain(&txn.failure).all(is_range)
}
