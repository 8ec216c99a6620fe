//! Single writes, alone or inside a transaction, and how they are answered.

use api::etcdserverpb::{DeleteRangeRequest, PutRequest};
use bytes::BytesMut;
use lease::Lessor;
use mvcc::{Current, RangeResult, Txn};
use parking_lot::Mutex;
use types::{LeaseId, Record};

use crate::compare::State;
use crate::error::{ApplyError, Failure, RequestError};
use crate::query::key_range;
use crate::wire;

const PUT_PREV_KV: u8 = wire::bytes_tag(2);
const DELETED: u8 = wire::number_tag(2);
const DELETE_PREV_KVS: u8 = wire::bytes_tag(3);

/// What a put is answered with, besides the header.
#[derive(Default)]
pub(crate) struct PutAnswer {
    previous: Option<Record>,
}

/// What a deletion is answered with, besides the header.
pub(crate) struct DeleteAnswer {
    pub(crate) deleted: usize,
    previous: Vec<Record>,
}

pub(crate) fn keeps_something(put: &PutRequest) -> bool {
    put.ignore_value || put.ignore_lease
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.is_empty() { Err(RequestError::EmptyKey.into()) } else { Ok(()) }
}

pub(crate) fn check_lease(lessor: &Mutex<Lessor>, put: &PutRequest) -> Result<(), Failure> {
    if put.lease != 0 && !lessor.lock().contains(LeaseId(put.lease)) {
        return Err(ApplyError::LeaseNotFound.into());
    }
    Ok(())
}

/// A put whose key to keep something of must live.
pub(crate) fn check_kept(state: &impl State, put: &PutRequest) -> Result<(), Failure> {
    if keeps_something(put) && state.meta(&put.key)?.is_none() {
        return Err(ApplyError::KeyNotFound.into());
    }
    Ok(())
}

/// Carries out a put that was checked.
pub(crate) fn put(txn: &mut Txn<'_>, lessor: &Mutex<Lessor>, put: &PutRequest) -> Result<PutAnswer, Failure> {
    let mut lease = LeaseId(put.lease);
    if put.prev_kv || keeps_something(put) {
        txn.count_range();
    }
    let previous = if keeps_something(put) {
        let kept = txn.record(&put.key)?.ok_or(ApplyError::KeyNotFound)?;
        if put.ignore_lease {
            lease = kept.meta().lease;
        }
        txn.put(&put.key, if put.ignore_value { kept.value() } else { &put.value }, lease)
    } else {
        txn.put(&put.key, &put.value, lease)
    };
    reattach(lessor, &put.key, previous.as_ref(), lease);
    let wanted = previous.filter(|_| put.prev_kv);
    let previous = wanted.map(|current| txn.load(&current)).transpose()?;
    Ok(PutAnswer { previous })
}

/// Carries out a deletion.
pub(crate) fn delete_range(
    txn: &mut Txn<'_>,
    lessor: &Mutex<Lessor>,
    delete: &DeleteRangeRequest,
) -> Result<DeleteAnswer, Failure> {
    if delete.prev_kv {
        txn.count_range();
    }
    let deleted = txn.delete_range(&key_range(&delete.key, &delete.range_end));
    for current in &deleted {
        reattach(lessor, current.key(), Some(current), LeaseId::NONE);
    }
    let mut previous = Vec::new();
    if delete.prev_kv {
        previous.reserve_exact(deleted.len());
        for current in &deleted {
            previous.push(txn.load(current)?);
        }
    }
    Ok(DeleteAnswer { deleted: deleted.len(), previous })
}

/// Keys without a lease, before and after, never touch the lessor's lock.
fn reattach(lessor: &Mutex<Lessor>, key: &[u8], previous: Option<&Current>, to: LeaseId) {
    let from = previous.map_or(LeaseId::NONE, |current| current.meta().lease);
    if from != LeaseId::NONE || to != LeaseId::NONE {
        lessor.lock().attach(key, from, to);
    }
}

impl PutAnswer {
    pub(crate) fn len(&self) -> u64 {
        self.previous.as_ref().map_or(0, wire::record_len)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        if let Some(previous) = &self.previous {
            wire::put_record(out, PUT_PREV_KV, previous);
        }
    }
}

impl DeleteAnswer {
    pub(crate) fn len(&self) -> u64 {
        wire::number_len(self.deleted as i64) as u64 + self.previous.iter().map(wire::record_len).sum::<u64>()
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        wire::put_number(out, DELETED, self.deleted as i64);
        for previous in &self.previous {
            wire::put_record(out, DELETE_PREV_KVS, previous);
        }
    }
}

/// Encodes a whole range answer.
pub(crate) fn encode_range(out: &mut BytesMut, mut result: RangeResult) -> Result<(), Failure> {
    while !result.rows.is_empty() && result.rows.encode_next(out, usize::MAX)? {}
    wire::put_range_tail(out, result.more, result.count);
    Ok(())
}

pub(crate) fn range_len(result: &RangeResult) -> u64 {
    result.rows.encoded_len() + wire::range_tail_len(result.more, result.count) as u64
}
