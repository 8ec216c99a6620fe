use api::etcdserverpb::Compare;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn put(key: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.into(), ..PutRequest::default() }))
}

fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
    let (key, range_end) = (key.into(), range_end.into());
    op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
}

fn range(key: &'static str, sort_order: i32, sort_target: i32) -> RequestOp {
    let key = key.into();
    op(Request::RequestRange(RangeRequest { key, sort_order, sort_target, ..RangeRequest::default() }))
}

fn nested<const S: usize, const F: usize>(success: [RequestOp; S], failure: [RequestOp; F]) -> RequestOp {
    op(Request::RequestTxn(txn(success, failure)))
}

fn txn<const S: usize, const F: usize>(success: [RequestOp; S], failure: [RequestOp; F]) -> TxnRequest {
    TxnRequest { compare: vec![], success: success.into(), failure: failure.into() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Each line was tried on etcd 3.5.30.
#[test]
fn keys_written_twice_are_found_as_etcd_finds_them() {
    let duplicate = Err(RequestError::DuplicateKey);
    for (what, success, expected) in [
        ("put twice", vec![put("a"), put("a")], duplicate),
        ("put in a deleted range", vec![put("b"), delete("a", "c")], duplicate),
        ("put right after a deleted range", vec![put("c"), delete("a", "c")], Ok(())),
        ("put of the deleted key", vec![delete("b", ""), put("b")], duplicate),
        ("delete twice", vec![delete("b", ""), delete("a", "c")], Ok(())),
        ("delete to the end", vec![put("b"), delete("a", "\0")], Ok(())),
        ("delete everything", vec![delete("\0", "\0"), put("b")], Ok(())),
        ("delete of an empty range", vec![put("b"), delete("c", "a")], Ok(())),
        ("nested put, then nested delete", vec![nested([put("k")], []), nested([delete("k", "")], [])], Ok(())),
        ("nested delete, then nested put", vec![nested([delete("k", "")], []), nested([put("k")], [])], duplicate),
        ("nested put twice", vec![nested([put("k")], []), nested([], [put("k")])], duplicate),
        ("put in either branch", vec![nested([put("k")], [put("k")])], Ok(())),
        ("put in one branch, delete in the other", vec![nested([put("k")], [delete("k", "")])], Ok(())),
        ("nested put, outer delete after it", vec![nested([put("k")], []), delete("k", "")], duplicate),
        ("nested put, outer put before it", vec![put("k"), nested([], [put("k")])], duplicate),
        ("nested delete, outer put", vec![nested([delete("a", "z")], []), put("k")], duplicate),
        ("twice in a nested branch", vec![nested([put("k"), put("k")], [])], duplicate),
    ] {
        let txn = TxnRequest { success, ..TxnRequest::default() };
        assert_eq!(check_txn(&txn, 128), expected, "{what}");
        let txn = TxnRequest { failure: txn.success, ..TxnRequest::default() };
        assert_eq!(check_txn(&txn, 128), expected, "{what}, in the failure branch");
    }
    assert_eq!(check_txn(&txn([put("k")], [put("k")]), 128), Ok(()), "the branches are separate paths");
}

#[test]
fn operations_are_checked_wherever_they_are() {
    for (bad, error) in [
        (put(""), RequestError::EmptyKey),
        (delete("", "z"), RequestError::EmptyKey),
        (range("", 0, 0), RequestError::EmptyKey),
        (range("a", 3, 0), RequestError::InvalidSortOption),
        (range("a", 0, 5), RequestError::InvalidSortOption),
        (range("a", -1, 0), RequestError::InvalidSortOption),
        (RequestOp { request: None }, RequestError::EmptyOperation),
    ] {
        assert_eq!(check_txn(&txn([bad.clone()], []), 128), Err(error));
        assert_eq!(check_txn(&txn([], [bad.clone()]), 128), Err(error));
        assert_eq!(check_txn(&txn([put("a"), nested([], [bad])], []), 128), Err(error));
    }
    let txn = TxnRequest { compare: vec![Compare::default()], ..TxnRequest::default() };
    assert_eq!(check_txn(&txn, 128), Err(RequestError::EmptyKey));
    let put = |value: &'static str, lease, ignore_value, ignore_lease| {
        let (key, value) = (Bytes::from("k"), value.into());
        check_put(&PutRequest { key, value, lease, ignore_value, ignore_lease, prev_kv: false })
    };
    assert_eq!(put("v", 1, true, true), Err(RequestError::ValueProvided));
    assert_eq!(put("", 1, true, true), Err(RequestError::LeaseProvided));
    assert_eq!(put("", 0, true, true), Ok(()));
}

#[test]
fn nested_transactions_have_the_operations_their_parents_left() {
    let reads = |count| vec![range("a", 0, 0); count];
    let outer = |outer: usize, inner: usize| {
        let mut success = reads(outer - 1);
        let inner = TxnRequest { failure: reads(inner), ..TxnRequest::default() };
        success.push(op(Request::RequestTxn(inner)));
        check_txn(&TxnRequest { success, ..TxnRequest::default() }, 128)
    };
    assert_eq!(outer(128, 0), Ok(()));
    assert_eq!(outer(129, 0), Err(RequestError::TooManyOps));
    assert_eq!(outer(101, 27), Ok(()));
    assert_eq!(outer(101, 28), Err(RequestError::TooManyOps));
}

/// etcd accepts 128 levels, as many as its operations; ours end where a log entry could not be decoded.
#[test]
fn deep_nesting_is_refused_and_what_is_accepted_can_be_decoded() {
    use prost::Message;

    let deep =
        |levels: usize| (1..levels).fold(txn([put("k")], []), |inner, _| txn([op(Request::RequestTxn(inner))], []));
    assert_eq!(check_txn(&deep(TXN_DEPTH_MAX), 128), Ok(()));
    assert_eq!(check_txn(&deep(TXN_DEPTH_MAX + 1), 128), Err(RequestError::TxnTooDeep));
    assert_eq!(check_txn(&deep(1000), 128), Err(RequestError::TxnTooDeep));
    assert_eq!(check_txn(&deep(1000), 20), Err(RequestError::TooManyOps));
    let entry = api::etcdserverpb::InternalRaftRequest {
        request: Some(api::etcdserverpb::internal_raft_request::Request::Txn(deep(TXN_DEPTH_MAX))),
        ..Default::default()
    };
    assert!(api::etcdserverpb::InternalRaftRequest::decode(&entry.encode_to_vec()[..]).is_ok());
}

/// Keys put, and ranges deleted: first key, and the key after the last.
type Naive<'r> = (Vec<&'r [u8]>, Vec<(&'r [u8], Bytes)>);

/// As etcd says it, with lists: what the efficient form must agree with.
fn naive(branch: &[RequestOp]) -> Option<Naive<'_>> {
    let mut deletes: Vec<(&[u8], Bytes)> = Vec::new();
    for op in branch {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            let end = match &delete.range_end[..] {
                b"" => [&delete.key[..], b"\0"].concat().into(),
                _ => delete.range_end.clone(),
            };
            deletes.push((&delete.key, end));
        }
    }
    let deleted =
        |deletes: &[(&[u8], Bytes)], key: &[u8]| deletes.iter().any(|(start, end)| *start <= key && key < end);
    let mut puts: Vec<&[u8]> = Vec::new();
    for op in branch {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let (success, failure) = (naive(&nested.success)?, naive(&nested.failure)?);
            for &key in &success.0 {
                if puts.contains(&key) || deleted(&deletes, key) {
                    return None;
                }
                puts.push(key);
            }
            for &key in &failure.0 {
                if (puts.contains(&key) && !success.0.contains(&key)) || deleted(&deletes, key) {
                    return None;
                }
                if !puts.contains(&key) {
                    puts.push(key);
                }
            }
            deletes.extend(success.1);
            deletes.extend(failure.1);
        }
    }
    for op in branch {
        if let Some(Request::RequestPut(put)) = &op.request {
            if puts.contains(&&put.key[..]) || deleted(&deletes, &put.key) {
                return None;
            }
            puts.push(&put.key);
        }
    }
    Some((puts, deletes))
}

const KEYS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "\0"];

fn any_op() -> impl Strategy<Value = RequestOp> {
    let key = || (0..8usize).prop_map(|at| KEYS[at]);
    let end = (0..10usize).prop_map(|at| KEYS.get(at).copied().unwrap_or(""));
    let leaf = prop_oneof![3 => key().prop_map(put), 1 => (key(), end).prop_map(|(key, end)| delete(key, end))];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..3);
        (ops(), ops())
            .prop_map(|(success, failure)| op(Request::RequestTxn(TxnRequest { compare: vec![], success, failure })))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn overlaps_are_found_as_by_the_naive_check(success in prop::collection::vec(any_op(), 0..4)) {
        let expected = naive(&success).is_some();
        let txn = TxnRequest { success, ..TxnRequest::default() };
        prop_assert_eq!(check_txn(&txn, 128).is_ok(), expected);
    }
}
