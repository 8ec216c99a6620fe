//! All of the store that lives in memory and is guarded by one lock.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use types::{KeyRange, RangeEnd, Record, Revision};

use crate::current::Current;
use crate::entry::{Row, value_field_len};
use crate::error::MvccError;
use crate::tree::{Child, Leaf, Tree, Visitor};

/// Only so many compactions wait for their removal; more are joined with the last one.
const PENDING_MAX: usize = 10;

/// One batch evicts from no more nodes than that: a few milliseconds' work at worst. A batch writes much less than their
/// entries hold, so later ones catch up.
const EVICTION_NODES: usize = 2048;

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) tree: Tree,
    /// Main revision of the last finished transaction.
    pub(crate) revision: i64,
    /// Reads below it are refused; -1 if there was no compaction.
    pub(crate) compacted: i64,
    /// Compactions whose removal has not ended, oldest first.
    pub(crate) pending: VecDeque<Compaction>,
    /// The newest row without a key, which a restored backup may have to raise the revision: only hashes see it.
    pub(crate) filler: Option<Row>,
    /// Puts superseded within the batch that is open: the only older rows that the backend does not have yet.
    pub(crate) unstaged: BTreeMap<Revision, Record>,
    /// The revision when the batch began: what is newer is not staged yet.
    pub(crate) staged_revision: i64,
    /// Bytes of current values in memory. Kept to a budget by [`Index::evict`].
    pub(crate) value_bytes: usize,
    /// The node at which the next eviction goes on.
    pub(crate) hand: u32,
}

/// An accepted compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compaction {
    pub(crate) target: i64,
    /// The compacted revision before it.
    pub(crate) previous: i64,
    /// Whether the hash of what it covers is to be kept; not if the removal before it was interrupted, for then etcd
    /// could not tell it either (etcd-io/etcd#15919).
    pub(crate) is_hashed: bool,
}

impl Index {
    /// The current version of a live key.
    pub(crate) fn current(&self, key: &[u8]) -> Option<Current> {
        let (leaf, at) = self.tree.find(key)?;
        leaf.mark_referenced(at);
        let entry = &leaf.entries[at];
        entry.is_live().then(|| Current::new(entry.record.clone(), entry.row.revision(), entry.is_resident()))
    }

    /// Gives `key` a newer version, made by `next` from what is current, and returns what was.
    pub(crate) fn put(&mut self, key: &[u8], next: impl FnOnce(Option<&Record>) -> (Record, Row)) -> Option<Current> {
        let mut added = 0;
        let previous = self.tree.supersede(key, |entry| {
            let (record, row) = next(entry.filter(|entry| entry.is_live()).map(|entry| &entry.record));
            added = value_field_len(&record);
            (record, row)
        });
        self.value_bytes += added;
        let (record, row) = previous.filter(|(_, row)| !row.is_tombstone())?;
        let is_resident = record.as_bytes().len() == row.len();
        if is_resident {
            self.value_bytes -= value_field_len(&record);
        }
        if row.main > self.staged_revision {
            self.unstaged.insert(row.revision(), record.clone());
        }
        Some(Current::new(record, row.revision(), is_resident))
    }

    /// Deletes a live key and returns what was current.
    pub(crate) fn delete(&mut self, tombstone: &Record, row: Row) -> Current {
        self.put(tombstone.key(), |_| (tombstone.clone(), row)).expect("only live keys are deleted")
    }

    /// Ends a batch: all its rows are in the backend.
    pub(crate) fn staged(&mut self) {
        self.staged_revision = self.revision;
        self.unstaged.clear();
    }

    /// Raises the compacted revision.
    pub(crate) fn compact(&mut self, target: i64) -> Result<(), MvccError> {
        if target <= self.compacted {
            return Err(MvccError::Compacted);
        }
        if target > self.revision {
            return Err(MvccError::FutureRevision);
        }
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(Compaction { target, previous: self.compacted, is_hashed: true });
        } else if let Some(last) = self.pending.back_mut() {
            *last = Compaction { target, is_hashed: false, ..*last };
        }
        self.compacted = target;
        Ok(())
    }

    /// The revision a read at `requested` reads at.
    pub(crate) fn readable(&self, requested: i64) -> Result<i64, MvccError> {
        if requested > self.revision {
            return Err(MvccError::FutureRevision);
        }
        let revision = if requested <= 0 { self.revision } else { requested };
        if revision < self.compacted {
            return Err(MvccError::Compacted);
        }
        Ok(revision)
    }

    /// Drops values, those not read lately first, until no more than `budget_bytes` are left; or does a part of that, as
    /// it keeps readers waiting. All rows must be in the backend.
    pub(crate) fn evict(&mut self, budget_bytes: usize) {
        for _ in 0..EVICTION_NODES {
            if self.value_bytes <= budget_bytes {
                return;
            }
            if self.hand >= self.tree.node_count() {
                self.hand = 0;
            }
            if let Some(leaf) = self.tree.leaf_at_mut(self.hand) {
                self.value_bytes -= leaf.evict_unreferenced();
            }
            self.hand += 1;
        }
    }
}

impl Index {
    /// Calls `visit` with the record of every live key, maybe without its value, in key order.
    pub(crate) fn each_live(&self, visit: &mut dyn FnMut(&Record)) {
        self.each_live_in(&KeyRange::all(), visit);
    }

    /// [`Index::each_live`] for the keys of a range.
    pub(crate) fn each_live_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        let (low, high) = bounds(range);
        let _ = self.tree.visit(&low, high.as_deref(), &mut LiveKeys(visit));
    }
}

struct LiveKeys<'a>(&'a mut dyn FnMut(&Record));

impl Visitor for LiveKeys<'_> {
    fn passes(&mut self, child: &Child) -> bool {
        child.live == 0
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, _: i64) -> ControlFlow<()> {
        for at in leaf.live.within(&inside).places() {
            (self.0)(&leaf.entries[at].record);
        }
        ControlFlow::Continue(())
    }
}

/// The lowest key of a range, and the first one past it.
pub(crate) fn bounds(range: &KeyRange) -> (Bytes, Option<Bytes>) {
    let high = match &range.end {
        RangeEnd::Single => Some([&range.start, &b"\0"[..]].concat().into()),
        RangeEnd::Before(end) => Some(end.clone()),
        RangeEnd::Unbounded => None,
    };
    (range.start.clone(), high)
}
