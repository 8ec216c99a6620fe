//! Files and directories, with the durability rules written down.
//!
//! The rules, which the simulated disk enforces and the real one may use to the full:
//! - A write is durable once `sync_data` of its file has returned `Ok`, or `write_durably` if that wrote it. Until then
//!   a crash may keep all of it, none, or any part in units of 512 bytes, each unit independently of the others.
//! - A file's length set by growing writes or `set_len` is durable with the same sync.
//! - `write_durably` makes nothing durable but its own bytes and what it takes to find them.
//! - A created, renamed or removed name is durable once `sync_dir` of its directory has returned `Ok`.
//! - New space reads as zero.
//! - After a failed sync nothing is known about what is on disk, and it must not be tried again: the caller stops.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; reading only.
    Read,
    /// Must exist; reading and writing.
    Write,
    /// As [`OpenMode::Write`], for a file that is mostly written by [`DiskFile::write_durably`]: it then costs less.
    WriteDurably,
    /// Must not exist; made with mode 0600, reading and writing.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes; 0 for a directory.
    pub len: u64,
}

/// A file system. Paths are as the operator gave them.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` (for [`OpenMode::CreateNew`]), `StorageFull`, or whatever the system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a directory with mode 0700, and its parents. It is no error if it exists.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// What the system says; not to be retried.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Offsets and lengths in bytes. Methods may be called from several threads.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; else what the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `data` at `offset`, growing the file if need be.
    ///
    /// # Errors
    /// `StorageFull` or what the system says; part of the data may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// The length.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds nothing.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// How much space the file takes; holes in it take none. Where that cannot be told it is the length.
    ///
    /// # Errors
    /// What the system says.
    fn taken_bytes(&self) -> io::Result<u64> {
        self.len()
    }

    /// Cuts or grows the file; new space reads as zero but need not be reserved.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space for the first `len` bytes, growing the file to it, so that later writes there cannot fail
    /// with `StorageFull`.
    ///
    /// # Errors
    /// `StorageFull`, with the file as it was; else what the system says.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Makes all earlier writes and lengths of this file durable (`fdatasync`).
    ///
    /// # Errors
    /// What the system says; not to be retried.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `data` at `offset`, growing the file if need be, and makes it durable. Writes that came before stay
    /// as durable as they were. It costs least in a file opened by [`OpenMode::WriteDurably`], with offset and length
    /// multiples of 4096 and space that holds data already.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded` if there is no room: part of the data may have been written, none of it counts as
    /// durable, and the write may be tried again. After whatever else the system says nothing is known, as after a failed
    /// sync: it must not be tried again. No room that is only met while syncing is among those, and has another kind.
    fn write_durably(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(data, offset)?;
        self.sync_data().map_err(final_failure)
    }

    /// A hint that what is durable in the file need not be kept in memory. Nothing depends on it but speed: a file that
    /// was read or written in large pieces is cached in large pieces, and a small write then dirties a whole one.
    fn forget_cached(&self) {}
}

/// A failed sync, so that nobody takes it for a write that may be tried again.
pub(crate) fn final_failure(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => io::Error::other(error),
        _ => error,
    }
}
