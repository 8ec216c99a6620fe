//! Which entries take no time worth handing them to another thread.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{DeleteRangeRequest, InternalRaftRequest, RangeRequest, TxnRequest, request_op};
use prost::Message;
use types::{EntryKind, LogEntry};

/// Longer entries are not looked into.
const BRIEF_BYTES_MAX: usize = 4 << 10;

/// Whether applying `entry` is sure to be quick: it touches single keys or leases, and few of them. Those that span keys,
/// change the members or begin a term are not brief, whatever they turn out to do.
pub fn is_brief(entry: &LogEntry) -> bool {
    if entry.kind != EntryKind::Normal || entry.data.len() > BRIEF_BYTES_MAX {
        return false;
    }
    match InternalRaftRequest::decode(entry.data.clone()).map(|read| read.request) {
        Ok(Some(Request::Put(_) | Request::LeaseGrant(_) | Request::LeaseCheckpoint(_))) => true,
        Ok(Some(Request::DeleteRange(delete))) => is_single_delete(&delete),
        Ok(Some(Request::Txn(txn))) => is_brief_txn(&txn),
        _ => false,
    }
}

fn is_brief_txn(txn: &TxnRequest) -> bool {
    let is_brief_op = |op: &request_op::Request| match op {
        request_op::Request::RequestPut(_) => true,
        request_op::Request::RequestRange(RangeRequest { range_end, .. }) => range_end.is_empty(),
        request_op::Request::RequestDeleteRange(delete) => is_single_delete(delete),
        request_op::Request::RequestTxn(_) => false,
    };
    let mut ops = txn.success.iter().chain(&txn.failure).filter_map(|op| op.request.as_ref());
    txn.compare.iter().all(|compare| compare.range_end.is_empty()) && ops.all(is_brief_op)
}

fn is_single_delete(delete: &DeleteRangeRequest) -> bool {
    delete.range_end.is_empty()
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::{CompactionRequest, Compare, LeaseRevokeRequest, PutRequest, RequestOp};
    use bytes::Bytes;
    use types::{Index, Term};

    use super::*;

    fn entry(request: Option<Request>) -> LogEntry {
        let data = InternalRaftRequest { id: 7, request, ..Default::default() }.encode_to_vec().into();
        LogEntry { term: Term(1), index: Index(1), kind: EntryKind::Normal, data }
    }

    fn put(value_bytes: usize) -> PutRequest {
        PutRequest { key: Bytes::from_static(b"k"), value: vec![0; value_bytes].into(), ..Default::default() }
    }

    fn delete(range_end: &'static [u8]) -> DeleteRangeRequest {
        DeleteRangeRequest { key: Bytes::from_static(b"k"), range_end: range_end.into(), ..Default::default() }
    }

    fn op(request: request_op::Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> Request {
        Request::Txn(TxnRequest { success, failure, compare: vec![Compare::default()] })
    }

    #[test]
    fn what_touches_single_keys_is_brief() {
        let range = RangeRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        let guarded = txn(
            vec![op(request_op::Request::RequestPut(put(10)))],
            vec![
                op(request_op::Request::RequestRange(range)),
                op(request_op::Request::RequestDeleteRange(delete(b""))),
            ],
        );
        for request in [Request::Put(put(10)), Request::DeleteRange(delete(b"")), guarded] {
            assert!(is_brief(&entry(Some(request.clone()))), "{request:?}");
        }
    }

    #[test]
    fn what_may_touch_many_is_not() {
        let spanning = Compare { range_end: Bytes::from_static(b"\0"), ..Default::default() };
        let many = RangeRequest { range_end: Bytes::from_static(b"\0"), ..Default::default() };
        let nested = TxnRequest::default();
        let requests = [
            Request::Put(put(BRIEF_BYTES_MAX)),
            Request::DeleteRange(delete(b"\0")),
            Request::Txn(TxnRequest { compare: vec![spanning], ..Default::default() }),
            txn(vec![], vec![op(request_op::Request::RequestRange(many))]),
            txn(vec![op(request_op::Request::RequestDeleteRange(delete(b"z")))], vec![]),
            txn(vec![op(request_op::Request::RequestTxn(nested))], vec![]),
            Request::Compaction(CompactionRequest::default()),
            Request::LeaseRevoke(LeaseRevokeRequest::default()),
        ];
        for request in requests {
            assert!(!is_brief(&entry(Some(request.clone()))), "{request:?}");
        }
    }

    #[test]
    fn what_is_no_plain_request_is_not() {
        assert!(!is_brief(&entry(None)));
        assert!(!is_brief(&LogEntry { data: Bytes::new(), ..entry(None) }), "a term begins");
        assert!(!is_brief(&LogEntry { data: Bytes::from_static(b"\xff"), ..entry(None) }));
        let change = LogEntry { kind: EntryKind::ConfChange, ..entry(Some(Request::Put(put(1)))) };
        assert!(!is_brief(&change));
    }
}
