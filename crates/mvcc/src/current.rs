//! One version of a key that is, or just was, the current one.

use backend::Backend;
use types::{Record, RecordMeta, Revision, RowKey};

use crate::error::MvccError;
use crate::shared::load;

/// A version of a key as the index holds it: its numbers at hand, its value either too or only in the backend.
///
/// Never a deletion. Taken from a [`Batch`](crate::Batch) or [`Txn`](crate::Txn), it can be loaded until the batch
/// ends; later a compaction may have removed its row.
#[derive(Clone, Debug)]
pub struct Current {
    /// Complete, or without its value if that is not resident.
    record: Record,
    revision: Revision,
    resident: bool,
}

impl Current {
    pub(crate) fn new(record: Record, revision: Revision, resident: bool) -> Current {
        Current { record, revision, resident }
    }

    pub fn key(&self) -> &[u8] {
        self.record.key()
    }

    pub fn meta(&self) -> RecordMeta {
        self.record.meta()
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The whole record, if its value is in memory.
    pub fn resident(&self) -> Option<&Record> {
        self.resident.then_some(&self.record)
    }

    /// The whole record, read from the backend if need be.
    ///
    /// # Errors
    /// If the backend fails or, after the batch has ended, no longer has the row.
    pub fn load(&self, backend: &Backend) -> Result<Record, MvccError> {
        if self.resident {
            return Ok(self.record.clone());
        }
        load(backend, RowKey { revision: self.revision, tombstone: false })
    }
}
