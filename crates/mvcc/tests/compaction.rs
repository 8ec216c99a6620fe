//! Compaction: what it keeps for watchers, how removal stops and goes on, and what readers may count on meanwhile.

mod support;

use mvcc::{EventLimits, MvccError, PruneStep, RangeQuery};
use support::{Fixture, decoded};
use types::{KeyRange, LeaseId, RowKey};

const ALL_EVENTS: EventLimits = EventLimits { rows: usize::MAX, bytes: usize::MAX };

fn events(fixture: &Fixture, from: i64) -> Vec<(i64, bool)> {
    let view = fixture.view();
    let chunk = view.events(&KeyRange::all(), from, view.revision(), ALL_EVENTS).expect("it can be read");
    let kind = |(row, _): &(RowKey, _)| (row.revision.main, row.tombstone);
    chunk.events.iter().map(kind).collect()
}

/// etcd-io/etcd#18089.
#[test]
fn a_deletion_at_the_compacted_revision_is_still_seen() {
    let mut fixture = Fixture::new(0);
    for value in [b"1", b"2", b"3"] {
        fixture.put(b"k", value);
    }
    let deleted = fixture.delete(b"k");
    fixture.put(b"k", b"4");
    fixture.compact(deleted);
    assert_eq!(events(&fixture, deleted), [(5, true), (6, false)]);
    fixture.prune();
    assert_eq!(events(&fixture, deleted), [(5, true), (6, false)]);
    let fixture = fixture.restart();
    assert_eq!(events(&fixture, deleted), [(5, true), (6, false)]);
}

/// etcd-io/etcd#19179.
#[test]
fn a_removal_interrupted_anywhere_keeps_the_deletion_at_the_compacted_revision() {
    for interrupted_after in 0..12 {
        let mut fixture = Fixture::new(0);
        for number in 0..5u8 {
            fixture.put(&[b'a' + number], b"v");
            fixture.delete(&[b'a' + number]);
        }
        let compacted = fixture.view().revision();
        fixture.compact(compacted);
        for _ in 0..interrupted_after {
            fixture.prune_step(1);
        }
        let mut fixture = fixture.restart();
        assert_eq!(fixture.view().compacted(), compacted);
        assert_eq!(events(&fixture, compacted), [(compacted, true)]);
        fixture.prune();
        assert_eq!(events(&fixture, compacted), [(compacted, true)]);
        let mut rows = Vec::new();
        let all = types::Revision::first(i64::MAX);
        let mut visit = |row, _: &[u8]| {
            rows.push(row);
            std::ops::ControlFlow::Continue(())
        };
        fixture.backend.scan(types::Revision::first(0), all, &mut visit).expect("the backend works");
        assert_eq!(rows.len(), 1, "only the deletion is left");
    }
}

/// etcd-io/etcd#17780: the revision must not fall back when its rows are gone.
#[test]
fn the_revision_survives_the_removal_of_its_rows() {
    let mut fixture = Fixture::new(usize::MAX);
    fixture.put(b"a", b"1");
    fixture.delete(b"a");
    fixture.put(b"b", b"1");
    fixture.delete(b"b");
    fixture.compact(5);
    fixture.prune();
    fixture.put(b"c", b"1");
    fixture.delete(b"c");
    fixture.compact(7);
    fixture.prune();
    let fixture = fixture.restart();
    assert_eq!((fixture.view().revision(), fixture.view().compacted()), (7, 7));
}

#[test]
fn compaction_requests_are_checked() {
    let mut fixture = Fixture::new(usize::MAX);
    fixture.put(b"a", b"1");
    let mut compact = |revision| fixture.batch(|batch, staged| batch.compact(staged, revision));
    assert!(matches!(compact(3), Err(MvccError::FutureRevision)));
    assert!(compact(0).is_ok());
    assert!(matches!(compact(0), Err(MvccError::Compacted)));
    assert!(compact(2).is_ok());
    assert!(matches!(compact(1), Err(MvccError::Compacted)));
    let fixture = fixture.restart();
    assert_eq!(fixture.view().compacted(), 2);
}

#[test]
fn many_compactions_waiting_for_removal_end_in_the_last() {
    let mut fixture = Fixture::new(usize::MAX);
    for revision in 2..=40 {
        fixture.put(b"k", b"v");
        fixture.compact(revision);
    }
    fixture.prune();
    assert_eq!(fixture.view().compacted(), 40);
    let fixture = fixture.restart();
    assert!(matches!(fixture.view().prune_step(1), Ok(PruneStep::Finished)));
    assert_eq!(events(&fixture, 40), [(40, false)]);
}

#[test]
fn removal_waits_for_an_answer_that_still_needs_old_rows() {
    let mut fixture = Fixture::new(usize::MAX);
    fixture.put(b"a", b"old");
    fixture.put(b"b", b"old");
    fixture.put(b"a", b"new");
    let view = fixture.view();
    let old = view.range(&RangeQuery { revision: 3, ..RangeQuery::current(KeyRange::all()) }).expect("it can be read");
    let new = view.range(&RangeQuery::current(KeyRange::all())).expect("it can be read");
    fixture.compact(4);
    assert!(matches!(view.prune_step(100), Ok(PruneStep::Waiting)));
    assert!(matches!(
        view.range(&RangeQuery { revision: 3, ..RangeQuery::current(KeyRange::all()) }),
        Err(MvccError::Compacted)
    ));
    let values = |records: Vec<types::Record>| records.iter().map(|row| row.value().to_vec()).collect::<Vec<_>>();
    assert_eq!(values(decoded(old, 1)), [b"old", b"old"]);
    fixture.prune();
    assert_eq!(values(decoded(new, 1)), [b"new", b"old"], "an answer from memory holds nothing up");
}

/// A client that never reads its answer cannot keep old rows for ever.
#[test]
fn removal_need_not_wait_for_ever() {
    let mut fixture = Fixture::new(usize::MAX);
    fixture.put(b"a", b"old");
    fixture.put(b"b", b"old");
    fixture.put(b"a", b"new");
    let view = fixture.view();
    let mut answer =
        view.range(&RangeQuery { revision: 3, ..RangeQuery::current(KeyRange::all()) }).expect("it can be read");
    let mut out = bytes::BytesMut::new();
    let mut late =
        view.range(&RangeQuery { revision: 3, ..RangeQuery::current(KeyRange::all()) }).expect("it can be read");
    fixture.backend.on_failure(|error| panic!("nothing is damaged: {error}"));
    fixture.compact(4);
    assert!(matches!(view.prune_step(100), Ok(PruneStep::Waiting)));
    view.break_reads();
    assert!(matches!(answer.rows.encode_next(&mut out, 1), Err(MvccError::Compacted)));
    fixture.prune();
    assert!(matches!(late.rows.encode_next(&mut out, 1), Err(MvccError::Compacted)), "its row is gone");
    assert!(answer.rows.encode_next(&mut out, usize::MAX).is_ok(), "what lies in memory needs no old rows");
    let now = view.range(&RangeQuery { revision: 4, ..RangeQuery::current(KeyRange::all()) }).expect("it can be read");
    assert_eq!(decoded(now, 1).len(), 2);
}

/// etcd PR 17230: a storm on one key within one batch.
#[test]
fn every_revision_of_one_batch_can_be_read() {
    for budget in [0, usize::MAX] {
        let mut fixture = Fixture::new(budget);
        fixture.batch(|batch, staged| {
            for round in 0..50u8 {
                support::run(batch, staged, |txn| drop(txn.put(b"k", &[round], LeaseId::NONE)));
                for revision in 2..batch.revision() {
                    let txn = batch.txn();
                    let query = RangeQuery { revision, ..RangeQuery::current(KeyRange::single("k")) };
                    let found = decoded(txn.range(&query).expect("it can be read"), 100);
                    let is_deleted = revision % 2 == 1;
                    assert_eq!(found.len(), usize::from(!is_deleted));
                    assert!(found.iter().all(|row| row.meta().mod_revision == revision));
                }
                support::run(batch, staged, |txn| drop(txn.delete_range(&KeyRange::single("k"))));
            }
        });
        for revision in 2..=fixture.view().revision() {
            let found = fixture.view().get_at(b"k", revision).expect("the backend works");
            let expected = (revision % 2 == 0).then(|| vec![(revision / 2 - 1) as u8]);
            assert_eq!(found.map(|row| row.value().to_vec()), expected);
        }
    }
}
