//! Between the checker's words and the wire's.

use api::etcdserverpb::internal_raft_request::Request as Entry;
use api::etcdserverpb::{
    self, CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestHeader,
    RequestOp, ResponseOp, TxnRequest, TxnResponse, compare, request_op, response_op,
};
use api::mvccpb;
use bytes::Bytes;
use checker::{
    Answer, Body, Change, Comparison, Event, KeyValue, Put, RangeQuery, Refusal, Relation, Request, Step, Target, Txn,
};
use machine::{ApplyError, Failure, Reply};
use prost::Message;
use types::{KeyRange, LeaseId, RangeEnd, Record};

/// What goes into the log for a request; `None` if it does not go through the log.
pub(crate) fn entry(request: &Request) -> Option<Entry> {
    Some(match request {
        Request::Put(put) => Entry::Put(put_request(put)),
        Request::Delete { keys, previous } => Entry::DeleteRange(delete_request(keys, *previous)),
        Request::Txn(txn) if !reads_only(txn) => Entry::Txn(txn_request(txn)),
        Request::Compact(revision) => Entry::Compaction(CompactionRequest { revision: *revision, physical: false }),
        Request::Grant { lease, ttl } => Entry::LeaseGrant(LeaseGrantRequest { id: lease.0, ttl: *ttl }),
        Request::Revoke(lease) => Entry::LeaseRevoke(LeaseRevokeRequest { id: lease.0 }),
        Request::Range(_) | Request::Txn(_) | Request::KeepAlive(_) => return None,
    })
}

pub(crate) fn encode(id: u64, request: Entry) -> Bytes {
    let header = Some(RequestHeader { id, ..RequestHeader::default() });
    InternalRaftRequest { header, id: 0, request: Some(request) }.encode_to_vec().into()
}

pub(crate) fn reads_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|step| matches!(step, Step::Range(_)))
}

fn wire_range(keys: &KeyRange) -> (Bytes, Bytes) {
    let end = match &keys.end {
        RangeEnd::Single => Bytes::new(),
        RangeEnd::Before(end) => end.clone(),
        RangeEnd::Unbounded => Bytes::from_static(b"\0"),
    };
    let start = if keys.start.is_empty() { Bytes::from_static(b"\0") } else { keys.start.clone() };
    (start, end)
}

fn put_request(put: &Put) -> PutRequest {
    PutRequest {
        key: put.key.clone(),
        value: put.value.clone(),
        lease: put.lease.0,
        prev_kv: put.previous,
        ..PutRequest::default()
    }
}

fn delete_request(keys: &KeyRange, previous: bool) -> DeleteRangeRequest {
    let (key, range_end) = wire_range(keys);
    DeleteRangeRequest { key, range_end, prev_kv: previous }
}

pub(crate) fn range_request(query: &RangeQuery) -> RangeRequest {
    let (key, range_end) = wire_range(&query.keys);
    RangeRequest {
        key,
        range_end,
        revision: query.revision,
        limit: query.limit,
        count_only: query.count_only,
        serializable: query.serializable,
        ..RangeRequest::default()
    }
}

pub(crate) fn txn_request(txn: &Txn) -> TxnRequest {
    let steps = |steps: &[Step]| steps.iter().map(|step| RequestOp { request: Some(op(step)) }).collect();
    TxnRequest {
        compare: txn.compare.iter().map(comparison).collect(),
        success: steps(&txn.success),
        failure: steps(&txn.failure),
    }
}

fn op(step: &Step) -> request_op::Request {
    match step {
        Step::Put(put) => request_op::Request::RequestPut(put_request(put)),
        Step::Delete { keys, previous } => request_op::Request::RequestDeleteRange(delete_request(keys, *previous)),
        Step::Range(query) => request_op::Request::RequestRange(range_request(query)),
    }
}

fn comparison(comparison: &Comparison) -> Compare {
    use compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, union) = match &comparison.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Created(revision) => (CompareTarget::Create, TargetUnion::CreateRevision(*revision)),
        Target::Modified(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(*revision)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(lease.0)),
    };
    let result = match comparison.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
    };
    Compare {
        result: result as i32,
        target: target as i32,
        key: comparison.key.clone(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// What a member's reply to a request says.
///
/// # Errors
/// If it is no reply to that request.
pub(crate) fn answer(request: &Request, reply: Reply) -> Result<Answer, String> {
    let revision = reply.revision;
    let bytes = reply.body.into_bytes().map_err(|error| error.to_string())?;
    let unreadable = |error: prost::DecodeError| error.to_string();
    let body = match request {
        Request::Put(_) => put_body(PutResponse::decode(bytes).map_err(unreadable)?),
        Request::Delete { .. } => delete_body(DeleteRangeResponse::decode(bytes).map_err(unreadable)?),
        Request::Range(_) => range_body(RangeResponse::decode(bytes).map_err(unreadable)?),
        Request::Txn(_) => {
            let response = TxnResponse::decode(bytes).map_err(unreadable)?;
            let bodies = response.responses.into_iter().map(op_body).collect::<Result<_, String>>()?;
            Body::Txn { succeeded: response.succeeded, bodies }
        }
        Request::Compact(_) => Body::Compacted,
        Request::Grant { .. } => Body::Granted { ttl: LeaseGrantResponse::decode(bytes).map_err(unreadable)?.ttl },
        Request::Revoke(_) => Body::Revoked,
        Request::KeepAlive(_) => return Err("a renewal has no reply of the machine".to_owned()),
    };
    Ok(Answer { revision, body })
}

fn op_body(op: ResponseOp) -> Result<Body, String> {
    match op.response {
        Some(response_op::Response::ResponsePut(put)) => Ok(put_body(put)),
        Some(response_op::Response::ResponseDeleteRange(delete)) => Ok(delete_body(delete)),
        Some(response_op::Response::ResponseRange(range)) => Ok(range_body(range)),
        other => Err(format!("not an answer to an operation: {other:?}")),
    }
}

fn put_body(response: PutResponse) -> Body {
    Body::Put { previous: response.prev_kv.map(key_value) }
}

fn delete_body(response: DeleteRangeResponse) -> Body {
    Body::Deleted { count: response.deleted, previous: response.prev_kvs.into_iter().map(key_value).collect() }
}

fn range_body(response: etcdserverpb::RangeResponse) -> Body {
    let kvs = response.kvs.into_iter().map(key_value).collect();
    Body::Range { kvs, count: response.count, more: response.more }
}

fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: LeaseId(kv.lease),
    }
}

fn record(record: &Record) -> KeyValue {
    let meta = record.meta();
    KeyValue {
        key: Bytes::copy_from_slice(record.key()),
        value: Bytes::copy_from_slice(record.value()),
        created: meta.create_revision,
        modified: meta.mod_revision,
        version: meta.version,
        lease: meta.lease,
    }
}

pub(crate) fn event(event: &watch::Event, with_previous: bool) -> Event {
    let mut kv = record(&event.record);
    kv.modified = event.row.revision.main;
    let previous = event.previous.as_ref().filter(|_| with_previous).map(record);
    Event { is_delete: event.is_delete(), kv, previous }
}

pub(crate) fn change(event: &watch::Event) -> Change {
    let put = (!event.is_delete()).then(|| (Bytes::copy_from_slice(event.record.value()), event.record.meta().lease));
    Change { key: Bytes::copy_from_slice(event.key()), put }
}

/// The refusal that an error stands for, if the checker knows it.
pub(crate) fn refusal(error: &ApplyError) -> Option<Refusal> {
    match error {
        ApplyError::Compacted => Some(Refusal::Compacted),
        ApplyError::FutureRevision => Some(Refusal::FutureRevision),
        ApplyError::LeaseNotFound => Some(Refusal::LeaseNotFound),
        ApplyError::LeaseExists => Some(Refusal::LeaseExists),
        _ => None,
    }
}

/// What a failed read comes to: refused, or the store is broken.
pub(crate) fn failure(failure: Failure) -> Result<ApplyError, String> {
    match failure {
        Failure::Refused(error) => Ok(error),
        Failure::Broken(error) => Err(error.to_string()),
    }
}
