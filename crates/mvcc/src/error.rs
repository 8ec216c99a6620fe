//! Why the store did not do what it was asked, by what the caller does next.

use backend::BackendError;

/// A failure of the store.
///
/// The first two are answers, the same on every member.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// The revision lies below the compacted one.
    #[error("required revision has been compacted")]
    Compacted,

    /// The revision has not been reached yet.
    #[error("required revision is a future revision")]
    FutureRevision,

    /// No answer. A row that the index knows and the backend does not have, or whose bytes are no key-value, is damage too.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
