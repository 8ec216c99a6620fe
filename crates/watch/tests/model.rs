//! Random streams, readers, loads, compactions and snapshots, judged by etcd's guarantees against the full history.

mod common;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use env::Monotonic;
use fastrand::Rng;
use types::{KeyRange, RangeEnd, Record, Revision};
use watch::{
    CreateRequest, Event, History, HistoryError, Hub, HubOptions, LoadTicket, LogLimits, Message, Next, StreamId,
};

const KEYS: [&str; 6] = ["a", "b", "ba", "bb", "c", "d"];
const HUBS: usize = 2;
const STREAMS_MAX: usize = 3;

/// What a client knows of one of its watchers.
struct Watched {
    request: CreateRequest,
    /// The first revision whose events it must get.
    start: i64,
    /// All it got, in order: how far into the history that is.
    received: usize,
    last: Option<Revision>,
    /// The last message was a fragment: the same revision goes on.
    is_inside_response: bool,
    is_compacted: bool,
}

/// One client's end of a stream.
#[derive(Default)]
struct Client {
    asked: VecDeque<CreateRequest>,
    watched: HashMap<i64, Watched>,
    messages: usize,
}

struct Open {
    id: StreamId,
    client: Client,
}

struct Pending {
    hub: usize,
    ticket: LoadTicket,
    result: Result<History, HistoryError>,
}

struct World {
    rng: Rng,
    store: Store,
    unpublished: Vec<watch::RevisionEvents>,
    hubs: Vec<Hub>,
    streams: Vec<Vec<Open>>,
    loads: Vec<Pending>,
    now: Monotonic,
}

#[derive(Default)]
struct Seen {
    events: usize,
    progress: usize,
    compacted: usize,
    fragments: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let limits = LogLimits { revisions_max: rng.usize(1..40), bytes_max: rng.usize(200..20_000) };
        let store = Store::new(limits);
        let options = HubOptions {
            progress_notify_interval: Duration::from_secs(rng.u64(1..5)),
            fragment_bytes_max: rng.usize(40..200),
            responses_max: rng.usize(1..12),
            held_bytes_max: rng.usize(300..5000),
            catch_up_revisions_max: rng.usize(1..10),
            catch_up_bytes_max: rng.usize(100..3000),
        };
        let hubs = (0..HUBS).map(|_| hub(&store, options.clone())).collect();
        let streams = (0..HUBS).map(|_| Vec::new()).collect();
        let now = Monotonic::default();
        World { rng, store, unpublished: Vec::new(), hubs, streams, loads: Vec::new(), now }
    }

    fn step(&mut self, seen: &mut Seen) {
        let hub = self.rng.usize(..HUBS);
        match self.rng.u32(..100) {
            0..25 => self.write(),
            25..38 => self.publish(),
            38..48 => self.hubs[hub].advance(),
            48..50 => self.open_or_close(hub),
            50..58 => self.create(hub),
            58..61 => self.cancel(hub),
            61..66 => self.request_progress(hub),
            66..69 => self.tick(hub),
            69..88 => self.read(hub, seen),
            88..96 => self.finish_load(),
            96..98 => self.compact(),
            _ => self.install_snapshot(),
        }
    }

    fn write(&mut self) {
        let count = self.rng.usize(1..4);
        let mut keys: Vec<&str> = KEYS.to_vec();
        self.rng.shuffle(&mut keys);
        let mut ops = Vec::new();
        for key in keys.into_iter().take(count) {
            let value = "v".repeat(self.rng.usize(..60));
            ops.push(if self.rng.u32(..4) == 0 { delete(key) } else { put(key, &value) });
        }
        self.unpublished.extend(self.store.txn(ops));
    }

    /// As the apply thread does it: it need not hand over events that nobody watches.
    fn publish(&mut self) {
        let batch = std::mem::take(&mut self.unpublished);
        let Some(last) = batch.last().map(|events| events.revision) else { return };
        if !self.store.log.is_watched() && self.rng.bool() {
            self.store.log.skip_to(last);
        } else {
            self.store.log.publish(batch);
        }
    }

    /// It may be compacted above all that was published here.
    fn install_snapshot(&mut self) {
        self.unpublished.clear();
        let revision = self.store.revision;
        if self.rng.bool() {
            self.store.compacted = self.store.compacted.max(self.rng.i64(revision.saturating_sub(15)..=revision));
        }
        self.store.log.reset(revision, self.store.compacted);
    }

    fn compact(&mut self) {
        let published = self.store.log.revision();
        let revision = self.rng.i64(published.saturating_sub(10).max(1)..=published);
        self.store.compact(revision);
    }

    fn open_or_close(&mut self, hub: usize) {
        if self.streams[hub].len() < STREAMS_MAX {
            let id = self.hubs[hub].open_stream();
            self.streams[hub].push(Open { id, client: Client::default() });
        } else {
            let which = self.rng.usize(..STREAMS_MAX);
            self.hubs[hub].close_stream(self.streams[hub].swap_remove(which).id);
        }
    }

    fn range(&mut self) -> KeyRange {
        let mut key = || Bytes::from_static(KEYS[self.rng.usize(..KEYS.len())].as_bytes());
        let (start, end) = (key(), key());
        match self.rng.u32(..5) {
            0 => KeyRange::all(),
            1 => KeyRange { start, end: RangeEnd::Unbounded },
            2 if start < end => KeyRange { start, end: RangeEnd::Before(end) },
            3 => KeyRange::prefix(&start),
            _ => KeyRange::single(start),
        }
    }

    fn create(&mut self, hub: usize) {
        if self.streams[hub].is_empty() {
            return;
        }
        let current = self.store.revision;
        let request = CreateRequest {
            range: self.range(),
            start_revision: if self.rng.bool() {
                0
            } else {
                self.rng.i64(current.saturating_sub(30).max(1)..current + 10)
            },
            watch_id: if self.rng.bool() { 0 } else { self.rng.i64(1..6) },
            progress_notify: self.rng.bool(),
            prev_kv: self.rng.bool(),
            fragment: self.rng.bool(),
            no_put: self.rng.u32(..5) == 0,
            no_delete: self.rng.u32(..5) == 0,
        };
        let which = self.rng.usize(..self.streams[hub].len());
        let open = &mut self.streams[hub][which];
        self.hubs[hub].create(open.id, &request, self.now);
        open.client.asked.push_back(request);
    }

    fn cancel(&mut self, hub: usize) {
        if self.streams[hub].is_empty() {
            return;
        }
        let which = self.rng.usize(..self.streams[hub].len());
        let open = &self.streams[hub][which];
        let mut ids: Vec<i64> = open.client.watched.keys().copied().collect();
        ids.sort_unstable();
        ids.push(77);
        self.hubs[hub].cancel(open.id, ids[self.rng.usize(..ids.len())]);
    }

    fn request_progress(&mut self, hub: usize) {
        for which in 0..self.streams[hub].len() {
            self.hubs[hub].request_progress(self.streams[hub][which].id);
        }
    }

    fn tick(&mut self, hub: usize) {
        self.now = self.now.plus(Duration::from_millis(self.rng.u64(..3000)));
        self.hubs[hub].tick(self.now);
    }

    fn read(&mut self, hub: usize, seen: &mut Seen) {
        if self.streams[hub].is_empty() {
            return;
        }
        let which = self.rng.usize(..self.streams[hub].len());
        for _ in 0..self.rng.usize(1..6) {
            if !self.read_one(hub, which, seen) {
                return;
            }
        }
    }

    /// Returns whether there was anything.
    fn read_one(&mut self, hub: usize, which: usize, seen: &mut Seen) -> bool {
        let open = &mut self.streams[hub][which];
        match self.hubs[hub].next_message(open.id) {
            Next::Message(message) => open.client.take(&message, &self.store, seen),
            Next::Load(load) => {
                // The answer is of now, and comes later.
                let result = self.store.load(&load, self.rng.usize(1..5));
                self.loads.push(Pending { hub, ticket: load.ticket, result });
            }
            Next::Idle => return false,
        }
        true
    }

    fn finish_load(&mut self) {
        if !self.loads.is_empty() {
            let load = self.loads.swap_remove(self.rng.usize(..self.loads.len()));
            self.hubs[load.hub].history_loaded(load.ticket, load.result);
        }
    }

    /// Everybody reads to the end; then nothing may be missing.
    fn settle(&mut self, seen: &mut Seen) {
        self.publish();
        for hub in 0..HUBS {
            self.hubs[hub].advance();
            for which in 0..self.streams[hub].len() {
                loop {
                    while self.read_one(hub, which, seen) {}
                    if self.loads.is_empty() {
                        break;
                    }
                    self.finish_load();
                }
            }
        }
        for open in self.streams.iter().flatten() {
            assert!(open.client.asked.is_empty(), "every request is answered");
            for watched in open.client.watched.values() {
                let is_whole = watched.is_compacted || watched.missing(&self.store, self.store.revision).is_none();
                assert!(is_whole, "an event never came: {:?}", watched.request);
            }
        }
    }
}

impl Client {
    fn take(&mut self, message: &Message, store: &Store, seen: &mut Seen) {
        self.messages += 1;
        encode(message);
        if message.created {
            return self.take_created(message);
        }
        if message.watch_id == -1 {
            seen.progress += 1;
            assert!(!self.watched.is_empty(), "progress of a stream without watchers");
            return self.watched.values().for_each(|watched| watched.check_progress(message.revision, store));
        }
        let watched = self.watched.get_mut(&message.watch_id).expect("nothing comes before created or after canceled");
        if message.compact_revision != 0 {
            seen.compacted += 1;
            watched.check_compacted(message);
            watched.is_compacted = true;
        } else if message.canceled {
            self.watched.remove(&message.watch_id);
        } else if message.events().next().is_none() {
            seen.progress += 1;
            assert!(watched.request.progress_notify);
            watched.check_progress(message.revision, store);
        } else {
            seen.events += message.events().count();
            seen.fragments += usize::from(message.fragment);
            watched.take_events(message, store);
        }
    }

    fn take_created(&mut self, message: &Message) {
        let request = self.asked.pop_front().expect("an answer to a request");
        if message.canceled {
            assert!(self.watched.contains_key(&request.watch_id), "refused without a reason");
            return;
        }
        assert!(request.watch_id == 0 || request.watch_id == message.watch_id);
        let start = if request.start_revision == 0 { message.revision + 1 } else { request.start_revision };
        let watched =
            Watched { request, start, received: 0, last: None, is_inside_response: false, is_compacted: false };
        assert!(self.watched.insert(message.watch_id, watched).is_none(), "an id in use was given again");
    }
}

impl Watched {
    fn wants(&self, event: &Event) -> bool {
        let is_filtered = if event.is_delete() { self.request.no_delete } else { self.request.no_put };
        let range = &self.request.range;
        event.row.revision.main >= self.start && range.contains(event.key()) && !is_filtered
    }

    /// The first event up to `revision` that it should have and has not.
    fn missing<'a>(&self, store: &'a Store, revision: i64) -> Option<&'a Event> {
        let events = store.history[self.received..].iter().flat_map(|revision| &revision.events);
        let mut wanted = events.filter(|event| Some(event.row.revision) > self.last && self.wants(event));
        wanted.next().filter(|event| event.row.revision.main <= revision)
    }

    /// Ordered, unique, reliable, filtered, none before the start: each event is the next one of the history. Atomic: a
    /// response, or its last fragment, ends with the revision. Bookmarkable: the header is not behind the events.
    fn take_events(&mut self, message: &Message, store: &Store) {
        assert!(!self.is_compacted, "an event after the watcher was cancelled");
        assert!(!message.fragment || self.request.fragment);
        for event in message.events() {
            let expected = self.missing(store, i64::MAX).expect("an event that is not in the history");
            assert_eq!((event.row, &event.record), (expected.row, &expected.record), "{:?}", self.request);
            self.check_previous(message, event, expected, store);
            assert!(message.revision >= event.row.revision.main);
            if !self.is_inside_response && self.last.is_some_and(|last| last.main == event.row.revision.main) {
                let first = message.events().next().map(|event| event.row.revision);
                assert_ne!(first, Some(event.row.revision), "a revision was split");
            }
            self.last = Some(event.row.revision);
            self.received = store.history.partition_point(|held| held.revision < event.row.revision.main);
        }
        self.is_inside_response = message.fragment;
        if !message.fragment {
            let last = self.last.map_or(0, |last| last.main);
            assert!(self.missing(store, last).is_none(), "a revision was split");
        }
    }

    fn check_previous(&self, message: &Message, event: &Event, expected: &Event, store: &Store) {
        assert_eq!(message.prev_kv, self.request.prev_kv);
        if self.request.prev_kv {
            let is_compacted = event.row.revision.main <= store.compacted;
            let previous: Option<&Record> = event.previous.as_ref();
            assert!(previous == expected.previous.as_ref() || (previous.is_none() && is_compacted));
        }
    }

    fn check_progress(&self, revision: i64, store: &Store) {
        assert!(!self.is_compacted, "progress of a compacted watcher");
        assert!(revision >= self.request.start_revision, "progress before the start");
        assert!(self.missing(store, revision).is_none(), "progress at {revision} precedes an event");
    }

    fn check_compacted(&self, message: &Message) {
        assert!(message.canceled && message.revision == 0 && message.cancel_reason.is_none());
        assert!(self.start < message.compact_revision, "cancelled although nothing it needs is compacted");
        assert!(self.last.is_none_or(|last| last.main < message.compact_revision));
    }
}

#[test]
fn every_watcher_gets_exactly_its_events_whatever_happens() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let run = std::panic::catch_unwind(|| {
            let (mut world, mut seen) = (World::new(seed), Seen::default());
            for _ in 0..600 {
                world.step(&mut seen);
            }
            world.settle(&mut seen);
            seen
        });
        match run {
            Ok(run) => {
                seen.events += run.events;
                seen.progress += run.progress;
                seen.compacted += run.compacted;
                seen.fragments += run.fragments;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let enough = seen.events > 10_000 && seen.progress > 1000 && seen.compacted > 100 && seen.fragments > 1000;
    assert!(enough, "{} {} {} {}", seen.events, seen.progress, seen.compacted, seen.fragments);
    println!(
        "events {} progress {} compacted {} fragments {}",
        seen.events, seen.progress, seen.compacted, seen.fragments
    );
}
