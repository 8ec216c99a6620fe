//! The recent events of the store, shared between the apply thread, which publishes them, and the network workers'
//! hubs, which read them.
//!
//! Invariants
//! - The ring holds every event of the revisions `oldest..=revision`, and nothing else.
//! - While nobody watches, it holds nothing and publishing only moves `revision`.
//! - Memory is bounded by [`LogLimits`], whatever readers do: whoever falls behind `oldest` reads history instead.
//! - A subscriber is woken at most once between two of its reads, and only while it has watchers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::event::RevisionEvents;

/// How much the ring may hold. The newest revision is always kept, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    pub revisions_max: usize,
    pub bytes_max: usize,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { revisions_max: 65_536, bytes_max: 8 << 20 }
    }
}

/// The shared ring of recent events.
pub struct EventLog {
    limits: LogLimits,
    /// Whether any subscriber has watchers; changed only under the lock.
    watched: AtomicBool,
    state: Mutex<State>,
}

struct State {
    ring: VecDeque<Held>,
    held_bytes: usize,
    /// The lowest revision whose events are in the ring, or would be: `revision + 1` if it is empty.
    oldest: i64,
    revision: i64,
    compacted: i64,
    subscribers: Vec<Arc<Subscriber>>,
}

struct Held {
    events: Arc<RevisionEvents>,
    bytes: usize,
}

struct Subscriber {
    wake: Box<dyn Fn() + Send + Sync>,
    /// The two flags are read and written under the log's lock only.
    interested: AtomicBool,
    woken: AtomicBool,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The events of every revision from the one asked for up to, and without, `next`. None if `next` is that one.
    Upto { next: i64 },
    /// The ring begins at `oldest`, above what was asked for.
    TooOld { oldest: i64 },
}

impl EventLog {
    /// A log of a store that stands at `revision` and was compacted at `compacted` (-1: never).
    pub fn new(limits: LogLimits, revision: i64, compacted: i64) -> Arc<EventLog> {
        let state = State {
            ring: VecDeque::new(),
            held_bytes: 0,
            oldest: revision + 1,
            revision,
            compacted,
            subscribers: Vec::new(),
        };
        Arc::new(EventLog { limits, watched: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Whether anybody watches anything. If not, the apply thread may spare itself collecting events and call
    /// [`EventLog::skip_to`]; a watcher created meanwhile misses nothing, it reads those revisions from history.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Adds the events of the next revisions, ascending; those that are left out are as if skipped.
    ///
    /// Call it after the store itself shows these revisions to readers (a hub may ask for them as history at once) and
    /// before the writes are answered: a watch that a client creates after its write was answered must not see it.
    pub fn publish(&self, batch: Vec<RevisionEvents>) {
        let Some(last) = batch.last().map(|events| events.revision) else { return };
        let wake = {
            let mut state = self.state.lock();
            if !self.is_watched() {
                state.skip_to(last);
                return;
            }
            for events in batch {
                state.push(events);
            }
            state.trim(self.limits);
            state.take_sleepers()
        };
        wake_all(&wake);
    }

    /// The store is at `revision` now, and nobody has collected the events up to it, as nobody watched. Readers find them in
    /// history, as far as it is not compacted.
    pub fn skip_to(&self, revision: i64) {
        let wake = {
            let mut state = self.state.lock();
            if revision <= state.revision {
                return;
            }
            state.skip_to(revision);
            state.take_sleepers()
        };
        wake_all(&wake);
    }

    /// A snapshot took the place of the store's state, which is at `revision` now and compacted at `compacted` (-1: never).
    /// Watchers that need revisions from before go on from history; those whose next one is below `compacted` are told so.
    ///
    /// Call it once readers of the store see the new state. Neither number goes back.
    pub fn reset(&self, revision: i64, compacted: i64) {
        let wake = {
            let mut state = self.state.lock();
            state.compacted = state.compacted.max(compacted);
            if revision <= state.revision {
                return;
            }
            state.skip_to(revision);
            state.take_sleepers()
        };
        wake_all(&wake);
    }

    /// The store was compacted at `revision`.
    pub fn compact(&self, revision: i64) {
        let mut state = self.state.lock();
        state.compacted = state.compacted.max(revision);
    }

    /// The newest published revision: the current one, as far as watchers know.
    pub fn revision(&self) -> i64 {
        self.state.lock().revision
    }

    /// The compacted revision; -1 if there was no compaction.
    pub fn compacted(&self) -> i64 {
        self.state.lock().compacted
    }

    /// Appends to `out` the events from revision `from` on, below `below`: at most `limits` (revisions, bytes), but one
    /// revision at least.
    pub(crate) fn read(
        &self,
        from: i64,
        below: i64,
        limits: (usize, usize),
        out: &mut Vec<Arc<RevisionEvents>>,
    ) -> Read {
        self.state.lock().read(from, below, limits, out)
    }
}

impl State {
    fn read(
        &self,
        from: i64,
        below: i64,
        (revisions_max, bytes_max): (usize, usize),
        out: &mut Vec<Arc<RevisionEvents>>,
    ) -> Read {
        if from < self.oldest {
            return Read::TooOld { oldest: self.oldest };
        }
        let below = below.min(self.revision + 1);
        if from >= below {
            return Read::Upto { next: from };
        }
        let (mut bytes, mut revisions) = (0, 0);
        let start = (from - self.oldest) as usize;
        for held in self.ring.range(start..) {
            if held.events.revision >= below {
                break;
            }
            if revisions > 0 && (revisions == revisions_max || bytes + held.bytes > bytes_max) {
                return Read::Upto { next: held.events.revision };
            }
            revisions += 1;
            bytes += held.bytes;
            out.push(held.events.clone());
        }
        Read::Upto { next: below }
    }

    fn push(&mut self, events: RevisionEvents) {
        assert!(events.revision > self.revision, "revision {} was published before", events.revision);
        if events.revision != self.revision + 1 {
            // The apply thread spared itself the events in between.
            self.skip_to(events.revision - 1);
        }
        let bytes = events.held_bytes();
        self.revision = events.revision;
        self.held_bytes += bytes;
        self.ring.push_back(Held { events: Arc::new(events), bytes });
    }

    fn trim(&mut self, limits: LogLimits) {
        while self.ring.len() > 1 && (self.ring.len() > limits.revisions_max || self.held_bytes > limits.bytes_max) {
            if let Some(held) = self.ring.pop_front() {
                self.held_bytes -= held.bytes;
                self.oldest = held.events.revision + 1;
            }
        }
    }

    fn skip_to(&mut self, revision: i64) {
        if !self.ring.is_empty() {
            self.ring = VecDeque::new();
            self.held_bytes = 0;
        }
        self.revision = revision;
        self.oldest = revision + 1;
    }

    fn take_sleepers(&self) -> Vec<Arc<Subscriber>> {
        let mut sleepers = Vec::new();
        for subscriber in &self.subscribers {
            let interested = subscriber.interested.load(Ordering::Relaxed);
            if interested && !subscriber.woken.swap(true, Ordering::Relaxed) {
                sleepers.push(subscriber.clone());
            }
        }
        sleepers
    }
}

fn wake_all(subscribers: &[Arc<Subscriber>]) {
    for subscriber in subscribers {
        (subscriber.wake)();
    }
}

/// One hub's place at the log; it ends when dropped.
pub(crate) struct Subscription {
    log: Arc<EventLog>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// `wake` is called on the publishing thread, outside the lock: it should only nudge the worker.
    pub(crate) fn new(log: Arc<EventLog>, wake: Box<dyn Fn() + Send + Sync>) -> Subscription {
        let flag = || AtomicBool::new(false);
        let subscriber = Arc::new(Subscriber { wake, interested: flag(), woken: flag() });
        log.state.lock().subscribers.push(subscriber.clone());
        Subscription { log, subscriber }
    }

    pub(crate) fn log(&self) -> &EventLog {
        &self.log
    }

    /// Says whether the hub has watchers: if it has, every later revision will be published with its events.
    pub(crate) fn set_interested(&self, interested: bool) {
        let state = self.log.state.lock();
        self.subscriber.interested.store(interested, Ordering::Relaxed);
        self.subscriber.woken.store(false, Ordering::Relaxed);
        self.log.update_watched(&state);
    }

    /// Reads all there is from `from` on, and is to be woken by the next publication.
    pub(crate) fn read_all(&self, from: i64, out: &mut Vec<Arc<RevisionEvents>>) -> Read {
        let state = self.log.state.lock();
        self.subscriber.woken.store(false, Ordering::Relaxed);
        state.read(from, i64::MAX, (usize::MAX, usize::MAX), out)
    }
}

impl EventLog {
    fn update_watched(&self, state: &State) {
        let watched = state.subscribers.iter().any(|subscriber| subscriber.interested.load(Ordering::Relaxed));
        self.watched.store(watched, Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        state.subscribers.retain(|subscriber| !Arc::ptr_eq(subscriber, &self.subscriber));
        self.log.update_watched(&state);
    }
}
