//! Everything that happened, as one watch of all keys saw it; what every other watch must see follows from it.

use api::etcdserverpb::WatchCreateRequest;
use api::mvccpb::Event;
use api::mvccpb::event::EventType;

/// All events in order.
#[derive(Debug, Default)]
pub(super) struct History {
    events: Vec<Event>,
}

impl History {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The events from `revision` on.
    pub(super) fn from(&self, revision: i64) -> &[Event] {
        let first = self.events.partition_point(|event| revision_of(event) < revision);
        &self.events[first..]
    }
}

/// The revision an event belongs to.
pub(super) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// An event that a watch must see.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    event: Event,
    /// See [`crate::Difference::PreviousPairAtCompaction`].
    may_lack_previous: bool,
}

impl Expected {
    pub(super) fn is(&self, event: &Event) -> bool {
        *event == self.event || (self.may_lack_previous && *event == Event { prev_kv: None, ..self.event.clone() })
    }
}

/// What a watch has asked to see.
#[derive(Clone, Debug)]
pub(super) struct Interest {
    create: WatchCreateRequest,
    /// The first revision it sees.
    start: i64,
    /// The revision below which nothing could be read when it was created.
    compacted: i64,
}

impl Interest {
    /// Of a watch created at `revision`.
    pub(super) fn new(create: WatchCreateRequest, revision: i64, compacted: i64) -> Interest {
        let start = if create.start_revision > 0 { create.start_revision } else { revision + 1 };
        Interest { create, start, compacted }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The event as the watch must see it; `None` if it must not.
    pub(super) fn sees(&self, event: &Event) -> Option<Expected> {
        let revision = revision_of(event);
        let filtered = self.create.filters.contains(&match event.r#type() {
            EventType::Put => 0,
            EventType::Delete => 1,
        });
        if revision < self.start || filtered || !self.covers(event) {
            return None;
        }
        let prev_kv = event.prev_kv.clone().filter(|_| self.create.prev_kv);
        // The pair before is read one revision earlier, which may be compacted.
        let may_lack_previous = revision <= self.compacted;
        Some(Expected { event: Event { prev_kv, ..event.clone() }, may_lack_previous })
    }

    fn covers(&self, event: &Event) -> bool {
        let key = event.kv.as_ref().map_or(&[][..], |kv| kv.key.as_ref());
        // No key means the first key there can be.
        let start = if self.create.key.is_empty() { b"\0" } else { self.create.key.as_ref() };
        match self.create.range_end.as_ref() {
            b"" => key == start,
            b"\0" => key >= start,
            end => key >= start && key < end,
        }
    }
}
