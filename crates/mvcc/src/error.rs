//! Why the store did not do what it was asked, by what the caller does next.

use backend::BackendError;
use types::RowKey;

/// A failure of the store.
///
/// The first two are answers, the same on every member. The others are not: the member stops.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// The revision lies below the compacted one.
    #[error("required revision has been compacted")]
    Compacted,

    /// The revision has not been reached yet.
    #[error("required revision is a future revision")]
    FutureRevision,

    /// The index knows a row which the backend does not have.
    #[error("row {}{} is missing from the backend", row.revision, if row.tombstone { "t" } else { "" })]
    Missing { row: RowKey },

    /// A row of the backend is not an encoded key-value.
    #[error("row {}{} of the backend does not hold a key-value", row.revision, if row.tombstone { "t" } else { "" })]
    Damaged { row: RowKey },

    /// A value of the `meta` table is not a revision.
    #[error("meta value {name:?} of the backend is not a revision")]
    DamagedMeta { name: &'static str },

    #[error(transparent)]
    Backend(#[from] BackendError),
}
