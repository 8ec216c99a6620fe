//! What the machine hands to the backend to be kept.

use types::{Index, Record, RowKey, Term};

use crate::table::Table;

/// Changes to be kept. They become durable together.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// New rows in increasing order, each greater than every row staged before.
    pub rows: Vec<(RowKey, Record)>,
    /// Rows that compaction removed. A removed row never comes back.
    pub removed_rows: Vec<RowKey>,
    /// Changes of the small tables in order, `None` to remove; the last one of a key holds.
    pub values: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// The last log entry whose effects these are.
    pub applied: Option<(Index, Term)>,
    /// The machine's digest of the state after that entry. Comes with `applied`.
    pub digest: Option<u64>,
}

impl Staged {
    /// Roughly what this takes in memory and will take in the file.
    pub(crate) fn bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(|(_, record)| ROW_OVERHEAD_BYTES + record.as_bytes().len()).sum();
        let removed = self.removed_rows.len() * size_of::<RowKey>();
        let values: usize =
            self.values.iter().map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        rows + removed + values
    }
}

const ROW_OVERHEAD_BYTES: usize = size_of::<(RowKey, Record)>();
