//! The checker's requests and answers as etcd's.

use api::etcdserverpb as pb;
use api::etcdserverpb::request_op::Request as Op;
use api::etcdserverpb::response_op::Response as OpAnswer;
use api::mvccpb;
use bytes::Bytes;
use checker::{Answer, Body, Comparison, KeyValue, Put, RangeQuery, Relation, Request, Step, Target, Txn};
use testkit::grpc::{Client, Status};
use types::{KeyRange, LeaseId, RangeEnd};

/// Makes one call. What is missing in an answer becomes what no store answers, for the checker to find.
pub(super) async fn call(client: &Client, request: &Request) -> Result<Answer, Status> {
    let (header, body) = match request {
        Request::Put(put) => {
            let answer = client.put(put_request(put)).await?;
            (answer.header, Body::Put { previous: answer.prev_kv.map(key_value) })
        }
        Request::Delete { keys, previous } => {
            let answer = client.delete_range(delete_request(keys, *previous)).await?;
            (answer.header, deleted(answer))
        }
        Request::Range(query) => {
            let answer = client.range(range_request(query)).await?;
            (answer.header, ranged(answer))
        }
        Request::Txn(txn) => {
            let answer = client.txn(txn_request(txn)).await?;
            (answer.header, decided(answer))
        }
        Request::Compact(revision) => {
            (client.compact(crate::request::compact(*revision)).await?.header, Body::Compacted)
        }
        Request::Grant { lease, ttl } => {
            let answer = client.lease_grant(crate::request::lease(lease.0, *ttl)).await?;
            (answer.header, Body::Granted { ttl: answer.ttl })
        }
        Request::Revoke(lease) => {
            (client.lease_revoke(pb::LeaseRevokeRequest { id: lease.0 }).await?.header, Body::Revoked)
        }
        Request::KeepAlive(lease) => {
            let answer = keep_alive(client, *lease).await?;
            (answer.header, Body::KeptAlive { ttl: answer.ttl })
        }
    };
    Ok(Answer { revision: header.map_or(-1, |header| header.revision), body })
}

async fn keep_alive(client: &Client, lease: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let mut stream = client.lease_keep_alive().await?;
    stream.send(&pb::LeaseKeepAliveRequest { id: lease.0 })?;
    let ended = || Status::new(testkit::grpc::Code::Unavailable, "the stream ended");
    stream.next().await?.ok_or_else(ended)
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: LeaseId(kv.lease),
    }
}

/// `key` and `range_end`.
pub(super) fn wire_range(keys: &KeyRange) -> (Bytes, Bytes) {
    let start = if keys.start.is_empty() { Bytes::from_static(b"\0") } else { keys.start.clone() };
    let end = match &keys.end {
        RangeEnd::Single => Bytes::new(),
        RangeEnd::Unbounded => Bytes::from_static(b"\0"),
        RangeEnd::Before(end) => end.clone(),
    };
    (start, end)
}

fn put_request(put: &Put) -> pb::PutRequest {
    let Put { key, value, lease, previous } = put.clone();
    pb::PutRequest { key, value, lease: lease.0, prev_kv: previous, ..Default::default() }
}

fn delete_request(keys: &KeyRange, previous: bool) -> pb::DeleteRangeRequest {
    let (key, range_end) = wire_range(keys);
    pb::DeleteRangeRequest { key, range_end, prev_kv: previous }
}

fn range_request(query: &RangeQuery) -> pb::RangeRequest {
    let (key, range_end) = wire_range(&query.keys);
    let RangeQuery { revision, limit, count_only, serializable, .. } = *query;
    pb::RangeRequest { key, range_end, revision, limit, count_only, serializable, ..Default::default() }
}

fn txn_request(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(comparison).collect(),
        success: txn.success.iter().map(step).collect(),
        failure: txn.failure.iter().map(step).collect(),
    }
}

fn comparison(given: &Comparison) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let result = match given.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
    };
    let (target, operand) = match &given.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Created(revision) => (CompareTarget::Create, TargetUnion::CreateRevision(*revision)),
        Target::Modified(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(*revision)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(lease.0)),
    };
    crate::request::compare(&given.key, result, target, Some(operand))
}

fn step(step: &Step) -> pb::RequestOp {
    crate::request::op(match step {
        Step::Put(put) => Op::RequestPut(put_request(put)),
        Step::Delete { keys, previous } => Op::RequestDeleteRange(delete_request(keys, *previous)),
        Step::Range(query) => Op::RequestRange(range_request(query)),
    })
}

fn deleted(answer: pb::DeleteRangeResponse) -> Body {
    Body::Deleted { count: answer.deleted, previous: answer.prev_kvs.into_iter().map(key_value).collect() }
}

fn ranged(answer: pb::RangeResponse) -> Body {
    Body::Range { kvs: answer.kvs.into_iter().map(key_value).collect(), count: answer.count, more: answer.more }
}

fn decided(answer: pb::TxnResponse) -> Body {
    let bodies = answer.responses.into_iter().map(|op| match op.response {
        Some(OpAnswer::ResponsePut(put)) => Body::Put { previous: put.prev_kv.map(key_value) },
        Some(OpAnswer::ResponseDeleteRange(answer)) => deleted(answer),
        Some(OpAnswer::ResponseRange(answer)) => ranged(answer),
        // Nobody asked for either.
        Some(OpAnswer::ResponseTxn(_)) | None => Body::Compacted,
    });
    Body::Txn { succeeded: answer.succeeded, bodies: bodies.collect() }
}
