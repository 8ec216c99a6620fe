//! Why the backend could not do what it was asked, by what the caller does next.

use std::io;
use std::path::PathBuf;

/// A failure of the backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The disk is full. Nothing staged is lost, everything stays readable, and a later commit succeeds once there
    /// is space.
    #[error("no space left on the disk of {}", path.display())]
    NoSpace { path: PathBuf },

    /// Reading, writing or syncing failed. What is on disk is unknown: the member stops.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    /// The file is ours, but its contents contradict themselves: the member stops.
    #[error("{} is damaged: {what}; {WAY_OUT}", path.display())]
    Damaged { path: PathBuf, what: String },

    /// The file is not a Quorate backend file.
    #[error("{} is not a quorate backend file: {what}", path.display())]
    Foreign { path: PathBuf, what: &'static str },

    /// The file was written by a later version.
    #[error("{} has format {found}, this version reads up to {known}; run the version that wrote it", path.display())]
    TooNew { path: PathBuf, found: u64, known: u64 },

    /// The file was written by an earlier version whose files this one does not read.
    #[error(
        "{} has format {found} of a version before the first release, this version reads format {known}; \
         remove this member and add it again with an empty data directory",
        path.display()
    )]
    TooOld { path: PathBuf, found: u64, known: u64 },
}

/// What the operator does about a damaged file.
const WAY_OUT: &str = "remove this member and add it again with an empty data directory, \
                       or restore the cluster from a backup if no other member is healthy";
