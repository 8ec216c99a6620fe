//! The writer's side: the store itself, and a batch of writes that become visible together.

use std::sync::Arc;

use backend::{Backend, ReadView, Staged, Table};
use parking_lot::RwLockWriteGuard;
use types::{LeaseId, Record, Revision, RowKey};

use crate::current::Current;
use crate::error::MvccError;
use crate::index::Index;
use crate::restore;
use crate::shared::Shared;
use crate::txn::Txn;
use crate::view::View;

/// Name in the `meta` table of the last accepted compaction's revision.
pub(crate) const SCHEDULED_COMPACTION: &str = "scheduledCompactRev";
/// Name in the `meta` table of the last compaction whose removal has ended.
pub(crate) const FINISHED_COMPACTION: &str = "finishedCompactRev";

/// Settings of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Current values beyond this many bytes are left to the backend.
    pub value_budget_bytes: usize,
    /// So many threads read the backend's rows while the store is restored, and the calling one files them; with 1 it
    /// does everything itself. What comes out is the same.
    pub restore_threads: usize,
}

/// The store, as its one writer holds it.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    options: StoreOptions,
}

/// The index of another state, which is to take the place of a store's.
#[derive(Debug)]
pub struct Replacement {
    index: Index,
}

/// The store locked for writing. Dropping it lets readers see what was written.
///
/// Everything its transactions and compactions pushed into a [`Staged`] must have been staged in the backend before:
/// readers look up there what the index does not hold. A writer that cannot do that must stop for good.
pub struct Batch<'a> {
    pub(crate) index: RwLockWriteGuard<'a, Index>,
    pub(crate) shared: &'a Arc<Shared>,
}

impl Store {
    /// The store whose rows are committed in the backend. A compaction that was accepted holds at once; what it has not removed
    /// yet is left to [`View::prune_step`].
    ///
    /// # Errors
    /// If the backend fails or holds something else.
    pub fn restore(backend: Backend, options: StoreOptions) -> Result<Store, MvccError> {
        let index = restore::index(&backend.view(), &options)?;
        Ok(Store { shared: Arc::new(Shared::new(index, backend)), options })
    }

    /// A handle for readers.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.shared))
    }

    /// Waits for readers to leave the index (they never stay long) and keeps them out until the batch is dropped.
    pub fn begin(&mut self) -> Batch<'_> {
        let mut index = self.shared.index.write();
        // All rows of earlier batches are in the backend by now, so any value may go.
        index.evict(self.options.value_budget_bytes);
        Batch { index, shared: &self.shared }
    }

    /// [`Batch::compact`] in a batch of its own.
    ///
    /// # Errors
    /// As there.
    pub fn compact(&mut self, staged: &mut Staged, revision: i64) -> Result<(), MvccError> {
        self.begin().compact(staged, revision)
    }

    /// Main revision of the last change; 1 for a new store.
    pub fn revision(&self) -> i64 {
        self.shared.revision()
    }

    /// The revision below which nothing can be read; -1 if there was no compaction.
    pub fn compacted(&self) -> i64 {
        self.shared.compacted()
    }

    /// Calls `visit` with every live key that has a lease, in key order: what leases need to know after a restore.
    pub fn attachments(&self, visit: &mut dyn FnMut(&[u8], LeaseId)) {
        attachments(&self.shared.index.read(), visit);
    }

    /// Builds the index of the state that `view` shows, beside the one in use: for a moment there are both. Readers and
    /// this store go on.
    ///
    /// # Errors
    /// If it holds something else, or its revisions lie below this store's: [`BackendError::Damaged`](backend::BackendError).
    pub fn prepare(&self, view: &ReadView) -> Result<Replacement, MvccError> {
        let index = restore::index(view, &self.options)?;
        let (found, here) = ((index.revision, index.compacted), (self.revision(), self.compacted()));
        if found.0 < here.0 || found.1 < here.1 {
            let what = format_args!(
                "it is at revision {}, compacted at {}; the state before it was at {} and {} already",
                found.0, found.1, here.0, here.1
            );
            return Err(view.damaged(what).into());
        }
        Ok(Replacement { index })
    }

    /// Changes over to another state. `publish` is called at the moment when no reader looks at the index: it has to
    /// make the backend show the state that the replacement was built from, and do no I/O.
    ///
    /// Readers who have begun, and have to look at more, begin again or, if a part of their answer is out already, are told
    /// [`MvccError::Compacted`].
    pub fn replace(&mut self, replacement: Replacement, publish: impl FnOnce()) {
        let mut index = self.shared.index.write();
        self.shared.pins.break_all();
        publish();
        let replaced = std::mem::replace(&mut *index, replacement.index);
        self.shared.publish(&index);
        drop(index);
        self.shared.hashes.lock().clear();
        drop(replaced);
    }
}

impl Replacement {
    /// As [`Store::attachments`].
    pub fn attachments(&self, visit: &mut dyn FnMut(&[u8], LeaseId)) {
        attachments(&self.index, visit);
    }
}

fn attachments(index: &Index, visit: &mut dyn FnMut(&[u8], LeaseId)) {
    index.each_live(&mut |record| match record.meta().lease {
        LeaseId::NONE => {}
        lease => visit(record.key(), lease),
    });
}

impl Batch<'_> {
    /// Starts a transaction.
    pub fn txn(&mut self) -> Txn<'_> {
        Txn::new(&mut self.index, self.shared)
    }

    /// The revision after the last transaction of this batch.
    pub fn revision(&self) -> i64 {
        self.index.revision
    }

    /// The compacted revision, compactions of this batch included.
    pub fn compacted(&self) -> i64 {
        self.index.compacted
    }

    /// The current version of `key`, if it lives.
    pub fn get(&self, key: &[u8]) -> Option<Current> {
        self.index.current(key)
    }

    /// The whole record of what `get` returned.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn load(&self, current: &Current) -> Result<Record, MvccError> {
        current.load(&self.shared.backend)
    }

    /// Makes `revision` the compacted revision. Older versions can no longer be read, on this member and, as this is
    /// part of the log, on all; they are removed later, see [`View::prune_step`].
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if it is not above the compacted revision, [`MvccError::FutureRevision`] if it is above the
    /// current one.
    pub fn compact(&mut self, staged: &mut Staged, revision: i64) -> Result<(), MvccError> {
        self.index.compact(revision)?;
        staged.values.push(compaction_mark(SCHEDULED_COMPACTION, revision));
        Ok(())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.index.staged();
        self.shared.publish(&self.index);
    }
}

/// The `meta` value that says how far compaction has come.
pub(crate) fn compaction_mark(name: &str, revision: i64) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    let row = RowKey { revision: Revision::first(revision), tombstone: false };
    (Table::Meta, name.into(), Some(row.encode().as_ref().to_vec()))
}
