//! Where entries lie: a sparse index from log index to frame, kept in memory.
//!
//! Invariants
//! - Slots ascend strictly by log index, and by place.
//! - The entries from a slot's `first` up to the next slot's lie in the frames from the slot's place on, in order,
//!   in one segment. What lies there with a greater index was overwritten later, and the next slot says where.
//! - A slot stands where a segment's first entry lies, where an overwriting starts, and else about every
//!   [`ENTRIES_PER_SLOT`] entries or [`BYTES_PER_SLOT`] bytes, whichever comes first.

use std::collections::VecDeque;

use types::Index;

/// Reading walks over no more than about so many entries that were not asked for.
const ENTRIES_PER_SLOT: u64 = 64;
/// Nor over many more bytes than these.
const BYTES_PER_SLOT: u64 = 256 << 10;

/// A place to start reading from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) first: Index,
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct LogIndex {
    slots: VecDeque<Slot>,
    first: Index,
    last: Index,
}

impl LogIndex {
    /// The index of an empty log that continues after `last`.
    pub(crate) fn after(last: Index) -> LogIndex {
        LogIndex { slots: VecDeque::new(), first: last.next(), last }
    }

    /// The oldest entry held; `last().next()` if there is none.
    pub(crate) fn first(&self) -> Index {
        self.first
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// Notes a frame with `count` entries from `slot.first` on. They take the place of all from there on.
    pub(crate) fn place(&mut self, slot: Slot, count: u64) {
        let overwrites = slot.first <= self.last;
        while self.slots.back().is_some_and(|newest| newest.first >= slot.first) {
            self.slots.pop_back();
        }
        let needed = self.slots.back().is_none_or(|newest| {
            overwrites
                || newest.sequence != slot.sequence
                || slot.first.0 - newest.first.0 >= ENTRIES_PER_SLOT
                || slot.offset - newest.offset >= BYTES_PER_SLOT
        });
        if needed {
            self.slots.push_back(slot);
        }
        self.first = self.first.min(slot.first);
        self.last = Index(slot.first.0 + count - 1);
    }

    /// The slot to read `index` from, and the first index that must be read from another one.
    pub(crate) fn locate(&self, index: Index) -> Option<(Slot, Index)> {
        if index < self.first || index > self.last {
            return None;
        }
        let after = self.slots.partition_point(|slot| slot.first <= index);
        let slot = *self.slots.get(after.checked_sub(1)?)?;
        Some((slot, self.slots.get(after).map_or(self.last.next(), |next| next.first)))
    }

    /// The first entry that lies in a later segment than `sequence`; the next one to come if there is none.
    pub(crate) fn first_after(&self, sequence: u64) -> Index {
        let after = self.slots.partition_point(|slot| slot.sequence <= sequence);
        self.slots.get(after).map_or(self.last.next(), |slot| slot.first)
    }

    /// Forgets the segments up to `sequence`.
    pub(crate) fn release(&mut self, sequence: u64) {
        self.first = self.first_after(sequence);
        while self.slots.front().is_some_and(|slot| slot.sequence <= sequence) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(first: u64, sequence: u64, offset: u64) -> Slot {
        Slot { first: Index(first), sequence, offset }
    }

    #[test]
    fn slots_are_sparse_and_locate_finds_the_nearest_before() {
        let mut index = LogIndex::after(Index(0));
        for entry in 1..=200 {
            index.place(slot(entry, 1, entry * 512), 1);
        }
        assert_eq!(index.slots.len(), 4);
        assert_eq!(index.locate(Index(70)), Some((slot(65, 1, 65 * 512), Index(129))));
        assert_eq!(index.locate(Index(200)), Some((slot(193, 1, 193 * 512), Index(201))));
        assert_eq!((index.locate(Index(0)), index.locate(Index(201))), (None, None));
    }

    #[test]
    fn large_entries_are_found_without_reading_others() {
        let mut index = LogIndex::after(Index(0));
        for entry in 1..=20 {
            index.place(slot(entry, 1, entry << 20), 1);
        }
        assert_eq!(index.locate(Index(13)), Some((slot(13, 1, 13 << 20), Index(14))));
    }

    #[test]
    fn overwritten_entries_are_read_from_their_new_place() {
        let mut index = LogIndex::after(Index(9));
        index.place(slot(10, 1, 4096), 40);
        index.place(slot(50, 2, 4096), 11);
        index.place(slot(40, 2, 8192), 2);
        assert_eq!((index.first(), index.last()), (Index(10), Index(41)));
        assert_eq!(index.locate(Index(39)), Some((slot(10, 1, 4096), Index(40))));
        assert_eq!(index.locate(Index(41)), Some((slot(40, 2, 8192), Index(42))));
        assert_eq!(index.first_after(1), Index(40));
        index.release(1);
        assert_eq!((index.first(), index.locate(Index(39))), (Index(40), None));
    }

    #[test]
    fn a_log_can_be_released_to_the_last_entry() {
        let mut index = LogIndex::after(Index(0));
        index.place(slot(1, 1, 4096), 5);
        index.release(1);
        assert_eq!((index.first(), index.last()), (Index(6), Index(5)));
        index.place(slot(6, 2, 4096), 1);
        assert_eq!(index.locate(Index(6)), Some((slot(6, 2, 4096), Index(7))));
    }
}
