//! Another member's state takes the place of the store's while it is read: no answer is made of both.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use backend::{Import, Options};
use bytes::BytesMut;
use mvcc::{EventLimits, MvccError, PruneStep, RangeQuery, View};
use support::Fixture;
use types::{KeyRange, LeaseId};

const KEYS: usize = 1500;
const LIMITS: EventLimits = EventLimits { rows: usize::MAX, bytes: usize::MAX };

fn key(number: usize) -> Vec<u8> {
    format!("/key/{number:06}").into_bytes()
}

/// One revision, in which every key gets the value `round`.
fn write_round(fixture: &mut Fixture, round: u8) {
    fixture.write(|txn| {
        for number in 0..KEYS {
            txn.put(&key(number), &[round], LeaseId::NONE);
        }
    });
}

/// Puts the committed state of `from` in the place of that of `to`.
fn hand_over(from: &Fixture, to: &mut Fixture) {
    receive(from, to);
    let received = to.backend.open_received().expect("it was received");
    let replacement = to.store.prepare(received.view()).expect("the state is sound");
    let adoption = to.backend.begin_adoption(received).expect("the simulated disk works");
    to.store.replace(replacement, || adoption.publish());
}

fn receive(from: &Fixture, to: &Fixture) {
    from.backend.commit().expect("the simulated disk works");
    let mut export = from.backend.export();
    let mut import = Import::create(Arc::new(to.disk.clone()), Path::new("db"), Options::default()).expect("as above");
    while let Some(chunk) = export.next_chunk().expect("as above") {
        import.write(&chunk).expect("it is what was sent");
    }
    import.finish().expect("as above");
}

fn history(view: &View, from: i64) -> Result<Vec<i64>, MvccError> {
    let chunk = view.events(&KeyRange::all(), from, i64::MAX - 1, LIMITS)?;
    Ok(chunk.events.iter().map(|(row, _)| row.revision.main).collect())
}

fn everything(revision: i64) -> RangeQuery {
    RangeQuery { revision, ..RangeQuery::current(KeyRange::all()) }
}

#[test]
fn all_reads_go_by_the_new_state_at_once() {
    for budget in [0, usize::MAX] {
        let (mut leader, mut follower) = (Fixture::new(budget), Fixture::new(budget));
        let view = follower.view();
        for round in 0..12 {
            write_round(&mut leader, round);
            if round < 3 {
                write_round(&mut follower, round);
            }
        }
        leader.compact(9);
        leader.prune();
        hand_over(&leader, &mut follower);
        assert_eq!((view.revision(), view.compacted()), (13, 9));
        assert_eq!(view.hash_kv(0).expect("it can be read"), leader.view().hash_kv(0).expect("it can be read"));
        assert!(matches!(view.range(&everything(4)), Err(MvccError::Compacted)));
        assert!(matches!(history(&view, 4), Err(MvccError::Compacted)));
        assert_eq!(history(&view, 10).expect("it is there").len(), 4 * KEYS);
        let previous = view.get_at(&key(3), 10).expect("it can be read").expect("the key lived");
        assert_eq!(previous.value(), [8]);
        assert_eq!(view.get_at(&key(3), 4).expect("it can be read"), None);
        // It goes on like the leader, also from the disk.
        write_round(&mut follower, 12);
        write_round(&mut leader, 12);
        let hash = leader.view().hash_kv(0).expect("it can be read");
        assert_eq!(follower.view().hash_kv(0).expect("it can be read"), hash);
        drop(view);
        assert_eq!(follower.restart().view().hash_kv(0).expect("it can be read"), hash);
    }
}

/// Rows that lie in the backend, or that are looked up while they are sent, are those of the old state.
#[test]
fn an_answer_that_is_being_sent_ends_with_an_error() {
    for keys in [10, 6000] {
        let (mut leader, mut follower) = (Fixture::new(0), Fixture::new(0));
        for number in 0..keys {
            leader.put(&key(number), b"old");
            follower.put(&key(number), b"old");
        }
        leader.put(b"/other", b"");
        follower.backend.commit().expect("the simulated disk works");
        let mut rows = follower.view().range(&everything(0)).expect("it can be read").rows;
        let mut out = BytesMut::new();
        assert!(rows.encode_next(&mut out, 1).expect("nothing has changed yet"));
        hand_over(&leader, &mut follower);
        let rest = loop {
            match rows.encode_next(&mut out, 1000) {
                Ok(true) => {}
                ended => break ended,
            }
        };
        assert!(matches!(rest, Err(MvccError::Compacted)), "{rest:?}");
    }
}

#[test]
fn a_removal_under_way_ends_with_the_state_it_was_of() {
    let (mut leader, mut follower) = (Fixture::new(0), Fixture::new(0));
    for round in 0..6 {
        write_round(&mut leader, round);
        write_round(&mut follower, round);
    }
    follower.compact(5);
    leader.compact(3);
    leader.prune();
    leader.compact(5);
    write_round(&mut leader, 6);
    assert!(follower.prune_step(100));
    hand_over(&leader, &mut follower);
    leader.prune();
    follower.prune();
    let step = follower.view().prune_step(1).expect("the simulated disk works");
    assert!(matches!(step, PruneStep::Finished));
    let hash = leader.view().hash_kv(0).expect("it can be read");
    assert_eq!(follower.view().hash_kv(0).expect("it can be read"), hash);
    let rows = |fixture: &Fixture| {
        fixture.backend.commit().expect("the simulated disk works");
        fixture.backend.view().row_count()
    };
    assert_eq!(rows(&follower), rows(&leader));
}

#[test]
fn revisions_never_go_back() {
    let (mut leader, mut follower) = (Fixture::new(0), Fixture::new(0));
    write_round(&mut leader, 1);
    write_round(&mut follower, 1);
    write_round(&mut follower, 2);
    receive(&leader, &follower);
    let received = follower.backend.open_received().expect("it was received");
    let refused = follower.store.prepare(received.view()).expect_err("the state is older");
    assert!(refused.to_string().contains("it is at revision 2, compacted at -1"), "{refused}");
    assert_eq!(follower.view().revision(), 3);
}

/// Whatever can be read is of one round, and whole.
fn read(view: &View) -> usize {
    let mut read = 0;
    let revision = view.revision();
    for revision in [0, revision, revision - 1] {
        let Some(answer) = unless_compacted(view.range(&everything(revision))) else { continue };
        assert_eq!(answer.count as usize, KEYS);
        let rows: Result<Vec<_>, _> = answer.rows.records().collect();
        let Some(rows) = unless_compacted(rows) else { continue };
        assert_eq!(rows.len(), KEYS);
        assert!(rows.iter().all(|row| row.value() == rows[0].value()), "rows of one revision are of one round");
        read += 1;
    }
    let from = view.compacted().max(2);
    if let Some(revisions) = unless_compacted(history(view, from)) {
        assert_eq!(revisions.len() % KEYS, 0);
        assert!(revisions.chunks(KEYS).zip(from..).all(|(chunk, main)| chunk.iter().all(|found| *found == main)));
    }
    read
}

fn unless_compacted<T>(read: Result<T, MvccError>) -> Option<T> {
    match read {
        Err(MvccError::Compacted) => None,
        other => Some(other.expect("the backend works")),
    }
}

#[test]
fn readers_on_other_threads_never_see_a_mixture() {
    let (mut leader, mut follower) = (Fixture::new(2000), Fixture::new(2000));
    for round in [0, 1] {
        write_round(&mut leader, round);
        write_round(&mut follower, round);
    }
    let view = follower.view();
    let has_ended = AtomicBool::new(false);
    let (wrote, written) = mpsc::channel();
    thread::scope(|scope| {
        let (pruned, backend) = (view.clone(), follower.backend.clone());
        let background = scope.spawn(move || {
            written.iter().for_each(|()| {
                backend.commit().expect("the simulated disk works");
                while let PruneStep::Removed(staged) = pruned.prune_step(500).expect("the backend works") {
                    backend.stage(staged);
                }
            });
        });
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut answers = 0;
                while !has_ended.load(Ordering::Relaxed) {
                    answers += read(&view);
                }
                answers
            })
        });
        for phase in 1..12_u8 {
            // The follower takes part in one round, misses two, and is handed all of them.
            for part in 0..3 {
                write_round(&mut leader, 3 * phase + part);
                if part == 0 {
                    write_round(&mut follower, 3 * phase + part);
                }
            }
            if phase % 2 == 0 {
                follower.compact(follower.view().revision() - 1);
                wrote.send(()).expect("the background runs");
            }
            leader.compact(leader.view().revision() - 2);
            leader.prune();
            hand_over(&leader, &mut follower);
            wrote.send(()).expect("the background runs");
        }
        drop(wrote);
        background.join().expect("the background works");
        has_ended.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no reader saw anything wrong") > 0);
        }
    });
}
