//! The part of the raft log that is held in memory, as raft-rs reads it.
//!
//! Entries enter here before they are on disk: raft-rs demands that what it handed out can be read back at once.
//! Entries that were applied leave from the front once there are too many of them, by number or by bytes.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// What one entry costs beyond its data.
const ENTRY_OVERHEAD_BYTES: usize = 128;

pub(crate) struct LogStore {
    hard_state: HardState,
    conf_state: ConfState,
    /// The entry before the first one held: its index and term.
    before_first: (u64, u64),
    entries: VecDeque<Entry>,
    size_bytes: usize,
}

impl LogStore {
    pub(crate) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        before_first: (u64, u64),
        entries: Vec<Entry>,
    ) -> LogStore {
        let size_bytes = entries.iter().map(cost).sum();
        LogStore { hard_state, conf_state, before_first, entries: entries.into(), size_bytes }
    }

    /// Adds entries; those that share an index with held ones replace them and all that followed.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.last() >= first.index {
            let replaced = self.entries.pop_back().expect("raft never overwrites what was applied and let go");
            self.size_bytes -= cost(&replaced);
        }
        self.size_bytes += entries.iter().map(cost).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Lets go of entries up to `applied` as long as more than `count_max` entries or `bytes_max` bytes are held.
    pub(crate) fn trim(&mut self, applied: u64, count_max: usize, bytes_max: usize) {
        while self.entries.len() > count_max || self.size_bytes > bytes_max {
            match self.entries.front() {
                Some(front) if front.index <= applied => {}
                _ => return,
            }
            let gone = self.entries.pop_front().expect("the front was just seen");
            self.size_bytes -= cost(&gone);
            self.before_first = (gone.index, gone.term);
        }
    }

    fn last(&self) -> u64 {
        self.before_first.0 + self.entries.len() as u64
    }
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before_first.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let from = (low - self.before_first.0 - 1) as usize;
        let to = (high - self.before_first.0 - 1) as usize;
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut taken = Vec::with_capacity(to - from);
        let mut size = 0;
        for entry in self.entries.range(from..to) {
            size += cost(entry) as u64;
            if size > limit && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before_first.0 {
            return Ok(self.before_first.1);
        }
        if index < self.before_first.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let at = (index - self.before_first.0 - 1) as usize;
        self.entries.get(at).map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before_first.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Snapshots to other members are not there yet; with one voter nobody asks for one.
    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![0; 100].into(), ..Entry::default() }
    }

    fn store(indices: std::ops::RangeInclusive<u64>) -> LogStore {
        let entries = indices.clone().map(|index| entry(index, 1)).collect();
        LogStore::new(HardState::default(), ConfState::default(), (indices.start() - 1, 1), entries)
    }

    #[test]
    fn overwriting_drops_the_old_tail() {
        let mut store = store(1..=5);
        store.append(&[entry(3, 2)]);
        assert_eq!((store.last_index().unwrap(), store.term(3).unwrap()), (3, 2));
        assert_eq!(store.size_bytes, 3 * (100 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn trim_keeps_what_is_not_applied_and_remembers_the_term_before() {
        let mut store = store(1..=10);
        store.trim(4, 2, usize::MAX);
        assert_eq!((store.first_index().unwrap(), store.term(4).unwrap()), (5, 1));
        assert!(matches!(store.term(3), Err(Error::Store(StorageError::Compacted))));
        store.trim(10, 2, usize::MAX);
        assert_eq!(store.first_index().unwrap(), 9);
        store.trim(10, 2, 0);
        assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (11, 10));
    }

    #[test]
    fn reading_honours_the_size_limit_but_gives_at_least_one() {
        let store = store(1..=10);
        let read = |limit: u64| store.entries(2, 9, limit, GetEntriesContext::empty(false)).unwrap().len();
        assert_eq!((read(0), read(3 * 228), read(u64::MAX)), (1, 3, 7));
    }
}
