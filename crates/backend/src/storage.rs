//! redb's view of a file, over [`DiskFile`], remembering why it failed.
//!
//! redb hands an I/O error on once and afterwards answers only that there was one before. What the caller must do
//! depends on what went wrong first: a full disk is waited out, a failed sync stops the member.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use env::DiskFile;
use parking_lot::Mutex;

/// Why a file can no longer be used through this handle.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// A write or a change of length found no space. Nothing that was committed is touched by that.
    NoSpace,
    /// Anything else, syncs above all.
    Io { kind: ErrorKind, text: String },
}

/// An open file, as redb wants it. Clones share it.
#[derive(Clone)]
pub(crate) struct Storage(Arc<Shared>);

struct Shared {
    file: Arc<dyn DiskFile>,
    len: AtomicU64,
    failure: Mutex<Option<Failure>>,
    retired: AtomicBool,
}

impl Storage {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> io::Result<Storage> {
        let len = AtomicU64::new(file.len()?);
        Ok(Storage(Arc::new(Shared { file, len, failure: Mutex::default(), retired: AtomicBool::default() })))
    }

    /// The file's length, without asking the system.
    pub(crate) fn known_len(&self) -> u64 {
        self.0.len.load(Ordering::Relaxed)
    }

    /// What went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().clone()
    }

    /// Ends all writing, once another file has taken this one's place: readers that still hold it may read on, and
    /// the last to let go does not pay for closing it in order.
    pub(crate) fn retire(&self) {
        self.0.retired.store(true, Ordering::Release);
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.0.retired.load(Ordering::Acquire) { Err(ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// The first failure counts: redb asks for nothing more after one.
    fn remember(&self, failure: Failure) {
        self.0.failure.lock().get_or_insert(failure);
    }

    fn failed(&self, error: &io::Error) {
        self.remember(Failure::Io { kind: error.kind(), text: error.to_string() });
    }

    fn failed_to_write(&self, error: &io::Error) {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => self.remember(Failure::NoSpace),
            _ => self.failed(error),
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("len", &self.known_len()).finish_non_exhaustive()
    }
}

impl redb::StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.0.file.len().inspect_err(|error| self.failed(error))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read_at(out, offset).inspect_err(|error| self.failed(error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.0.file.set_len(len).inspect_err(|error| self.failed_to_write(error))?;
        self.0.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_writable()?;
        self.0.file.sync_data().inspect_err(|error| self.failed(error))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        self.0.file.write_at(data, offset).inspect_err(|error| self.failed_to_write(error))
    }
}
