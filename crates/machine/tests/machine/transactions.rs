//! Transactions: compares, paths, checks, execution.

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{Compare, PutRequest};

use crate::harness::{Member, bytes, compact, delete, grant, put, put_leased, put_request, range, txn};

fn compare(key: &str, target: CompareTarget, result: CompareResult, operand: TargetUnion) -> Compare {
    let (key, target_union) = (bytes(key), Some(operand));
    Compare { result: result.into(), target: target.into(), key, range_end: bytes(""), target_union }
}

fn version_is(key: &str, version: i64) -> Compare {
    compare(key, CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(version))
}

fn get(key: &str) -> Request {
    Request::Range(range(key, ""))
}

fn get_at(key: &str, revision: i64) -> Request {
    Request::Range(api::etcdserverpb::RangeRequest { revision, ..range(key, "") })
}

#[test]
fn every_target_is_compared_with_every_result() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut member = Member::new();
    member.expect([(grant(7, 9), "@1 id 7 ttl 9"), (put("a", "x"), "@2"), (put_leased("a", "m", 7), "@3")]);
    let number = |target: CompareTarget, operand| match target {
        Version => TargetUnion::Version(operand),
        Create => TargetUnion::CreateRevision(operand),
        Mod => TargetUnion::ModRevision(operand),
        Lease => TargetUnion::Lease(operand),
        Value => unreachable!(),
    };
    let mut holds = |compare: Compare| match member.show(txn([compare], [], [])).as_str() {
        "@3 then" => true,
        "@3 else" => false,
        other => panic!("{other}"),
    };
    for (target, stored) in [(Version, 2), (Create, 2), (Mod, 3), (Lease, 7)] {
        for (key, stored) in [("a", stored), ("missing", 0)] {
            for (operand, equal, greater) in
                [(stored, true, false), (stored - 1, false, true), (stored + 1, false, false)]
            {
                let mut check = |result, expected| {
                    assert_eq!(holds(compare(key, target, result, number(target, operand))), expected);
                };
                check(Equal, equal);
                check(NotEqual, !equal);
                check(Greater, greater);
                check(Less, !equal && !greater);
            }
        }
    }
    for (operand, expected) in
        [("m", [true, false, false, false]), ("a", [false, true, true, false]), ("z", [false, true, false, true])]
    {
        for (result, expected) in [Equal, NotEqual, Greater, Less].into_iter().zip(expected) {
            assert_eq!(holds(compare("a", Value, result, TargetUnion::Value(bytes(operand)))), expected);
            assert!(!holds(compare("missing", Value, result, TargetUnion::Value(bytes(operand)))));
        }
    }
    // An operand of another kind counts as 0, no operand too.
    assert!(holds(compare("missing", Version, Equal, TargetUnion::Lease(5))));
    assert!(holds(Compare { target_union: None, ..version_is("missing", 5) }));
    // What etcd 3.5.30 does with numbers it does not know.
    assert!(holds(Compare { result: 9, ..version_is("a", 99) }));
    assert!(holds(Compare { target: 9, ..version_is("a", 99) }));
    assert!(!holds(Compare { target: 9, result: Greater.into(), ..version_is("a", 99) }));
    assert!(!holds(Compare { target: 9, result: NotEqual.into(), ..version_is("a", 99) }));
}

#[test]
fn a_compare_over_a_range_must_hold_for_every_key() {
    let mut member = Member::new();
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "2")] {
        member.apply(put(key, value)).unwrap();
    }
    let value_is = |end: &str, value: &str| {
        let compare = compare("a", CompareTarget::Value, CompareResult::Equal, TargetUnion::Value(bytes(value)));
        txn([Compare { range_end: bytes(end), ..compare }], [], [])
    };
    let in_range = |compare: Compare, end| txn([Compare { range_end: bytes(end), ..compare }], [], []);
    member.expect([
        (value_is("c", "1"), "@4 then"),
        (value_is("d", "1"), "@4 else"),
        (value_is("\0", "1"), "@4 else"),
        (in_range(version_is("a", 1), "\0"), "@4 then"),
        (in_range(version_is("a", 2), "\0"), "@4 else"),
        // An empty range is like a missing key.
        (in_range(version_is("x", 0), "\0"), "@4 then"),
        (in_range(version_is("x", 1), "\0"), "@4 else"),
    ]);
    let missing = compare("x", CompareTarget::Value, CompareResult::NotEqual, TargetUnion::Value(bytes("1")));
    member.expect([(in_range(missing, "\0"), "@4 else")]);
}

#[test]
fn operations_see_the_earlier_ones_and_share_a_revision() {
    let steps = [put("a", "1"), get("a"), delete("x", ""), txn([], [get("a")], []), txn([], [], [])];
    Member::new().expect([
        (txn([], steps, []), "@2 then [@2] [@2 a=1 2/2/1 of 1] [@2 deleted 0] [ then [@2 a=1 2/2/1 of 1]] [ then]"),
        // Before the first change the inner headers still show the old revision.
        (
            txn([], [get("a"), delete("x", ""), put("a", "2"), delete("x", ""), get_at("a", 2)], []),
            "@3 then [@2 a=1 2/2/1 of 1] [@2 deleted 0] [@3] [@3 deleted 0] [@3 a=1 2/2/1 of 1]",
        ),
        // A put after a deletion in the same transaction begins a new life.
        (txn([], [delete("\0", "\0"), put("a", "3")], []), "@4 then [@4 deleted 1] [@4]"),
        (get("a"), "@4 a=3 4/4/1 of 1"),
        (txn([version_is("a", 9)], [], [delete("x", "")]), "@4 else [@4 deleted 0]"),
    ]);
}

#[test]
fn compares_are_all_evaluated_on_the_state_before() {
    let inner = |version| txn([version_is("a", version)], [put("hit", "")], [put("miss", "")]);
    Member::new().expect([
        (txn([version_is("a", 0)], [put("a", ""), inner(1)], []), "@2 then [@2] [ else [@2]]"),
        (txn([version_is("a", 1)], [inner(1)], []), "@3 then [ then [@3]]"),
        (get("miss"), "@3 miss= 2/2/1 of 1"),
        (get("hit"), "@3 hit= 3/3/1 of 1"),
    ]);
}

#[test]
fn whatever_can_be_refused_is_refused_before_anything_happens() {
    let keep = |key| Request::Put(PutRequest { ignore_value: true, ..put_request(key, "") });
    let mut member = Member::new();
    member.expect([(compact(1), "@1"), (put("old", "1"), "@2"), (put("old", "2"), "@3"), (compact(3), "@3")]);
    let hash = member.hash();
    member.expect([
        (txn([], [put("a", ""), put_leased("b", "", 99)], []), "error: requested lease not found"),
        (txn([], [put("a", ""), keep("nothing")], []), "error: key not found"),
        (txn([], [put("a", ""), get_at("a", 4)], []), "error: required revision is a future revision"),
        (txn([], [put("a", ""), get_at("a", 2)], []), "error: required revision has been compacted"),
        (txn([], [put("a", ""), get_at("a", -1)], []), "error: required revision has been compacted"),
        (txn([], [put("a", ""), txn([], [put_leased("b", "", 99)], [])], []), "error: requested lease not found"),
        (txn([], [put("a", ""), put("", "")], []), "error: key is not provided"),
        // Puts are checked before ranges, wherever they are.
        (txn([], [get_at("a", 4), put_leased("b", "", 99)], []), "error: requested lease not found"),
        // A key that an earlier operation deletes cannot keep its value; etcd panics here.
        (txn([], [delete("\0", "\0"), keep("old")], []), "error: key not found"),
        (txn([], [txn([], [delete("old", "")], []), keep("old")], []), "error: key not found"),
        // The branch that is not taken is not looked at.
        (txn([version_is("a", 1)], [put_leased("b", "", 99)], []), "@3 else"),
    ]);
    assert_eq!(member.hash(), hash);
    member.expect([(txn([], [keep("old"), delete("x", "\0")], []), "@4 then [@4] [@4 deleted 0]")]);
}

#[test]
fn a_negative_revision_is_the_current_one_until_something_was_compacted() {
    Member::new().expect([
        (txn([], [put("a", ""), get_at("a", -1)], []), "@2 then [@2] [@2 a= 2/2/1 of 1]"),
        (txn([], [put("a", ""), get_at("a", -2)], []), "error: required revision has been compacted"),
        (compact(0), "@2"),
        (txn([], [put("a", ""), get_at("a", -1)], []), "error: required revision has been compacted"),
        (get_at("a", -5), "@2 a= 2/2/1 of 1"),
    ]);
}

#[test]
fn ranges_in_transactions_have_limits_orders_and_counts() {
    let mut member = Member::new();
    for key in ["a", "b", "c"] {
        member.apply(put(key, key)).unwrap();
    }
    let mut newest = range("a", "\0");
    (newest.sort_order, newest.sort_target, newest.limit) = (2, 3, 1);
    let mut count = range("a", "\0");
    count.count_only = true;
    let mut first = range("b", "\0");
    first.limit = 1;
    let ranges = [newest, count, first].map(Request::Range);
    member.expect([(
        txn([], [vec![put("b", "2")], ranges.to_vec()].concat(), []),
        "@5 then [@5] [@5 b=2 3/5/2 of 3 more] [@5 of 3] [@5 b=2 3/5/2 of 2 more]",
    )]);
}
