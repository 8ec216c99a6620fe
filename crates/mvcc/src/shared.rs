//! What the writer and all readers share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backend::Backend;
use parking_lot::{Mutex, RwLock};
use types::{Record, RowKey};

use crate::entry::Row;
use crate::error::MvccError;
use crate::hash::HashKv;
use crate::index::Index;
use crate::pins::{Pin, Pins};
use crate::prune::Pass;

pub(crate) struct Shared {
    /// Held by the writer for a batch, by readers for a bounded number of keys. Never held while the backend is asked.
    pub(crate) index: RwLock<Index>,
    pub(crate) backend: Backend,
    pub(crate) pins: Arc<Pins>,
    /// How far the removal that is going on has come. Held for a whole step, so steps run one after another.
    pub(crate) pass: Mutex<Option<Pass>>,
    /// Hashes made at the latest compactions, oldest first.
    pub(crate) hashes: Mutex<VecDeque<HashKv>>,
    /// Copies of what the index says, as of the last batch, to be read without its lock.
    revision: AtomicI64,
    compacted: AtomicI64,
}

impl Shared {
    pub(crate) fn new(index: Index, backend: Backend) -> Shared {
        Shared {
            revision: AtomicI64::new(index.revision),
            compacted: AtomicI64::new(index.compacted),
            index: RwLock::new(index),
            backend,
            pins: Arc::default(),
            pass: Mutex::default(),
            hashes: Mutex::default(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Makes the numbers of `index` those that readers see.
    pub(crate) fn publish(&self, index: &Index) {
        self.revision.store(index.revision, Ordering::Release);
        self.compacted.store(index.compacted, Ordering::Release);
    }

    /// The record of a put that the index knows, whose revision is pinned.
    pub(crate) fn load(&self, row: Row, pin: &Pin) -> Result<Record, MvccError> {
        let found = self.backend.get(row.key())?;
        // Asked afterwards: if the state is replaced while the row is looked for, nothing is damaged.
        pin.check()?;
        self.must_exist(row, found)
    }

    /// Reads again if another state took the place of this one meanwhile, by which `read` came to nothing.
    pub(crate) fn undisturbed<T>(&self, mut read: impl FnMut() -> Result<T, MvccError>) -> Result<T, MvccError> {
        loop {
            let replacements = self.pins.replacements();
            match read() {
                Err(MvccError::Compacted) if self.pins.replacements() != replacements => {}
                done => return done,
            }
        }
    }

    /// What was found of a row that nothing can have removed.
    pub(crate) fn must_exist(&self, row: Row, found: Option<Record>) -> Result<Record, MvccError> {
        must_exist(&self.backend, row.key(), found)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("revision", &self.revision()).field("compacted", &self.compacted()).finish()
    }
}

/// Reads a row that must be there.
pub(crate) fn load(backend: &Backend, row: RowKey) -> Result<Record, MvccError> {
    let found = backend.get(row)?;
    must_exist(backend, row, found)
}

fn must_exist(backend: &Backend, row: RowKey, found: Option<Record>) -> Result<Record, MvccError> {
    Ok(found.ok_or_else(|| backend.damaged(format_args!("row {} is missing", row.revision)))?)
}

/// What a row is called whose seal is whole and whose bytes are no key-value all the same.
pub(crate) fn not_a_record(row: RowKey) -> String {
    format!("row {} is not a key-value", row.revision)
}
