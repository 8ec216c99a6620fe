//! The watch streams of one network worker.
//!
//! Invariants
//! - Every event a watcher asked for is queued for it once, in revision order; all of one revision in one response.
//! - `cursor` is the next revision to be matched against the live watchers: what lies below is queued.
//! - A watcher is live (in the index) or behind (in its stream's `behind`, with the revision it needs next), never both.
//!   It turns live only when the revision it needs is not below `cursor`, so there is neither gap nor duplicate.
//! - A stream whose client does not read holds at most `responses_max` responses with events and about `held_bytes_max`
//!   of events; after that its watchers fall behind.
//! - A response that promises progress up to a revision is queued after all events up to it.
//!
//! Source: etcd API guarantees, "Watch APIs"; etcd-io/etcd `server/storage/mvcc/watchable_store.go`, `watcher.go`,
//! `server/etcdserver/api/v3rpc/watch.go`.

mod catch_up;
mod live;
mod progress;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Monotonic;
use types::{KeyRange, RangeEnd};

pub use self::catch_up::{History, HistoryError, HistoryLoad, LoadTicket};
use crate::arena::{Arena, Key};
use crate::event::RevisionEvents;
use crate::event_log::{EventLog, Subscription};
use crate::index::Index;
use crate::message::Message;
use crate::stream::Stream;
use crate::watcher::{CreateRequest, State, Watcher};

/// The `watch_id` of responses that belong to no watcher.
const NO_WATCHER: i64 = -1;

const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";

/// How a hub bounds its work.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// How long a watcher with `progress_notify` may be silent. The caller adds the jitter.
    pub progress_notify_interval: Duration,
    /// Responses of this size are split, if their watcher allows it: etcd's max-request-bytes + 512 KiB.
    pub fragment_bytes_max: usize,
    /// How many responses may wait in one stream before its watchers fall behind; two for each watcher if that is more.
    pub responses_max: usize,
    /// How many bytes of events may wait in one stream before its watchers fall behind.
    pub held_bytes_max: usize,
    /// How many revisions one catch-up response may span.
    pub catch_up_revisions_max: usize,
    /// How many bytes of events are read for one catch-up step; one revision is read whatever its size.
    pub catch_up_bytes_max: usize,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            progress_notify_interval: Duration::from_secs(600),
            fragment_bytes_max: (1536 + 512) << 10,
            responses_max: 128,
            held_bytes_max: 4 << 20,
            catch_up_revisions_max: 1000,
            catch_up_bytes_max: 1 << 20,
        }
    }
}

/// Names a stream of one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Key);

/// What a stream has to do next.
#[derive(Debug)]
pub enum Next {
    /// Send this, then ask again.
    Message(Message),
    /// Have this history loaded, away from the worker's other work, and hand it to [`Hub::history_loaded`]; do not wait
    /// for it, ask again at once.
    Load(HistoryLoad),
    /// Nothing, until [`Hub::take_ready`] names the stream.
    Idle,
}

/// What a hub holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are not live (etcd: "slow" or unsynced).
    pub behind: usize,
    /// Events that wait in streams.
    pub events_waiting: u64,
    /// Events taken to be sent, ever.
    pub events_sent: u64,
}

/// The watch streams of one network worker.
pub struct Hub {
    options: HubOptions,
    subscription: Subscription,
    streams: Arena<Stream>,
    watchers: Arena<Watcher>,
    /// The live watchers.
    index: Index<Key>,
    live_count: usize,
    events_waiting: u64,
    events_sent: u64,
    /// The next revision to match against the live watchers.
    cursor: i64,
    /// When which watcher's next progress notice is due.
    progress_due: BTreeSet<(Monotonic, Key)>,
    ready: Vec<StreamId>,
    loads_started: u64,
    /// Kept between calls only for its memory.
    batch: Vec<Arc<RevisionEvents>>,
}

impl Hub {
    /// A hub without streams. `wake` is called on the publishing thread when there is something to
    /// [`advance`](Hub::advance) over; it should only nudge the worker.
    pub fn new(log: Arc<EventLog>, options: HubOptions, wake: impl Fn() + Send + Sync + 'static) -> Hub {
        let cursor = log.revision() + 1;
        Hub {
            options,
            subscription: Subscription::new(log, Box::new(wake)),
            streams: Arena::new(),
            watchers: Arena::new(),
            index: Index::new(),
            live_count: 0,
            events_waiting: 0,
            events_sent: 0,
            cursor,
            progress_due: BTreeSet::new(),
            ready: Vec::new(),
            loads_started: 0,
            batch: Vec::new(),
        }
    }

    /// Opens a stream, without watchers.
    pub fn open_stream(&mut self) -> StreamId {
        StreamId(self.streams.insert(Stream::default()))
    }

    /// Forgets a stream, its watchers and all that waits in it.
    pub fn close_stream(&mut self, stream: StreamId) {
        let Some(closed) = self.streams.remove(stream.0) else { return };
        self.events_waiting -= closed.events_waiting() as u64;
        for &watcher in closed.watchers.values() {
            self.remove_watcher(watcher);
        }
    }

    /// Creates a watcher. The answer, also to a request that cannot be met, is queued in the stream.
    pub fn create(&mut self, stream: StreamId, request: &CreateRequest, now: Monotonic) {
        let Some(held) = self.streams.get_mut(stream.0) else { return };
        if let Some(reason) = reason_to_refuse(held, request) {
            return self.refuse(stream, reason);
        }
        let id = if request.watch_id == 0 { held.choose_id() } else { request.watch_id };
        if self.watchers.is_empty() {
            // Before the log is read: from here on every revision is published with its events.
            self.subscription.set_interested(true);
        }
        self.advance();
        let current = self.current();
        let watcher = self.watchers.insert(Watcher {
            stream: stream.0,
            id,
            state: State::Behind,
            next: if request.start_revision == 0 { current + 1 } else { request.start_revision },
            open: (0, 0),
            no_put: request.no_put,
            no_delete: request.no_delete,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            active: false,
            progress_due: None,
            start: request.start_revision,
            range: own_range(&request.range),
        });
        if let Some(held) = self.streams.get_mut(stream.0) {
            held.watchers.insert(id, watcher);
            held.start_max = held.start_max.max(request.start_revision);
        }
        self.queue(stream.0, Message { watch_id: id, revision: current, created: true, ..Message::default() });
        self.place(watcher, request.start_revision, current);
        if request.progress_notify {
            self.arm_progress(watcher, now);
        }
    }

    /// Answers a create request that the caller refuses, permission being denied, say.
    pub fn refuse(&mut self, stream: StreamId, reason: &str) {
        self.advance();
        let message = Message {
            watch_id: NO_WATCHER,
            revision: self.current(),
            created: true,
            canceled: true,
            cancel_reason: Some(reason.into()),
            ..Message::default()
        };
        self.queue(stream.0, message);
    }

    /// Ends a watcher on the client's request; an unknown id is passed over.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        self.advance();
        let Some(held) = self.streams.get_mut(stream.0) else { return };
        let Some(watcher) = held.watchers.remove(&watch_id) else { return };
        self.remove_watcher(watcher);
        let revision = self.current();
        self.queue(stream.0, Message { watch_id, revision, canceled: true, ..Message::default() });
    }

    /// What the stream has to do next. To be called when the transport has room for a message, until it says
    /// [`Next::Idle`].
    pub fn next_message(&mut self, stream: StreamId) -> Next {
        if let Some(load) = self.catch_up(stream.0) {
            return Next::Load(load);
        }
        let Some(held) = self.streams.get_mut(stream.0) else { return Next::Idle };
        match held.pop(self.options.fragment_bytes_max) {
            Some(message) => {
                let events = message.event_count() as u64;
                self.events_waiting -= events;
                self.events_sent += events;
                Next::Message(message)
            }
            None => {
                held.polled = false;
                Next::Idle
            }
        }
    }

    /// Moves to `ready` the streams that have something to do since they last said [`Next::Idle`] (or were opened).
    pub fn take_ready(&mut self, ready: &mut Vec<StreamId>) {
        ready.append(&mut self.ready);
    }

    /// Whether so much waits in the stream that its requests should not be read until it is idle: answers to requests
    /// are queued without bound.
    pub fn is_congested(&self, stream: StreamId) -> bool {
        self.streams.get(stream.0).is_some_and(|held| held.queue_len() >= 2 * self.options.responses_max)
    }

    /// What the hub holds.
    pub fn counts(&self) -> Counts {
        let watchers = self.watchers.len();
        Counts {
            streams: self.streams.len(),
            watchers,
            behind: watchers - self.live_count,
            events_waiting: self.events_waiting,
            events_sent: self.events_sent,
        }
    }

    fn log(&self) -> &EventLog {
        self.subscription.log()
    }

    /// The revision up to which everything is queued: what responses call the current one.
    fn current(&self) -> i64 {
        self.cursor - 1
    }

    /// Sends a new watcher on its way.
    fn place(&mut self, watcher: Key, start: i64, current: i64) {
        if start == 0 || start > current {
            return self.make_live(watcher);
        }
        let compacted = self.log().compacted();
        if start < compacted { self.cancel_compacted(watcher, compacted) } else { self.make_behind(watcher, start) }
    }

    fn make_live(&mut self, key: Key) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        let position = self.index.insert(&watcher.range, key);
        watcher.state = State::Live { position };
        self.live_count += 1;
    }

    /// Puts a watcher that is not in the index behind, to go on from `next`.
    fn make_behind(&mut self, key: Key, next: i64) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        watcher.state = State::Behind;
        watcher.next = next;
        let stream = watcher.stream;
        if let Some(held) = self.streams.get_mut(stream) {
            held.behind.insert((next, key));
        }
        self.notify(stream);
    }

    fn unindex(&mut self, range: &KeyRange, position: usize) {
        if let Some(moved) = self.index.remove(range, position)
            && let Some(moved) = self.watchers.get_mut(moved)
        {
            moved.state = State::Live { position };
        }
        self.live_count -= 1;
    }

    fn remove_watcher(&mut self, key: Key) {
        let Some(watcher) = self.watchers.remove(key) else { return };
        if let Some(due) = watcher.progress_due {
            self.progress_due.remove(&(due, key));
        }
        match watcher.state {
            State::Live { position } => self.unindex(&watcher.range, position),
            State::Behind => {
                if let Some(held) = self.streams.get_mut(watcher.stream) {
                    held.behind.remove(&(watcher.next, key));
                }
            }
            State::Compacted => {
                if let Some(held) = self.streams.get_mut(watcher.stream) {
                    held.compacted_count -= 1;
                }
            }
        }
        if self.watchers.is_empty() {
            self.subscription.set_interested(false);
        }
    }

    fn queue(&mut self, stream: Key, message: Message) {
        if let Some(held) = self.streams.get_mut(stream) {
            held.push(message);
            self.notify(stream);
        }
    }

    fn notify(&mut self, stream: Key) {
        if let Some(held) = self.streams.get_mut(stream) {
            wake(held, StreamId(stream), &mut self.ready);
        }
    }
}

/// Names the stream in `ready`, unless its task is at it anyway.
fn wake(stream: &mut Stream, id: StreamId, ready: &mut Vec<StreamId>) {
    if !stream.polled {
        stream.polled = true;
        ready.push(id);
    }
}

fn reason_to_refuse(stream: &Stream, request: &CreateRequest) -> Option<&'static str> {
    if request.start_revision < 0 {
        return Some(NEGATIVE_START);
    }
    if own_range(&request.range).is_empty() {
        return Some(EMPTY_RANGE);
    }
    let is_taken = request.watch_id != 0 && stream.watchers.contains_key(&request.watch_id);
    is_taken.then_some(DUPLICATE_ID)
}

/// The range with key bytes of its own, so that a long-lived watcher does not keep the request's buffer. The lowest key
/// takes the place of an empty one, as in etcd.
fn own_range(range: &KeyRange) -> KeyRange {
    let start = if range.start.is_empty() { Bytes::from_static(b"\0") } else { Bytes::copy_from_slice(&range.start) };
    let end = match &range.end {
        RangeEnd::Before(end) => RangeEnd::Before(Bytes::copy_from_slice(end)),
        other => other.clone(),
    };
    KeyRange { start, end }
}
