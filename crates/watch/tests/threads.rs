//! The log between a publishing thread and hubs on other threads.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use common::*;
use types::{KeyRange, Record, RecordMeta, Revision, RowKey};
use watch::{Event, EventLog, History, HistoryLoad, Hub, HubOptions, LogLimits, Next, RevisionEvents};

const LAST: i64 = 5000;

fn change(revision: i64) -> RevisionEvents {
    let meta =
        RecordMeta { create_revision: 2, mod_revision: revision, version: revision - 1, ..RecordMeta::default() };
    let row = RowKey { revision: Revision::first(revision), tombstone: false };
    RevisionEvents { revision, events: vec![Event { row, record: Record::put(b"k", b"v", meta), previous: None }] }
}

fn load(history: &Mutex<Vec<RevisionEvents>>, load: &HistoryLoad) -> History {
    let held = history.lock().expect("no thread panicked");
    let in_range = held.iter().filter(|events| (load.from..=load.to).contains(&events.revision));
    History { events: in_range.cloned().collect(), next: load.to + 1 }
}

/// Watches, reads a while, closes and watches anew, until the last revision. Whatever the publisher spared itself while
/// nobody watched, each watcher gets every revision from the one after its creation on.
fn reader(log: &Arc<EventLog>, history: &Mutex<Vec<RevisionEvents>>, patience: usize) {
    let (wake, woken) = mpsc::channel();
    let mut hub = Hub::new(log.clone(), HubOptions::default(), move || {
        let _ = wake.send(());
    });
    let mut newest = log.revision();
    while newest < LAST {
        let stream = hub.open_stream();
        hub.create(stream, &watch(KeyRange::single("k")), START);
        let (mut next, mut messages) = (None, 0);
        while messages < patience && newest < LAST {
            match hub.next_message(stream) {
                Next::Message(message) if message.created => {
                    next = Some(message.revision + 1);
                    newest = newest.max(message.revision);
                }
                Next::Message(message) => {
                    messages += 1;
                    for event in message.events() {
                        assert_eq!(Some(event.row.revision.main), next);
                        newest = event.row.revision.main;
                        next = Some(newest + 1);
                    }
                }
                Next::Load(asked) => hub.history_loaded(asked.ticket, Ok(load(history, &asked))),
                Next::Idle => {
                    woken.recv().expect("the publisher goes on to the last revision");
                    hub.advance();
                }
            }
        }
        hub.close_stream(stream);
        newest = newest.max(log.revision());
    }
}

#[test]
fn watchers_that_come_and_go_miss_nothing_of_a_running_publisher() {
    let log = EventLog::new(LogLimits { revisions_max: 50, bytes_max: 1 << 20 }, 1, -1);
    let history = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for patience in [1, 3, 100] {
            let (log, history) = (&log, &history);
            scope.spawn(move || reader(log, history, patience));
        }
        for revision in 2..=LAST {
            history.lock().expect("no thread panicked").push(change(revision));
            if log.is_watched() {
                log.publish(vec![change(revision)]);
            } else {
                log.skip_to(revision);
            }
        }
    });
    assert!(!log.is_watched());
}

#[test]
fn hub_is_woken_once_between_two_reads_and_only_while_it_watches() {
    let log = EventLog::new(LogLimits::default(), 1, -1);
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = wakes.clone();
    let mut hub = Hub::new(log.clone(), HubOptions::default(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let stream = hub.open_stream();
    log.publish(vec![change(2)]);
    assert_eq!(wakes.load(Ordering::Relaxed), 0);
    hub.create(stream, &watch(KeyRange::single("k")), START);
    log.publish(vec![change(3), change(4)]);
    log.publish(vec![change(5)]);
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    hub.advance();
    log.publish(vec![change(6)]);
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
    hub.close_stream(stream);
    log.publish(vec![change(7)]);
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}
