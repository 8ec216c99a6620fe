//! A disk in memory that breaks its word exactly as far as the rules of [`Disk`] allow, and on demand further.
//!
//! - A crash forgets unsynced writes, tears them in units of [`SECTOR`] bytes, and loses unsynced names.
//! - Chosen operations fail ([`SimDisk::inject`]); the disk fills up ([`SimDisk::set_capacity`]); bytes rot
//!   ([`SimDisk::damage`], [`SimDisk::flip_bit`]).
//! - A recording disk notes every change, and can be cut after each of them as often as one likes:
//!
//! ```
//! # use std::path::Path;
//! # use env::{Disk, OpenMode, SimDisk, Survival};
//! let disk = SimDisk::recording();
//! let file = disk.open(Path::new("file"), OpenMode::CreateNew)?;
//! file.write_at(b"hello", 0)?;
//! file.sync_data()?;
//! let before_sync_dir = disk.operation_count();
//! disk.sync_dir(Path::new("."))?;
//! assert!(disk.crash_at(before_sync_dir, Survival::None).list(Path::new("."))?.is_empty());
//! assert_eq!(disk.crash_at(disk.operation_count(), Survival::None).contents(Path::new("file"))?, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Invariants
//! - What a program sees while the machine runs is always the newest state, synced or not.
//! - A change whose sync failed is in doubt for ever: a later sync that succeeds does not save it, so that a program
//!   which retries is found out.
//! - The same run, cut and seed give the same disk.
//!
//! Leaves out: hard links, permissions, removing directories, the space of files without a name.

mod content;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, Entry, OpenMode, final_failure};
use content::{BLOCK, blocks_of};
use state::{Data, FileId, Node, Operation, State};

/// What the disk writes whole or not at all.
pub const SECTOR: u64 = 512;

/// A full copy of the state is kept at every so many recorded operations; cuts start from the nearest.
const OPERATIONS_PER_CHECKPOINT: usize = 64;

/// What of the unsynced changes a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Only what was synced.
    None,
    /// Everything.
    All,
    /// Each sector and each name by the seed; the share that survives depends on the seed as well.
    Random(u64),
}

/// The operations a [`Fault`] can meet. [`DiskFile::write_durably`] is a `Write` and then a `SyncData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    Open,
    Create,
    CreateDir,
    List,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    SetLen,
    Reserve,
    SyncData,
}

impl DiskOperation {
    fn changes_disk(self) -> bool {
        !matches!(self, DiskOperation::Open | DiskOperation::List | DiskOperation::Read)
    }
}

/// An error the disk is to give.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What fails; `None` is any operation that changes the disk.
    pub operation: Option<DiskOperation>,
    /// Only where the path contains this.
    pub path_contains: String,
    /// So many operations that match go well first.
    pub skip: u64,
    /// So many fail then; `u64::MAX` is for ever.
    pub times: u64,
    pub error: io::ErrorKind,
}

/// A simulated disk. Clones are handles on the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    state: State,
    faults: Vec<Fault>,
    capacity: Option<u64>,
    recording: Option<Recording>,
}

struct Recording {
    operations: Vec<Operation>,
    /// `checkpoints[i]` is the state before operation `i * OPERATIONS_PER_CHECKPOINT`.
    checkpoints: Vec<State>,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty disk with a root directory (`/`, which is also where relative paths begin).
    pub fn new() -> SimDisk {
        SimDisk::from_state(State::default())
    }

    /// An empty disk that records every change, for [`SimDisk::crash_at`].
    pub fn recording() -> SimDisk {
        let disk = SimDisk::new();
        disk.record();
        disk
    }

    /// Starts a recording (afresh) at the present state.
    pub fn record(&self) {
        let mut inner = self.0.lock();
        inner.recording = Some(Recording { operations: Vec::new(), checkpoints: vec![inner.state.clone()] });
    }

    /// How many operations were recorded: writes, lengths, reservations, syncs, names, failed syncs.
    pub fn operation_count(&self) -> usize {
        self.0.lock().recording.as_ref().map_or(0, |recording| recording.operations.len())
    }

    /// What the recorded operation `operation` (from 0) was, for messages of tests.
    pub fn describe(&self, operation: usize) -> String {
        let inner = self.0.lock();
        let recorded = inner.recording.as_ref().and_then(|recording| recording.operations.get(operation));
        recorded.map_or_else(|| "nothing".to_owned(), |recorded| format!("{recorded:?}"))
    }

    /// The disk as found after a power cut when the first `operations` recorded ones were done and no more.
    ///
    /// # Panics
    /// If the disk does not record, or has not recorded that many.
    pub fn crash_at(&self, operations: usize, survival: Survival) -> SimDisk {
        let inner = self.0.lock();
        let recording = inner.recording.as_ref().expect("crash_at needs a recording disk");
        let checkpoint = (operations / OPERATIONS_PER_CHECKPOINT).min(recording.checkpoints.len() - 1);
        let mut state = recording.checkpoints[checkpoint].clone();
        for operation in &recording.operations[checkpoint * OPERATIONS_PER_CHECKPOINT..operations] {
            state.perform(operation);
        }
        SimDisk::from_state(state.after_crash(survival, operations as u64))
    }

    /// The disk as found after a power cut now. Faults, capacity and recording do not carry over.
    pub fn crash(&self, survival: Survival) -> SimDisk {
        SimDisk::from_state(self.0.lock().state.after_crash(survival, 0))
    }

    /// Makes everything written so far durable, as an idle machine does in time.
    ///
    /// # Panics
    /// If the disk records: cuts would not know of it.
    pub fn settle(&self) {
        let mut inner = self.0.lock();
        assert!(inner.recording.is_none(), "settle before the recording starts");
        inner.state.settle();
    }

    /// Adds a fault; faults are asked in the order they were added, and the first that strikes counts.
    pub fn inject(&self, fault: Fault) {
        self.0.lock().faults.push(fault);
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// Limits the space that files can take together, in bytes (whole blocks of 4096 count); `None` lifts it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Space taken, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().state.used()
    }

    /// The bytes of a file as programs see them now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        let content = &inner.state.inodes[&inner.file(&normal(path))?].current;
        let mut bytes = vec![0; content.len as usize];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Overwrites bytes of a file durably and unrecorded, as rot or a careless person would.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn damage(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock();
        let file = inner.file(&normal(path))?;
        inner.state.damage(file, offset, bytes);
        Ok(())
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, like [`SimDisk::damage`].
    ///
    /// # Errors
    /// `NotFound`, or `UnexpectedEof` if the file ends before.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut byte = [0];
        self.open(path, OpenMode::Read)?.read_at(&mut byte, offset)?;
        self.damage(path, offset, &[byte[0] ^ 1 << bit])
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Inner { state, ..Inner::default() })))
    }

    fn handle(&self, inner: &Inner, file: FileId, path: PathBuf, writable: bool) -> Arc<dyn DiskFile> {
        let open = Arc::clone(&inner.state.inodes[&file].open);
        Arc::new(SimFile { disk: self.clone(), file, path, writable, _open: open })
    }
}

impl Inner {
    /// Gives the error of the first fault that strikes.
    fn check(&mut self, operation: DiskOperation, path: &Path) -> io::Result<()> {
        let name = path.to_string_lossy();
        for fault in &mut self.faults {
            let matches = fault.operation.map_or(operation.changes_disk(), |wanted| wanted == operation)
                && name.contains(&fault.path_contains);
            if !matches || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= u64::from(fault.times != u64::MAX);
            return Err(io::Error::new(fault.error, format!("injected: {operation:?} of {name}")));
        }
        Ok(())
    }

    fn perform(&mut self, operation: Operation) {
        self.state.perform(&operation);
        if let Some(recording) = &mut self.recording {
            recording.operations.push(operation);
            if recording.operations.len() % OPERATIONS_PER_CHECKPOINT == 0 {
                recording.checkpoints.push(self.state.clone());
            }
        } else if matches!(operation, Operation::SyncDir { .. }) {
            self.state.forget_lost_files();
        }
    }

    fn file(&self, path: &Path) -> io::Result<FileId> {
        match self.state.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn require_dir(&self, path: &Path) -> io::Result<()> {
        match self.state.names.get(path) {
            _ if self.state.is_dir(path) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn free_blocks(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.state.used()) / BLOCK)
    }

    /// How many of `len` bytes at `offset` find space.
    fn fitting(&self, file: FileId, offset: u64, len: u64) -> u64 {
        let allocated = &self.state.inodes[&file].allocated;
        let blocks = blocks_of(offset, len);
        let mut free = self.free_blocks();
        if allocated.missing(&blocks) <= free {
            return len;
        }
        for block in blocks {
            if allocated.contains(block) {
                continue;
            }
            if free == 0 {
                return (block * BLOCK).saturating_sub(offset);
            }
            free -= 1;
        }
        len
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let path = normal(path);
        let mut inner = self.0.lock();
        if mode != OpenMode::CreateNew {
            inner.check(DiskOperation::Open, &path)?;
            let file = inner.file(&path)?;
            return Ok(self.handle(&inner, file, path, mode != OpenMode::Read));
        }
        inner.check(DiskOperation::Create, &path)?;
        if inner.state.names.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.require_dir(path.parent().unwrap_or(Path::new("")))?;
        let file = inner.state.next_file();
        inner.perform(Operation::Create { path: path.clone(), file });
        Ok(self.handle(&inner, file, path, true))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut inner = self.0.lock();
        inner.check(DiskOperation::CreateDir, &path)?;
        let mut missing: Vec<&Path> = path.ancestors().take_while(|dir| !inner.state.is_dir(dir)).collect();
        if let Some(file) = missing.iter().find(|dir| inner.state.names.contains_key(**dir)) {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is a file", file.display())));
        }
        missing.reverse();
        for dir in missing {
            inner.perform(Operation::MakeDir { path: dir.to_owned() });
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let dir = normal(dir);
        let mut inner = self.0.lock();
        inner.check(DiskOperation::List, &dir)?;
        inner.require_dir(&dir)?;
        let inside = inner.state.names.iter().filter(|(path, _)| path.parent() == Some(&dir));
        let mut entries: Vec<Entry> = inside
            .map(|(path, node)| Entry {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                is_dir: *node == Node::Dir,
                len: match node {
                    Node::File(file) => inner.state.inodes[file].current.len,
                    Node::Dir => 0,
                },
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut inner = self.0.lock();
        inner.check(DiskOperation::Rename, &from)?;
        inner.file(&from)?;
        inner.require_dir(to.parent().unwrap_or(Path::new("")))?;
        if inner.state.is_dir(&to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            inner.perform(Operation::Rename { from, to });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut inner = self.0.lock();
        inner.check(DiskOperation::Remove, &path)?;
        inner.file(&path)?;
        inner.perform(Operation::Remove { path });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = normal(dir);
        let mut inner = self.0.lock();
        if let Err(error) = inner.check(DiskOperation::SyncDir, &dir) {
            inner.perform(Operation::FailSyncDir { dir });
            return Err(error);
        }
        inner.require_dir(&dir)?;
        inner.perform(Operation::SyncDir { dir });
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    file: FileId,
    path: PathBuf,
    writable: bool,
    /// Keeps the file alive without a name.
    _open: Arc<()>,
}

impl SimFile {
    fn require_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn write(&self, inner: &mut Inner, data: &[u8], offset: u64) {
        if !data.is_empty() {
            inner.perform(Operation::Write { file: self.file, offset, data: Data::new(data) });
        }
    }

    /// What [`DiskFile::write_at`] does.
    fn try_write(&self, inner: &mut Inner, data: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = inner.check(DiskOperation::Write, &self.path) {
            self.write(inner, &data[..data.len() / 2], offset);
            return Err(error);
        }
        let fitting = inner.fitting(self.file, offset, data.len() as u64) as usize;
        self.write(inner, &data[..fitting], offset);
        if fitting < data.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Finds out whether a sync goes well; if not, what was to be synced is in doubt.
    fn check_sync(&self, inner: &mut Inner) -> io::Result<()> {
        let checked = inner.check(DiskOperation::SyncData, &self.path);
        checked.inspect_err(|_| inner.perform(Operation::FailSync { file: self.file }))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.check(DiskOperation::Read, &self.path)?;
        let content = &inner.state.inodes[&self.file].current;
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > content.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.read(buf, offset);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.require_writable()?;
        self.try_write(&mut self.disk.0.lock(), data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().state.inodes[&self.file].current.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut inner = self.disk.0.lock();
        inner.check(DiskOperation::SetLen, &self.path)?;
        inner.perform(Operation::SetLen { file: self.file, len });
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut inner = self.disk.0.lock();
        inner.check(DiskOperation::Reserve, &self.path)?;
        if inner.state.inodes[&self.file].allocated.missing(&blocks_of(0, len)) > inner.free_blocks() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.perform(Operation::Reserve { file: self.file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        self.check_sync(&mut inner)?;
        inner.perform(Operation::SyncData { file: self.file });
        Ok(())
    }

    /// Two operations, so that a recording can be cut between them.
    fn write_durably(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut inner = self.disk.0.lock();
        self.try_write(&mut inner, data, offset)?;
        self.check_sync(&mut inner).map_err(final_failure)?;
        if !data.is_empty() {
            inner.perform(Operation::SyncWrite { file: self.file });
        }
        Ok(())
    }
}

/// The path without `.` and a leading `/`: relative paths begin at the root.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir)).collect()
}
