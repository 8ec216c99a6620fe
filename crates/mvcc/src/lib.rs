//! The multi-version key-value store: all versions of all keys since the last compaction, ordered by key.
//!
//! Every change makes a row `revision -> record`; the rows lie in the [`backend`]. In memory is an index: a counted
//! B+tree of the keys, each with its current record and the revisions of its older ones. Records are shared bytes, so a
//! read takes references and copies nothing. Values of current records stay in memory up to a budget; past it they are
//! read from the backend like those of older versions, and nothing else changes.
//!
//! - [`Store`] is the writer's: one thread begins a [`Batch`], runs [`Txn`]s in it, stages their rows in the backend and
//!   drops the batch, by which readers see all of it.
//! - [`View`] is the readers': ranges, history for watchers, hashes, and the removal of compacted versions in the
//!   background.
//!
//! Invariants
//! - What readers can see is in the backend, staged or committed: the writer stages before it publishes.
//! - The index lock is held for a bounded number of keys by readers, and by nobody while the backend is asked, except
//!   by a transaction that reads.
//! - When another state takes the place of the store's ([`Store::replace`]), no answer is made of both.
//! - No answer depends on how far removal after a compaction has come, nor on which values are in memory.
//! - The store reads no clock, draws no random numbers and does no I/O but through the backend.
//!
//! Leases, permissions and the rules of requests are `machine`'s; following live changes is `watch`'s.

mod current;
mod entry;
mod error;
mod events;
mod hash;
mod heads;
mod index;
mod key_sort;
mod leaves;
mod pins;
mod prune;
mod query;
mod range;
mod restore;
mod rows;
mod shared;
mod store;
mod tree;
mod txn;
mod view;

pub use current::Current;
pub use error::MvccError;
pub use events::{EventChunk, EventLimits};
pub use hash::HashKv;
pub use prune::PruneStep;
pub use query::{RangeQuery, RangeResult, SortOrder, SortTarget};
pub use rows::RangeRows;
pub use store::{Batch, Replacement, Store, StoreOptions};
pub use txn::{Change, Changes, Txn, Work};
pub use view::View;
