//! What is staged but not yet durable, laid over the committed file so that readers see it at once.
//!
//! Two layers: the one that a commit is writing, and the one that fills meanwhile. A reader looks here first and
//! only then into the committed file; a commit publishes the file before it drops its layer. So whatever leaves the
//! overlay is already in the file that the reader opens afterwards, and nothing is ever missed in between.
//!
//! Invariants
//! - Rows of a layer ascend, and every row of the filling layer is greater than every row of the committing one.
//! - A removed row is hidden wherever it lies, here or in the file; it never comes back.
//!
//! Plain data without locks; the backend holds it behind one, for a few instructions at a time.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use types::{Index, Record, RowKey, Term};

use crate::staged::Staged;
use crate::table::Table;

/// Batches smaller than this are filled up, so that many small ones do not make a long list.
const BATCH_ROWS_MIN: usize = 256;

/// Lists of removed rows are merged up to this size: long enough that all that may wait makes few lists, short enough
/// that merging two is a matter of a millisecond.
const MERGED_ROWS_MAX: usize = 1 << 16;

/// Rows of one or several stagings, ascending.
type Batch = Vec<(RowKey, Record)>;

/// What a look into the overlay found.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<T> {
    Present(T),
    Removed,
    /// Not here; the file knows.
    Unknown,
}

/// All that is staged and not durable.
#[derive(Default)]
pub(crate) struct Overlay {
    committing: Option<Arc<Layer>>,
    filling: Layer,
}

/// What one commit writes.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    rows: Vec<Arc<Batch>>,
    removed: Removed,
    /// One map per table; `None` removes.
    values: [BTreeMap<Vec<u8>, Option<Vec<u8>>>; Table::ALL.len()],
    applied: Option<(Index, Term)>,
    digest: Option<u64>,
    bytes: usize,
}

/// Removed rows, in lists that ascend each. Compaction stages small ones, thousands of them on a full disk, and every
/// read asks all: so of those that are not full each is longer than all after it.
#[derive(Clone, Default)]
struct Removed(Vec<Arc<[RowKey]>>);

impl Overlay {
    pub(crate) fn stage(&mut self, staged: Staged, bytes: usize) {
        self.filling.stage(staged, bytes);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.filling.bytes + self.committing.as_ref().map_or(0, |layer| layer.bytes)
    }

    /// Everything staged so far, to be committed; it stays readable until [`Overlay::end_commit`]. What an earlier
    /// commit could not write is part of it. `None` if nothing is staged.
    pub(crate) fn begin_commit(&mut self) -> Option<Arc<Layer>> {
        if !self.filling.is_empty() {
            let newer = mem::take(&mut self.filling);
            let layer = match self.committing.take() {
                None => newer,
                Some(older) => {
                    let mut layer = Arc::unwrap_or_clone(older);
                    layer.append(newer);
                    layer
                }
            };
            self.committing = Some(Arc::new(layer));
        }
        self.committing.clone()
    }

    /// Drops what was committed. The caller lets go of it outside of the lock.
    pub(crate) fn end_commit(&mut self) -> Option<Arc<Layer>> {
        self.committing.take()
    }

    /// Drops everything staged, also what is being committed. The caller lets go of it outside of the lock.
    pub(crate) fn clear(&mut self) -> Overlay {
        mem::take(self)
    }

    pub(crate) fn row(&self, row: RowKey) -> Found<Record> {
        if self.layers().any(|layer| layer.removed.contains(row)) {
            return Found::Removed;
        }
        self.layers().find_map(|layer| layer.row(row)).map_or(Found::Unknown, |record| Found::Present(record.clone()))
    }

    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Found<Vec<u8>> {
        match self.layers().find_map(|layer| layer.values[table as usize].get(key)) {
            None => Found::Unknown,
            Some(None) => Found::Removed,
            Some(Some(value)) => Found::Present(value.clone()),
        }
    }

    /// Every change staged to a small table, in key order; `None` removes.
    pub(crate) fn values(&self, table: Table) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let mut changes =
            self.committing.as_ref().map(|layer| layer.values[table as usize].clone()).unwrap_or_default();
        changes.extend(self.filling.values[table as usize].clone());
        changes
    }

    /// The rows from `from` up to but without `to`, as they are now.
    pub(crate) fn window(&self, from: RowKey, to: RowKey) -> Window {
        let mut window = Window { from, to, rows: Vec::new(), removed: Removed::default() };
        for layer in self.committing.as_deref().into_iter().chain([&self.filling]) {
            let first = layer.rows.partition_point(|batch| last_of(batch) < from);
            let within = layer.rows[first..].iter().take_while(|batch| batch[0].0 < to);
            window.rows.extend(within.cloned());
            window.removed.0.extend(layer.removed.0.iter().cloned());
        }
        window
    }

    /// Newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        [&self.filling].into_iter().chain(self.committing.as_deref())
    }
}

impl Layer {
    pub(crate) fn applied(&self) -> Option<(Index, Term)> {
        self.applied
    }

    pub(crate) fn digest(&self) -> Option<u64> {
        self.digest
    }

    /// The rows to write, ascending; among them may be removed ones.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &(RowKey, Record)> {
        self.rows.iter().flat_map(|batch| batch.iter())
    }

    pub(crate) fn first_row(&self) -> Option<RowKey> {
        self.rows.first().map(|batch| batch[0].0)
    }

    /// The removed rows, ascending, each once.
    pub(crate) fn removed_rows(&self) -> Vec<RowKey> {
        let mut rows: Vec<RowKey> = self.removed.0.iter().flat_map(|list| list.iter().copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    pub(crate) fn values(&self, table: Table) -> &BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        &self.values[table as usize]
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.removed.0.is_empty()
            && self.applied.is_none()
            && self.values.iter().all(BTreeMap::is_empty)
    }

    fn stage(&mut self, staged: Staged, bytes: usize) {
        self.bytes += bytes;
        self.add_rows(staged.rows);
        let mut removed = staged.removed_rows;
        removed.sort_unstable();
        self.removed.add(removed.into());
        for (table, key, value) in staged.values {
            self.values[table as usize].insert(key, value);
        }
        self.applied = staged.applied.or(self.applied);
        self.digest = staged.digest.or(self.digest);
    }

    fn add_rows(&mut self, mut rows: Batch) {
        let Some((first, _)) = rows.first() else { return };
        debug_assert!(rows.is_sorted_by_key(|(row, _)| *row), "rows are staged in increasing order");
        if let Some(last) = self.rows.last_mut() {
            assert!(last_of(last) < *first, "a row follows every row staged before");
            if last.len() + rows.len() <= BATCH_ROWS_MIN
                && let Some(open) = Arc::get_mut(last)
            {
                open.append(&mut rows);
                return;
            }
        }
        self.rows.push(Arc::new(rows));
    }

    fn append(&mut self, newer: Layer) {
        self.rows.extend(newer.rows);
        newer.removed.0.into_iter().for_each(|list| self.removed.add(list));
        for (ours, theirs) in self.values.iter_mut().zip(newer.values) {
            ours.extend(theirs);
        }
        self.applied = newer.applied.or(self.applied);
        self.digest = newer.digest.or(self.digest);
        self.bytes += newer.bytes;
    }

    fn row(&self, row: RowKey) -> Option<&Record> {
        let batch = self.rows.get(self.rows.partition_point(|batch| last_of(batch) < row))?;
        let at = batch.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(&batch[at].1)
    }
}

impl Removed {
    /// `rows` ascend.
    fn add(&mut self, mut rows: Arc<[RowKey]>) {
        if rows.is_empty() {
            return;
        }
        while let Some(last) =
            self.0.pop_if(|last| last.len() <= rows.len() && last.len() + rows.len() <= MERGED_ROWS_MAX)
        {
            let mut merged = [&last[..], &rows[..]].concat();
            // Sorts what consists of two ascending parts by merging them.
            merged.sort();
            rows = merged.into();
        }
        self.0.push(rows);
    }

    fn contains(&self, row: RowKey) -> bool {
        self.0.iter().any(|list| list.binary_search(&row).is_ok())
    }
}

/// Rows and removals of one moment, for a scan that takes its time.
pub(crate) struct Window {
    from: RowKey,
    to: RowKey,
    rows: Vec<Arc<Batch>>,
    removed: Removed,
}

impl Window {
    /// The rows, ascending; among them may be removed ones.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &(RowKey, Record)> {
        self.rows.iter().flat_map(|batch| {
            let first = batch.partition_point(|(row, _)| *row < self.from);
            let end = batch.partition_point(|(row, _)| *row < self.to);
            batch[first..end].iter()
        })
    }

    pub(crate) fn removes(&self, row: RowKey) -> bool {
        self.removed.contains(row)
    }
}

fn last_of(batch: &Batch) -> RowKey {
    batch.last().expect("batches are never empty").0
}

#[cfg(test)]
mod tests {
    use types::Revision;

    use super::*;

    fn row(main: i64) -> RowKey {
        RowKey { revision: Revision::first(main), tombstone: false }
    }

    /// As a full disk makes it: commits fail, and what compaction stages meanwhile joins what they could not write.
    #[test]
    fn however_much_is_removed_bit_by_bit_there_are_few_lists_to_search() {
        const BATCHES: i64 = 2000;
        let mut overlay = Overlay::default();
        for batch in 0..BATCHES {
            // In order of keys, as compaction goes, revisions come in any order.
            let removed_rows = (0..100).map(|number| row((batch * 7919 + number * 104_729) % 400_009)).collect();
            overlay.stage(Staged { removed_rows, ..Staged::default() }, 0);
            if batch % 10 == 0 {
                overlay.begin_commit();
            }
        }
        let window = overlay.window(row(0), row(i64::MAX));
        assert!(window.removed.0.len() < 32, "{} lists", window.removed.0.len());
        assert!(window.removed.0.iter().all(|list| list.is_sorted() && list.len() <= MERGED_ROWS_MAX));
        let expected = |main: i64| {
            (0..BATCHES).any(|batch| (0..100).any(|number| (batch * 7919 + number * 104_729) % 400_009 == main))
        };
        for main in (0..400_009).step_by(40_001) {
            assert_eq!(window.removes(row(main)), expected(main), "row {main}");
            assert_eq!(overlay.row(row(main)) == Found::Removed, expected(main), "row {main}");
        }
    }
}
