//! Readers on other threads see whole batches, and whole revisions however long they read and whatever is removed.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use backend::Backend;
use mvcc::{EventLimits, MvccError, PruneStep, RangeQuery, View};
use support::{Fixture, decoded};
use types::{KeyRange, LeaseId};

/// Every transaction sets all of them to one value: more than a reader reads in one go.
const KEYS: usize = 1500;
const ROUNDS: u8 = 20;

fn key(number: usize) -> Vec<u8> {
    format!("/key/{number:06}").into_bytes()
}

/// Reads everything at the current or an earlier revision: all values must be of the same round.
fn read_all(view: &View) {
    let revision = view.revision();
    for revision in [0, revision, revision - 1] {
        let query = RangeQuery { revision, ..RangeQuery::current(KeyRange::all()) };
        let answer = match view.range(&query) {
            Ok(answer) => answer,
            Err(MvccError::Compacted) => continue,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(answer.count, answer.rows.len() as i64);
        let is_new = answer.revision == 1;
        let rows = decoded(answer, 10_000);
        assert!(rows.len() == KEYS || rows.is_empty() && (revision == 1 || is_new));
        let round = rows.first().map_or(0, |row| row.value()[0]);
        assert!(rows.iter().all(|row| row.value() == [round]), "rows of one revision are of one round");
        assert!(rows.is_sorted_by(|a, b| a.key() < b.key()));
    }
    let page = RangeQuery { limit: 10, revision, ..RangeQuery::current(KeyRange::all()) };
    match view.range(&page) {
        Ok(page) => assert!(page.count as usize == KEYS && page.more && page.rows.len() == 10 || revision == 1),
        Err(error) => assert!(matches!(error, MvccError::Compacted)),
    }
}

fn read_history(view: &View) {
    let from = view.compacted().max(2);
    let limits = EventLimits { rows: 3 * KEYS, bytes: usize::MAX };
    match view.events(&KeyRange::all(), from, i64::MAX - 1, limits) {
        Ok(chunk) => {
            let revisions = chunk.events.chunks(KEYS);
            for events in revisions {
                assert_eq!(events.len(), KEYS);
                assert!(events.iter().all(|(row, _)| row.revision.main == events[0].0.revision.main));
            }
        }
        Err(error) => assert!(matches!(error, MvccError::Compacted)),
    }
}

/// What the background does after every write: commit, and remove what can be removed.
fn tidy(view: &View, backend: &Backend) {
    backend.commit().expect("the simulated disk works");
    while let PruneStep::Removed(staged) = view.prune_step(500).expect("the backend works") {
        backend.stage(staged);
    }
}

fn storm(budget: usize) {
    let mut fixture = Fixture::new(budget);
    let view = fixture.view();
    let has_ended = AtomicBool::new(false);
    let (wrote, written) = mpsc::channel();
    thread::scope(|scope| {
        let (tidied_view, tidied) = (view.clone(), fixture.backend.clone());
        let background = scope.spawn(move || written.iter().for_each(|()| tidy(&tidied_view, &tidied)));
        let read = || {
            while !has_ended.load(Ordering::Relaxed) {
                read_all(&view);
                read_history(&view);
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for round in 0..ROUNDS {
            let done = fixture.write(|txn| {
                for number in 0..KEYS {
                    txn.put(&key(number), &[round], LeaseId::NONE);
                }
            });
            assert_eq!(done.changes.len(), KEYS);
            if round % 4 == 3 {
                fixture.compact(done.revision - 2);
            }
            wrote.send(()).expect("the background runs");
        }
        drop(wrote);
        background.join().expect("the background works");
        has_ended.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no reader saw anything wrong");
        }
    });
    fixture.prune();
    read_all(&fixture.view());
}

#[test]
fn readers_see_whole_revisions_with_values_in_memory() {
    storm(usize::MAX);
}

#[test]
fn readers_see_whole_revisions_with_few_values_in_memory() {
    storm(2000);
}
