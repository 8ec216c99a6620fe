//! The files of the log: their names, and how each comes to be, gets its name and goes.
//!
//! | name | is |
//! |---|---|
//! | `<16 hex digits>.wal` | a segment; the number is its sequence |
//! | `<16 hex digits>.spare` | a prepared file of zeros or old records, the next segment to be |
//! | `<16 hex digits>.tmp` | a spare in the making; worthless after a crash |
//!
//! Invariants
//! - A file has the name of a segment only when its header is durable, and the name is durable before anything is
//!   written to it beyond the header.
//! - Segments are released oldest first, each durably before the next: the names found always ascend without gap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use env::{Disk, DiskFile, OpenMode};

use crate::WalError;
use crate::format::{PAGE, SegmentHeader};

/// Zeros are written this many bytes at a time, each synced: a log sync that comes meanwhile waits for one of them, that of
/// another process on the same disk too.
const FILL_BYTES: usize = 1 << 20;

/// The segment with which a log starts anew has this part of the usual size, or as little as [`SHORT_SIZE_MIN`].
const SHORT_PART: u64 = 8;
const SHORT_SIZE_MIN: u64 = 4 * PAGE;

/// A segment that is part of the log.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Bytes of the whole file.
    pub(crate) size: u64,
}

/// A file prepared to become a segment.
#[derive(Debug)]
pub struct Spare {
    pub(crate) path: PathBuf,
    /// Bytes of the whole file.
    pub(crate) size: u64,
}

/// Prepares spares. May be used on another thread than the log's, see [`crate::Wal::spare_maker`].
#[derive(Clone)]
pub struct SpareMaker {
    directory: Directory,
}

impl SpareMaker {
    /// Makes a spare: a file of the segment size whose space is taken and holds zeros, durably, so that writing to it
    /// later neither runs out of space nor has the file system change more than the data.
    ///
    /// # Errors
    /// [`WalError::NoSpace`] (nothing remains of the attempt), [`WalError::Io`].
    pub fn make(&self) -> Result<Spare, WalError> {
        self.directory.make_spare(self.directory.segment_size)
    }
}

/// The directory that holds the log.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_size: u64,
    /// Numbers for names of spares.
    next_spare: Arc<AtomicU64>,
}

/// What the names in a directory say.
#[derive(Default)]
pub(crate) struct Listing {
    /// Sequences of segments, ascending.
    pub(crate) segments: Vec<u64>,
    pub(crate) spares: Vec<Spare>,
    /// Unfinished spares, those of another size, and segments on their way out.
    pub(crate) useless: Vec<PathBuf>,
}

impl Directory {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: &Path, segment_size: u64) -> Directory {
        Directory { disk, path: path.to_owned(), segment_size, next_spare: Arc::new(AtomicU64::new(0)) }
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// The size of the segment with which a log starts anew if no spare is ready, which is when a snapshot was installed.
    ///
    /// Filling 64 MiB takes a second on a slow disk, for which everybody else on that disk waits too. The next segment is made
    /// on another thread while this one is written to, and so may wait.
    pub(crate) fn short_size(&self) -> u64 {
        (self.segment_size / SHORT_PART).max(SHORT_SIZE_MIN).next_multiple_of(PAGE).min(self.segment_size)
    }

    pub(crate) fn spare_maker(&self) -> SpareMaker {
        SpareMaker { directory: self.clone() }
    }

    pub(crate) fn segment_path(&self, sequence: u64) -> PathBuf {
        self.path.join(format!("{sequence:016x}.wal"))
    }

    /// Makes the directory, durably.
    pub(crate) fn create(&self) -> Result<(), WalError> {
        self.disk.create_dir_all(&self.path).map_err(|error| WalError::space_or_io("create", &self.path, error))?;
        let parent = match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Ok(()),
        };
        self.disk.sync_dir(parent).map_err(|error| WalError::io("sync", parent, error))
    }

    /// Reads the names.
    pub(crate) fn list(&self) -> Result<Listing, WalError> {
        let mut listing = Listing::default();
        for entry in self.disk.list(&self.path).map_err(|error| WalError::io("list", &self.path, error))? {
            let Some((number, kind)) = parse_name(&entry.name).filter(|_| !entry.is_dir) else { continue };
            self.next_spare.fetch_max(number.saturating_add(1), Ordering::Relaxed);
            let path = self.path.join(&entry.name);
            match kind {
                "wal" => listing.segments.push(number),
                "spare" if entry.len == self.segment_size => listing.spares.push(Spare { path, size: entry.len }),
                _ => listing.useless.push(path),
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }

    /// Removes files that are of no use, and makes all names durable: a name that another process gave just before it
    /// was killed need not be.
    pub(crate) fn tidy(&self, useless: &[PathBuf]) -> Result<(), WalError> {
        for path in useless {
            self.disk.remove(path).map_err(|error| WalError::io("remove", path, error))?;
        }
        self.sync()
    }

    pub(crate) fn make_spare(&self, size: u64) -> Result<Spare, WalError> {
        let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.unfinished_path(number);
        let path = self.spare_path(number);
        let rename = || {
            let renamed = self.disk.rename(&unfinished, &path);
            renamed.map_err(|error| WalError::space_or_io("rename", &unfinished, error))
        };
        if let Err(error) = self.fill(&unfinished, size).and_then(|()| rename()) {
            // If this fails too, the name is found and removed at the next start.
            let _ = self.disk.remove(&unfinished);
            return Err(error);
        }
        self.sync_rename(&unfinished, &path)?;
        Ok(Spare { path, size })
    }

    fn fill(&self, path: &Path, size: u64) -> Result<(), WalError> {
        // A failed sync is no worse than another failure here: the file is given up and a new one made.
        let failed = |error| WalError::space_or_io("prepare", path, error);
        let file = self.disk.open(path, OpenMode::CreateNew).map_err(failed)?;
        file.reserve(size).map_err(failed)?;
        let zeros = vec![0; FILL_BYTES.min(size as usize)];
        let mut offset = 0;
        while offset < size {
            let len = (size - offset).min(zeros.len() as u64);
            file.write_at(&zeros[..len as usize], offset).map_err(failed)?;
            file.sync_data().map_err(failed)?;
            offset += len;
        }
        // Or each batch would dirty the megabytes that were cached in one piece here.
        file.forget_cached();
        Ok(())
    }

    /// Makes a spare the segment `header` describes, but for its size. Returns it and the checksum its chain starts from.
    pub(crate) fn begin(&self, spare: &Spare, header: SegmentHeader) -> Result<(Segment, u32), WalError> {
        let header = SegmentHeader { size: spare.size, ..header };
        let file = self.disk.open(&spare.path, OpenMode::WriteDurably);
        let file = file.map_err(|error| WalError::io("open", &spare.path, error))?;
        let (bytes, crc) = header.encode();
        let mut page = [0; PAGE as usize];
        page[..bytes.len()].copy_from_slice(&bytes);
        file.write_at(&page, 0).map_err(|error| WalError::space_or_io("write", &spare.path, error))?;
        file.sync_data().map_err(|error| WalError::io("sync", &spare.path, error))?;
        // What a busy log wrote is cached in pieces as large as its batches were; a quiet one would dirty them whole.
        file.forget_cached();
        let path = self.segment_path(header.sequence);
        self.disk.rename(&spare.path, &path).map_err(|error| WalError::io("rename", &spare.path, error))?;
        self.sync_rename(&spare.path, &path)?;
        Ok((Segment { sequence: header.sequence, path, file, size: header.size }, crc))
    }

    /// Takes a segment out of the log for good and makes a spare of it, or removes it if it is of another size or
    /// `keep` is false.
    pub(crate) fn release(&self, segment: &Segment, keep: bool) -> Result<Option<Spare>, WalError> {
        let keep = keep && segment.size == self.segment_size;
        let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
        let path = if keep { self.spare_path(number) } else { self.unfinished_path(number) };
        self.disk.rename(&segment.path, &path).map_err(|error| WalError::io("rename", &segment.path, error))?;
        self.sync_rename(&segment.path, &path)?;
        if keep {
            return Ok(Some(Spare { path, size: segment.size }));
        }
        // If it comes back after a crash, it is found to be of no use.
        self.disk.remove(&path).map_err(|error| WalError::io("remove", &path, error))?;
        Ok(None)
    }

    pub(crate) fn remove_spare(&self, spare: &Spare) -> Result<(), WalError> {
        self.disk.remove(&spare.path).map_err(|error| WalError::io("remove", &spare.path, error))
    }

    fn unfinished_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.tmp"))
    }

    fn spare_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.spare"))
    }

    /// Makes a new name durable. If that fails, the file has its old one again: a directory whose sync failed counts as
    /// clean from then on, and a log that went on under a name that is not on the disk would be lost at the next crash.
    fn sync_rename(&self, old: &Path, new: &Path) -> Result<(), WalError> {
        self.sync().inspect_err(|_| {
            // If this fails too, the disk is past help.
            let _ = self.disk.rename(new, old);
        })
    }

    fn sync(&self) -> Result<(), WalError> {
        self.disk.sync_dir(&self.path).map_err(|error| WalError::io("sync", &self.path, error))
    }
}

/// Number and kind of a file of ours. Other files, etcd's `<sequence>-<index>.wal` among them, are not.
pub(crate) fn parse_name(name: &str) -> Option<(u64, &'static str)> {
    let (number, kind) = name.split_once('.')?;
    let kind = ["wal", "spare", "tmp"].into_iter().find(|known| *known == kind)?;
    let hex = number.len() == 16 && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((u64::from_str_radix(number, 16).ok().filter(|_| hex)?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_count() {
        assert_eq!(parse_name("000000000000001f.wal"), Some((31, "wal")));
        assert_eq!(parse_name("0000000000000002.spare"), Some((2, "spare")));
        assert_eq!(parse_name("0000000000000000-0000000000000000.wal"), None, "etcd's");
        assert_eq!(parse_name("000000000000001F.wal"), None);
        assert_eq!(parse_name("1.wal"), None);
        assert_eq!(parse_name("0000000000000001.wal.bak"), None);
        assert_eq!(parse_name("+000000000000001.wal"), None);
    }
}
