//! The machine's file system.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where files are touched")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, Advice, FallocateFlags, FlockOperation, access, fadvise, fallocate, flock, fstatvfs};
use rustix::io::Errno;

use crate::direct::DirectFile;
use crate::disk::{Disk, DiskFile, Entry, OpenMode, final_failure};
use crate::reclaim::Handle;

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
        let direct = if mode == OpenMode::WriteDurably { DirectFile::open(path) } else { None };
        Ok(Arc::new(RealFile::over(file, direct)))
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
        // Held, so that its space is not freed at once: see `reclaim`.
        let replaced = OpenOptions::new().write(true).open(to).map(|file| RealFile::over(file, None));
        fs::rename(from, to)?;
        drop(replaced);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct RealFile {
    file: File,
    direct: Option<DirectFile>,
    handle: Handle,
}

impl RealFile {
    fn over(file: File, direct: Option<DirectFile>) -> RealFile {
        let handle = Handle::of(&file);
        RealFile { file, direct, handle }
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        self.direct = None;
        self.handle.close(&self.file);
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn taken_bytes(&self) -> io::Result<u64> {
        // POSIX leaves the unit open; on Linux it is this, whatever the file system.
        const BLOCK_BYTES: u64 = 512;
        Ok(self.file.metadata()?.blocks() * BLOCK_BYTES)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        // A file system hands out what it has before it finds that it is not enough, and meanwhile others get none.
        let free = fstatvfs(&self.file)?;
        let missing = len.saturating_sub(self.len()?);
        if free.f_blocks > 0 && free.f_bavail.saturating_mul(free.f_frsize) < missing {
            return Err(Errno::NOSPC.into());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            // Not every file system can reserve (tmpfs of old kernels, NFS); growing is then the best there is.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? < len => self.set_len(len),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_durably(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let (written, is_durable) = match &self.direct {
            Some(direct) => direct.write(data, offset)?,
            None => (0, false),
        };
        if is_durable {
            return Ok(());
        }
        self.write_at(&data[written..], offset + written as u64)?;
        self.sync_data().map_err(final_failure)
    }

    fn forget_cached(&self) {
        // Only a hint: a file system that does not take it is no worse off.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
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
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;
    use crate::random::{Rng, SystemRng};

    /// On the ordinary file system and on the one in memory.
    fn directories() -> Vec<tempfile::TempDir> {
        let memory = Path::new("/dev/shm");
        let here = tempfile::tempdir().expect("a temporary directory");
        let there = memory.is_dir().then(|| tempfile::tempdir_in(memory).expect("a temporary directory"));
        [here].into_iter().chain(there).collect()
    }

    /// Through the page cache and past it, of every size, in every order.
    #[test]
    fn what_was_written_durably_is_read_back_whoever_wrote_around_it() {
        for dir in directories() {
            let path = dir.path().join("file");
            let mut model = vec![0; 6 << 20];
            let made = RealDisk.open(&path, OpenMode::CreateNew).expect("it can be made");
            made.write_at(&model, 0).expect("there is room");
            made.sync_data().expect("the disk works");
            let file = RealDisk.open(&path, OpenMode::WriteDurably).expect("it is there");
            let mut rng = SystemRng::with_seed(1);
            let mut below = |bound: usize| rng.below(bound as u64) as usize;
            for round in 0..300 {
                // Up to one page, many, and more than one piece; whole pages more often than not.
                let unit = [1, 512, 4096, 4096, 4096][below(5)];
                let len_max = [2, 40, 700][below(3)] * 4096;
                let len = below(len_max).next_multiple_of(unit);
                let offset = below(model.len() - len) / unit * unit;
                let data = vec![round as u8; len];
                model[offset..offset + len].copy_from_slice(&data);
                match below(4) {
                    0 => file.write_at(&data, offset as u64).expect("there is room"),
                    _ => file.write_durably(&data, offset as u64).expect("there is room"),
                }
                // Reads cache pages, with what follows them; the next direct write has to get rid of them.
                let from = offset.saturating_sub(below(9000));
                let mut found = vec![0; (len + below(20_000)).min(model.len() - from)];
                made.read_at(&mut found, from as u64).expect("the file is long enough");
                assert!(found == model[from..from + found.len()], "round {round}: {len} bytes at {offset}");
            }
            drop((file, made));
            assert!(fs::read(&path).expect("it is there") == model);
        }
    }

    #[test]
    fn a_durable_write_grows_a_file_in_every_mode() {
        for dir in directories() {
            let path = dir.path().join("file");
            let mut len = 0;
            for mode in [OpenMode::CreateNew, OpenMode::Write, OpenMode::WriteDurably] {
                let file = RealDisk.open(&path, mode).expect("it can be opened");
                for (data, offset) in [(vec![1; 4096], len), (vec![2; 100], len + 8192), (Vec::new(), len)] {
                    file.write_durably(&data, offset).expect("there is room");
                }
                let mut found = vec![0; 8292];
                file.read_at(&mut found, len).expect("the file is long enough");
                assert!(found == [vec![1; 4096], vec![0; 4096], vec![2; 100]].concat());
                len = file.len().expect("it has one").next_multiple_of(4096);
            }
        }
    }

    #[test]
    fn what_direct_writes_leave_over_is_written_the_plain_way() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        let write_only = |path: &Path| File::options().write(true).open(path).expect("every system has this");
        let written_beside = |direct| {
            let file = RealFile::over(File::create(&path).expect("it can be made"), Some(direct));
            file.write_durably(&[7; 8192], 0).expect("there is room");
            fs::read(&path).expect("it is there")
        };
        let refusing = DirectFile::over(write_only(Path::new("/proc/self/oom_score_adj")));
        assert_eq!(written_beside(refusing), [7; 8192]);
        let short = File::from(memfd_create("short", MemfdFlags::ALLOW_SEALING).expect("there is memory"));
        short.set_len(4096).expect("there is memory");
        fcntl_add_seals(&short, SealFlags::GROW).expect("it can be sealed");
        assert_eq!(
            written_beside(DirectFile::over(short)),
            [[0; 4096], [7; 4096]].concat(),
            "half is written elsewhere"
        );

        let file = RealFile::over(write_only(Path::new("/dev/full")), None);
        assert_eq!(file.write_durably(&[1; 4096], 0).expect_err("no room").kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_large_file_that_was_replaced_goes_in_pieces_once_nobody_has_it_open() {
        const LEN: u64 = 8 << 20;
        for dir in directories() {
            let (old, new) = (dir.path().join("old"), dir.path().join("new"));
            let open = |path, mode| RealDisk.open(path, mode).expect("it can be opened");
            let replace = || {
                open(&new, OpenMode::CreateNew).set_len(1).expect("there is room");
                // Not one of this process' handles, as far as the disk knows.
                let watched = File::open(&old).expect("it is there");
                RealDisk.rename(&new, &old).expect("it can be renamed");
                watched
            };
            let len_of = |file: &File| file.metadata().expect("it is open").len();
            let wait_until_gone = |file: &File| {
                while len_of(file) > 0 {
                    std::thread::yield_now();
                }
            };
            let (writer, reader) = (open(&old, OpenMode::CreateNew), open(&old, OpenMode::Read));
            writer.set_len(LEN).expect("there is room");
            let watched = replace();
            drop(writer);
            reader.read_at(&mut [0; 9], LEN - 9).expect("it is whole");
            assert_eq!(len_of(&watched), LEN);
            // It cannot cut it, and then all of it goes at once.
            drop(reader);
            assert_eq!(len_of(&watched), LEN);

            let file = open(&old, OpenMode::Write);
            file.set_len(LEN).expect("there is room");
            let watched = replace();
            let before = len_of(&watched);
            drop(file);
            wait_until_gone(&watched);
            assert_eq!(before, LEN);

            open(&old, OpenMode::Write).set_len(LEN).expect("there is room");
            wait_until_gone(&replace());
            open(&old, OpenMode::Write).set_len(LEN).expect("there is room");
            assert_eq!(fs::metadata(&old).expect("it is there").len(), LEN, "what has its name stays");
        }
    }

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
