//! Single cases of range reads that random ones meet rarely.

mod support;

use bytes::BytesMut;
use mvcc::{MvccError, PruneStep, RangeQuery, SortOrder, SortTarget};
use support::{Fixture, decoded};
use types::{KeyRange, LeaseId};

/// Three keys; `a` has an older version at revision 2.
fn fixture(budget: usize) -> Fixture {
    let mut fixture = Fixture::new(budget);
    fixture.put(b"a", b"first");
    fixture.put(b"b", b"z");
    fixture.write(|txn| drop(txn.put(b"c", b"y", LeaseId(7))));
    fixture.put(b"a", b"x");
    fixture
}

fn keys(fixture: &Fixture, query: &RangeQuery) -> Vec<u8> {
    let answer = fixture.view().range(query).expect("it can be read");
    decoded(answer, 1).iter().map(|row| row.key()[0]).collect()
}

#[test]
fn only_counting_returns_no_row_whatever_else_is_asked_for() {
    for budget in [0, usize::MAX] {
        let fixture = fixture(budget);
        for range in [KeyRange::single("a"), KeyRange::all()] {
            for revision in [0, 2] {
                for keys_only in [false, true] {
                    let query =
                        RangeQuery { revision, keys_only, count_only: true, ..RangeQuery::current(range.clone()) };
                    let answer = fixture.view().range(&query).expect("it can be read");
                    let expected = if revision == 0 && !range.is_single() { 3 } else { 1 };
                    assert_eq!((answer.count, answer.more, answer.rows.len()), (expected, false, 0));
                }
            }
        }
    }
}

#[test]
fn keys_only_keeps_numbers_and_lease() {
    for budget in [0, usize::MAX] {
        let query = RangeQuery { keys_only: true, ..RangeQuery::current(KeyRange::single("c")) };
        let rows = decoded(fixture(budget).view().range(&query).expect("it can be read"), 1);
        let meta = rows[0].meta();
        assert_eq!((rows[0].value(), meta.mod_revision, meta.version, meta.lease), (&b""[..], 4, 1, LeaseId(7)));
    }
}

/// etcd sorts what it has fetched, and without an order it fetches no more than the limit asks for.
#[test]
fn a_target_without_an_order_sorts_only_what_the_limit_fetched() {
    let fixture = fixture(usize::MAX);
    let all = RangeQuery { target: SortTarget::Value, limit: 1, ..RangeQuery::current(KeyRange::all()) };
    assert_eq!(keys(&fixture, &all), b"a", "of a and b");
    let ascending = RangeQuery { order: SortOrder::Ascend, ..all.clone() };
    assert_eq!(keys(&fixture, &ascending), b"a");
    let descending = RangeQuery { order: SortOrder::Descend, ..all.clone() };
    assert_eq!(keys(&fixture, &descending), b"b");
    let by_age = RangeQuery { target: SortTarget::ModRevision, limit: 1, ..all };
    assert_eq!(keys(&fixture, &by_age), b"b", "of a and b, not c");
    let oldest = RangeQuery { order: SortOrder::Ascend, ..by_age };
    assert_eq!(keys(&fixture, &oldest), b"b");
}

#[test]
fn a_negative_revision_is_the_current_one_outside_a_transaction() {
    let mut fixture = fixture(usize::MAX);
    let query = |revision| RangeQuery { revision, ..RangeQuery::current(KeyRange::all()) };
    assert_eq!(keys(&fixture, &query(-5)), b"abc");
    fixture.compact(3);
    fixture.batch(|batch, _| {
        let txn = batch.txn();
        assert!(matches!(txn.range(&query(-5)), Err(MvccError::Compacted)));
        assert!(matches!(txn.range(&query(2)), Err(MvccError::Compacted)));
        assert!(matches!(txn.range(&query(6)), Err(MvccError::FutureRevision)));
        assert_eq!(txn.range(&query(3)).expect("it can be read").count, 2);
    });
}

#[test]
fn pages_count_what_is_left_at_their_revision() {
    let mut fixture = Fixture::new(usize::MAX);
    for number in 0..500u32 {
        fixture.put(format!("/k/{number:04}").as_bytes(), b"v");
    }
    let pinned = fixture.view().revision();
    for number in (0..500u32).step_by(3) {
        fixture.delete(format!("/k/{number:04}").as_bytes());
        fixture.put(format!("/k/{number:04}x").as_bytes(), b"v");
    }
    let (mut start, mut seen) = (b"/k/".to_vec(), 0);
    loop {
        let range = KeyRange::from_wire(start.into(), "/k0".into());
        let query = RangeQuery { revision: pinned, limit: 70, ..RangeQuery::current(range) };
        let page = fixture.view().range(&query).expect("it can be read");
        assert_eq!(page.count, 500 - seen);
        seen += page.rows.len() as i64;
        let more = page.more;
        let rows = decoded(page, 1000);
        start = [rows[rows.len() - 1].key(), b"\0"].concat();
        if !more {
            break;
        }
    }
    assert_eq!(seen, 500);
}

/// Puts `keys` keys; every tenth is deleted again.
fn many(fixture: &mut Fixture, keys: u32, value: &[u8]) {
    fixture.batch(|batch, staged| {
        for number in 0..keys {
            support::run(batch, staged, |txn| {
                drop(txn.put(format!("/k/{number:05}").as_bytes(), value, LeaseId::NONE));
            });
        }
        for number in (0..keys).step_by(10) {
            let key = KeyRange::single(format!("/k/{number:05}"));
            support::run(batch, staged, |txn| drop(txn.delete_range(&key)));
        }
    });
}

/// Of many rows no references are kept.
#[test]
fn a_large_answer_holds_little_and_is_of_one_revision_however_late_it_is_taken() {
    for (budget, keys, value) in [(usize::MAX, 6000, 10), (0, 6000, 10), (usize::MAX, 60, 100_000)] {
        let mut fixture = Fixture::new(budget);
        many(&mut fixture, keys, &vec![b'v'; value]);
        let pinned = fixture.view().revision();
        let expected: Vec<u32> = (0..keys).filter(|number| number % 10 != 0).collect();
        let all = RangeQuery::current(KeyRange::all());
        let current = fixture.view().range(&all).expect("it can be read");
        let limit = expected.len() as i64 - 1;
        let limited = fixture.view().range(&RangeQuery { limit, ..all.clone() }).expect("it can be read");
        assert!(current.rows.held_bytes() == 0 && limited.rows.held_bytes() == 0);

        fixture.batch(|batch, staged| {
            for number in (0..keys).step_by(3) {
                let key = format!("/k/{number:05}");
                support::run(batch, staged, |txn| drop(txn.delete_range(&KeyRange::single(key.clone()))));
                support::run(batch, staged, |txn| drop(txn.put(format!("{key}x").as_bytes(), b"new", LeaseId::NONE)));
            }
        });
        let old = fixture.view().range(&RangeQuery { revision: pinned, ..all }).expect("it can be read");
        assert_eq!((old.count, old.more), (expected.len() as i64, false));
        assert_eq!((current.count, current.more), (expected.len() as i64, false));
        assert_eq!((limited.count, limited.more), (expected.len() as i64, true));
        for (answer, len) in [(current, expected.len()), (limited, expected.len() - 1), (old, expected.len())] {
            let rows = decoded(answer, 10_000);
            let numbers: Vec<u32> =
                rows.iter().map(|row| std::str::from_utf8(&row.key()[3..]).unwrap().parse().unwrap()).collect();
            assert_eq!(numbers, expected[..len]);
            assert!(rows.iter().all(|row| row.meta().mod_revision <= pinned && row.value().len() == value));
        }
    }
}

#[test]
fn a_large_answer_that_is_not_taken_is_given_up_for_a_compaction() {
    let mut fixture = Fixture::new(usize::MAX);
    many(&mut fixture, 6000, b"v");
    let view = fixture.view();
    let mut answer = view.range(&RangeQuery::current(KeyRange::all())).expect("it can be read");
    let mut out = BytesMut::new();
    assert!(answer.rows.encode_next(&mut out, 1).expect("it can be read"));
    let last = fixture.put(b"/k/00001", b"new");
    fixture.compact(last);
    assert!(matches!(view.prune_step(100), Ok(PruneStep::Waiting)));
    assert!(answer.rows.encode_next(&mut out, 100_000).expect("it can be read"));
    view.break_reads();
    assert!(matches!(answer.rows.encode_next(&mut out, usize::MAX), Err(MvccError::Compacted)));
    fixture.prune();
}

#[test]
fn how_many_keys_a_read_looks_at_is_known_before_it() {
    let mut fixture = Fixture::new(usize::MAX);
    for key in 0..100u8 {
        fixture.put(&[b'k', key], b"v");
    }
    let then = fixture.view().revision();
    for key in 0..50u8 {
        fixture.delete(&[b'k', key]);
    }
    let all = RangeQuery::current(KeyRange::all());
    let looked_at = |query: RangeQuery| fixture.view().keys_looked_at(&query, 90);
    assert_eq!(looked_at(RangeQuery::current(KeyRange::single("k"))), 1);
    assert_eq!(looked_at(all.clone()), 50, "deleted keys are passed over");
    assert_eq!(looked_at(RangeQuery { limit: 9, ..all.clone() }), 10, "one more tells whether there are more");
    assert_eq!(looked_at(RangeQuery { count_only: true, ..all.clone() }), 0, "the tree knows");
    let descending = RangeQuery { limit: 9, order: SortOrder::Descend, ..all.clone() };
    assert_eq!(looked_at(descending), 50, "a limit saves nothing before sorting");
    assert_eq!(looked_at(RangeQuery { limit: 9, min_mod_revision: 3, ..all.clone() }), 50);
    for count_only in [false, true] {
        let old = RangeQuery { revision: then, count_only, ..all.clone() };
        assert_eq!(looked_at(old), 90, "keys that are gone lived then; more is not told");
    }
    assert_eq!(fixture.view().keys_looked_at(&all, 20), 20, "more is not told");
}
