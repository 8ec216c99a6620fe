//! What happened in one revision, as `mvccpb.Event`s that every watcher shares.
//!
//! A [`Record`] is already the encoded `KeyValue`, so an event is encoded in all but its framing: a few bytes of tags
//! and lengths around shared bytes. Nothing is encoded twice and nothing is cached beside the record.

use types::{Record, RowKey, varint_len};

use crate::wire::{Head, Part};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub row: RowKey,
    /// What the row holds: the new `KeyValue`, or the tombstone (only the key).
    pub record: Record,
    /// The key's `KeyValue` before this change; `None` if it did not exist, or is compacted.
    pub previous: Option<Record>,
}

/// All changes of one main revision, in sub-revision order. Watchers get them together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    pub revision: i64,
    pub events: Vec<Event>,
}

/// What an event costs in memory besides its records.
const EVENT_OVERHEAD_BYTES: usize = size_of::<Event>() + 32;

const EVENTS: u8 = 11 << 3 | 2;
const TYPE: u8 = 1 << 3;
const TYPE_DELETE: u8 = 1;
const KV: u8 = 2 << 3 | 2;
const PREV_KV: u8 = 3 << 3 | 2;
const KV_MOD_REVISION: u8 = 3 << 3;

impl Event {
    /// The changed key.
    pub fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.row.tombstone
    }

    /// How many bytes of memory the event holds on to, about.
    pub(crate) fn held_bytes(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, |record| record.as_bytes().len());
        EVENT_OVERHEAD_BYTES + self.record.as_bytes().len() + previous
    }

    /// The length of the whole field `WatchResponse.events` that holds this event.
    pub(crate) fn field_len(&self, prev_kv: bool) -> usize {
        let body = self.body_len(prev_kv);
        1 + varint_len(body as u64) + body
    }

    /// Hands the field `WatchResponse.events` to `sink`, piece by piece.
    ///
    /// A deletion's `kv` has key and `mod_revision` only; the stored tombstone has the key alone, and a number field
    /// put behind it belongs to the same message.
    pub(crate) fn write_field(&self, prev_kv: bool, sink: &mut impl FnMut(Part<'_>)) {
        let mut head = Head::default();
        head.byte(EVENTS);
        head.varint(self.body_len(prev_kv) as u64);
        if self.is_delete() {
            head.byte(TYPE);
            head.byte(TYPE_DELETE);
        }
        head.byte(KV);
        head.varint(self.kv_len() as u64);
        sink(Part::Bytes(head.as_bytes()));
        sink(Part::Record(&self.record));
        if self.is_delete() {
            let mut tail = Head::default();
            tail.number(KV_MOD_REVISION, self.row.revision.main as u64);
            sink(Part::Bytes(tail.as_bytes()));
        }
        if let Some(previous) = self.previous(prev_kv) {
            let mut head = Head::default();
            head.byte(PREV_KV);
            head.varint(previous.as_bytes().len() as u64);
            sink(Part::Bytes(head.as_bytes()));
            sink(Part::Record(previous));
        }
    }

    fn previous(&self, wanted: bool) -> Option<&Record> {
        self.previous.as_ref().filter(|_| wanted)
    }

    fn kv_len(&self) -> usize {
        let mod_revision = if self.is_delete() { 1 + varint_len(self.row.revision.main as u64) } else { 0 };
        self.record.as_bytes().len() + mod_revision
    }

    fn body_len(&self, prev_kv: bool) -> usize {
        let kv = self.kv_len();
        let previous = self.previous(prev_kv).map_or(0, |record| {
            let len = record.as_bytes().len();
            1 + varint_len(len as u64) + len
        });
        let kind = if self.is_delete() { 2 } else { 0 };
        kind + 1 + varint_len(kv as u64) + kv + previous
    }
}

impl RevisionEvents {
    /// Gathers events that come in revision order into one value per main revision.
    pub fn group(events: impl IntoIterator<Item = Event>) -> Vec<RevisionEvents> {
        let mut groups: Vec<RevisionEvents> = Vec::new();
        for event in events {
            let revision = event.row.revision.main;
            match groups.last_mut() {
                Some(group) if group.revision == revision => group.events.push(event),
                _ => groups.push(RevisionEvents { revision, events: vec![event] }),
            }
        }
        groups
    }

    /// How many bytes of memory the revision holds on to, about.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<RevisionEvents>() + self.events.iter().map(Event::held_bytes).sum::<usize>()
    }
}
