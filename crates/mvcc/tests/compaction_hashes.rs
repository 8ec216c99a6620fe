//! The hashes that are kept when the removal of a compaction begins: which there are, of what, and for how long.

use mvcc::HashKv;
use types::LeaseId;

mod support;

use support::{Fixture, run};

/// Revisions that were hashed and the compacted ones before them, the newest first.
fn kept(fixture: &Fixture) -> Vec<(i64, i64)> {
    let hashes = fixture.view().compaction_hashes();
    hashes.into_iter().map(|made| (made.hash_revision, made.compact_revision)).collect()
}

/// Revisions 2 to 41, of five keys that come and go.
fn filled(last: &[u8]) -> Fixture {
    let mut fixture = Fixture::new(usize::MAX);
    for number in 0..39 {
        let key = format!("key{}", number % 5);
        if number % 7 == 6 {
            fixture.delete(key.as_bytes())
        } else {
            fixture.put(key.as_bytes(), b"value")
        };
    }
    fixture.put(b"last", last);
    fixture
}

#[test]
fn a_hash_is_made_when_removal_begins_and_not_before() {
    let mut fixture = filled(b"1");
    assert_eq!(kept(&fixture), []);
    let before = fixture.view().hash_kv(20).expect("it can be read");
    fixture.compact(20);
    assert_eq!(kept(&fixture), []);
    assert!(fixture.prune_step(1), "there is more to remove");
    let made = HashKv { compact_revision: -1, hash_revision: 20, ..before };
    assert_eq!(fixture.view().compaction_hashes(), [made], "nothing was removed before it was made");
    fixture.prune();
    assert_eq!(fixture.view().compaction_hashes(), [made], "one a compaction");
    assert_eq!(fixture.view().hash_kv(20).expect("it is kept"), made);
}

#[test]
fn the_last_ten_are_kept_the_newest_first() {
    let mut fixture = filled(b"1");
    for target in 1..=12 {
        fixture.compact(3 * target);
        fixture.prune();
        assert_eq!(kept(&fixture)[0], (3 * target, if target == 1 { -1 } else { 3 * target - 3 }));
    }
    let expected = (3..=12).rev().map(|target| (3 * target, 3 * target - 3));
    assert_eq!(kept(&fixture), expected.collect::<Vec<_>>());
}

/// What is written, compacted and removed meanwhile, and in which steps, is not in them: members that have the same
/// data have the same hashes.
#[test]
fn they_depend_on_data_and_compactions_alone() {
    let made = |steps: usize, busy: bool, last: &[u8]| {
        let mut fixture = filled(last);
        for target in [10, 20, 30, 41] {
            fixture.compact(target);
            while fixture.prune_step(steps) {
                if busy {
                    fixture.put(b"busy", b"1");
                    fixture.delete(b"key1");
                }
            }
        }
        fixture.view().compaction_hashes()
    };
    let expected = made(1000, false, b"1");
    assert_eq!(expected.len(), 4);
    assert_eq!(made(1, false, b"1"), expected);
    assert_eq!(made(2, true, b"1"), expected);
    let other = made(1000, false, b"2");
    assert_eq!(other[1..], expected[1..], "they differ only in the last revision");
    assert_ne!(other[0].hash, expected[0].hash);
}

/// Compactions that wait for the removal of earlier ones are hashed in their turn, up to a number; those past it are
/// joined, and nobody makes their hash.
#[test]
fn those_that_wait_are_hashed_in_turn_and_joined_ones_never() {
    let mut waited = filled(b"1");
    let mut at_once = filled(b"1");
    for target in [10, 12, 15] {
        waited.compact(target);
        at_once.compact(target);
        at_once.prune();
    }
    waited.prune();
    assert_eq!(kept(&waited), [(15, 12), (12, 10), (10, -1)]);
    assert_eq!(waited.view().compaction_hashes(), at_once.view().compaction_hashes());

    let mut joined = filled(b"1");
    for target in 2..=41 {
        joined.compact(target);
    }
    joined.prune();
    let of_joined = joined.view().compaction_hashes();
    assert!(of_joined.iter().all(|made| made.hash_revision < 41), "the last ones are joined: {of_joined:?}");
    for made in of_joined {
        let mut alone = filled(b"1");
        if made.compact_revision > 0 {
            alone.compact(made.compact_revision);
            alone.prune();
        }
        alone.compact(made.hash_revision);
        alone.prune();
        assert_eq!(alone.view().compaction_hashes()[0], made);
    }
}

/// A removal that was cut short has taken rows away that its hash would need: it is finished without one.
#[test]
fn a_restart_forgets_them_and_hashes_no_removal_that_was_cut_short() {
    let mut fixture = filled(b"1");
    fixture.compact(10);
    fixture.prune();
    fixture.compact(20);
    assert!(fixture.prune_step(1));
    assert_eq!(kept(&fixture), [(20, 10), (10, -1)]);
    let mut fixture = fixture.restart();
    assert_eq!(kept(&fixture), []);
    fixture.prune();
    assert_eq!(kept(&fixture), []);
    fixture.compact(30);
    fixture.prune();
    assert_eq!(kept(&fixture), [(30, 20)]);
    let mut whole = filled(b"1");
    for target in [10, 20, 30] {
        whole.compact(target);
        whole.prune();
    }
    assert_eq!(fixture.view().compaction_hashes()[0], whole.view().compaction_hashes()[0]);
}

#[test]
fn another_state_takes_their_place_without_them() {
    let (leader, mut follower) = (filled(b"2"), filled(b"1"));
    follower.compact(10);
    follower.prune();
    assert_eq!(kept(&follower), [(10, -1)]);
    leader.backend.commit().expect("the simulated disk works");
    let replacement = follower.store.prepare(&leader.backend.view());
    assert!(replacement.is_err(), "it was compacted less");
    let mut leader = leader;
    leader.compact(20);
    leader.prune();
    leader.backend.commit().expect("the simulated disk works");
    let replacement = follower.store.prepare(&leader.backend.view()).expect("it is sound");
    follower.store.replace(replacement, || {});
    assert_eq!(kept(&follower), []);
}

/// A hash is of a whole revision, in the middle of a batch as well.
#[test]
fn a_compaction_in_the_middle_of_a_batch_hashes_its_own_revision() {
    let mut batched = filled(b"1");
    batched.batch(|batch, staged| {
        run(batch, staged, |txn| drop(txn.put(b"a", b"1", LeaseId::NONE)));
        batch.compact(staged, 42).expect("it was just written");
        run(batch, staged, |txn| drop(txn.put(b"a", b"2", LeaseId::NONE)));
    });
    batched.prune();
    let mut apart = filled(b"1");
    apart.put(b"a", b"1");
    apart.compact(42);
    apart.prune();
    assert_eq!(kept(&batched), [(42, -1)]);
    assert_eq!(batched.view().compaction_hashes(), apart.view().compaction_hashes());
}
