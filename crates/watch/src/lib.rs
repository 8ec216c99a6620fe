//! Watching: who is to learn of which change, in what order, and what waits for those who read slowly.
//!
//! Invariants
//! - Each watcher gets the events of its range from its start revision on, once, in revision order, all of one revision
//!   together; or it is told that they are compacted.
//! - The writer never waits for a watcher, and a watcher that does not read costs a bounded amount of memory: it becomes
//!   a cursor, and catches up from the log of recent events or from history.
//! - An event's bytes are those of the stored record; all watchers share them.
//!
//! Synchronous: no I/O, no threads, no clock. History is read by the caller ([`HistoryLoad`]), time is an argument.
//! Whether a client may read what it wants to watch is the caller's question ([`Hub::refuse`]).
//!
//! # The parts
//! One [`EventLog`] a process: the apply thread publishes into it. One [`Hub`] a network worker, never shared: it owns
//! the worker's streams and watchers and reads the log. A stream's own task pulls [`Message`]s out of the hub when its
//! transport has room for one.
//!
//! # How it is driven
//! ```
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use env::Monotonic;
//! use types::{ClusterId, KeyRange, MemberId, Record, RecordMeta, Revision, RowKey, Term};
//! use watch::{CreateRequest, Event, EventLog, HeaderTemplate, History, Hub, HubOptions, LogLimits, Next, RevisionEvents};
//!
//! // At start: the store stands at revision 4 and was never compacted. `wake` nudges the worker, by an eventfd, say.
//! let log = EventLog::new(LogLimits::default(), 4, -1);
//! let mut hub = Hub::new(Arc::clone(&log), HubOptions::default(), || {});
//! let now = Monotonic::default();
//!
//! // On the worker, per gRPC stream: requests go in as they come (while `!hub.is_congested(stream)`).
//! let stream = hub.open_stream();
//! hub.create(stream, &CreateRequest { start_revision: 4, ..CreateRequest::new(KeyRange::prefix(b"a")) }, now);
//!
//! // On the apply thread, once a batch: after the store shows the revisions, before the writes are answered.
//! let change = |revision: i64| {
//!     let meta = RecordMeta { create_revision: 4, mod_revision: revision, version: revision - 3, ..RecordMeta::default() };
//!     let row = RowKey { revision: Revision::first(revision), tombstone: false };
//!     Event { row, record: Record::put(b"a", b"value", meta), previous: None }
//! };
//! log.publish(vec![RevisionEvents { revision: 5, events: vec![change(5)] }]);
//!
//! // On the worker, after `wake`: match, then wake the tasks of the streams that have something to do.
//! hub.advance();
//! let mut ready = Vec::new();
//! hub.take_ready(&mut ready);
//! assert_eq!(ready, [stream]);
//!
//! // In the stream's task: pull while the transport has room.
//! let header = HeaderTemplate { cluster_id: ClusterId(1), member_id: MemberId(2), raft_term: Term(3) };
//! let mut frame = BytesMut::new();
//! let mut seen = Vec::new();
//! loop {
//!     match hub.next_message(stream) {
//!         Next::Message(message) => {
//!             message.encode_into(&header, &mut frame); // large ones: encode_chunks
//!             seen.extend(message.events().map(|event| event.row.revision.main));
//!         }
//!         Next::Load(load) => {
//!             // Elsewhere: View::events(load.range, load.from, load.to, limits), for every event if `load.prev_kv` also
//!             // View::get_at(key, revision - 1); then, back on the worker:
//!             let events = RevisionEvents::group([change(4), change(5)]);
//!             hub.history_loaded(load.ticket, Ok(History { events, next: load.to + 1 }));
//!         }
//!         Next::Idle => break, // until take_ready names the stream
//!     }
//! }
//! assert_eq!(seen, [4, 5]);
//!
//! // On the worker's timer, armed for `next_tick`; and when the gRPC stream ends:
//! hub.tick(now);
//! hub.close_stream(stream);
//! ```
//! All calls that take `&mut Hub` may make streams ready: drain `take_ready` after each round of calls. On compaction the
//! apply thread calls [`EventLog::compact`]; after a snapshot replaced the state, [`EventLog::reset`].

mod event;
mod event_log;
mod wire;

mod index;
mod interval_tree;
mod random;

mod arena;
mod hub;
mod message;
mod stream;
mod watcher;

pub use event::{Event, RevisionEvents};
pub use event_log::{EventLog, LogLimits};
pub use hub::{Counts, History, HistoryError, HistoryLoad, Hub, HubOptions, LoadTicket, Next, StreamId};
pub use message::{HeaderTemplate, Message};
pub use watcher::CreateRequest;
