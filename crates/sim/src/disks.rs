//! Disks that do less than they say: for planted faults only. Otherwise members have an [`env::SimDisk`] itself.

use std::io;
use std::path::Path;
use std::sync::Arc;

use env::{Disk, DiskFile, Entry, OpenMode, SimDisk};

/// What such a disk leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Names are not synced.
    SyncDir,
    /// Files whose path contains this are not.
    SyncData(&'static str),
}

pub(crate) fn lying(disk: &SimDisk, lie: Option<Lie>) -> Arc<dyn Disk> {
    match lie {
        None => Arc::new(disk.clone()),
        Some(lie) => Arc::new(LyingDisk { disk: disk.clone(), lie }),
    }
}

struct LyingDisk {
    disk: SimDisk,
    lie: Lie,
}

struct LyingFile {
    file: Arc<dyn DiskFile>,
    is_synced: bool,
}

impl Disk for LyingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let is_synced = match self.lie {
            Lie::SyncDir => true,
            Lie::SyncData(part) => !path.to_string_lossy().contains(part),
        };
        Ok(Arc::new(LyingFile { file, is_synced }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.lie == Lie::SyncDir { Ok(()) } else { self.disk.sync_dir(dir) }
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_synced { self.file.sync_data() } else { Ok(()) }
    }
}
