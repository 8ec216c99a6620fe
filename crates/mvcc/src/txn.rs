//! One write: changes that share a main revision.

use std::sync::Arc;

use backend::Staged;
use types::{KeyRange, LeaseId, Record, RecordMeta, Revision, RowKey};

use crate::current::Current;
use crate::entry::Row;
use crate::error::MvccError;
use crate::index::Index;
use crate::query::{RangeQuery, RangeResult};
use crate::range;
use crate::shared::Shared;

/// A transaction in progress. Its changes are in the index at once, so reads inside it see them.
///
/// Once it has changed something it must be [finished](Txn::finish). Whether a change is allowed (leases, duplicate
/// keys, limits) is the caller's to check beforehand: nothing can be taken back.
pub struct Txn<'a> {
    index: &'a mut Index,
    shared: &'a Arc<Shared>,
    changes: Vec<Change>,
    has_deleted: bool,
    work: Work,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Change {
    pub row: RowKey,
    /// The put, or the tombstone, which has only the key.
    pub record: Record,
    /// What was current before the transaction, whatever it did to the key before this change. If its value is not [resident](Current::resident) it can be loaded inside the batch, or
    /// asked for later with [`View::get_at`](crate::View::get_at) at `row.revision.main - 1`.
    pub previous: Option<Current>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The store's revision afterwards: the transaction's own, or the one before if it changed nothing.
    pub revision: i64,
    /// In the order they were made.
    pub changes: Vec<Change>,
    pub work: Work,
}

/// What was asked of the store, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub puts: u64,
    /// Bytes of the keys and values put.
    pub put_bytes: u64,
    /// However many keys they delete.
    pub deletes: u64,
    pub ranges: u64,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(index: &'a mut Index, shared: &'a Arc<Shared>) -> Txn<'a> {
        Txn { index, shared, changes: Vec::new(), has_deleted: false, work: Work::default() }
    }

    /// The revision that reads see now: the transaction's own as soon as it has changed something.
    pub fn revision(&self) -> i64 {
        self.index.revision + i64::from(!self.changes.is_empty())
    }

    /// The current version of `key`, if it lives, changes of this transaction included.
    pub fn get(&self, key: &[u8]) -> Option<Current> {
        self.index.current(key)
    }

    /// The whole record of what `get`, `put` or `delete_range` returned.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn load(&self, current: &Current) -> Result<Record, MvccError> {
        current.load(&self.shared.backend)
    }

    /// Sets `key`, with `lease` attached or [`LeaseId::NONE`], and returns what was current before. Keeping the old value
    /// or lease means passing it.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Option<Current> {
        let revision = self.next_revision();
        self.work.puts += 1;
        self.work.put_bytes += (key.len() + value.len()) as u64;
        let previous = self.index.put(key, |previous| {
            let before = previous.map(Record::meta);
            let meta = RecordMeta {
                create_revision: before.map_or(revision.main, |before| before.create_revision),
                mod_revision: revision.main,
                version: before.map_or(0, |before| before.version) + 1,
                lease,
            };
            let record = Record::put(key, value, meta);
            let row = Row::put(revision, record.as_bytes().len());
            self.changes.push(Change { row: row.key(), record: record.clone(), previous: None });
            (record, row)
        });
        let earlier = self.changes.len() - 1;
        self.changes[earlier].previous = self.before(key, previous.as_ref(), earlier);
        previous
    }

    /// Deletes every live key of `range` and returns what was current, in key order.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Current> {
        self.work.deletes += 1;
        let mut doomed = Vec::new();
        if range.is_single() {
            doomed.extend(self.index.current(&range.start).map(|current| Record::tombstone(current.key())));
        } else {
            self.index.each_live_in(range, &mut |record| doomed.push(Record::tombstone(record.key())));
        }
        doomed.into_iter().map(|tombstone| self.delete(tombstone)).collect()
    }

    fn delete(&mut self, tombstone: Record) -> Current {
        let row = Row::tombstone(self.next_revision());
        let previous = self.index.delete(&tombstone, row);
        let before = self.before(tombstone.key(), Some(&previous), self.changes.len());
        self.changes.push(Change { row: row.key(), record: tombstone, previous: before });
        self.has_deleted = true;
        previous
    }

    /// Reads a range. At revision 0 it sees the changes of this transaction.
    ///
    /// # Errors
    /// [`MvccError::FutureRevision`] above the revision before this transaction, [`MvccError::Compacted`] below the compacted
    /// revision: so unlike elsewhere a negative revision is a compacted one, save -1 while there was no compaction.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        let current = self.revision();
        if query.revision > self.index.revision {
            return Err(MvccError::FutureRevision);
        }
        if query.revision != 0 && query.revision < self.index.compacted {
            return Err(MvccError::Compacted);
        }
        let at = if query.revision <= 0 { current } else { query.revision };
        range::read_locked(self.shared, self.index, query, at, current)
    }

    /// Ends the transaction and hands its rows over to be staged.
    pub fn finish(mut self, staged: &mut Staged) -> Changes {
        let changes = std::mem::take(&mut self.changes);
        self.index.revision += i64::from(!changes.is_empty());
        staged.rows.extend(changes.iter().map(|change| (change.row, change.record.clone())));
        Changes { revision: self.index.revision, changes, work: self.work }
    }

    /// Notes that the transaction was asked to read something.
    pub fn count_range(&mut self) {
        self.work.ranges += 1;
    }

    fn next_revision(&self) -> Revision {
        Revision { main: self.index.revision + 1, sub: self.changes.len() as i64 }
    }

    /// What `key` was before the transaction, if it is `current` now; the first `earlier` changes are looked at. They
    /// are searched only if one of them can have been of this key, which is rare: a put that was deleted again, or a
    /// key put anew.
    fn before(&self, key: &[u8], current: Option<&Current>, earlier: usize) -> Option<Current> {
        let own = self.index.revision + 1;
        let changed_here = current.map_or(self.has_deleted, |current| current.meta().mod_revision == own);
        if !changed_here {
            return current.cloned();
        }
        let first = self.changes[..earlier].iter().find(|change| change.record.key() == key);
        first.map_or_else(|| current.cloned(), |first| first.previous.clone())
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        // While a panic unwinds nothing is published any more.
        debug_assert!(self.changes.is_empty() || std::thread::panicking(), "a transaction that wrote must be finished");
    }
}
