//! A store of events, plainly kept, and a client that reads watch streams: what a hub is driven with in tests.
#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use env::Monotonic;
use types::{ClusterId, KeyRange, MemberId, Record, RecordMeta, Revision, RowKey, Term};
use watch::{
    CreateRequest, Event, EventLog, HeaderTemplate, History, HistoryError, HistoryLoad, Hub, HubOptions, LogLimits,
    Message, Next, RevisionEvents, StreamId,
};

pub const HEADER: HeaderTemplate =
    HeaderTemplate { cluster_id: ClusterId(7), member_id: MemberId(8), raft_term: Term(9) };

/// The whole history, and the log that gets to see it.
pub struct Store {
    pub log: Arc<EventLog>,
    pub revision: i64,
    pub compacted: i64,
    /// All revisions ever, compacted or not.
    pub history: Vec<RevisionEvents>,
    current: BTreeMap<Vec<u8>, Record>,
}

pub enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

pub fn put(key: &str, value: &str) -> Op {
    Op::Put(key.into(), value.into())
}

pub fn delete(key: &str) -> Op {
    Op::Delete(key.into())
}

impl Store {
    /// Revision 1, as an empty etcd has it.
    pub fn new(limits: LogLimits) -> Store {
        let log = EventLog::new(limits, 1, -1);
        Store { log, revision: 1, compacted: -1, history: Vec::new(), current: BTreeMap::new() }
    }

    /// One transaction; it is published with others by [`Store::publish`]. Deletions of absent keys change nothing.
    pub fn txn(&mut self, ops: impl IntoIterator<Item = Op>) -> Option<RevisionEvents> {
        let main = self.revision + 1;
        let mut events = Vec::new();
        for op in ops {
            let revision = Revision { main, sub: events.len() as i64 };
            match op {
                Op::Put(key, value) => {
                    let previous = self.current.get(&key).cloned();
                    let old = previous.as_ref().map_or_else(RecordMeta::default, Record::meta);
                    let create_revision = if old.create_revision == 0 { main } else { old.create_revision };
                    let meta =
                        RecordMeta { create_revision, mod_revision: main, version: old.version + 1, lease: old.lease };
                    let record = Record::put(&key, &value, meta);
                    self.current.insert(key, record.clone());
                    events.push(Event { row: RowKey { revision, tombstone: false }, record, previous });
                }
                Op::Delete(key) => {
                    let Some(previous) = self.current.remove(&key) else { continue };
                    let record = Record::tombstone(&key);
                    events.push(Event { row: RowKey { revision, tombstone: true }, record, previous: Some(previous) });
                }
            }
        }
        if events.is_empty() {
            return None;
        }
        self.revision = main;
        let events = RevisionEvents { revision: main, events };
        self.history.push(events.clone());
        Some(events)
    }

    pub fn commit(&mut self, ops: impl IntoIterator<Item = Op>) {
        let events = self.txn(ops);
        self.publish(events.into_iter().collect());
    }

    pub fn publish(&self, batch: Vec<RevisionEvents>) {
        self.log.publish(batch);
    }

    pub fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
        self.log.compact(revision);
    }

    /// What `View::events` answers, stopping after `revisions_max` revisions that have events in the range.
    pub fn load(&self, load: &HistoryLoad, revisions_max: usize) -> Result<History, HistoryError> {
        if load.from < self.compacted {
            return Err(HistoryError::Compacted(self.compacted));
        }
        let mut events = Vec::new();
        for revision in &self.history {
            if revision.revision < load.from || revision.revision > load.to {
                continue;
            }
            if events.len() == revisions_max {
                return Ok(History { events, next: revision.revision });
            }
            let in_range = revision.events.iter().filter(|event| load.range.contains(event.key()));
            let found: Vec<Event> = in_range.map(|event| self.loaded(event, load.prev_kv)).collect();
            if !found.is_empty() {
                events.push(RevisionEvents { revision: revision.revision, events: found });
            }
        }
        Ok(History { events, next: load.to + 1 })
    }

    /// The event as history gives it: the previous record only if asked for and not compacted.
    fn loaded(&self, event: &Event, prev_kv: bool) -> Event {
        let is_readable = event.row.revision.main > self.compacted;
        let previous = event.previous.clone().filter(|_| prev_kv && is_readable);
        Event { previous, ..event.clone() }
    }
}

pub fn hub(store: &Store, options: HubOptions) -> Hub {
    Hub::new(store.log.clone(), options, || {})
}

pub fn watch(range: KeyRange) -> CreateRequest {
    CreateRequest::new(range)
}

pub fn watch_from(range: KeyRange, start_revision: i64) -> CreateRequest {
    CreateRequest { start_revision, ..CreateRequest::new(range) }
}

pub const START: Monotonic = Monotonic(std::time::Duration::ZERO);

/// Takes all the stream has to say, loading history as it is asked for.
pub fn drain(hub: &mut Hub, stream: StreamId, store: &Store) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match hub.next_message(stream) {
            Next::Message(message) => messages.push(message),
            Next::Load(load) => hub.history_loaded(load.ticket, store.load(&load, load.revisions_max)),
            Next::Idle => return messages,
        }
    }
}

pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    let len = message.encode_into(&HEADER, &mut out);
    assert_eq!((len, message.encoded_len(&HEADER)), (out.len(), out.len()));
    out.to_vec()
}

/// A message in short: `0@5 created`, `0@6 put a, delete b`.
pub fn show(message: &Message) -> String {
    let mut words = vec![format!("{}@{}", message.watch_id, message.revision)];
    for (is_set, word) in [(message.created, "created"), (message.canceled, "canceled"), (message.fragment, "fragment")]
    {
        if is_set {
            words.push(word.into());
        }
    }
    if message.compact_revision != 0 {
        words.push(format!("compacted={}", message.compact_revision));
    }
    if let Some(reason) = &message.cancel_reason {
        words.push(format!("reason={reason:?}"));
    }
    let events: Vec<String> = message.events().map(show_event).collect();
    if !events.is_empty() {
        words.push(events.join(", "));
    }
    words.join(" ")
}

fn show_event(event: &Event) -> String {
    let kind = if event.is_delete() { "delete" } else { "put" };
    let key = String::from_utf8_lossy(event.key()).into_owned();
    let value =
        if event.is_delete() { String::new() } else { format!("={}", String::from_utf8_lossy(event.record.value())) };
    format!("{kind} {key}{value} ^{}", event.row.revision.main)
}

pub fn shown(messages: &[Message]) -> Vec<String> {
    messages.iter().map(show).collect()
}
