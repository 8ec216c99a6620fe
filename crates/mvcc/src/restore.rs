//! Building the index from the backend's rows: one scan in revision order, then one sort by key.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::ops::ControlFlow;

use backend::{Backend, Table};
use hashbrown::hash_table::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashTable};
use types::{Record, Revision, RowKey};

use crate::entry::{Entry, Row, value_field_len};
use crate::error::MvccError;
use crate::index::{Compaction, Index};
use crate::key_sort::sorted_places;
use crate::store::{FINISHED_COMPACTION, SCHEDULED_COMPACTION};
use crate::tree::Tree;

/// The index of what is in the backend, holding about `budget_bytes` of values at most.
pub(crate) fn index(backend: &Backend, budget_bytes: usize) -> Result<Index, MvccError> {
    let scheduled = compaction(backend, SCHEDULED_COMPACTION)?;
    let finished = compaction(backend, FINISHED_COMPACTION)?;
    let mut gathered = Gathered { budget_bytes, ..Gathered::default() };
    let mut damaged = None;
    backend.scan(Revision::first(0), Revision::first(i64::MAX), &mut |row, bytes| {
        if gathered.take(row, bytes) {
            return ControlFlow::Continue(());
        }
        damaged = Some(row);
        ControlFlow::Break(())
    })?;
    if let Some(row) = damaged {
        return Err(MvccError::Damaged { row });
    }
    let (previous, compacted) = (finished.unwrap_or(-1), scheduled.max(finished).unwrap_or(-1));
    let unfinished = Compaction { target: compacted, previous, is_hashed: false };
    Ok(Index {
        revision: gathered.revision.max(compacted).max(1),
        compacted,
        pending: if compacted > previous { VecDeque::from([unfinished]) } else { VecDeque::new() },
        filler: gathered.filler,
        value_bytes: gathered.value_bytes,
        hand: 0,
        tree: gathered.into_tree(),
    })
}

fn compaction(backend: &Backend, name: &'static str) -> Result<Option<i64>, MvccError> {
    let Some(value) = backend.value(Table::Meta, name.as_bytes())? else { return Ok(None) };
    let row = RowKey::decode(&value).map_err(|_| MvccError::DamagedMeta { name })?;
    Ok(Some(row.revision.main))
}

/// The keys met so far, in the order they were met first.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    /// Places in `entries`, by key.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    revision: i64,
    filler: Option<Row>,
    value_bytes: usize,
    budget_bytes: usize,
    /// Entries before it have been evicted.
    evicted: usize,
}

impl Gathered {
    /// Takes a row that is newer than all before. Returns whether it was one.
    fn take(&mut self, row: RowKey, bytes: &[u8]) -> bool {
        self.revision = row.revision.main;
        if bytes.is_empty() {
            // A backup restored with a raised revision ends in a row without content (`etcdutl snapshot restore
            // --bump-revision`): it stands for the revision, not for a key.
            self.filler = Some(Row::put(row.revision, 0));
            return true;
        }
        let Some(record) = Record::from_stored(bytes) else { return false };
        let row = if row.tombstone { Row::tombstone(row.revision) } else { Row::put(row.revision, bytes.len()) };
        if !row.is_tombstone() {
            self.value_bytes += value_field_len(&record);
        }
        let place = self.file(record, row);
        if self.value_bytes > self.budget_bytes {
            self.evict(place);
        }
        true
    }

    /// Puts the record into the entry of its key and returns the place of that.
    fn file(&mut self, record: Record, row: Row) -> usize {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(record.key());
        let entries = &mut self.entries;
        let is_same = |&place: &u32| entries[place as usize].key() == record.key();
        match self.places.entry(hash, is_same, |&place| hasher.hash_one(entries[place as usize].key())) {
            Slot::Occupied(slot) => {
                let place = *slot.get() as usize;
                let was_resident = entries[place].is_resident();
                let (previous, _) = entries[place].supersede(record, row);
                if was_resident {
                    self.value_bytes -= value_field_len(&previous);
                }
                place
            }
            Slot::Vacant(slot) => {
                let place = entries.len();
                slot.insert(u32::try_from(place).expect("the index of 2^32 keys would not fit into memory"));
                entries.push(Entry::new(record, row));
                place
            }
        }
    }

    /// Evicts the keys met first, as their values are probably the oldest; at last the one at `newest`.
    fn evict(&mut self, newest: usize) {
        while self.value_bytes > self.budget_bytes && self.evicted < self.entries.len() {
            self.value_bytes -= self.entries[self.evicted].evict();
            self.evicted += 1;
        }
        if self.value_bytes > self.budget_bytes {
            self.value_bytes -= self.entries[newest].evict();
        }
    }

    fn into_tree(self) -> Tree {
        let places = sorted_places(self.entries.len(), &|place| self.entries[place as usize].key());
        let mut entries: Vec<Option<Entry>> = self.entries.into_iter().map(Some).collect();
        Tree::from_sorted(
            places.into_iter().map(|place| entries[place as usize].take().expect("every place is there once")),
        )
    }
}
