//! Building the index from the backend's rows: one scan in revision order, then one sort by key.
//!
//! Superseded records are let go as the scan meets newer ones, so it needs memory for what the index will hold and
//! some 60 bytes a key.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

use backend::{Backend, Table};
use hashbrown::hash_table::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashTable};
use types::{Record, Revision, RowKey};

use crate::entry::{Entry, Row, value_field_len, without_value};
use crate::error::MvccError;
use crate::index::{Compaction, Index};
use crate::key_sort::sorted_places;
use crate::shared::not_a_record;
use crate::store::{FINISHED_COMPACTION, SCHEDULED_COMPACTION};
use crate::tree::Tree;

/// Room is made in advance for no more keys than that: there may be many rows of few keys.
const ROOM_MAX: usize = 1 << 22;

/// The index of what is in the backend, holding no more than `budget_bytes` of values.
pub(crate) fn index(backend: &Backend, budget_bytes: usize) -> Result<Index, MvccError> {
    let scheduled = compaction(backend, SCHEDULED_COMPACTION)?;
    let finished = compaction(backend, FINISHED_COMPACTION)?;
    let mut gathered = Gathered::new(budget_bytes, backend.view().row_count());
    let mut damaged = None;
    backend.scan(Revision::first(0), Revision::first(i64::MAX), &mut |row, bytes| {
        if gathered.take(row, bytes) {
            return ControlFlow::Continue(());
        }
        damaged = Some(row);
        ControlFlow::Break(())
    })?;
    if let Some(row) = damaged {
        return Err(not_a_record(backend, row).into());
    }
    let (previous, compacted) = (finished.unwrap_or(-1), scheduled.max(finished).unwrap_or(-1));
    let unfinished = Compaction { target: compacted, previous, is_hashed: false };
    let revision = gathered.revision.max(compacted).max(1);
    Ok(Index {
        revision,
        compacted,
        pending: if compacted > previous { VecDeque::from([unfinished]) } else { VecDeque::new() },
        filler: gathered.filler,
        unstaged: BTreeMap::new(),
        staged_revision: revision,
        value_bytes: gathered.value_bytes,
        hand: 0,
        tree: gathered.into_tree(),
    })
}

fn compaction(backend: &Backend, name: &'static str) -> Result<Option<i64>, MvccError> {
    let Some(value) = backend.value(Table::Meta, name.as_bytes())? else { return Ok(None) };
    let row = RowKey::decode(&value).map_err(|_| backend.damaged(format_args!("{name} is not a revision")))?;
    Ok(Some(row.revision.main))
}

/// The keys met so far, in the order they were met first.
struct Gathered {
    entries: Vec<Entry>,
    /// Where in `entries` a key is.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    revision: i64,
    filler: Option<Row>,
    value_bytes: usize,
    budget_bytes: usize,
}

impl Gathered {
    /// Makes room for `rows` rows; that many need not come.
    fn new(budget_bytes: usize, rows: u64) -> Gathered {
        let keys = usize::try_from(rows).unwrap_or(usize::MAX).min(ROOM_MAX);
        Gathered {
            entries: Vec::with_capacity(keys),
            places: HashTable::with_capacity(keys),
            hasher: DefaultHashBuilder::default(),
            revision: 0,
            filler: None,
            value_bytes: 0,
            budget_bytes,
        }
    }

    /// Takes a row that is newer than all before. Returns whether it was one.
    fn take(&mut self, row: RowKey, bytes: &[u8]) -> bool {
        self.revision = row.revision.main;
        if bytes.is_empty() {
            // A backup restored with a raised revision ends in a row without content (`etcdutl snapshot restore
            // --bump-revision`): it stands for the revision, not for a key.
            self.filler = Some(Row::put(row.revision, 0));
            return true;
        }
        let Some(mut record) = Record::from_stored(bytes) else { return false };
        let row = if row.tombstone { Row::tombstone(row.revision) } else { Row::put(row.revision, bytes.len()) };
        if !row.is_tombstone() {
            let added = value_field_len(&record);
            if self.value_bytes + added <= self.budget_bytes {
                self.value_bytes += added;
            } else if added > 0 {
                record = without_value(&record);
            }
        }
        self.file(record, row);
        true
    }

    /// Puts the record into the entry of its key.
    fn file(&mut self, record: Record, row: Row) {
        let (hasher, entries) = (&self.hasher, &mut self.entries);
        let hash = hasher.hash_one(record.key());
        let is_same = |&place: &u32| entries[place as usize].key() == record.key();
        match self.places.entry(hash, is_same, |&place| hasher.hash_one(entries[place as usize].key())) {
            Slot::Occupied(slot) => {
                let entry = &mut entries[*slot.get() as usize];
                let was_resident = entry.is_resident();
                let (previous, _) = entry.supersede(record, row);
                if was_resident {
                    self.value_bytes -= value_field_len(&previous);
                }
            }
            Slot::Vacant(slot) => {
                slot.insert(u32::try_from(entries.len()).expect("the index of 2^32 keys would not fit into memory"));
                entries.push(Entry::new(record, row));
            }
        }
    }

    fn into_tree(self) -> Tree {
        drop(self.places);
        let order = sorted_places(self.entries.len(), &|place| self.entries[place as usize].key());
        let mut entries: Vec<Option<Entry>> = self.entries.into_iter().map(Some).collect();
        let in_order =
            order.into_iter().map(|item| entries[item.place as usize].take().expect("every place is there once"));
        Tree::from_sorted(in_order)
    }
}
