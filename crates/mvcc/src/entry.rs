//! What the index knows of one key: its current version and where its older ones lie.

use std::collections::VecDeque;

use types::{Record, Revision, RowKey};

/// One stored row: when it was written and how long it is. 16 bytes, for there is one per version of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) main: i64,
    pub(crate) sub: u32,
    /// Length of the encoded record, 0 for a deletion.
    len: u32,
}

impl Row {
    pub(crate) fn put(revision: Revision, record_len: usize) -> Row {
        let len = u32::try_from(record_len).expect("no request is as large as 4 GiB");
        Row { len, ..Row::tombstone(revision) }
    }

    pub(crate) fn tombstone(revision: Revision) -> Row {
        let sub = u32::try_from(revision.sub).expect("no transaction has 2^32 changes: there is no memory for them");
        Row { main: revision.main, sub, len: 0 }
    }

    pub(crate) fn is_tombstone(self) -> bool {
        self.len == 0
    }

    /// Length of the encoded record. Only for puts.
    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    pub(crate) fn revision(self) -> Revision {
        Revision { main: self.main, sub: i64::from(self.sub) }
    }

    pub(crate) fn key(self) -> RowKey {
        RowKey { revision: self.revision(), tombstone: self.is_tombstone() }
    }
}

/// A key. Its bytes are those inside `record`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The current record; without its value if that has been evicted; of a deleted key the tombstone.
    pub(crate) record: Record,
    /// The row of the current record.
    pub(crate) row: Row,
    history: Option<Box<History>>,
}

/// Older rows, oldest first, never empty.
#[derive(Debug)]
struct History(VecDeque<Row>);

/// A put as it was found in an [`Entry`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    pub(crate) row: Row,
    /// Of the current version: the record, maybe without its value. Of older ones nothing is in memory.
    pub(crate) current: Option<&'a Record>,
}

impl<'a> Version<'a> {
    /// The whole record, if it is in memory.
    pub(crate) fn resident(self) -> Option<&'a Record> {
        self.current.filter(|record| record.as_bytes().len() == self.row.len())
    }
}

impl Entry {
    pub(crate) fn new(record: Record, row: Row) -> Entry {
        Entry { record, row, history: None }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.record.key()
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.row.is_tombstone()
    }

    /// Whether a compaction may find something to remove here.
    pub(crate) fn is_aged(&self) -> bool {
        self.history.is_some() || !self.is_live()
    }

    /// Whether the current version is a put with its value in memory.
    pub(crate) fn is_resident(&self) -> bool {
        self.record.as_bytes().len() == self.row.len()
    }

    /// Puts a newer version in front and returns the one that was current.
    pub(crate) fn supersede(&mut self, record: Record, row: Row) -> (Record, Row) {
        debug_assert!(row.revision() > self.row.revision(), "versions only get newer");
        match &mut self.history {
            Some(history) => history.0.push_back(self.row),
            None => self.history = Some(Box::new(History(VecDeque::from([self.row])))),
        }
        (std::mem::replace(&mut self.record, record), std::mem::replace(&mut self.row, row))
    }

    /// The newest row at `revision`, deletions included.
    pub(crate) fn row_at(&self, revision: i64) -> Option<Row> {
        if self.row.main <= revision {
            return Some(self.row);
        }
        let history = &self.history.as_ref()?.0;
        let newer = history.partition_point(|row| row.main <= revision);
        newer.checked_sub(1).map(|at| history[at])
    }

    /// The version that lives at `revision`.
    pub(crate) fn at(&self, revision: i64) -> Option<Version<'_>> {
        let row = self.row_at(revision).filter(|row| !row.is_tombstone())?;
        Some(Version { row, current: (row == self.row).then_some(&self.record) })
    }

    /// Drops the value from memory and returns how many bytes that freed.
    pub(crate) fn evict(&mut self) -> usize {
        if !self.is_resident() {
            return 0;
        }
        let freed = value_field_len(&self.record);
        if freed > 0 {
            self.record = without_value(&self.record);
        }
        freed
    }

    /// How many of the older rows a compaction at `target` removes: all before the newest one of `row_at(target)`, and
    /// that one too if it is a deletion from before `target`.
    fn removable_history(&self, target: i64) -> usize {
        let Some(history) = &self.history else { return 0 };
        if self.row.main <= target {
            return history.0.len();
        }
        let old = history.0.partition_point(|row| row.main <= target);
        match old.checked_sub(1).map(|at| history.0[at]) {
            Some(newest) if newest.is_tombstone() && newest.main < target => old,
            Some(_) => old - 1,
            None => 0,
        }
    }

    /// Whether a compaction at `target` removes the key altogether.
    fn is_gone(&self, target: i64) -> bool {
        !self.is_live() && self.row.main < target
    }

    /// Whether a compaction at `target` removes anything of this key.
    pub(crate) fn is_prunable(&self, target: i64) -> bool {
        self.removable_history(target) > 0 || self.is_gone(target)
    }

    /// Removes up to `max_rows` of the rows that a compaction at `target` removes, oldest first, and appends them to
    /// `removed`. `Gone` means that the entry itself is to be dropped.
    pub(crate) fn prune(&mut self, target: i64, max_rows: usize, removed: &mut Vec<RowKey>) -> Pruned {
        let removable = self.removable_history(target);
        let taken = removable.min(max_rows);
        if let Some(history) = &mut self.history {
            removed.extend(history.0.drain(..taken).map(Row::key));
            if history.0.is_empty() {
                self.history = None;
            } else if history.0.len() * 4 < history.0.capacity() {
                history.0.shrink_to_fit();
            }
        }
        if taken < removable || (self.is_gone(target) && taken == max_rows) {
            return Pruned::Partly;
        }
        if self.is_gone(target) {
            removed.push(self.row.key());
            return Pruned::Gone;
        }
        Pruned::Done
    }
}

/// How far [`Entry::prune`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pruned {
    /// More is to be removed.
    Partly,
    Done,
    /// Nothing of the key is left.
    Gone,
}

/// How many bytes of an encoded record are its value.
pub(crate) fn value_field_len(record: &Record) -> usize {
    match record.value().len() {
        0 => 0,
        len => 1 + types::varint_len(len as u64) + len,
    }
}

/// The record with an empty value.
pub(crate) fn without_value(record: &Record) -> Record {
    Record::put(record.key(), b"", record.meta())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::RecordMeta;

    fn entry(rows: &[(i64, bool)]) -> Entry {
        let version = |main: i64, put: bool| {
            let revision = Revision::first(main);
            if !put {
                return (Record::tombstone(b"k"), Row::tombstone(revision));
            }
            let record = Record::put(b"k", b"v", RecordMeta { mod_revision: main, ..RecordMeta::default() });
            let len = record.as_bytes().len();
            (record, Row::put(revision, len))
        };
        let (record, row) = version(rows[0].0, rows[0].1);
        let mut entry = Entry::new(record, row);
        for &(main, put) in &rows[1..] {
            let (record, row) = version(main, put);
            entry.supersede(record, row);
        }
        entry
    }

    fn pruned(rows: &[(i64, bool)], target: i64) -> (Vec<i64>, Pruned) {
        let mut removed = Vec::new();
        let outcome = entry(rows).prune(target, usize::MAX, &mut removed);
        (removed.iter().map(|row| row.revision.main).collect(), outcome)
    }

    #[test]
    fn an_entry_is_forty_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
        assert_eq!(size_of::<Option<Entry>>(), 40);
    }

    #[test]
    fn compaction_keeps_the_newest_version_unless_it_is_an_older_tombstone() {
        let history = [(2, true), (4, true), (6, false), (8, true)];
        assert_eq!(pruned(&history, 1), (vec![], Pruned::Done));
        assert_eq!(pruned(&history, 3), (vec![], Pruned::Done));
        assert_eq!(pruned(&history, 5), (vec![2], Pruned::Done));
        assert_eq!(pruned(&history, 6), (vec![2, 4], Pruned::Done));
        assert_eq!(pruned(&history, 7), (vec![2, 4, 6], Pruned::Done));
        assert_eq!(pruned(&history, 8), (vec![2, 4, 6], Pruned::Done));
    }

    #[test]
    fn a_deleted_key_goes_one_compaction_after_its_tombstone() {
        assert_eq!(pruned(&[(2, true), (4, false)], 4), (vec![2], Pruned::Done));
        assert_eq!(pruned(&[(2, true), (4, false)], 5), (vec![2, 4], Pruned::Gone));
        assert_eq!(pruned(&[(4, false)], 5), (vec![4], Pruned::Gone));
    }

    #[test]
    fn pruning_can_stop_after_any_row() {
        let rows = [(2, true), (4, true), (6, false)];
        for max_rows in 1..4 {
            let mut entry = entry(&rows);
            let mut removed = Vec::new();
            while entry.prune(9, max_rows, &mut removed) == Pruned::Partly {}
            assert_eq!(removed.iter().map(|row| row.revision.main).collect::<Vec<_>>(), [2, 4, 6]);
        }
    }

    #[test]
    fn eviction_keeps_key_and_numbers() {
        let mut entry = entry(&[(2, true)]);
        let full = entry.record.clone();
        assert_eq!(entry.evict(), 3);
        assert_eq!(entry.evict(), 0);
        assert!(!entry.is_resident() && entry.at(2).is_some_and(|version| version.resident().is_none()));
        assert_eq!((entry.key(), entry.record.meta()), (full.key(), full.meta()));
    }
}
