//! Building the index from the backend's rows: one scan in revision order, then one sort by key.
//!
//! Superseded records are let go as the scan meets newer ones, so it needs memory for what the index will hold and
//! some 60 bytes a key.

mod slices;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use backend::{ReadView, Table, Tally};
use hashbrown::hash_table::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashTable};
use types::RowKey;

use crate::entry::{Entry, Row, value_field_len};
use crate::error::MvccError;
use crate::index::{Compaction, Index};
use crate::key_sort::sorted_places;
use crate::store::{FINISHED_COMPACTION, SCHEDULED_COMPACTION, StoreOptions};
use crate::tree::Tree;
use slices::{Piece, ReadRow, Reading};

/// Room is made in advance for no more keys than that: there may be many rows of few keys.
const ROOM_MAX: usize = 1 << 22;

/// The index of a committed state.
pub(crate) fn index(view: &ReadView, options: &StoreOptions) -> Result<Index, MvccError> {
    let scheduled = compaction(view, SCHEDULED_COMPACTION)?;
    let finished = compaction(view, FINISHED_COMPACTION)?;
    let mut gathered = Gathered::new(options.value_budget_bytes, view.row_count());
    let hasher = DefaultHashBuilder::default();
    let reading = Reading { view, hasher: &hasher };
    reading.run(options.restore_threads, &mut |piece| gathered.take(piece, &hasher))?;
    view.check_tally(gathered.tally)?;
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
        tree: gathered.into_tree(options.restore_threads),
    })
}

fn compaction(view: &ReadView, name: &'static str) -> Result<Option<i64>, MvccError> {
    let Some(value) = view.get(Table::Meta, name.as_bytes())? else { return Ok(None) };
    let row = RowKey::decode(&value).map_err(|_| view.damaged(format_args!("{name} is not a revision")))?;
    Ok(Some(row.revision.main))
}

/// The keys met so far, in the order they were met first.
struct Gathered {
    entries: Vec<Entry>,
    /// Where in `entries` a key is.
    places: HashTable<u32>,
    tally: Tally,
    revision: i64,
    filler: Option<Row>,
    value_bytes: usize,
    budget_bytes: usize,
    /// Once there were more values than fit: those that are held, in the order they were written, and some that are no
    /// longer current.
    by_age: Option<VecDeque<Written>>,
}

/// A version of the key at `place`.
#[derive(Clone, Copy)]
struct Written {
    row: Row,
    place: u32,
}

impl Gathered {
    /// Makes room for `rows` rows; that many need not come.
    fn new(budget_bytes: usize, rows: u64) -> Gathered {
        let keys = usize::try_from(rows).unwrap_or(usize::MAX).min(ROOM_MAX);
        Gathered {
            entries: Vec::with_capacity(keys),
            places: HashTable::with_capacity(keys),
            tally: Tally::default(),
            revision: 0,
            filler: None,
            value_bytes: 0,
            budget_bytes,
            by_age: None,
        }
    }

    /// Takes rows that are newer than all before.
    fn take(&mut self, piece: Piece, hasher: &DefaultHashBuilder) {
        self.tally += piece.tally;
        self.revision = self.revision.max(piece.revision);
        self.filler = piece.filler.or(self.filler);
        for read in piece.rows {
            self.file(read, hasher);
        }
    }

    /// Puts the record into the entry of its key.
    fn file(&mut self, read: ReadRow, hasher: &DefaultHashBuilder) {
        let ReadRow { row, record, hash, value_len } = read;
        let added = if row.is_tombstone() { 0 } else { value_len as usize };
        self.value_bytes += added;
        let entries = &mut self.entries;
        let is_same = |&place: &u32| entries[place as usize].key() == record.key();
        let place = match self.places.entry(hash, is_same, |&place| hasher.hash_one(entries[place as usize].key())) {
            Slot::Occupied(slot) => {
                let entry = &mut entries[*slot.get() as usize];
                let was_resident = entry.is_resident();
                let (previous, _) = entry.supersede(record, row);
                if was_resident {
                    self.value_bytes -= value_field_len(&previous);
                }
                *slot.get()
            }
            Slot::Vacant(slot) => {
                let place = u32::try_from(entries.len()).expect("the index of 2^32 keys would not fit into memory");
                slot.insert(place);
                entries.push(Entry::new(record, row));
                place
            }
        };
        if let Some(by_age) = self.by_age.as_mut().filter(|_| added > 0) {
            by_age.push_back(Written { row, place });
            // Keys that are written again and again would fill it.
            if by_age.len() > 2 * entries.len() {
                by_age.retain(|written| entries[written.place as usize].row == written.row);
            }
        }
        if self.value_bytes > self.budget_bytes {
            self.keep_newest();
        }
    }

    /// Drops values until what is held is within the budget. Those written last are the likeliest to be read, so the
    /// oldest go.
    fn keep_newest(&mut self) {
        let entries = &mut self.entries;
        let by_age = self.by_age.get_or_insert_with(|| in_order_of_age(entries));
        while self.value_bytes > self.budget_bytes {
            let Written { row, place } = by_age.pop_front().expect("every value that is held is there");
            let entry = &mut entries[place as usize];
            if entry.row == row {
                self.value_bytes -= entry.evict();
            }
        }
    }

    fn into_tree(self, threads: usize) -> Tree {
        drop(self.places);
        let order = sorted_places(self.entries.len(), threads, &|place| self.entries[place as usize].key());
        let mut entries: Vec<Option<Entry>> = self.entries.into_iter().map(Some).collect();
        let in_order =
            order.into_iter().map(|item| entries[item.place as usize].take().expect("every place is there once"));
        Tree::from_sorted(in_order, threads)
    }
}

fn in_order_of_age(entries: &[Entry]) -> VecDeque<Written> {
    let held = (0..).zip(entries).filter(|(_, entry)| entry.is_resident());
    let mut held: Vec<_> = held.map(|(place, entry)| Written { row: entry.row, place }).collect();
    held.sort_unstable_by_key(|written| written.row.revision());
    held.into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use backend::{Backend, Options, Staged};
    use env::{Disk, OpenMode, SimDisk};
    use types::{Record, RecordMeta, Revision};

    use super::*;

    fn put(main: i64, sub: i64, key: i64, value_len: usize) -> (RowKey, Record) {
        let row = RowKey { revision: Revision { main, sub }, tombstone: false };
        let meta = RecordMeta { mod_revision: main, ..RecordMeta::default() };
        (row, Record::put(format!("/key/{key:06}").as_bytes(), &vec![b'v'; value_len], meta))
    }

    fn delete(main: i64, key: i64) -> (RowKey, Record) {
        let row = RowKey { revision: Revision::first(main), tombstone: true };
        (row, Record::tombstone(format!("/key/{key:06}").as_bytes()))
    }

    /// Keys written once and again, deletions, transactions, large values, a stretch without rows.
    fn rows() -> Vec<(RowKey, Record)> {
        let mixed = |main: i64| main * 7919 % 5003;
        let mut rows = Vec::new();
        for main in (2..9000).filter(|main| !(4000..6500).contains(main)) {
            match main % 50 {
                0 => rows.push(delete(main, mixed(main - 7))),
                1 => rows.extend((0..100).map(|sub| put(main, sub, mixed(main) + sub, 8))),
                2 => rows.push(put(main, 0, 1, 10_000)),
                _ => rows.push(put(main, 0, mixed(main), 30)),
            }
        }
        rows
    }

    fn open(disk: &SimDisk) -> Backend {
        Backend::open(Arc::new(disk.clone()), Path::new("db"), Options::default()).expect("the disk works")
    }

    #[test]
    fn any_number_of_threads_makes_the_same_index() {
        let backend = open(&SimDisk::new());
        backend.stage(Staged { rows: rows(), ..Staged::default() });
        backend.commit().expect("the disk works");
        for value_budget_bytes in [0, 100_000, usize::MAX] {
            let index = |restore_threads| {
                index(&backend.view(), &StoreOptions { value_budget_bytes, restore_threads })
                    .expect("the rows are sound")
            };
            let alone = index(1);
            assert!(alone.value_bytes <= value_budget_bytes && alone.revision == 8999);
            let alone = format!("{alone:?}");
            for restore_threads in 2..5 {
                assert!(format!("{:?}", index(restore_threads)) == alone, "with {restore_threads} threads");
            }
        }
    }

    #[test]
    fn a_budget_holds_the_values_that_were_written_last() {
        let backend = open(&SimDisk::new());
        // A hundred keys, the first twenty written again, and one of them many times.
        let rows =
            (2..122).map(|main| put(main, 0, main % 100, 30)).chain((122..1000).map(|main| put(main, 0, 21, 30)));
        backend.stage(Staged { rows: rows.collect(), ..Staged::default() });
        backend.commit().expect("the disk works");
        // A field of 30 bytes takes two more.
        for held in [0, 1, 25, 99, 100] {
            let options = StoreOptions { value_budget_bytes: held * 32 + 31, restore_threads: 1 };
            let index = index(&backend.view(), &options).expect("the rows are sound");
            assert_eq!(index.value_bytes, held * 32);
            for main in 22..122 {
                let entry = index.tree.get(format!("/key/{:06}", main % 100).as_bytes()).expect("the key is there");
                assert_eq!(entry.is_resident(), 122 - main <= held as i64, "{main} of {held}");
            }
        }
    }

    #[test]
    fn any_number_of_threads_ends_at_a_damaged_row() {
        let disk = SimDisk::new();
        let backend = open(&disk);
        backend.stage(Staged { rows: rows(), ..Staged::default() });
        backend.commit().expect("the disk works");
        drop(backend);
        let contents = disk.contents(Path::new("db")).expect("the file is there");
        let value = contents.windows(5000).position(|bytes| bytes.iter().all(|&byte| byte == b'v'));
        let value = value.expect("a large value is there") as u64;
        let file = disk.open(Path::new("db"), OpenMode::Write).expect("the file is there");
        file.write_at(b"w", value).expect("the disk works");
        let backend = open(&disk);
        for restore_threads in 1..5 {
            let restored = index(&backend.view(), &StoreOptions { value_budget_bytes: usize::MAX, restore_threads });
            assert!(restored.is_err_and(|error| error.to_string().contains("fails its checksum")));
        }
    }
}
