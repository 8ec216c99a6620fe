//! The raft log on disk: entries and hard states, durable when [`Wal::sync`] has returned.
//!
//! Invariants
//! - What a sync covered is found again by [`Wal::open`], or `open` fails; it never gives back less, nor other bytes.
//! - What is found was appended, in that order: a stale, torn or damaged record is never taken for a good one.
//! - Only what no sync covered is ever cut off.
//! - After an I/O error nothing more is written.
//!
//! `docs/wal.md` has the format byte by byte and the reasons. Threads, snapshots and what entries mean are others'
//! business.

mod batch;
mod error;
mod format;
mod log_index;
mod reader;
mod recovery;
mod scan;
mod segment;
mod wal;

use std::path::PathBuf;

use types::{ClusterId, HardState, Index, LogEntry, MemberId, Term};

pub use error::WalError;
pub use reader::Reader;
pub use segment::{Spare, SpareMaker};
pub use wal::Wal;

/// Settings of the log.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// The size of each file of the log, headers included, but for one with which it starts anew. No entry can be larger. Rounded up to whole pages of 4096
    /// bytes, two at least.
    pub segment_size_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_size_bytes: 64 << 20 }
    }
}

impl WalOptions {
    fn segment_size(self) -> u64 {
        self.segment_size_bytes.next_multiple_of(format::PAGE).max(2 * format::PAGE)
    }
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalMeta {
    pub cluster: ClusterId,
    pub member: MemberId,
}

/// What [`Wal::open`] found.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub meta: WalMeta,
    pub hard_state: HardState,
    /// The oldest entry held; `last.next()` if there is none.
    pub first: Index,
    /// The newest entry, held or not.
    pub last: Index,
    pub last_term: Term,
    /// The terms of all entries held, and of the one before them unless that was overwritten: from each index up to the
    /// next one's, or `last`, entries have the term beside it. Both ascend.
    pub terms: Vec<(Index, Term)>,
    /// The entries from the index asked for on.
    pub entries: Vec<LogEntry>,
    /// What an unfinished write had left at the end and was cut off; to be logged.
    pub torn_tail: Option<TornTail>,
}

/// Where and how much was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset: u64,
    /// At least so many bytes had been meant to be there.
    pub bytes: u64,
}

/// Room in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Of the segment that is being written to.
    pub segment_bytes: u64,
    pub bytes_left_in_segment: u64,
    /// Whether the next segment's file is ready.
    pub spare_ready: bool,
}
