//! Every way the log can fail, by what the caller does next.

use std::io;
use std::path::{Path, PathBuf};

use types::Index;

/// What a person can do about a damaged log. One member's log is a copy of what the others have.
pub(crate) const WAY_OUT: &str = "nothing was changed; copy the data directory, then either restore this member from a \
     backup, or remove it from the cluster and add it again with an empty data directory";

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk is full. Nothing was lost and nothing half written: free space, then call again.
    #[error("no space left for the write-ahead log at {}", path.display())]
    NoSpace { path: PathBuf, source: io::Error },

    /// The disk failed. The log refuses every later call; the member must stop.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },

    /// What lies on the disk is not what was made durable there. The member must not start.
    #[error("{} is damaged at byte {offset}: {what}; {way_out}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String, way_out: &'static str },

    /// A later version of the program wrote this file.
    #[error("{} has log format {found}, this program knows formats up to {known}: use the newer program", path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },

    /// The entry does not fit into a segment. Nothing was appended.
    #[error("log entry {index} of {size} bytes is larger than a segment can hold ({size_max} bytes)")]
    TooLarge { index: Index, size: u64, size_max: u64 },

    /// The caller's entries do not continue the log. Nothing was appended.
    #[error("cannot append to the log: {what}")]
    OutOfOrder { what: String },

    /// The entry was released, or lies before the point the log was restarted at.
    #[error("log entry {index} is no longer held, the first one is {first}")]
    NotHeld { index: Index, first: Index },

    /// The log let go of the entry while it was about to be read on another thread.
    #[error("log entry {index} was let go of before it was read")]
    Released { index: Index },

    /// An earlier call failed with [`WalError::Io`].
    #[error("the write-ahead log has stopped after an I/O error")]
    Stopped,
}

impl WalError {
    /// For failures after which nothing is to be tried again, a full disk included.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> WalError {
        WalError::Io { path: path.to_owned(), doing, source }
    }

    /// For steps that can be repeated as if nothing had happened once the disk has room.
    pub(crate) fn space_or_io(doing: &'static str, path: &Path, source: io::Error) -> WalError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WalError::NoSpace { path: path.to_owned(), source }
            }
            _ => WalError::io(doing, path, source),
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> WalError {
        WalError::Damaged { path: path.to_owned(), offset, what: what.into(), way_out: WAY_OUT }
    }
}
