//! A leaf: up to 64 entries, with one bit each for what is asked of many at once.

use std::sync::atomic::{AtomicU64, Ordering};

use types::{Record, RowKey};

use super::prints::{Prints, print};
use super::{CAPACITY, COMFORTABLE, Child, NodeId, separator};
use crate::entry::{Entry, Pruned, Row};
use crate::heads::{GROWTH, Heads};

#[derive(Debug, Default)]
pub(crate) struct Leaf {
    prints: Prints,
    /// Ascending by key.
    pub(crate) entries: Vec<Entry>,
    heads: Heads,
    /// Entries whose current version is a put.
    pub(crate) live: Bits,
    /// Entries that [are aged](Entry::is_aged).
    pub(crate) aged: Bits,
    /// Entries read by key since the eviction hand last passed. May be a little off: it is only a hint.
    referenced: AtomicU64,
}

/// One bit per entry of a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(u64);

impl Leaf {
    pub(super) fn of(entries: Vec<Entry>) -> Leaf {
        let mut leaf = Leaf { entries, ..Leaf::default() };
        leaf.rebuild();
        leaf
    }

    /// Makes everything anew from the entries.
    fn rebuild(&mut self) {
        let entries = &self.entries;
        self.heads = Heads::of(entries.len(), |at| entries[at].key());
        self.live = Bits::default();
        self.aged = Bits::default();
        for (at, entry) in entries.iter().enumerate() {
            self.live.set(at, entry.is_live());
            self.aged.set(at, entry.is_aged());
            self.prints.set(at, print(entry.key()));
        }
        *self.referenced.get_mut() = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn summary(&self, node: NodeId) -> Child {
        let newest = self.entries.iter().map(|entry| entry.row.main).max().unwrap_or(0);
        Child { node, live: u64::from(self.live.count()), newest }
    }

    /// Where `key` is or would go; `known` as in [`Heads::search`].
    #[inline]
    pub(super) fn search(&self, key: &[u8], known: usize) -> Result<usize, usize> {
        self.heads.search(key, known, |at| self.entries[at].key())
    }

    /// The place of `key`, if it is here. Quicker than [`Leaf::search`].
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let mut candidates = self.prints.candidates(print(key));
        candidates.find(|&at| self.entries.get(at).is_some_and(|entry| entry.key() == key))
    }

    /// The place of the first entry that is not below `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        self.search(key, 0).unwrap_or_else(|at| at)
    }

    pub(super) fn insert(&mut self, at: usize, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH);
        }
        self.prints.insert(at, print(entry.key()));
        self.live.insert(at, entry.is_live());
        self.aged.insert(at, entry.is_aged());
        self.entries.insert(at, entry);
        let entries = &self.entries;
        self.heads.inserted(at, |at| entries[at].key());
    }

    pub(super) fn supersede(&mut self, at: usize, record: Record, row: Row) -> (Record, Row) {
        let entry = &mut self.entries[at];
        let previous = entry.supersede(record, row);
        self.live.set(at, entry.is_live());
        self.aged.set(at, entry.is_aged());
        previous
    }

    pub(super) fn prune(&mut self, at: usize, target: i64, max_rows: usize, removed: &mut Vec<RowKey>) -> Pruned {
        let outcome = self.entries[at].prune(target, max_rows, removed);
        if outcome == Pruned::Gone {
            self.entries.remove(at);
            self.heads.removed(at);
            self.prints.remove(at);
            self.live.remove(at);
            self.aged.remove(at);
        } else {
            self.aged.set(at, self.entries[at].is_aged());
        }
        outcome
    }

    /// Inserts into a full leaf; the upper part becomes the returned leaf. What comes in at the end starts a leaf of its
    /// own, so that ascending keys leave full leaves behind.
    pub(super) fn insert_splitting(&mut self, at: usize, entry: Entry) -> (Box<[u8]>, Leaf) {
        debug_assert_eq!(self.len(), CAPACITY);
        let split_at = if at == self.len() { at } else { self.len() / 2 };
        let mut upper = self.entries.split_off(split_at);
        upper.reserve_exact(GROWTH);
        if at > split_at || upper.is_empty() {
            upper.insert(at - split_at, entry);
        } else {
            self.entries.insert(at, entry);
        }
        self.finish_split(upper)
    }

    /// Takes in the entries of the next leaf, or if they are too many, shares them with it.
    pub(super) fn balance(&mut self, mut right: Leaf) -> Option<(Box<[u8]>, Leaf)> {
        self.entries.append(&mut right.entries);
        if self.len() <= COMFORTABLE {
            self.rebuild();
            return None;
        }
        let upper = self.entries.split_off(self.len() / 2);
        Some(self.finish_split(upper))
    }

    fn finish_split(&mut self, upper: Vec<Entry>) -> (Box<[u8]>, Leaf) {
        self.entries.shrink_to(self.entries.len() + GROWTH);
        self.rebuild();
        let right = Leaf::of(upper);
        (separator(self.entries[self.len() - 1].key(), right.entries[0].key()), right)
    }

    /// Notes that the entry was read.
    #[inline]
    pub(crate) fn mark_referenced(&self, at: usize) {
        let bit = 1 << at;
        if self.referenced.load(Ordering::Relaxed) & bit == 0 {
            self.referenced.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Evicts the values of entries that were not read since the last time, and returns how many bytes that freed.
    pub(crate) fn evict_unreferenced(&mut self) -> usize {
        let referenced = Bits(std::mem::take(self.referenced.get_mut()));
        let unreferenced = self.entries.iter_mut().enumerate().filter(|(at, _)| !referenced.get(*at));
        unreferenced.map(|(_, entry)| entry.evict()).sum()
    }
}

impl Bits {
    /// Every bit.
    pub(crate) const ALL: Bits = Bits(u64::MAX);

    pub(crate) fn get(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }

    /// How many of the bits are set.
    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The same bits, but none outside `range`.
    pub(crate) fn within(self, range: &std::ops::Range<usize>) -> Bits {
        Bits(self.0 & Bits::below(range.end) & !Bits::below(range.start))
    }

    /// The places of the set bits, ascending.
    pub(crate) fn places(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let at = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (at < 64).then_some(at)
        })
    }

    fn below(at: usize) -> u64 {
        if at < 64 { (1 << at) - 1 } else { u64::MAX }
    }

    fn set(&mut self, at: usize, value: bool) {
        self.0 = self.0 & !(1 << at) | u64::from(value) << at;
    }

    /// Moves what is at and above `at` up by one.
    fn insert(&mut self, at: usize, value: bool) {
        let low = self.0 & Bits::below(at);
        self.0 = low | (self.0 & !Bits::below(at)) << 1 | u64::from(value) << at;
    }

    /// Moves what is above `at` down by one.
    fn remove(&mut self, at: usize) {
        let low = self.0 & Bits::below(at);
        self.0 = low | (self.0 & !Bits::below(at + 1)) >> 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_move_as_a_list_does(
            changes in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<bool>()), 0..200),
        ) {
            let (mut bits, mut list) = (Bits::default(), Vec::new());
            for (insert, at, value) in changes {
                if insert && list.len() < CAPACITY {
                    let at = at.index(list.len() + 1);
                    bits.insert(at, value);
                    list.insert(at, value);
                } else if !list.is_empty() {
                    let at = at.index(list.len());
                    bits.remove(at);
                    list.remove(at);
                }
                let set: Vec<_> = (0..list.len()).filter(|&at| list[at]).collect();
                prop_assert_eq!(bits.places().collect::<Vec<_>>(), set.clone());
                let (start, end) = (list.len() / 3, list.len());
                let inside: Vec<_> = set.into_iter().filter(|at| (start..end).contains(at)).collect();
                prop_assert_eq!(bits.within(&(start..end)).places().collect::<Vec<_>>(), inside);
            }
        }
    }
}
