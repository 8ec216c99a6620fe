//! Puts, deletions, compaction, and the events they make.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{DeleteRangeRequest, PutRequest};
use bytes::Bytes;
use types::EntryKind;

use crate::harness::{
    Member, compact, delete, delete_request, encode, grant, put, put_leased, put_request, range, txn,
};

#[test]
fn revisions_rise_by_one_for_each_change_and_stay_otherwise() {
    Member::new().expect([
        (Request::Range(range("a", "")), "@1 of 0"),
        (delete("a", ""), "@1 deleted 0"),
        (put("a", "1"), "@2"),
        (put("a", "1"), "@3"),
        (Request::Range(range("a", "")), "@3 a=1 2/3/2 of 1"),
        (txn([], [Request::Range(range("a", ""))], []), "@3 then [@3 a=1 2/3/2 of 1]"),
        (txn([], [], []), "@3 then"),
        (grant(7, 10), "@3 id 7 ttl 10"),
        (compact(2), "@3"),
        (delete("a", ""), "@4 deleted 1"),
        (put("a", "2"), "@5"),
        (Request::Range(range("a", "")), "@5 a=2 5/5/1 of 1"),
    ]);
}

#[test]
fn put_keeps_what_it_is_told_to_keep() {
    let keep = |ignore_value, ignore_lease, lease| {
        let value = if ignore_value { "" } else { "new" };
        Request::Put(PutRequest { ignore_value, ignore_lease, lease, ..put_request("k", value) })
    };
    Member::new().expect([
        (keep(true, false, 0), "error: key not found"),
        (keep(false, true, 0), "error: key not found"),
        (keep(true, false, 9), "error: requested lease not found"),
        (grant(9, 10), "@1 id 9 ttl 10"),
        (put_leased("k", "old", 9), "@2"),
        (keep(true, true, 0), "@3"),
        (Request::Range(range("k", "")), "@3 k=old 2/3/2/lease9 of 1"),
        (keep(false, true, 0), "@4"),
        (Request::Range(range("k", "")), "@4 k=new 2/4/3/lease9 of 1"),
        (keep(true, false, 0), "@5"),
        (Request::Range(range("k", "")), "@5 k=new 2/5/4 of 1"),
    ]);
}

#[test]
fn previous_key_values_come_back_if_asked_for() {
    let put = |value| Request::Put(PutRequest { prev_kv: true, ..put_request("k", value) });
    let delete = |key, end| Request::DeleteRange(DeleteRangeRequest { prev_kv: true, ..delete_request(key, end) });
    Member::new().expect([
        (put("1"), "@2"),
        (put("2"), "@3 was k=1 2/2/1"),
        (crate::harness::put("a", ""), "@4"),
        (delete("a", "z"), "@5 deleted 2 a= 4/4/1 k=2 2/3/2"),
        (delete("a", "z"), "@5 deleted 0"),
        (put("3"), "@6"),
    ]);
}

#[test]
fn ranges_of_deletions_are_half_open_or_to_the_end() {
    let mut member = Member::new();
    for key in ["a", "b", "c", "d", "e"] {
        member.apply(put(key, "")).unwrap();
    }
    member.expect([
        (delete("c", "b"), "@6 deleted 0"),
        (delete("b", "d"), "@7 deleted 2"),
        (delete("d", "\0"), "@8 deleted 2"),
        (delete("\0", "\0"), "@9 deleted 1"),
    ]);
}

#[test]
fn compaction_is_checked_and_holds_at_once() {
    let old = |revision| {
        let mut range = range("a", "");
        range.revision = revision;
        Request::Range(range)
    };
    let mut member = Member::new();
    member.expect([
        (compact(2), "error: required revision is a future revision"),
        (compact(0), "@1"),
        (compact(0), "error: required revision has been compacted"),
        (put("a", "1"), "@2"),
        (put("a", "2"), "@3"),
        (put("a", "3"), "@4"),
        (old(2), "@4 a=1 2/2/1 of 1"),
        (compact(3), "@4"),
        (compact(3), "error: required revision has been compacted"),
        (compact(2), "error: required revision has been compacted"),
        (old(2), "error: required revision has been compacted"),
        (old(3), "@4 a=2 2/3/2 of 1"),
        (old(5), "error: required revision is a future revision"),
        (compact(4), "@4"),
        (compact(5), "error: required revision is a future revision"),
    ]);
    assert!(member.entry(EntryKind::Normal, encode(1, put("a", "4"))).results.len() == 1);
    assert!(member.entry(EntryKind::Normal, encode(1, compact(5))).compacted);
}

#[test]
fn events_carry_every_change_in_order_with_what_was_before() {
    let mut member = Member::new();
    member.apply(put("a", "1")).unwrap();
    let request = txn([], [put("b", "2"), put("a", "3"), delete("a", "z")], []);
    let applied = member.entry(EntryKind::Normal, encode(5, request));
    assert_eq!((applied.results[0].0, applied.events.len()), (5, 1));
    assert_eq!(applied.events[0].revision, 3);
    let events = applied.events[0].events.iter().map(|event| {
        let previous = event.previous.as_ref().map(|record| String::from_utf8_lossy(record.value()).into_owned());
        let key = String::from_utf8_lossy(event.record.key()).into_owned();
        (event.row.revision.sub, event.row.tombstone, key, previous)
    });
    // What was before is what was before the transaction, as seen on etcd 3.5.30.
    let expected = [(0, false, "b", None), (1, false, "a", Some("1")), (2, true, "a", Some("1")), (3, true, "b", None)];
    let expected =
        expected.map(|(sub, tombstone, key, previous)| (sub, tombstone, key.to_owned(), previous.map(str::to_owned)));
    assert_eq!(events.collect::<Vec<_>>(), expected);
    assert!(member.entry(EntryKind::Normal, encode(5, delete("a", "z"))).events.is_empty());
}

#[test]
fn what_cannot_be_read_or_done_is_a_result_and_changes_nothing() {
    let mut member = Member::new();
    let result = |member: &mut Member, data: &'static [u8]| {
        let applied = member.entry(EntryKind::Normal, Bytes::from_static(data));
        let (id, _, result) = &applied.results[0];
        (*id, result.as_ref().unwrap_err().to_string())
    };
    assert!(result(&mut member, b"\xff\xff").1.starts_with("log entry is not a request"));
    assert_eq!(result(&mut member, b"\x08\x05").0, 5);
    assert_eq!(result(&mut member, b"\x08\x05\x12\x00").1, "log entry is not a request: unknown kind of request");
    assert!(member.entry(EntryKind::Normal, Bytes::new()).results.is_empty());
    let auth = Request::AuthEnable(api::etcdserverpb::AuthEnableRequest {});
    let mut sorted = range("a", "z");
    sorted.sort_target = 9;
    member.expect([
        (auth, "error: auth enable is not supported"),
        (put("", "v"), "error: key is not provided"),
        (delete("", ""), "error: key is not provided"),
        (Request::Range(sorted), "error: invalid sort option"),
        (put("a", "1"), "@2"),
    ]);
}
