//! HashKV against what etcd 3.5.30 answered (`etcdctl endpoint hashkv --rev N`) after the same operations.

mod support;

use backend::{Staged, Table};
use mvcc::{MvccError, Store, StoreOptions};
use support::Fixture;
use types::{KeyRange, LeaseId, Record, Revision, RowKey};

fn hashes(fixture: &Fixture, revisions: impl IntoIterator<Item = i64>) -> Vec<(u32, i64)> {
    let hash = |revision| fixture.view().hash_kv(revision).expect("the revision can be hashed");
    revisions.into_iter().map(hash).map(|hash| (hash.hash, hash.compact_revision)).collect()
}

fn delete_all(fixture: &mut Fixture) {
    fixture.write(|txn| drop(txn.delete_range(&KeyRange::all())));
}

fn is_compacted(fixture: &Fixture, revision: i64) -> bool {
    matches!(fixture.view().hash_kv(revision), Err(MvccError::Compacted))
}

/// Compacts with `--physical`.
fn compact(fixture: &mut Fixture, revision: i64) {
    fixture.compact(revision);
    fixture.prune();
}

#[test]
fn hashes_are_those_of_etcd_through_compactions() {
    for budget in [0, 3, usize::MAX] {
        let mut fixture = Fixture::new(budget);
        fixture.put(b"a", b"1");
        fixture.put(b"b", b"2");
        fixture.put(b"a", b"3");
        fixture.delete(b"a");
        fixture.put(b"c", b"4");
        fixture.write(|txn| {
            txn.put(b"d", b"5", LeaseId::NONE);
            txn.put(b"e", b"6", LeaseId::NONE);
        });
        fixture.write(|txn| drop(txn.delete_range(&KeyRange::from_wire("d".into(), "f".into()))));
        fixture.put(b"a", b"7");
        let uncompacted = [
            1285048271, 1084519789, 2587454935, 1827592406, 2069675932, 1346927904, 2637962732, 415242076, 2297127821,
            1285048271,
        ];
        assert_eq!(hashes(&fixture, 0..=9), uncompacted.map(|hash| (hash, -1)));
        assert!(matches!(fixture.view().hash_kv(10), Err(MvccError::FutureRevision)));

        compact(&mut fixture, 5);
        assert!(is_compacted(&fixture, 4));
        let expected =
            [(1346927904, -1), (622319796, 5), (3737544805, 5), (456130059, 5), (1023047420, 5), (1023047420, 5)];
        assert_eq!(hashes(&fixture, [5, 6, 7, 8, 9, 0]), expected);

        compact(&mut fixture, 8);
        assert!(is_compacted(&fixture, 7));
        assert_eq!(hashes(&fixture, [5, 8, 9, 0]), [(1346927904, -1), (456130059, 5), (214942286, 8), (214942286, 8)]);

        delete_all(&mut fixture);
        assert_eq!(hashes(&fixture, [8, 9, 10]), [(456130059, 5), (214942286, 8), (2141417787, 8)]);
        compact(&mut fixture, 9);
        assert_eq!(hashes(&fixture, [8, 9, 10]), [(456130059, 5), (214942286, 8), (2141417787, 9)]);
        fixture.put(b"f", b"1");
        assert_eq!(hashes(&fixture, [9, 10, 11]), [(214942286, 8), (2141417787, 9), (2716588706, 9)]);

        compact(&mut fixture, 10);
        let expected = [(456130059, 5), (214942286, 8), (3916361939, 9), (3524369987, 10)];
        assert_eq!(hashes(&fixture, [8, 9, 10, 11]), expected);
        fixture.delete(b"f");
        assert_eq!(hashes(&fixture, [11, 12]), [(3524369987, 10), (2319128261, 10)]);
        compact(&mut fixture, 12);
        assert!(is_compacted(&fixture, 11));
        let expected = [(456130059, 5), (214942286, 8), (3916361939, 9), (2319128261, 10), (1084519789, 12)];
        assert_eq!(hashes(&fixture, [8, 9, 10, 12, 0]), expected);

        fixture.put(b"g", b"1");
        assert_eq!(hashes(&fixture, [12, 13]), [(2319128261, 10), (248191800, 12)]);
        compact(&mut fixture, 13);
        assert_eq!(hashes(&fixture, [12, 13]), [(2319128261, 10), (248191800, 12)]);

        let fixture = fixture.restart();
        assert!(is_compacted(&fixture, 12));
        assert_eq!(hashes(&fixture, [13, 0]), [(248191800, 13), (248191800, 13)]);
    }
}

/// `etcdutl snapshot restore --bump-revision 10 --mark-compacted` of a store at revision 4.
#[test]
fn a_backup_restored_with_a_raised_revision_hashes_as_in_etcd() {
    let mut fixture = Fixture::new(usize::MAX);
    fixture.put(b"a", b"1");
    fixture.put(b"b", b"2");
    fixture.delete(b"a");
    let bumped = RowKey { revision: Revision::first(14), tombstone: false };
    let mark = bumped.encode().as_ref().to_vec();
    let filler = Record::tombstone(b"");
    assert!(filler.as_bytes().is_empty());
    fixture.backend.stage(Staged {
        rows: vec![(bumped, filler)],
        values: vec![(Table::Meta, b"scheduledCompactRev".to_vec(), Some(mark))],
        ..Staged::default()
    });
    let mut fixture = fixture.restart();
    assert_eq!((fixture.view().revision(), fixture.view().compacted()), (14, 14));
    fixture.prune();
    assert!(is_compacted(&fixture, 13));
    assert_eq!(hashes(&fixture, [14, 0]), [(875855522, 14), (875855522, 14)]);
    fixture.put(b"c", b"3");
    assert_eq!(hashes(&fixture, [14, 15]), [(875855522, 14), (554362062, 14)]);
    fixture.delete(b"b");
    fixture.delete(b"c");
    assert_eq!(hashes(&fixture, [15, 17]), [(554362062, 14), (3821130106, 14)]);
    compact(&mut fixture, 17);
    assert_eq!(hashes(&fixture, [17, 0]), [(3821130106, 14), (644901895, 17)]);
}

#[test]
fn ten_hashes_of_compactions_are_kept() {
    let mut fixture = Fixture::new(usize::MAX);
    for revision in 2..=13 {
        fixture.put(b"k", b"v");
        compact(&mut fixture, revision);
    }
    assert!(is_compacted(&fixture, 3));
    let kept: Vec<_> = hashes(&fixture, 4..=13).into_iter().map(|(_, compacted)| compacted).collect();
    assert_eq!(kept, (3..=12).collect::<Vec<_>>());
}

#[test]
fn a_removal_that_was_interrupted_leaves_no_hash_behind() {
    let mut fixture = Fixture::new(usize::MAX);
    for _ in 0..5 {
        fixture.put(b"k", b"v");
    }
    fixture.compact(4);
    assert!(fixture.prune_step(1));
    let uninterrupted = fixture.view().hash_kv(4).expect("it was made when removal began");
    assert_eq!(uninterrupted.compact_revision, -1);
    let mut fixture = fixture.restart();
    let hash = |fixture: &Fixture| fixture.view().hash_kv(4).expect("it can be hashed");
    let before = hash(&fixture);
    fixture.prune();
    assert_eq!(hash(&fixture), before);
    assert_eq!(before.compact_revision, 4);
}

#[test]
fn a_mark_that_is_no_revision_stops_the_start() {
    let fixture = Fixture::new(usize::MAX);
    let mark = (Table::Meta, b"scheduledCompactRev".to_vec(), Some(b"short".to_vec()));
    fixture.backend.stage(Staged { values: vec![mark], ..Staged::default() });
    fixture.backend.commit().expect("the simulated disk works");
    let options = StoreOptions { value_budget_bytes: 0, restore_threads: 1 };
    let error = Store::restore(fixture.backend, options).expect_err("the mark is damaged");
    let said = error.to_string();
    assert!(said.contains(" is damaged: scheduledCompactRev is not a revision; "), "{said}");
}
