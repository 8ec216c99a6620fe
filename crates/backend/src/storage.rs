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

/// So much of a file that is being filled is written and synced at a time. With 64 KiB filling takes half as long again, and the
/// others on that disk wait no less.
const SYNCED_BYTES: u64 = 256 << 10;

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
    /// Whether what is written is synced in small pieces.
    fills: AtomicBool,
    unsynced_bytes: AtomicU64,
    failure: Mutex<Option<Failure>>,
    retired: AtomicBool,
    superseded: AtomicBool,
    /// Where writes go instead of into the file, oldest first, if it is only to be read.
    set_aside: Option<Mutex<Vec<SetAside>>>,
}

/// What was written at an offset.
type SetAside = (u64, Vec<u8>);

impl Storage {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> io::Result<Storage> {
        Storage::over(file, None)
    }

    /// For reading alone, on a disk that has no room for what redb writes in opening a file: that stays in memory.
    pub(crate) fn set_aside(file: Arc<dyn DiskFile>) -> io::Result<Storage> {
        Storage::over(file, Some(Mutex::default()))
    }

    fn over(file: Arc<dyn DiskFile>, set_aside: Option<Mutex<Vec<SetAside>>>) -> io::Result<Storage> {
        let len = AtomicU64::new(file.len()?);
        let (fills, unsynced_bytes, failure, retired, superseded) = Default::default();
        Ok(Storage(Arc::new(Shared { file, len, fills, unsynced_bytes, failure, retired, superseded, set_aside })))
    }

    /// From now on, or no longer, what is written is synced whenever it is [`SYNCED_BYTES`], whoever asks for it: one sync of all
    /// that a large transaction writes would keep everybody else on the same disk waiting.
    pub(crate) fn set_fills(&self, fills: bool) {
        self.0.fills.store(fills, Ordering::Relaxed);
    }

    /// How much of the disk the file takes; its length if the system does not tell.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.0.file.taken_bytes().unwrap_or_else(|_| self.known_len())
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

    /// Ends all reading because the file is being opened again: pages that a reader here relies on may be used anew,
    /// for whoever has just opened a file knows of no readers.
    pub(crate) fn supersede(&self) {
        self.remember(Failure::NoSpace);
        self.0.superseded.store(true, Ordering::SeqCst);
    }

    fn check_current(&self) -> io::Result<()> {
        if self.0.superseded.load(Ordering::SeqCst) { Err(ErrorKind::StaleNetworkFileHandle.into()) } else { Ok(()) }
    }

    fn read_set_aside(&self, set_aside: &[SetAside], offset: u64, out: &mut [u8]) -> io::Result<()> {
        let in_file = self.0.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        self.0.file.read_at(&mut out[..in_file], offset)?;
        out[in_file..].fill(0);
        let end = offset + out.len() as u64;
        for (at, bytes) in set_aside {
            let (from, to) = (offset.max(*at), end.min(*at + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
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
        match self.0.set_aside {
            None => self.0.file.len().inspect_err(|error| self.failed(error)),
            Some(_) => Ok(self.known_len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_current()?;
        let read = match &self.0.set_aside {
            None => self.0.file.read_at(out, offset),
            Some(set_aside) => self.read_set_aside(&set_aside.lock(), offset, out),
        };
        read.inspect_err(|error| self.failed(error))?;
        // What was read while the file was opened again may be anything.
        self.check_current()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if self.0.set_aside.is_none() {
            self.0.file.set_len(len).inspect_err(|error| self.failed_to_write(error))?;
        }
        self.0.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_writable()?;
        if self.0.set_aside.is_some() {
            return Ok(());
        }
        self.0.unsynced_bytes.store(0, Ordering::Relaxed);
        self.0.file.sync_data().inspect_err(|error| self.failed(error))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        if let Some(set_aside) = &self.0.set_aside {
            set_aside.lock().push((offset, data.to_vec()));
            return Ok(());
        }
        self.0.file.write_at(data, offset).inspect_err(|error| self.failed_to_write(error))?;
        if self.0.fills.load(Ordering::Relaxed) {
            let written = data.len() as u64;
            if self.0.unsynced_bytes.fetch_add(written, Ordering::Relaxed) + written >= SYNCED_BYTES {
                self.sync_data()?;
            }
        }
        Ok(())
    }
}
