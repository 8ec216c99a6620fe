//! One watcher: what it asked for and how far it has come.

use env::Monotonic;
use types::KeyRange;

use crate::arena::Key;
use crate::event::Event;
use crate::message::{Body, Message};

/// What a client asks of a new watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// As [`KeyRange::from_wire`] makes it of `key` and `range_end`; an empty key stands for the lowest one.
    pub range: KeyRange,
    /// 0: from the next revision on.
    pub start_revision: i64,
    /// 0: the server chooses.
    pub watch_id: i64,
    pub progress_notify: bool,
    pub prev_kv: bool,
    /// Whether large responses may be split.
    pub fragment: bool,
    /// Drop PUT events (filter `NOPUT`).
    pub no_put: bool,
    /// Drop DELETE events (filter `NODELETE`).
    pub no_delete: bool,
}

impl CreateRequest {
    /// A request with nothing but a range.
    pub fn new(range: KeyRange) -> CreateRequest {
        CreateRequest {
            range,
            start_revision: 0,
            watch_id: 0,
            progress_notify: false,
            prev_kv: false,
            fragment: false,
            no_put: false,
            no_delete: false,
        }
    }
}

pub(crate) struct Watcher {
    pub(crate) stream: Key,
    pub(crate) id: i64,
    pub(crate) state: State,
    /// The lowest revision whose events are still to be queued; while live, one at or below the hub's cursor means
    /// the cursor.
    pub(crate) next: i64,
    /// The revision of the newest live response and its number in the stream's queue: further events of the same
    /// revision join it.
    pub(crate) open: (i64, u64),
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    /// Whether events were queued since the last time a progress notice was due.
    pub(crate) active: bool,
    pub(crate) progress_due: Option<Monotonic>,
    /// As asked for; 0 if from the next revision on.
    pub(crate) start: i64,
    pub(crate) range: KeyRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Found through the index, at this position; every revision below the hub's cursor is queued or was of no interest.
    Live { position: usize },
    /// A cursor (`next`), waiting for room in its stream or for history.
    Behind,
    /// Told that its events are compacted, not yet cancelled by the client.
    Compacted,
}

impl Watcher {
    /// A response with events.
    pub(crate) fn response(&self, revision: i64, body: Body) -> Message {
        Message {
            watch_id: self.id,
            revision,
            prev_kv: self.prev_kv,
            splittable: self.fragment,
            body,
            ..Message::default()
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        if event.is_delete() { !self.no_delete } else { !self.no_put }
    }
}
