//! Watchers that are behind: from the log, from history, and back among the live ones.
//!
//! A stream catches up when its task asks for output and most of what waited is sent. The watchers that need the oldest
//! revisions go first, together: one read of the log, or one history load, serves all of them. There is at most one load
//! under way for a stream, so what a stream can hold stays bounded.

use std::sync::Arc;

use bytes::Bytes;
use types::{KeyRange, RangeEnd};

use super::{Hub, StreamId};
use crate::arena::Key;
use crate::event::RevisionEvents;
use crate::event_log::Read;
use crate::index::Index;
use crate::message::{Body, Chosen, Message, Pick};
use crate::stream::Loading;
use crate::watcher::State;

/// How many watchers go on together.
const MEMBERS_MAX: usize = 1024;

/// Names one history load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadTicket {
    stream: StreamId,
    number: u64,
}

/// History that a stream needs: the events of `range` with main revision in `from..=to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLoad {
    pub ticket: LoadTicket,
    pub range: KeyRange,
    pub from: i64,
    pub to: i64,
    /// Where to stop: whole revisions only, at least one if there is one.
    pub revisions_max: usize,
    pub bytes_max: usize,
    /// Whether the events must come with the key's previous record, as far as it is not compacted.
    pub prev_kv: bool,
}

/// What was loaded.
#[derive(Clone, Debug)]
pub struct History {
    /// All events of the load's range from its `from` up to, and without, `next`; ascending.
    pub events: Vec<RevisionEvents>,
    /// Where to go on: above `from`, at most `to + 1`.
    pub next: i64,
}

/// Why nothing was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// The store is compacted at this revision, which lies above `from`.
    Compacted(i64),
    /// It cannot be read; the watchers that need it are cancelled with this reason.
    Failed(String),
}

impl Hub {
    /// Lets the stream's watchers that are behind go on, as far as there is room. Returns the history it takes, if it is
    /// not in the log.
    pub(super) fn catch_up(&mut self, stream: Key) -> Option<HistoryLoad> {
        loop {
            let held = self.streams.get(stream)?;
            if held.loading.is_some() || !held.is_drained(&self.options) {
                return None;
            }
            let &(from, _) = held.behind.first()?;
            if from >= self.cursor {
                self.go_live(stream);
                return None;
            }
            let mut events = Vec::new();
            let limits = (self.options.catch_up_revisions_max, self.options.catch_up_bytes_max);
            match self.log().read(from, self.cursor, limits, &mut events) {
                Read::Upto { next } => {
                    let members = self.members(stream, next);
                    self.replay(stream, &members, &events, next);
                }
                Read::TooOld { .. } if from < self.log().compacted() => {
                    let compacted = self.log().compacted();
                    let members = self.members(stream, compacted);
                    self.cancel_below(&members, compacted);
                }
                Read::TooOld { .. } => return Some(self.start_load(stream, from)),
            }
        }
    }

    /// Takes the history that a [`HistoryLoad`] asked for. A load whose stream is gone is passed over.
    pub fn history_loaded(&mut self, ticket: LoadTicket, loaded: Result<History, HistoryError>) {
        let stream = ticket.stream.0;
        let Some(held) = self.streams.get_mut(stream) else { return };
        let Some(loading) = held.loading.take_if(|loading| loading.number == ticket.number) else { return };
        match loaded {
            Ok(history) => {
                let events: Vec<Arc<RevisionEvents>> = history.events.into_iter().map(Arc::new).collect();
                self.replay(stream, &loading.members, &events, history.next.min(loading.to + 1));
            }
            Err(HistoryError::Compacted(compacted)) => self.cancel_below(&loading.members, compacted),
            Err(HistoryError::Failed(reason)) => self.cancel_failed(stream, &loading.members, &reason),
        }
        self.notify(stream);
    }

    /// The watchers of the stream that need a revision below `below`, those that need the oldest first.
    fn members(&self, stream: Key, below: i64) -> Vec<Key> {
        let Some(held) = self.streams.get(stream) else { return Vec::new() };
        held.behind.iter().take_while(|(next, _)| *next < below).map(|&(_, key)| key).take(MEMBERS_MAX).collect()
    }

    fn start_load(&mut self, stream: Key, from: i64) -> HistoryLoad {
        let to = self.current();
        let members = self.members(stream, self.cursor);
        let watchers = || members.iter().filter_map(|&key| self.watchers.get(key));
        let range = hull(watchers().map(|watcher| &watcher.range));
        let prev_kv = watchers().any(|watcher| watcher.prev_kv);
        self.loads_started += 1;
        let number = self.loads_started;
        if let Some(held) = self.streams.get_mut(stream) {
            held.loading = Some(Loading { number, members, to });
        }
        HistoryLoad {
            ticket: LoadTicket { stream: StreamId(stream), number },
            range,
            from,
            to,
            revisions_max: self.options.catch_up_revisions_max,
            bytes_max: self.options.catch_up_bytes_max,
            prev_kv,
        }
    }

    /// Queues what each member wants of `events`, one response a member, and moves the members on to `next`.
    fn replay(&mut self, stream: Key, members: &[Key], events: &[Arc<RevisionEvents>], next: i64) {
        let picks = self.pick(members, events);
        let current = self.current();
        let Some(held) = self.streams.get_mut(stream) else { return };
        for (&key, picks) in members.iter().zip(picks) {
            let Some(watcher) = self.watchers.get_mut(key) else { continue };
            if !picks.is_empty() {
                // The member stays where it is if there is no room left: it is served again when there is.
                if !held.has_room(&self.options) {
                    continue;
                }
                let response = watcher.response(current, Body::Many(picks));
                self.events_waiting += response.event_count() as u64;
                held.push(response);
                watcher.active = true;
            }
            held.behind.remove(&(watcher.next, key));
            watcher.next = watcher.next.max(next);
            held.behind.insert((watcher.next, key));
        }
    }

    /// What each of `members` wants of `events`.
    fn pick(&self, members: &[Key], events: &[Arc<RevisionEvents>]) -> Vec<Vec<Pick>> {
        let mut index = Index::new();
        for (member, &key) in members.iter().enumerate() {
            // A member that was cancelled during the load picks nothing.
            if let Some(watcher) = self.watchers.get(key) {
                index.insert(&watcher.range, (member, watcher));
            }
        }
        let mut picks: Vec<Vec<Pick>> = Vec::new();
        picks.resize_with(members.len(), Vec::new);
        for revision in events {
            for (position, event) in revision.events.iter().enumerate() {
                let position = position as u32;
                index.matching(event.key(), &mut |matching| {
                    for &(member, watcher) in matching {
                        if revision.revision < watcher.next || !watcher.wants(event) {
                            continue;
                        }
                        match picks[member].last_mut() {
                            Some(last) if Arc::ptr_eq(&last.revision, revision) => last.chosen.push(position),
                            _ => picks[member].push(Pick { revision: revision.clone(), chosen: Chosen::One(position) }),
                        }
                    }
                });
            }
        }
        picks
    }

    /// Makes live again whoever needs nothing below the cursor.
    fn go_live(&mut self, stream: Key) {
        let Some(held) = self.streams.get_mut(stream) else { return };
        let caught_up = std::mem::take(&mut held.behind);
        for (_, key) in caught_up {
            self.make_live(key);
        }
    }

    /// Cancels those of `members` that need a revision below `compacted`.
    fn cancel_below(&mut self, members: &[Key], compacted: i64) {
        for &key in members {
            let Some(watcher) = self.watchers.get(key) else { continue };
            let (stream, next) = (watcher.stream, watcher.next);
            if next < compacted {
                if let Some(held) = self.streams.get_mut(stream) {
                    held.behind.remove(&(next, key));
                }
                self.cancel_compacted(key, compacted);
            }
        }
    }

    /// Tells the client that the watcher's events are gone. The watcher keeps its id until the client cancels it.
    pub(super) fn cancel_compacted(&mut self, key: Key, compacted: i64) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        watcher.state = State::Compacted;
        let (stream, watch_id) = (watcher.stream, watcher.id);
        if let Some(held) = self.streams.get_mut(stream) {
            held.compacted_count += 1;
        }
        self.queue(
            stream,
            Message { watch_id, revision: 0, canceled: true, compact_revision: compacted, ..Message::default() },
        );
    }

    fn cancel_failed(&mut self, stream: Key, members: &[Key], reason: &str) {
        for &key in members {
            let Some(watch_id) = self.watchers.get(key).map(|watcher| watcher.id) else { continue };
            if let Some(held) = self.streams.get_mut(stream) {
                held.watchers.remove(&watch_id);
            }
            self.remove_watcher(key);
            let (revision, cancel_reason) = (self.current(), Some(reason.into()));
            self.queue(stream, Message { watch_id, revision, canceled: true, cancel_reason, ..Message::default() });
        }
    }
}

/// The smallest range that holds all of `ranges`.
fn hull<'a>(mut ranges: impl Iterator<Item = &'a KeyRange>) -> KeyRange {
    let mut hull = ranges.next().cloned().unwrap_or_else(KeyRange::all);
    for range in ranges {
        if *range == hull {
            continue;
        }
        let end = past(&hull).max(past(range));
        hull = KeyRange { start: hull.start.min(range.start.clone()), end };
    }
    hull
}

/// The range's end as that of a range, also if it is one key.
fn past(range: &KeyRange) -> RangeEnd {
    match &range.end {
        RangeEnd::Single => {
            let mut end = range.start.to_vec();
            end.push(0);
            RangeEnd::Before(Bytes::from(end))
        }
        end => end.clone(),
    }
}
