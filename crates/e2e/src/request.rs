//! Requests with only what matters written out; struct update syntax adds the rest.

use api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, compare, request_op, watch_request,
};
use bytes::Bytes;

pub use compare::{CompareResult, CompareTarget, TargetUnion};

/// Copies a key or value.
pub fn bytes(from: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(from.as_ref())
}

pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

/// One key.
pub fn get(key: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

/// The keys from `key` up to, and without, `end`.
pub fn range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(end), ..RangeRequest::default() }
}

/// Every key.
pub fn everything() -> RangeRequest {
    range(b"\0", b"\0")
}

pub fn delete(key: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() }
}

pub fn delete_range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), ..DeleteRangeRequest::default() }
}

/// Compaction that answers when the removal is done.
pub fn compact(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: true }
}

/// A lease with an id of the caller's choice, 0 for the server's.
pub fn lease(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

pub fn op_put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> RequestOp {
    op(request_op::Request::RequestPut(put(key, value)))
}

pub fn op_get(key: impl AsRef<[u8]>) -> RequestOp {
    op(request_op::Request::RequestRange(get(key)))
}

pub fn op_delete(key: impl AsRef<[u8]>) -> RequestOp {
    op(request_op::Request::RequestDeleteRange(delete(key)))
}

pub fn op_delete_range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> RequestOp {
    op(request_op::Request::RequestDeleteRange(delete_range(key, end)))
}

pub fn op_txn(txn: TxnRequest) -> RequestOp {
    op(request_op::Request::RequestTxn(txn))
}

pub fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A transaction with only a success branch.
pub fn txn(success: impl Into<Vec<RequestOp>>) -> TxnRequest {
    TxnRequest { success: success.into(), ..TxnRequest::default() }
}

pub fn compare(
    key: impl AsRef<[u8]>,
    result: CompareResult,
    target: CompareTarget,
    operand: Option<TargetUnion>,
) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: operand,
    }
}

/// The key's value equals `value`.
pub fn value_is(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Value, Some(TargetUnion::Value(bytes(value))))
}

/// The key was created by revision `revision`; 0 for a key that is not there.
pub fn created_at(key: impl AsRef<[u8]>, revision: i64) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Create, Some(TargetUnion::CreateRevision(revision)))
}

/// A watch of one key.
pub fn watch(key: impl AsRef<[u8]>) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), ..WatchCreateRequest::default() }
}

/// A watch of a range of keys.
pub fn watch_range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..WatchCreateRequest::default() }
}

pub fn watch_create(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) }
}

pub fn watch_cancel(watch_id: i64) -> WatchRequest {
    WatchRequest { request_union: Some(watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) }
}

pub fn watch_progress() -> WatchRequest {
    WatchRequest { request_union: Some(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {})) }
}
