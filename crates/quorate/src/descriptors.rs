//! File descriptors: how many there may be, and how many of them connections may take.
//!
//! Without a bound, a storm of connections takes the last descriptor, and the next log segment cannot be opened.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for files, for connections to other members and for what the system libraries open; as in etcd.
const RESERVED: u64 = 150;

/// A semaphore cannot count further, nor does any system.
const CONNECTIONS_MAX: u64 = 1 << 28;

/// The process may not open enough files to serve anybody.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, of which {RESERVED} are for the member itself; set it higher (ulimit -n, or \
     LimitNOFILE for systemd)"
)]
pub(crate) struct TooFew {
    limit: u64,
}

/// Raises the limit of open files as far as the system lets us, and returns how many connections may be open at once.
///
/// # Errors
/// [`TooFew`].
pub(crate) fn connections_max() -> Result<usize, TooFew> {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => found.maximum,
        // A container may forbid even this; the limit found is a limit all the same.
        Err(_) => found.current,
    };
    let limit = limit.unwrap_or(u64::MAX);
    match limit.checked_sub(RESERVED) {
        None | Some(0) => Err(TooFew { limit }),
        Some(left) => Ok(left.min(CONNECTIONS_MAX) as usize),
    }
}
