//! The digest of the state: 64 bits that say how it came about, by which members find out that they differ.
//!
//! Every applied entry is folded in: its index and term, then all that it made the backend store, rows before values, each
//! in order. So two members that applied the same entries alike have the same digest at the same index, however the entries
//! were cut into batches, and a byte that differs in one row once gives another digest for good.
//!
//! Left out is what members may do differently: removal after a compaction, and leases' rows, whose times to live depend
//! on a member's own settings; what was asked about a lease stands for them.
//!
//! No guard against whoever wants two states of one digest: it finds faults, not forgers.

use std::collections::VecDeque;

use backend::{Staged, Table};
use types::{Index, LogEntry, Record, RowKey};

/// A digest is remembered for every so-manieth index.
pub(crate) const REMEMBERED_EVERY: u64 = 1000;
/// So many are remembered.
const REMEMBERED_MAX: usize = 64;

/// The digest after the entries so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

/// What of an entry is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folding {
    /// What it made the backend store.
    Stored,
    /// The entry itself: what is stored depends on this member's settings.
    Asked,
}

/// How much was staged before an entry.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    rows: usize,
    values: usize,
}

impl Mark {
    pub(crate) fn of(staged: &Staged) -> Mark {
        Mark { rows: staged.rows.len(), values: staged.values.len() }
    }
}

impl Digest {
    pub(crate) fn restored(digest: u64) -> Digest {
        Digest(digest)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// Folds in `entry` and what it added to `staged` since `mark`.
    pub(crate) fn fold(&mut self, entry: &LogEntry, staged: &Staged, mark: Mark, folding: Folding) {
        self.words(entry.index.0, entry.term.0);
        if folding == Folding::Asked {
            return self.bytes(&entry.data);
        }
        let (rows, values) = (&staged.rows[mark.rows..], &staged.values[mark.values..]);
        self.words(rows.len() as u64, values.len() as u64);
        for (row, record) in rows {
            self.row(*row, record);
        }
        for (table, key, value) in values {
            self.value(*table, key, value.as_deref());
        }
    }

    fn row(&mut self, row: RowKey, record: &Record) {
        self.words(row.revision.main as u64, (row.revision.sub as u64) << 1 | u64::from(row.tombstone));
        self.bytes(record.as_bytes());
    }

    fn value(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.words(table as u64, u64::from(value.is_some()));
        self.bytes(key);
        self.bytes(value.unwrap_or_default());
    }

    /// The length, then 16 bytes at a time, the last of them filled up with zeros.
    fn bytes(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<16>();
        self.words(bytes.len() as u64, blocks.len() as u64);
        for block in blocks {
            self.block(block);
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.block(&last);
    }

    fn block(&mut self, block: &[u8; 16]) {
        let number = u128::from_le_bytes(*block);
        self.words(number as u64, (number >> 64) as u64);
    }

    /// Multiplies to 128 bits and folds the halves, as wyhash does: the only step there is.
    fn words(&mut self, one: u64, other: u64) {
        const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        let product = u128::from(self.0 ^ one ^ KEYS[0]) * u128::from(self.0.rotate_left(32) ^ other ^ KEYS[1]);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// The digests at the latest indexes that are multiples of [`REMEMBERED_EVERY`], oldest first.
#[derive(Debug, Default)]
pub(crate) struct Remembered(VecDeque<(Index, u64)>);

impl Remembered {
    pub(crate) fn push(&mut self, index: Index, digest: u64) {
        if self.0.len() == REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((index, digest));
    }

    pub(crate) fn at(&self, index: Index) -> Option<u64> {
        self.0.iter().find(|(at, _)| *at == index).map(|&(_, digest)| digest)
    }

    pub(crate) fn newest(&self) -> Option<(Index, u64)> {
        self.0.back().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{EntryKind, RecordMeta, Revision, Term};

    use super::*;

    fn entry() -> LogEntry {
        LogEntry { index: Index(7), term: Term(2), kind: EntryKind::Normal, data: bytes::Bytes::new() }
    }

    fn digest(staged: &Staged) -> u64 {
        let mut digest = Digest(1);
        digest.fold(&entry(), staged, Mark { rows: 0, values: 0 }, Folding::Stored);
        digest.get()
    }

    fn put(key: &[u8], value: &[u8]) -> (RowKey, Record) {
        let meta = RecordMeta { create_revision: 2, mod_revision: 2, version: 1, ..RecordMeta::default() };
        (RowKey { revision: Revision::first(2), tombstone: false }, Record::put(key, value, meta))
    }

    /// Members of different versions compare digests: what is folded must not change unnoticed.
    #[test]
    fn an_entry_has_this_digest() {
        let values = vec![(Table::Alarm, b"alarm".to_vec(), Some(Vec::new())), (Table::Lease, b"lease".to_vec(), None)];
        assert_eq!(
            digest(&Staged { rows: vec![put(b"key", b"value")], values, ..Staged::default() }),
            12_849_350_652_743_145_440
        );
    }

    proptest! {
        #[test]
        fn any_changed_bit_of_a_row_or_value_is_seen(
            key in prop::collection::vec(any::<u8>(), 1..40),
            value in prop::collection::vec(any::<u8>(), 1..400),
            bit in any::<prop::sample::Index>(),
        ) {
            let stored = |key: &[u8], value: &[u8]| digest(&Staged { rows: vec![put(key, value)], ..Staged::default() });
            let kept = |key: &[u8], value: Option<&[u8]>| {
                let values = vec![(Table::Members, key.to_vec(), value.map(<[u8]>::to_vec))];
                digest(&Staged { values, ..Staged::default() })
            };
            let (mut other_key, mut other_value) = (key.clone(), value.clone());
            let bit = bit.index((key.len() + value.len()) * 8);
            let byte = if bit / 8 < key.len() { &mut other_key[bit / 8] } else { &mut other_value[bit / 8 - key.len()] };
            *byte ^= 1 << (bit % 8);
            prop_assert_ne!(stored(&key, &value), stored(&other_key, &other_value));
            prop_assert_ne!(kept(&key, Some(&value)), kept(&other_key, Some(&other_value)));
            prop_assert_ne!(kept(&key, Some(b"")), kept(&key, None));
        }

        #[test]
        fn bytes_of_all_lengths_have_digests_of_their_own(bytes in prop::collection::vec(0..2u8, 1..70)) {
            let fold = |bytes: &[u8]| {
                let mut digest = Digest(5);
                digest.bytes(bytes);
                digest.get()
            };
            prop_assert_ne!(fold(&bytes), fold(&bytes[1..]));
            prop_assert_ne!(fold(&bytes), fold(&bytes[..bytes.len() - 1]));
        }
    }
}
