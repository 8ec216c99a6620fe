//! What a request may add to the database, for the quota.
//!
//! Source: etcd-io/etcd `server/storage/quota.go`; puts of nested transactions count, as from 3.6.14 on.

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// Bytes a key costs beyond itself and its value.
const KEY_OVERHEAD: u64 = 256;

pub fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD + put.key.len() as u64 + put.value.len() as u64
}

/// The dearer branch; 0 if neither puts anything.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

fn branch_cost(ops: &[RequestOp]) -> u64 {
    let cost = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    };
    ops.iter().map(cost).sum()
}
