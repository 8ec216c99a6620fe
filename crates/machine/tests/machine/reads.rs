//! What is read beside the log.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{Compare, HashKvRequest, HashKvResponse, RangeRequest, RangeResponse, TxnRequest};
use bytes::BytesMut;
use machine::{Body, Failure};

use crate::harness::{Member, compact, decode, delete, put, range, show, txn};

fn read(member: &Member, request: RangeRequest) -> String {
    match member.machine.shared().range(&request) {
        Ok(reply) => show(&Request::Range(request), reply),
        Err(error) => format!("error: {error}"),
    }
}

fn read_txn(member: &Member, request: Request) -> String {
    let Request::Txn(txn) = &request else { panic!("not a transaction") };
    match member.machine.shared().read_only_txn(txn) {
        Ok(reply) => show(&request, reply),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn ranges_are_answered_at_any_revision_there_is() {
    let mut member = Member::new();
    member.expect([
        (put("a", "1"), "@2"),
        (put("b", "2"), "@3"),
        (put("a", "3"), "@4"),
        (delete("b", ""), "@5 deleted 1"),
    ]);
    let at = |revision| RangeRequest { revision, ..range("a", "\0") };
    assert_eq!(read(&member, at(0)), "@5 a=3 2/4/2 of 1");
    assert_eq!(read(&member, at(-7)), "@5 a=3 2/4/2 of 1");
    assert_eq!(read(&member, at(3)), "@5 a=1 2/2/1 b=2 3/3/1 of 2");
    assert_eq!(read(&member, RangeRequest { limit: 1, ..at(3) }), "@5 a=1 2/2/1 of 2 more");
    assert_eq!(read(&member, RangeRequest { count_only: true, ..at(3) }), "@5 of 2");
    assert_eq!(read(&member, at(6)), "error: required revision is a future revision");
    assert_eq!(read(&member, range("", "")), "error: key is not provided");
    assert_eq!(read(&member, RangeRequest { sort_order: 7, ..at(0) }), "error: invalid sort option");
    member.expect([(compact(4), "@5")]);
    assert_eq!(read(&member, at(3)), "error: required revision has been compacted");
    assert_eq!(read(&member, at(4)), "@5 a=3 2/4/2 b=2 3/3/1 of 2");
}

#[test]
fn a_large_range_is_encoded_piece_by_piece() {
    let mut member = Member::new();
    for number in 0..50 {
        member.apply(put(&format!("key{number:02}"), &"v".repeat(100))).unwrap();
    }
    let shared = member.machine.shared();
    let whole = shared.range(&range("\0", "\0")).unwrap().body.into_bytes().unwrap();
    let Body::Rows(mut rows) = shared.range(&range("\0", "\0")).unwrap().body else { panic!("rows expected") };
    assert_eq!((rows.len(), rows.count(), rows.more()), (50, 50, false));
    let (mut out, mut pieces) = (BytesMut::new(), 1);
    assert_eq!(rows.encoded_len(), whole.len() as u64);
    while rows.encode_next(&mut out, 1000).unwrap() {
        pieces += 1;
        assert_eq!(rows.encoded_len() + out.len() as u64, whole.len() as u64);
    }
    assert!((4..=10).contains(&pieces), "{pieces}");
    assert_eq!((out.freeze(), rows.encoded_len()), (whole.clone(), 0));
    assert_eq!(decode::<RangeResponse>(&whole).kvs.len(), 50);
}

#[test]
fn read_only_transactions_do_without_the_log() {
    let mut member = Member::new();
    member.expect([(put("a", "1"), "@2"), (put("a", "2"), "@3")]);
    let compare = |version: i64| api::etcdserverpb::Compare {
        key: "a".into(),
        target_union: Some(api::etcdserverpb::compare::TargetUnion::Version(version)),
        ..Default::default()
    };
    let get = |revision| Request::Range(RangeRequest { revision, ..range("a", "") });
    let asked = |version| txn([compare(version)], [get(0), get(2)], [get(-1)]);
    assert_eq!(read_txn(&member, asked(2)), "@3 then [@3 a=2 2/3/2 of 1] [@3 a=1 2/2/1 of 1]");
    assert_eq!(read_txn(&member, asked(1)), "@3 else [@3 a=2 2/3/2 of 1]");
    assert_eq!(read_txn(&member, txn([], [get(4)], [])), "error: required revision is a future revision");
    assert_eq!(read_txn(&member, txn([], [get(-2)], [])), "error: required revision has been compacted");
    assert_eq!(read_txn(&member, txn([], [], [])), "@3 then");
    // The log gives the same answers.
    let through_log = member.show(asked(2));
    assert_eq!(read_txn(&member, asked(2)), through_log);
    member.expect([(compact(3), "@3")]);
    assert_eq!(read_txn(&member, asked(2)), "error: required revision has been compacted");
    let Request::Txn(writes) = txn([], [put("a", "")], []) else { unreachable!() };
    let refused = member.machine.shared().read_only_txn(&TxnRequest { ..writes });
    assert!(matches!(refused, Err(Failure::Refused(_))));
}

#[test]
fn hashes_are_told() {
    let mut member = Member::new();
    member.apply(put("a", "1")).unwrap();
    let shared = member.machine.shared();
    let hash: HashKvResponse =
        decode(&shared.hash_kv(&HashKvRequest { revision: 2 }).unwrap().body.into_bytes().unwrap());
    assert_eq!((hash.hash, hash.compact_revision, hash.hash_revision), (member.hash().hash, -1, 2));
    assert!(matches!(shared.hash_kv(&HashKvRequest { revision: 3 }), Err(Failure::Refused(_))));
}

#[test]
fn a_transaction_looks_at_what_its_compares_and_both_branches_look_at() {
    let mut member = Member::new();
    for number in 0..10 {
        member.apply(put(&format!("key{number}"), "v")).unwrap();
    }
    let Request::Txn(mut txn) = txn([], [Request::Range(range("a", "z"))], [Request::Range(range("key1", ""))]) else {
        panic!("not a transaction")
    };
    let looked_at = |txn: &TxnRequest, enough| member.machine.shared().txn_keys_looked_at(txn, enough).unwrap();
    assert_eq!(looked_at(&txn, 100), 11);
    assert_eq!(looked_at(&txn, 5), 5, "more is not told");
    let compare = Compare { key: "key".into(), range_end: "kez".into(), ..Compare::default() };
    txn.compare = vec![compare, Compare { key: "key".into(), ..Compare::default() }];
    assert_eq!(looked_at(&txn, 100), 22);
}
