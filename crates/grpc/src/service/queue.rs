//! What locks and elections share: keys that stand in line under a prefix, the oldest first.
//!
//! A key is named after its owner's lease and goes when the lease goes. Whoever has no older key in front holds the
//! lock or leads. Waiting is watching the one key right in front.
//!
//! The services act as a client of their own member, so a failure inside reaches the caller as UNKNOWN with its text.
//!
//! Source: etcd-io/etcd `client/v3/concurrency/{key,mutex,election,session}.go`.

use api::errors::{self, Code};
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, PutRequest, RangeRequest, RangeResponse,
    RequestOp, TxnRequest, TxnResponse, request_op,
};
use api::mvccpb::KeyValue;
use bytes::Bytes;
use machine::Reply;
use prost::Message;
use server::Error;
use types::{KeyRange, LeaseId};
use watch::CreateRequest;

use super::body_bytes;
use crate::status::Status;
use crate::worker::Worker;

/// The life of a lease that a caller did not bring, in seconds. Nobody keeps it alive.
const SESSION_TTL: i64 = 60;

/// A response message and the revision of its header.
pub(super) struct At<T> {
    pub(super) revision: i64,
    pub(super) message: T,
}

/// The keys in line under `name/`.
pub(super) struct Queue<'a> {
    worker: &'a Worker,
    prefix: Vec<u8>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(worker: &'a Worker, name: &[u8]) -> Queue<'a> {
        Queue { worker, prefix: [name, b"/"].concat() }
    }

    /// The key of the owner with this lease: the prefix and the lease in hex.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let digits = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix, digits.as_bytes()].concat().into()
    }

    /// Every key of the queue.
    pub(super) fn range(&self) -> KeyRange {
        KeyRange::prefix(&self.prefix)
    }

    /// Asks for the oldest key.
    pub(super) fn first(&self) -> RangeRequest {
        self.one(SortOrder::Ascend, 0)
    }

    fn one(&self, order: SortOrder, max_create_revision: i64) -> RangeRequest {
        // The prefix ends in a slash, and '0' is what comes after it.
        let (name, _) = self.prefix.split_at(self.prefix.len() - 1);
        RangeRequest {
            key: Bytes::copy_from_slice(&self.prefix),
            range_end: [name, b"0"].concat().into(),
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision,
            ..RangeRequest::default()
        }
    }

    /// Returns when no key made before `create_revision` is left.
    pub(super) async fn wait_turn(&self, create_revision: i64) -> Result<(), Status> {
        loop {
            let in_front = range(self.worker, self.one(SortOrder::Descend, create_revision - 1)).await?;
            let Some(key) = in_front.message.kvs.into_iter().next() else { return Ok(()) };
            wait_deleted(self.worker, key.key, in_front.revision).await?;
        }
    }
}

/// Returns when `key`, which lived at `revision`, is deleted; or when that must be looked up anew.
async fn wait_deleted(worker: &Worker, key: Bytes, revision: i64) -> Result<(), Status> {
    let stream = worker.watches().open();
    let range = KeyRange::single(key);
    stream.create(&CreateRequest { start_revision: revision, no_put: true, ..CreateRequest::new(range) });
    let deleted = async {
        loop {
            let message = stream.next_message().await;
            if message.canceled || message.events().next().is_some() {
                return;
            }
        }
    };
    tokio::select! {
        () = deleted => Ok(()),
        () = worker.handle().stopped() => Err(opaque(errors::STOPPED)),
    }
}

/// The lease of a caller's session: the one given, or a new one.
pub(super) async fn session(worker: &Worker, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        // A session keeps its lease alive; this one lives only as long as the call, so once is all it does.
        let _ = worker.handle().lease_keep_alive(LeaseId(lease)).await;
        return Ok(lease);
    }
    let reply = worker.handle().lease_grant(LeaseGrantRequest { ttl: SESSION_TTL, id: 0 }).await;
    let granted: At<LeaseGrantResponse> = decode(reply)?;
    Ok(granted.message.id)
}

pub(super) async fn range(worker: &Worker, request: RangeRequest) -> Result<At<RangeResponse>, Status> {
    decode(worker.handle().range(request).await)
}

pub(super) async fn txn(worker: &Worker, request: TxnRequest) -> Result<At<TxnResponse>, Status> {
    decode(worker.handle().txn(request).await)
}

pub(super) async fn delete(worker: &Worker, key: Bytes) -> Result<i64, Status> {
    let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    worker.handle().delete_range(request).await.map(|reply| reply.revision).map_err(opaque)
}

fn decode<T: Message + Default>(reply: Result<Reply, Error>) -> Result<At<T>, Status> {
    let Reply { revision, body } = reply.map_err(opaque)?;
    let message = T::decode(body_bytes(body)?);
    let message = message.map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
    Ok(At { revision, message })
}

/// A failure inside, as the caller of the service sees it.
fn opaque(failure: impl Into<Status>) -> Status {
    Status { code: Code::Unknown, ..failure.into() }
}

/// The comparison that `key` was created at `revision`; 0 if it does not exist.
pub(super) fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn put_op(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key, value, lease, ..PutRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

pub(super) fn range_op(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

pub(super) fn delete_op(key: Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

/// The keys that the range at `position` of a transaction found.
pub(super) fn found(response: TxnResponse, position: usize) -> Vec<KeyValue> {
    use api::etcdserverpb::response_op::Response;
    match response.responses.into_iter().nth(position).and_then(|op| op.response) {
        Some(Response::ResponseRange(range)) => range.kvs,
        _ => Vec::new(),
    }
}

/// A key that waits in line. If the wait is given up, the key is taken back.
pub(super) struct Waiting {
    worker: Worker,
    key: Bytes,
    create_revision: i64,
    is_over: bool,
}

impl Waiting {
    pub(super) fn new(worker: &Worker, key: Bytes, create_revision: i64) -> Waiting {
        Waiting { worker: worker.clone(), key, create_revision, is_over: false }
    }

    /// The key stays: its turn has come.
    pub(super) fn done(mut self) {
        self.is_over = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let worker = self.worker.clone();
        let request = TxnRequest {
            compare: vec![created_at(self.key.clone(), self.create_revision)],
            success: vec![delete_op(self.key.clone())],
            failure: vec![],
        };
        tokio::task::spawn_local(async move {
            if let Err(status) = txn(&worker, request).await {
                tracing::debug!(%status, "a key whose wait was given up stays until its lease ends");
            }
        });
    }
}
