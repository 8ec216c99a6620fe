//! Matching what was just published against the live watchers.

use std::sync::Arc;

use super::{Hub, HubOptions, StreamId, wake};
use crate::arena::{Arena, Key};
use crate::event::{Event, RevisionEvents};
use crate::event_log::Read;
use crate::message::{Body, Chosen, Pick};
use crate::stream::Stream;
use crate::watcher::{State, Watcher};

impl Hub {
    /// Takes what was published since the last call and queues it for the live watchers. To be called on the worker's
    /// thread after `wake` was.
    pub fn advance(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        loop {
            match self.subscription.read_all(self.cursor, &mut batch) {
                Read::Upto { next } => {
                    for revision in &batch {
                        self.deliver(revision);
                    }
                    self.cursor = next;
                    break;
                }
                Read::TooOld { oldest } => self.overrun(oldest),
            }
        }
        batch.clear();
        self.batch = batch;
    }

    fn deliver(&mut self, revision: &Arc<RevisionEvents>) {
        if self.live_count == 0 {
            return;
        }
        let mut parked = Vec::new();
        let Hub { options, streams, watchers, index, ready, events_waiting, .. } = self;
        let parked_now = &mut parked;
        let mut delivery = Delivery { options, streams, watchers, ready, events_waiting, parked: parked_now, revision };
        for (position, event) in revision.events.iter().enumerate() {
            index.matching(event.key(), &mut |keys| {
                for &key in keys {
                    delivery.offer(key, position as u32, event);
                }
            });
        }
        for key in parked {
            self.park(key, revision.revision);
        }
    }

    /// Makes a mere cursor of a live watcher.
    fn park(&mut self, key: Key, next: i64) {
        let Some(watcher) = self.watchers.get(key) else { return };
        // A watcher that missed several events of one revision was named several times.
        let State::Live { position } = watcher.state else { return };
        let range = watcher.range.clone();
        self.unindex(&range, position);
        self.make_behind(key, next);
    }

    /// The log begins at `oldest`, above what was matched last: live watchers read what is between from history.
    fn overrun(&mut self, oldest: i64) {
        let missed = self.cursor;
        let mut late: Vec<(Key, i64)> = Vec::new();
        for (key, watcher) in self.watchers.iter_mut() {
            let is_live = matches!(watcher.state, State::Live { .. });
            if is_live && watcher.next < oldest {
                late.push((key, watcher.next.max(missed)));
            }
        }
        self.cursor = oldest;
        for (key, next) in late {
            self.park(key, next);
        }
    }
}

/// One revision on its way to the live watchers.
struct Delivery<'a> {
    options: &'a HubOptions,
    streams: &'a mut Arena<Stream>,
    watchers: &'a mut Arena<Watcher>,
    ready: &'a mut Vec<StreamId>,
    events_waiting: &'a mut u64,
    /// Watchers whose streams have no room. They stay in the index until the revision is through.
    parked: &'a mut Vec<Key>,
    revision: &'a Arc<RevisionEvents>,
}

impl Delivery<'_> {
    /// Queues the event at `position` for a watcher whose range holds its key.
    fn offer(&mut self, key: Key, position: u32, event: &Event) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        let revision = self.revision.revision;
        if revision < watcher.next || !watcher.wants(event) {
            return;
        }
        let Some(stream) = self.streams.get_mut(watcher.stream) else { return };
        let (open_revision, number) = watcher.open;
        if open_revision == revision {
            stream.extend(number, event.held_bytes(), |message| message.add(position));
            *self.events_waiting += 1;
            return;
        }
        // Decided at a revision's first event for this watcher, so that it gets all of the revision or none of it.
        if !stream.has_room(self.options) {
            self.parked.push(key);
            return;
        }
        let pick = Pick { revision: self.revision.clone(), chosen: Chosen::One(position) };
        let number = stream.push(watcher.response(revision, Body::One(pick)));
        *self.events_waiting += 1;
        watcher.open = (revision, number);
        watcher.active = true;
        wake(stream, StreamId(watcher.stream), self.ready);
    }
}
