//! What the member's threads count and measure for whoever watches over it.
//!
//! Each is written where it happens, by one or two atomic operations; nothing here is read to decide anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machine::{Counts, Operation};
use membership::ClusterVersion;
use metrics::{Counter, Family, Histogram, names};
use parking_lot::Mutex;

pub(crate) struct Figures {
    // consensus
    pub(crate) leader_changes: Counter,
    pub(crate) heartbeats_late: Counter,
    pub(crate) slow_read_indexes: Counter,
    // wal
    pub(crate) wal_write: Histogram,
    pub(crate) wal_fsync: Histogram,
    pub(crate) wal_bytes: Counter,
    // apply
    apply: [[Histogram; 2]; Operation::ALL.len()],
    pub(crate) slow_applies: Counter,
    pub(crate) puts: Counter,
    pub(crate) put_bytes: Counter,
    pub(crate) deletes: Counter,
    pub(crate) ranges: Counter,
    pub(crate) txns: Counter,
    /// 1 while a received state takes the place of the present one.
    pub(crate) installing: Counter,
    // backend, and whoever reads all of it
    pub(crate) commit: Histogram,
    pub(crate) defragment: Histogram,
    pub(crate) defragmenting: Counter,
    pub(crate) hash: Histogram,
    pub(crate) hash_kv: Histogram,
    // snapshots between members
    /// Those that are being read.
    pub(crate) departing: Counter,
    pub(crate) departed: Histogram,
    pub(crate) arrived: Histogram,
    pub(crate) arrival_synced: Histogram,
    // compaction
    pub(crate) compaction_step: Histogram,
    pub(crate) compaction: Histogram,
    pub(crate) compacted_rows: Counter,
    /// Unix time; 0 before the first.
    pub(crate) compacted_at: Counter,
    // requests that fail
    pub(crate) proposals_failed: Counter,
    pub(crate) read_indexes_failed: Counter,
    pub(crate) promoted: Counter,
    not_promoted: Mutex<BTreeMap<String, u64>>,
    /// Of the cluster, which it had before while this member was there.
    versions_before: Mutex<BTreeSet<ClusterVersion>>,

    workers: Mutex<Vec<Arc<WorkerFigures>>>,
}

/// Those of one worker, which alone writes them.
pub(crate) struct WorkerFigures {
    requests: [[Histogram; 2]; Timed::COUNT],
    ranges_took: [Histogram; 2],
    pub(crate) ranges: Counter,
    pub(crate) txns: Counter,
}

/// What a request is called where its time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    Proposal(Operation),
    Range,
    ReadOnlyTxn,
}

impl Timed {
    const COUNT: usize = Operation::ALL.len() + 1;

    fn number(self) -> usize {
        match self {
            Timed::Proposal(operation) => operation as usize,
            Timed::Range => Operation::Range as usize,
            Timed::ReadOnlyTxn => Operation::ALL.len(),
        }
    }

    fn all() -> impl Iterator<Item = Timed> {
        Operation::ALL.into_iter().map(Timed::Proposal).chain([Timed::ReadOnlyTxn])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Timed::Proposal(operation) => operation.name(),
            Timed::Range => Operation::Range.name(),
            Timed::ReadOnlyTxn => "ReadonlyTxn",
        }
    }
}

impl Default for Figures {
    fn default() -> Figures {
        let histogram = |family: &Family| Histogram::new(family.buckets());
        Figures {
            leader_changes: Counter::new(),
            heartbeats_late: Counter::new(),
            slow_read_indexes: Counter::new(),
            wal_write: histogram(&names::WAL_WRITE),
            wal_fsync: histogram(&names::WAL_FSYNC),
            wal_bytes: Counter::new(),
            apply: std::array::from_fn(|_| std::array::from_fn(|_| histogram(&names::APPLY))),
            slow_applies: Counter::new(),
            puts: Counter::new(),
            put_bytes: Counter::new(),
            deletes: Counter::new(),
            ranges: Counter::new(),
            txns: Counter::new(),
            installing: Counter::new(),
            commit: histogram(&names::BACKEND_COMMIT),
            defragment: histogram(&names::DEFRAGMENT),
            defragmenting: Counter::new(),
            hash: histogram(&names::HASH),
            hash_kv: histogram(&names::HASH_KV),
            departing: Counter::new(),
            departed: histogram(&names::BACKEND_SNAPSHOT),
            arrived: histogram(&names::SNAP_DB_SAVE),
            arrival_synced: histogram(&names::SNAP_DB_FSYNC),
            compaction_step: histogram(&names::COMPACTION_PAUSE),
            compaction: histogram(&names::COMPACTION_TOTAL),
            compacted_rows: Counter::new(),
            compacted_at: Counter::new(),
            proposals_failed: Counter::new(),
            read_indexes_failed: Counter::new(),
            promoted: Counter::new(),
            not_promoted: Mutex::default(),
            versions_before: Mutex::default(),
            workers: Mutex::default(),
        }
    }
}

impl Figures {
    /// Notes what applied entries did. They share the time it took equally: it is measured once for all of them.
    pub(crate) fn note_applied(&self, counts: &Counts, took: std::time::Duration) {
        let total: u64 = counts.operations.iter().flatten().sum();
        let Some(share) = took.checked_div(u32::try_from(total).unwrap_or(u32::MAX)) else { return };
        for (histograms, counts) in self.apply.iter().zip(counts.operations) {
            for (histogram, count) in histograms.iter().zip(counts).filter(|(_, count)| *count > 0) {
                histogram.observe_equal(share, count);
            }
        }
        let work = counts.work;
        for (counter, more) in [
            (&self.puts, work.puts),
            (&self.put_bytes, work.put_bytes),
            (&self.deletes, work.deletes),
            (&self.ranges, work.ranges),
            (&self.txns, counts.txns),
        ] {
            if more > 0 {
                counter.add_alone(more);
            }
        }
    }

    pub(crate) fn not_promoted(&self, reason: String) {
        *self.not_promoted.lock().entry(reason).or_default() += 1;
    }

    pub(crate) fn note_versions_before(&self, versions: impl IntoIterator<Item = ClusterVersion>) {
        self.versions_before.lock().extend(versions);
    }

    pub(crate) fn versions_before(&self) -> BTreeSet<ClusterVersion> {
        self.versions_before.lock().clone()
    }

    /// For one more worker.
    pub(crate) fn new_worker(&self) -> Arc<WorkerFigures> {
        let worker = Arc::new(WorkerFigures::default());
        self.workers.lock().push(worker.clone());
        worker
    }

    /// By operation, and whether it succeeded.
    pub(crate) fn apply(&self) -> impl Iterator<Item = (Operation, bool, &Histogram)> {
        Operation::ALL.into_iter().zip(&self.apply).flat_map(|(operation, histograms)| {
            [false, true]
                .into_iter()
                .zip(histograms)
                .map(move |(succeeded, histogram)| (operation, succeeded, histogram))
        })
    }

    pub(crate) fn promotions_failed(&self) -> BTreeMap<String, u64> {
        self.not_promoted.lock().clone()
    }

    pub(crate) fn workers(&self) -> Vec<Arc<WorkerFigures>> {
        self.workers.lock().clone()
    }
}

impl Default for WorkerFigures {
    fn default() -> WorkerFigures {
        let histogram = |family: &Family| Histogram::new(family.buckets());
        WorkerFigures {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| histogram(&names::REQUEST_DURATION))),
            ranges_took: std::array::from_fn(|_| histogram(&names::RANGE_DURATION)),
            ranges: Counter::new(),
            txns: Counter::new(),
        }
    }
}

impl WorkerFigures {
    pub(crate) fn request(&self, what: Timed, succeeded: bool) -> &Histogram {
        &self.requests[what.number()][usize::from(succeeded)]
    }

    pub(crate) fn range(&self, succeeded: bool) -> &Histogram {
        &self.ranges_took[usize::from(succeeded)]
    }

    /// What [`WorkerFigures::request`] can be asked for.
    pub(crate) fn kinds() -> impl Iterator<Item = (Timed, bool)> {
        Timed::all().flat_map(|what| [(what, false), (what, true)])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_applied_together_shares_the_time() {
        let figures = Figures::default();
        let mut counts = Counts { txns: 1, ..Counts::default() };
        counts.operations[Operation::Put as usize] = [1, 2];
        counts.operations[Operation::Txn as usize] = [0, 1];
        counts.work.puts = 3;
        figures.note_applied(&counts, Duration::from_micros(400));
        figures.note_applied(&Counts::default(), Duration::from_secs(1));
        let told = figures.apply().filter(|(_, _, histogram)| !histogram.read().is_empty());
        let told: Vec<_> = told.map(|(operation, succeeded, _)| (operation, succeeded)).collect();
        assert_eq!(told, [(Operation::Put, false), (Operation::Put, true), (Operation::Txn, true)]);
        assert_eq!((figures.puts.get(), figures.deletes.get(), figures.txns.get()), (3, 0, 1));
        let expected = Histogram::new(names::APPLY.buckets());
        expected.observe_equal(Duration::from_micros(100), 2);
        let (_, _, puts) = figures.apply().nth(1).unwrap();
        assert_eq!(puts.read(), expected.read());
    }

    #[test]
    fn every_kind_of_request_has_a_place_of_its_own() {
        let mut numbers: Vec<usize> = Timed::all().map(Timed::number).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..Timed::COUNT).collect::<Vec<_>>());
    }
}
