//! The machine's file system.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where files are touched")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, Advice, FallocateFlags, FlockOperation, access, fadvise, fallocate, flock, fstatvfs};
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, Entry, OpenMode};

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create_new(mode == OpenMode::CreateNew)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: meta.is_dir(),
                len: if meta.is_dir() { 0 } else { meta.len() },
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        // A file system hands out what it has before it finds that it is not enough, and meanwhile others get none.
        let free = fstatvfs(&self.0)?;
        let missing = len.saturating_sub(self.len()?);
        if free.f_blocks > 0 && free.f_bavail.saturating_mul(free.f_frsize) < missing {
            return Err(Errno::NOSPC.into());
        }
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // Not every file system can reserve (tmpfs of old kernels, NFS); growing is then the best there is.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? < len => self.set_len(len),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn forget_cached(&self) {
        // Only a hint: a file system that does not take it is no worse off.
        let _ = fadvise(&self.0, 0, None, Advice::DontNeed);
    }
}

/// Holds a directory against other processes for as long as it lives.
///
/// Both the lock file and the directory itself are locked: a lock file can be taken for a leftover and deleted, and the
/// next process would make another. Not every file system can lock a directory (NFS); there the file alone must do.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
    _directory: Option<File>,
}

impl DirectoryLock {
    /// Whether `dir`, which need not exist yet, can be made and locked as far as permissions go. Makes nothing.
    ///
    /// # Errors
    /// What making or locking it would fail with.
    pub fn check(dir: &Path) -> io::Result<()> {
        for dir in dir.ancestors() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            match fs::metadata(dir) {
                Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
                Ok(_) => return Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the lock of `dir` and that of the file `name` inside it; `None` if another process holds one of them.
    ///
    /// # Errors
    /// If the lock file cannot be opened or locked for another reason.
    pub fn acquire(dir: &Path, name: &str) -> io::Result<Option<DirectoryLock>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(dir.join(name))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let directory = File::open(dir)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirectoryLock { _file: file, _directory: Some(directory) })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(_) => Ok(Some(DirectoryLock { _file: file, _directory: None })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_even_without_its_lock_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = DirectoryLock::acquire(dir.path(), "lock").expect("it can be locked");
        assert!(held.is_some());
        assert!(DirectoryLock::acquire(dir.path(), "lock").expect("it can be looked at").is_none());
        fs::remove_file(dir.path().join("lock")).expect("it was made");
        assert!(DirectoryLock::acquire(dir.path(), "lock").expect("it can be looked at").is_none());
        drop(held);
        assert!(DirectoryLock::acquire(dir.path(), "lock").expect("it can be locked").is_some());
    }
}
