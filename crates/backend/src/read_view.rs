//! The committed state of one moment.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable};
use types::{Index, Record, Revision, RowKey, Term};

use crate::error::BackendError;
use crate::file::{self, File, contained, damaged};
use crate::seal::{SEAL_LEN, unseal};
use crate::table::{KeyValue, Table};
use crate::usage::Usage;

/// What one commit left, unchanged however long it is held: for snapshots and backups. Space freed by later commits
/// is reused only after the view is dropped.
pub struct ReadView {
    // Dropped in this order: the transaction's users first, the file last.
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    transaction: ReadTransaction,
    applied: (Index, Term),
    usage: Usage,
    file: Arc<File>,
}

impl ReadView {
    pub(crate) fn new(
        rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
        transaction: ReadTransaction,
        applied: (Index, Term),
        usage: Usage,
        file: Arc<File>,
    ) -> ReadView {
        ReadView { rows, transaction, applied, usage, file }
    }

    /// The log entry this state reflects.
    pub fn applied(&self) -> (Index, Term) {
        self.applied
    }

    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        self.usage.rows
    }

    /// Visits the rows from `from` up to but without `to`, ascending.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn scan(
        &self,
        from: Revision,
        to: Revision,
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        let bounds = (Bound::Included(row_bound(from)), Bound::Excluded(row_bound(to)));
        self.scan_rows(bounds, visit).map(drop).map_err(|error| self.file.explain(error))
    }

    /// All of a small table, in key order.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn values(&self, table: Table) -> Result<Vec<KeyValue>, BackendError> {
        let values = self.read_values(table).map_err(|error| self.file.explain(error))?;
        Ok(values.into_iter().collect())
    }

    /// The main revisions of all rows lie in this range: for scanning them piece by piece.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn revisions(&self) -> Result<Range<i64>, BackendError> {
        self.outermost_rows().map_err(|error| self.file.explain(error))
    }

    fn outermost_rows(&self) -> Result<Range<i64>, redb::Error> {
        contained(|| {
            let (Some(first), Some(last)) = (self.rows.first()?, self.rows.last()?) else { return Ok(0..0) };
            let first = decode(first.0.value())?.revision.main;
            let last = decode(last.0.value())?.revision.main;
            Ok(first..last.saturating_add(1))
        })
    }

    /// To be asked after scans, piece by piece, of all [`ReadView::revisions`], which met `count` rows: damage to the
    /// tree above the rows may have hidden some.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if that are not all.
    pub fn check_row_count(&self, count: u64) -> Result<(), BackendError> {
        self.require_row_count(count).map_err(|error| self.file.explain(error))
    }

    fn require_row_count(&self, count: u64) -> Result<(), redb::Error> {
        match self.usage.rows {
            written if written == count => Ok(()),
            written => Err(damaged(format_args!("{count} rows were found where {written} were written"))),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(crate) fn row(&self, row: RowKey) -> Result<Option<Record>, redb::Error> {
        let key = row.encode();
        contained(|| {
            let Some(stored) = ReadableTable::get(&self.rows, key.as_ref())? else { return Ok(None) };
            let record = Record::from_stored(unseal_row(row, stored.value())?);
            record.map(Some).ok_or_else(|| damaged(format_args!("row {} is not a record", row.revision)))
        })
    }

    /// As [`ReadView::scan`]; says whether the visitor stopped it. A scan of everything also counts the rows, so
    /// that damage to the tree above them does not pass for a smaller store.
    pub(crate) fn scan_rows(
        &self,
        bounds: (Bound<RowKey>, Bound<RowKey>),
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, redb::Error> {
        let mut rows = self.rows_within(bounds)?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            if visit(row.row, row.record()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            count += 1;
        }
        if bounds == EVERYTHING {
            self.require_row_count(count)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    pub(crate) fn rows_within(&self, bounds: (Bound<RowKey>, Bound<RowKey>)) -> Result<Rows<'_>, redb::Error> {
        let (from, to) = (bounds.0.map(RowKey::encode), bounds.1.map(RowKey::encode));
        let range = (from.as_ref().map(AsRef::as_ref), to.as_ref().map(AsRef::as_ref));
        contained(|| Ok(Rows { range: ReadableTable::range::<&[u8]>(&self.rows, range)?, last: None }))
    }

    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        contained(|| file::read(&self.transaction.open_table(table.definition())?, key))
    }

    pub(crate) fn read_values(&self, table: Table) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, redb::Error> {
        contained(|| {
            let mut values = BTreeMap::new();
            for entry in ReadableTable::iter(&self.transaction.open_table(table.definition())?)? {
                let (key, stored) = entry?;
                let Some(value) = unseal(key.value(), stored.value()) else {
                    let key = key.value().escape_ascii();
                    return Err(damaged(format_args!("{key} in table {} fails its checksum", table.name())));
                };
                values.insert(key.value().to_vec(), value.to_vec());
            }
            Ok(values)
        })
    }
}

/// Rows in ascending order, each checked: redb does not mind a page that stands in another's place.
pub(crate) struct Rows<'a> {
    range: redb::Range<'a, &'static [u8], &'static [u8]>,
    last: Option<RowKey>,
}

impl<'a> Rows<'a> {
    pub(crate) fn next(&mut self) -> Result<Option<StoredRow<'a>>, redb::Error> {
        contained(|| {
            let Some((key, sealed)) = self.range.next().transpose()? else { return Ok(None) };
            let row = decode(key.value())?;
            unseal_row(row, sealed.value())?;
            if let Some(last) = self.last.replace(row).filter(|last| *last >= row) {
                return Err(damaged(format_args!("row {} stands behind row {}", row.revision, last.revision)));
            }
            Ok(Some(StoredRow { row, sealed }))
        })
    }
}

/// A row whose seal was found whole.
pub(crate) struct StoredRow<'a> {
    pub(crate) row: RowKey,
    sealed: AccessGuard<'a, &'static [u8]>,
}

impl StoredRow<'_> {
    pub(crate) fn sealed(&self) -> &[u8] {
        self.sealed.value()
    }

    fn record(&self) -> &[u8] {
        let sealed = self.sealed();
        &sealed[..sealed.len() - SEAL_LEN]
    }
}

/// Every row there can be.
pub(crate) const EVERYTHING: (Bound<RowKey>, Bound<RowKey>) = (Bound::Unbounded, Bound::Unbounded);

/// The first row that `revision` can have.
pub(crate) fn row_bound(revision: Revision) -> RowKey {
    RowKey { revision, tombstone: false }
}

fn decode(key: &[u8]) -> Result<RowKey, redb::Error> {
    RowKey::decode(key).map_err(|_| damaged(format_args!("{} is not a row key", key.escape_ascii())))
}

fn unseal_row(row: RowKey, sealed: &[u8]) -> Result<&[u8], redb::Error> {
    let unsealed = unseal(row.encode().as_ref(), sealed);
    unsealed.ok_or_else(|| damaged(format_args!("row {} fails its checksum", row.revision)))
}
