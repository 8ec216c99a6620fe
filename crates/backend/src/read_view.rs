//! The committed state of one moment.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, TableHandle};
use types::{Index, Record, Revision, RowKey, Term};

use crate::error::BackendError;
use crate::file::{self, File, contained, damaged};
use crate::seal::{SEAL_LEN, unseal};
use crate::table::{FILE, KEY, KeyValue, Table};
use crate::tally::Tally;
use crate::usage::Usage;

/// What one commit left, unchanged however long it is held: for snapshots and backups. Space freed by later commits
/// is reused only after the view is dropped.
pub struct ReadView {
    // Dropped in this order: the transaction's users first, the file last.
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    transaction: ReadTransaction,
    head: Head,
    file: Arc<File>,
}

/// What a commit says of itself.
pub(crate) struct Head {
    pub(crate) applied: (Index, Term),
    pub(crate) digest: u64,
    pub(crate) usage: Usage,
}

impl ReadView {
    pub(crate) fn new(
        rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
        transaction: ReadTransaction,
        head: Head,
        file: Arc<File>,
    ) -> ReadView {
        ReadView { rows, transaction, head, file }
    }

    /// The log entry this state reflects.
    pub fn applied(&self) -> (Index, Term) {
        self.head.applied
    }

    /// The machine's digest of this state; 0 before the first entry.
    pub fn digest(&self) -> u64 {
        self.head.digest
    }

    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        self.head.usage.tally.rows
    }

    /// Visits the rows from `from` up to but without `to`, ascending. Returns the tally of those it visited.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn scan(
        &self,
        from: Revision,
        to: Revision,
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<Tally, BackendError> {
        let bounds = (Bound::Included(row_bound(from)), Bound::Excluded(row_bound(to)));
        let mut tally = Tally::default();
        let visited = self.visit_rows(bounds, &mut tally, visit);
        visited.map(|_| tally).map_err(|error| self.file.explain(error))
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

    /// To be asked after scans, piece by piece, of all [`ReadView::revisions`], with the sum of their tallies: damage to
    /// the tree above the rows may have hidden some, or brought back earlier ones.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if those are not the rows that were written.
    pub fn check_tally(&self, found: Tally) -> Result<(), BackendError> {
        require(found, self.head.usage.tally, KEY.name()).map_err(|error| self.file.explain(error))
    }

    pub(crate) fn usage(&self) -> Usage {
        self.head.usage
    }

    /// The error for contents that the caller knows cannot be right, though their checksums are.
    pub fn damaged(&self, what: impl Display) -> BackendError {
        self.file.explain(damaged(what))
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

    /// As [`ReadView::scan`]; says whether the visitor stopped it. A scan of everything also checks the
    /// tally, so that damage to the tree above the rows does not pass for another store.
    pub(crate) fn scan_rows(
        &self,
        bounds: (Bound<RowKey>, Bound<RowKey>),
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, redb::Error> {
        let mut tally = Tally::default();
        let visited = self.visit_rows(bounds, &mut tally, visit)?;
        if bounds == EVERYTHING && visited.is_continue() {
            require(tally, self.head.usage.tally, KEY.name())?;
        }
        Ok(visited)
    }

    fn visit_rows(
        &self,
        bounds: (Bound<RowKey>, Bound<RowKey>),
        tally: &mut Tally,
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, redb::Error> {
        let mut rows = self.rows_within(bounds)?;
        while let Some(row) = rows.next()? {
            tally.add(row.sealed());
            if visit(row.row, row.record()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
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

    /// The value of `key` in a small table.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        self.value(table, key).map_err(|error| self.file.explain(error))
    }

    /// Entries of a small table that follow `after`, as they are stored, until they take `bytes_max`; at least one if
    /// there is one. Adds them to `tally`.
    pub(crate) fn some_values(
        &self,
        table: Table,
        after: Option<&[u8]>,
        bytes_max: usize,
        tally: &mut Tally,
    ) -> Result<Vec<KeyValue>, redb::Error> {
        contained(|| {
            let (mut values, mut bytes) = (Vec::new(), 0);
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = self.transaction.open_table(table.definition())?;
            for entry in ReadableTable::range::<&[u8]>(&rows, (from, Bound::Unbounded))? {
                if bytes >= bytes_max {
                    break;
                }
                let (key, sealed) = entry?;
                check_value(table, key.value(), sealed.value())?;
                tally.add(sealed.value());
                bytes += key.value().len() + sealed.value().len();
                values.push((key.value().to_vec(), sealed.value().to_vec()));
            }
            Ok(values)
        })
    }

    /// What a small table must come to.
    pub(crate) fn tally(&self, table: Table) -> Result<Tally, redb::Error> {
        contained(|| file::read_tally(&self.transaction.open_table(FILE)?, table))
    }

    pub(crate) fn read_values(&self, table: Table) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, redb::Error> {
        contained(|| {
            let mut values = BTreeMap::new();
            let mut tally = Tally::default();
            for entry in ReadableTable::iter(&self.transaction.open_table(table.definition())?)? {
                let (key, stored) = entry?;
                let value = check_value(table, key.value(), stored.value())?;
                values.insert(key.value().to_vec(), value.to_vec());
                tally.add(stored.value());
            }
            require(tally, file::read_tally(&self.transaction.open_table(FILE)?, table)?, table.name())?;
            Ok(values)
        })
    }
}

fn check_value<'a>(table: Table, key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], redb::Error> {
    unseal(key, sealed).ok_or_else(|| {
        let key = key.escape_ascii();
        damaged(format_args!("{key} in table {} fails its checksum", table.name()))
    })
}

pub(crate) fn require(found: Tally, written: Tally, table: &str) -> Result<(), redb::Error> {
    if found == written {
        return Ok(());
    }
    let what = match (found.rows, written.rows) {
        (found, written) if found == written => "rows were found that are not the newest".to_owned(),
        (found, written) => format!("{found} rows were found where {written} were written"),
    };
    Err(damaged(format_args!("in table {table} {what}")))
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
