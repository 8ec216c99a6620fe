//! The raft log as raft-rs reads it: recent entries in memory, older ones read back from the disk on demand.
//!
//! Entries enter here before they are on disk: raft-rs demands that what it handed out can be read back at once.
//! Entries that were applied leave from the front once there are too many of them, by number or by bytes; then they are
//! only on disk, until the log there lets go of them too. Whoever still needs older ones gets a snapshot.
//!
//! Invariants
//! - Every entry that is not applied is in memory.
//! - The term of every entry that can be read at all, and of the one before, is known without reading it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// What one entry costs beyond its data.
const ENTRY_OVERHEAD_BYTES: usize = 128;

pub(crate) struct LogStore {
    hard_state: HardState,
    conf_state: ConfState,
    /// The first entry that can be read, from memory or from disk.
    first: u64,
    /// Where terms begin: `(index, term)`, ascending. The first one holds for the entry before `first`.
    terms: VecDeque<(u64, u64)>,
    /// The index before the first entry in memory.
    before_window: u64,
    window: VecDeque<Entry>,
    size_bytes: usize,
    applied: u64,
    /// Entries that were read back, by the index of the first; here while raft is told of them.
    fetched: BTreeMap<u64, Vec<Entry>>,
    /// What raft asked for and is not in memory. Reading must not change what is read, hence the cell.
    wanted: RefCell<Vec<Wanted>>,
}

/// Entries to be read back from the disk: from `low` up to but without `high`.
pub(crate) struct Wanted {
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// Enough, past the first entry.
    pub(crate) limit_bytes: u64,
    pub(crate) context: GetEntriesContext,
}

impl LogStore {
    /// A log whose entries after `terms`' last known ones are `window`. `terms` must tell the term of every entry that
    /// is on disk before the window, beginning with one that need not be readable itself.
    pub(crate) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        terms: impl IntoIterator<Item = (u64, u64)>,
        before_window: u64,
        window: &[Entry],
    ) -> LogStore {
        let terms = terms.into_iter().collect::<VecDeque<_>>();
        let mut store = LogStore {
            hard_state,
            conf_state,
            first: terms.front().expect("the term before the first entry is always known").0 + 1,
            terms,
            before_window,
            window: VecDeque::new(),
            size_bytes: 0,
            applied: before_window,
            fetched: BTreeMap::new(),
            wanted: RefCell::default(),
        };
        store.append(window);
        store
    }

    /// Adds entries; those that share an index with held ones replace them and all that followed.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.last() >= first.index {
            let replaced = self.window.pop_back().expect("raft never overwrites what was applied and let go");
            self.size_bytes -= cost(&replaced);
        }
        while self.terms.back().is_some_and(|(from, _)| *from >= first.index) {
            self.terms.pop_back();
        }
        for entry in entries {
            if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
        }
        self.size_bytes += entries.iter().map(cost).sum::<usize>();
        self.window.extend(entries.iter().cloned());
    }

    /// Everything up to `applied` may leave memory, and does as long as more than `count_max` entries or `bytes_max`
    /// bytes are held.
    pub(crate) fn trim(&mut self, applied: u64, count_max: usize, bytes_max: usize) {
        self.applied = applied;
        while self.window.len() > count_max || self.size_bytes > bytes_max {
            match self.window.front() {
                Some(front) if front.index <= applied => {}
                _ => return,
            }
            let gone = self.window.pop_front().expect("the front was just seen");
            self.size_bytes -= cost(&gone);
            self.before_window = gone.index;
        }
    }

    /// The disk has let go of everything before `first`.
    pub(crate) fn released_before(&mut self, first: u64) {
        let first = first.min(self.before_window + 1);
        if first <= self.first {
            return;
        }
        self.first = first;
        while self.terms.get(1).is_some_and(|(from, _)| *from < first) {
            self.terms.pop_front();
        }
        self.terms.front_mut().expect("never empty").0 = first - 1;
    }

    /// A snapshot takes the place of the whole log.
    pub(crate) fn reset(&mut self, index: u64, term: u64, conf_state: ConfState) {
        self.conf_state = conf_state;
        self.first = index + 1;
        self.terms = VecDeque::from([(index, term)]);
        self.before_window = index;
        self.window.clear();
        self.size_bytes = 0;
        self.fetched.clear();
        self.wanted.get_mut().clear();
    }

    pub(crate) fn set_conf_state(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// What raft has asked for since the last call.
    pub(crate) fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(self.wanted.get_mut())
    }

    /// Holds entries that were read back, until [`LogStore::drop_fetched`].
    pub(crate) fn hold_fetched(&mut self, low: u64, entries: Vec<Entry>) {
        self.fetched.insert(low, entries);
    }

    pub(crate) fn drop_fetched(&mut self) {
        self.fetched.clear();
    }

    fn last(&self) -> u64 {
        self.before_window + self.window.len() as u64
    }

    fn want(&self, wanted: Wanted) -> Error {
        if !wanted.context.can_async() {
            return Error::Store(StorageError::Unavailable);
        }
        self.wanted.borrow_mut().push(wanted);
        Error::Store(StorageError::LogTemporarilyUnavailable)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

/// The first entries of `entries` that cost no more than `limit`, at least one.
fn take_within<'a>(entries: impl Iterator<Item = &'a Entry>, limit: u64) -> Vec<Entry> {
    let mut taken = Vec::new();
    let mut size = 0;
    for entry in entries {
        size += cost(entry) as u64;
        if size > limit && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
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
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let limit_bytes = max_size.into().unwrap_or(u64::MAX);
        if low > self.before_window {
            let from = (low - self.before_window - 1) as usize;
            let to = (high - self.before_window - 1) as usize;
            return Ok(take_within(self.window.range(from..to), limit_bytes));
        }
        if let Some(fetched) = self.fetched.get(&low) {
            return Ok(take_within(fetched.iter().take((high - low) as usize), limit_bytes));
        }
        let high = high.min(self.before_window + 1);
        Err(self.want(Wanted { low, high, limit_bytes, context }))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let after = self.terms.partition_point(|(from, _)| *from <= index);
        Ok(self.terms[after - 1].1)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The state as it is applied now: who sends it may send a newer one, and tells the receiver so.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        let unavailable = || Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        if self.applied == 0 || self.applied < request_index {
            return Err(unavailable());
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.applied;
        meta.term = self.term(self.applied).map_err(|_| unavailable())?;
        meta.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![0; 100].into(), ..Entry::default() }
    }

    fn store(indices: std::ops::RangeInclusive<u64>) -> LogStore {
        let before = indices.start() - 1;
        let entries = indices.map(|index| entry(index, 1)).collect::<Vec<_>>();
        LogStore::new(HardState::default(), ConfState::default(), [(before, 1)], before, &entries)
    }

    fn read(store: &LogStore, low: u64, high: u64, limit: u64) -> raft::Result<Vec<u64>> {
        let entries = store.entries(low, high, limit, GetEntriesContext::empty(true))?;
        Ok(entries.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn overwriting_drops_the_old_tail_and_its_terms() {
        let mut store = store(1..=5);
        store.append(&[entry(3, 2), entry(4, 3)]);
        store.append(&[entry(4, 4)]);
        let terms = (0..=4).map(|index| store.term(index).unwrap()).collect::<Vec<_>>();
        assert_eq!((store.last_index().unwrap(), terms), (4, vec![1, 1, 1, 2, 4]));
        assert_eq!(store.size_bytes, 4 * (100 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn what_left_memory_is_asked_for_until_the_disk_lets_go_of_it() {
        let mut store = store(1..=10);
        store.trim(4, 2, usize::MAX);
        assert_eq!((store.first_index().unwrap(), store.term(0).unwrap()), (1, 1));
        let asked = read(&store, 2, 9, 300);
        assert!(matches!(asked, Err(Error::Store(StorageError::LogTemporarilyUnavailable))));
        let wanted = store.take_wanted();
        assert_eq!((wanted[0].low, wanted[0].high, wanted[0].limit_bytes), (2, 5, 300));
        assert!(wanted[0].context.can_async());
        store.hold_fetched(2, (2..5).map(|index| entry(index, 1)).collect());
        assert_eq!(read(&store, 2, 9, u64::MAX).unwrap(), [2, 3, 4]);
        assert_eq!(read(&store, 2, 4, u64::MAX).unwrap(), [2, 3]);
        store.drop_fetched();
        store.released_before(4);
        assert!(matches!(read(&store, 3, 9, 1), Err(Error::Store(StorageError::Compacted))));
        assert_eq!((store.first_index().unwrap(), store.term(3).unwrap()), (4, 1));
        assert!(matches!(store.term(2), Err(Error::Store(StorageError::Compacted))));
        store.released_before(9);
        assert_eq!(store.first_index().unwrap(), 5, "what is in memory can be read");
    }

    #[test]
    fn terms_before_the_window_are_known() {
        let entries = vec![entry(10, 7)];
        let terms = [(3, 1), (5, 2), (8, 5)];
        let mut store = LogStore::new(HardState::default(), ConfState::default(), terms, 9, &entries);
        let known = (3..=10).map(|index| store.term(index).unwrap()).collect::<Vec<_>>();
        assert_eq!(known, [1, 1, 2, 2, 2, 5, 5, 7]);
        store.released_before(7);
        assert_eq!((store.term(6).unwrap(), store.term(8).unwrap()), (2, 5));
        assert!(matches!(store.term(5), Err(Error::Store(StorageError::Compacted))));
    }

    #[test]
    fn a_snapshot_takes_the_place_of_everything() {
        let mut store = store(1..=10);
        store.reset(20, 4, ConfState::default());
        assert_eq!((store.first_index().unwrap(), store.last_index().unwrap(), store.term(20).unwrap()), (21, 20, 4));
        store.append(&[entry(21, 4)]);
        assert_eq!(read(&store, 21, 22, u64::MAX).unwrap(), [21]);
    }

    #[test]
    fn reading_honours_the_size_limit_but_gives_at_least_one() {
        let store = store(1..=10);
        let count = |limit: u64| read(&store, 2, 9, limit).unwrap().len();
        assert_eq!((count(0), count(3 * 228), count(u64::MAX)), (1, 3, 7));
    }

    #[test]
    fn a_snapshot_is_of_what_is_applied() {
        let mut store = store(1..=10);
        store.append(&[entry(5, 3)]);
        store.applied = 0;
        assert!(store.snapshot(0, 2).is_err());
        store.trim(5, 100, usize::MAX);
        let taken = store.snapshot(0, 2).unwrap();
        assert_eq!((taken.get_metadata().index, taken.get_metadata().term), (5, 3));
    }
}
