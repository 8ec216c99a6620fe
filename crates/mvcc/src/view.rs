//! The readers' side of the store.

use std::sync::Arc;

use types::{KeyRange, Record};

use crate::error::MvccError;
use crate::events::{self, EventChunk, EventLimits};
use crate::hash::{self, HashKv};
use crate::prune::{self, PruneStep};
use crate::query::{RangeQuery, RangeResult};
use crate::range;
use crate::shared::Shared;

/// Reads the store from any thread, while the writer goes on. Sees whole batches.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

impl View {
    pub(crate) fn new(shared: Arc<Shared>) -> View {
        View(shared)
    }

    /// Main revision of the last change.
    pub fn revision(&self) -> i64 {
        self.0.revision()
    }

    /// The revision below which nothing can be read; -1 if there was no compaction.
    pub fn compacted(&self) -> i64 {
        self.0.compacted()
    }

    /// How many keys live.
    pub fn key_count(&self) -> u64 {
        self.0.index.read().tree.live_count()
    }

    /// Reads a range at one revision.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] and [`MvccError::FutureRevision`] if that revision cannot be read; else if the backend
    /// fails.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        range::read(&self.0, query)
    }

    /// How many keys [`View::range`] would look at for this query, told only up to `enough`: by how much it would keep
    /// its thread. Costs next to nothing beside the read itself.
    pub fn keys_looked_at(&self, query: &RangeQuery, enough: usize) -> usize {
        range::keys_looked_at(&self.0, query, enough)
    }

    /// The record of `key` at `revision`; `None` if it did not live then, or if that can no longer be said, or not yet.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn get_at(&self, key: &[u8], revision: i64) -> Result<Option<Record>, MvccError> {
        range::get_at(&self.0, key, revision)
    }

    /// The changes of keys in `range` with main revision in `from..=to`, oldest first. Looks at no revision that is not
    /// published yet. Whole revisions only; stops once a limit is reached, but not before it has got through one.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if `from` is below the compacted revision; else if the backend fails.
    pub fn events(
        &self,
        range: &KeyRange,
        from: i64,
        to_inclusive: i64,
        limits: EventLimits,
    ) -> Result<EventChunk, MvccError> {
        events::read(&self.0, range, from, to_inclusive, limits)
    }

    /// The hash of all versions up to `revision` (0: the current one), equal to etcd's for equal data. For one of the last ten
    /// compacted revisions it is the hash made when its removal began, over what had been written since the compaction
    /// before.
    ///
    /// # Errors
    /// [`MvccError::Compacted`], [`MvccError::FutureRevision`]; else if the backend fails.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, MvccError> {
        hash::on_demand(&self.0, revision)
    }

    /// The hashes made when the removal of the last ten compactions began, the newest first.
    pub fn compaction_hashes(&self) -> Vec<HashKv> {
        self.0.hashes.lock().iter().rev().copied().collect()
    }

    /// Removes up to `max_rows` of the versions that compactions left unreadable. For one background thread, which
    /// stages what it gets, pauses, and calls again until it gets [`PruneStep::Finished`].
    ///
    /// The first step of a compaction hashes the store and takes as long as that does.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn prune_step(&self, max_rows: usize) -> Result<PruneStep, MvccError> {
        prune::step(&self.0, max_rows)
    }

    /// Gives up the answers that [`PruneStep::Waiting`] waits for and that are still being sent: what is left of them
    /// fails. Reads that merely take long are waited for all the same.
    pub fn break_reads(&self) {
        prune::break_reads(&self.0);
    }
}
