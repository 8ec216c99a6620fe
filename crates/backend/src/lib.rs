//! The keyed file under MVCC: rows by revision and a few small tables, in one redb file.
//!
//! The machine stages what every applied entry changes; a commit, some time later, makes all of it durable in one
//! transaction together with the *consistent index*, the log entry it reflects. After a crash the log is replayed
//! from there.
//!
//! Invariants
//! - Readers see what is staged at once, and never a moment in which it is neither staged nor committed.
//! - The file holds the effects of exactly the entries up to its consistent index.
//! - No damaged byte of a stored key or value is handed out as data, and what is read whole is the newest of it.
//! - Locks are held for a few instructions, never over I/O; only commits wait for each other.
//!
//! The whole state leaves as an [`Export`] and comes as an [`Import`], which becomes the state by an [`Adoption`]: that is
//! how a member that fell behind is brought up (`docs/snapshot.md`).
//!
//! Leaves out: what rows mean (`mvcc`), when to commit (`server`), keeping other processes out (`server`).
//! `docs/backend.md` has the format byte by byte, and the measured costs.

mod backend;
mod error;
mod read_view;
mod staged;
mod table;
mod tally;

mod defragment;
mod file;
mod overlay;
mod seal;
mod snapshot;
mod storage;
mod usage;

#[cfg(test)]
mod tests;

pub use backend::{Backend, Committed, Options, Size};
pub use error::BackendError;
pub use read_view::ReadView;
pub use snapshot::{Adoption, Export, Import, ImportError, Received};
pub use staged::Staged;
pub use table::{KeyValue, Table};
pub use tally::Tally;
