//! One `WatchResponse`, ready to be written to the wire without copying what watchers share more than once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use types::{ClusterId, MemberId, Record, Term, varint_len};

use crate::event::{Event, RevisionEvents};
use crate::wire::{Head, Part};

/// The parts of a response header that the stream does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    pub raft_term: Term,
}

/// One `WatchResponse` but for its header's identity.
#[derive(Debug, Default)]
pub struct Message {
    pub watch_id: i64,
    /// `header.revision`.
    pub revision: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub cancel_reason: Option<Box<str>>,
    /// More parts of the same response follow.
    pub fragment: bool,
    /// Whether the watcher asked for `prev_kv`.
    pub prev_kv: bool,
    /// Whether the watcher allows its responses to be split.
    pub(crate) splittable: bool,
    pub(crate) body: Body,
}

/// The events of a message.
#[derive(Debug, Default)]
pub(crate) enum Body {
    #[default]
    None,
    One(Pick),
    Many(Vec<Pick>),
}

/// Some events of one revision.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) revision: Arc<RevisionEvents>,
    pub(crate) chosen: Chosen,
}

/// Which events of a revision, by position, ascending.
#[derive(Debug)]
pub(crate) enum Chosen {
    One(u32),
    Many(Vec<u32>),
}

const HEADER: u8 = 1 << 3 | 2;
const HEADER_CLUSTER_ID: u8 = 1 << 3;
const HEADER_MEMBER_ID: u8 = 2 << 3;
const HEADER_REVISION: u8 = 3 << 3;
const HEADER_RAFT_TERM: u8 = 4 << 3;
const WATCH_ID: u8 = 2 << 3;
const CREATED: u8 = 3 << 3;
const CANCELED: u8 = 4 << 3;
const COMPACT_REVISION: u8 = 5 << 3;
const CANCEL_REASON: u8 = 6 << 3 | 2;
const FRAGMENT: u8 = 7 << 3;

impl Message {
    /// The message's events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.body.events()
    }

    /// Appends the encoded message to `out`. Returns how many bytes that were.
    pub fn encode_into(&self, header: &HeaderTemplate, out: &mut BytesMut) -> usize {
        let before = out.len();
        let own = self.own_fields(header);
        out.reserve(own.as_bytes().len() + self.shared_len());
        self.write(&own, &mut |part| out.extend_from_slice(part.as_bytes()));
        out.len() - before
    }

    /// The encoded message in pieces: records of at least `share_bytes_min` bytes are shared, all else is copied.
    /// For large messages; small ones are cheaper with [`Message::encode_into`].
    pub fn encode_chunks(&self, header: &HeaderTemplate, share_bytes_min: usize) -> Vec<Bytes> {
        let (mut chunks, mut copied) = (Vec::new(), BytesMut::new());
        self.write(&self.own_fields(header), &mut |part| match part {
            Part::Record(record) if record.as_bytes().len() >= share_bytes_min => {
                chunks.push(copied.split().freeze());
                chunks.push(Bytes::from_owner(SharedRecord(record.clone())));
            }
            part => copied.extend_from_slice(part.as_bytes()),
        });
        if !copied.is_empty() {
            chunks.push(copied.freeze());
        }
        chunks
    }

    /// The exact length of the encoded message.
    pub fn encoded_len(&self, header: &HeaderTemplate) -> usize {
        self.own_fields(header).as_bytes().len() + self.shared_len()
    }

    /// Adds the event at `position` of the one revision that the message is about.
    pub(crate) fn add(&mut self, position: u32) {
        if let Body::One(pick) = &mut self.body {
            pick.chosen.push(position);
        }
    }

    /// How much of the encoded message is events.
    pub fn events_len(&self) -> usize {
        self.events().map(|event| event.field_len(self.prev_kv)).sum()
    }

    /// How many bytes of memory the message keeps from being freed, about.
    pub(crate) fn held_bytes(&self) -> usize {
        self.events().map(Event::held_bytes).sum()
    }

    pub(crate) fn event_count(&self) -> usize {
        self.body.picks().iter().map(|pick| pick.chosen.as_slice().len()).sum()
    }

    /// The length of all but [`Message::own_fields`].
    fn shared_len(&self) -> usize {
        let reason = self.cancel_reason.as_ref().map_or(0, |text| 1 + varint_len(text.len() as u64) + text.len());
        reason + self.events_len()
    }

    fn write(&self, own: &Head, sink: &mut impl FnMut(Part<'_>)) {
        sink(Part::Bytes(own.as_bytes()));
        if let Some(reason) = &self.cancel_reason {
            let mut head = Head::default();
            head.byte(CANCEL_REASON);
            head.varint(reason.len() as u64);
            sink(Part::Bytes(head.as_bytes()));
            sink(Part::Bytes(reason.as_bytes()));
        }
        for event in self.events() {
            event.write_field(self.prev_kv, sink);
        }
    }

    /// The header and all numbers and flags.
    fn own_fields(&self, header: &HeaderTemplate) -> Head {
        let mut head = Head::default();
        head.byte(HEADER);
        head.byte(header.len(self.revision) as u8);
        head.number(HEADER_CLUSTER_ID, header.cluster_id.0);
        head.number(HEADER_MEMBER_ID, header.member_id.0);
        head.number(HEADER_REVISION, self.revision as u64);
        head.number(HEADER_RAFT_TERM, header.raft_term.0);
        head.number(WATCH_ID, self.watch_id as u64);
        head.number(CREATED, u64::from(self.created));
        head.number(CANCELED, u64::from(self.canceled));
        head.number(COMPACT_REVISION, self.compact_revision as u64);
        head.number(FRAGMENT, u64::from(self.fragment));
        head
    }

    /// The part of the message that holds the events `from..to`, counted over the whole message.
    pub(crate) fn slice(&self, from: usize, to: usize, fragment: bool) -> Message {
        let mut picks: Vec<Pick> = Vec::new();
        let mut before = 0;
        for pick in self.body.picks() {
            let positions = pick.chosen.as_slice();
            let within = |bound: usize| bound.saturating_sub(before).min(positions.len());
            let chosen = &positions[within(from)..within(to)];
            if !chosen.is_empty() {
                picks.push(Pick { revision: pick.revision.clone(), chosen: Chosen::Many(chosen.to_vec()) });
            }
            before += positions.len();
        }
        Message {
            watch_id: self.watch_id,
            revision: self.revision,
            fragment,
            prev_kv: self.prev_kv,
            body: Body::Many(picks),
            ..Message::default()
        }
    }
}

impl HeaderTemplate {
    /// The header's length; at most 44, so its own length takes one byte.
    fn len(&self, revision: i64) -> usize {
        let field = |number: u64| if number == 0 { 0 } else { 1 + varint_len(number) };
        field(self.cluster_id.0) + field(self.member_id.0) + field(revision as u64) + field(self.raft_term.0)
    }
}

impl Body {
    fn picks(&self) -> &[Pick] {
        match self {
            Body::None => &[],
            Body::One(pick) => std::slice::from_ref(pick),
            Body::Many(picks) => picks,
        }
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.picks()
            .iter()
            .flat_map(|pick| pick.chosen.as_slice().iter().map(|&position| &pick.revision.events[position as usize]))
    }
}

impl Chosen {
    pub(crate) fn push(&mut self, position: u32) {
        match self {
            Chosen::One(first) => *self = Chosen::Many(vec![*first, position]),
            Chosen::Many(positions) => positions.push(position),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Chosen::One(position) => std::slice::from_ref(position),
            Chosen::Many(positions) => positions,
        }
    }
}

struct SharedRecord(Record);

impl AsRef<[u8]> for SharedRecord {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
