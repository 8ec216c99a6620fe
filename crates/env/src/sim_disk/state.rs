//! What the simulated machine holds at one moment: what programs see, what would survive, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::{BLOCK, Content, Extents, blocks_of};
use super::{SECTOR, Survival};
use crate::random::{Rng, SystemRng};

pub(super) type FileId = u64;

/// One change that a program asked of the disk. Performing it cannot fail: it has been checked before.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write {
        file: FileId,
        offset: u64,
        data: Data,
    },
    SetLen {
        file: FileId,
        len: u64,
    },
    Reserve {
        file: FileId,
        len: u64,
    },
    SyncData {
        file: FileId,
    },
    /// The newest write alone becomes durable.
    SyncWrite {
        file: FileId,
    },
    /// A sync that reported an error: what was unsynced stays in doubt for ever, also after a later good sync.
    FailSync {
        file: FileId,
    },
    Create {
        path: PathBuf,
        file: FileId,
    },
    MakeDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
    /// A failed `sync_dir`, likewise.
    FailSyncDir {
        dir: PathBuf,
    },
}

/// Written bytes, shared between the recording and the unsynced changes.
#[derive(Clone)]
pub(super) enum Data {
    Bytes(Arc<[u8]>),
    Zeros(u64),
}

impl Data {
    pub(super) fn new(bytes: &[u8]) -> Data {
        // Slices of zeros compare by memcmp, so a 64 MiB fill costs little.
        let zeros = bytes.first() == Some(&0) && bytes[1..] == bytes[..bytes.len() - 1];
        if zeros { Data::Zeros(bytes.len() as u64) } else { Data::Bytes(bytes.into()) }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Zeros(len) => *len,
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Data::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Data::Zeros(len) => write!(f, "{len} zeros"),
        }
    }
}

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unsynced,
    /// Its sync failed: never durable, never surely lost.
    Doubtful,
    /// Durable, but kept in the list because it came after a change that is not.
    Synced,
}

#[derive(Clone)]
enum FileChange {
    Write { offset: u64, data: Data },
    SetLen(u64),
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, Node),
    Rename { from: PathBuf, to: PathBuf, node: Node },
    Remove(PathBuf),
}

impl NameChange {
    /// Whether syncing `dir` makes it durable. A rename between directories goes with the one it went to.
    fn is_in(&self, dir: &Path) -> bool {
        let (NameChange::Set(path, _) | NameChange::Rename { to: path, .. } | NameChange::Remove(path)) = self;
        path.parent() == Some(dir)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(FileId),
}

type Names = BTreeMap<PathBuf, Node>;

/// One file, named or not.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) current: Arc<Content>,
    durable: Arc<Content>,
    pending: Vec<(FileChange, Fate)>,
    pub(super) allocated: Extents,
    /// Held by open handles too, so that a file without a name lives until the last is closed.
    pub(super) open: Arc<()>,
}

/// The whole disk.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<FileId, Inode>,
    pub(super) names: Names,
    durable_names: Names,
    pending_names: Vec<(NameChange, Fate)>,
    next_file: FileId,
}

impl State {
    pub(super) fn next_file(&self) -> FileId {
        self.next_file
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        is_root(path) || self.names.get(path) == Some(&Node::Dir)
    }

    pub(super) fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { file, offset, data } => {
                let inode = self.inode(*file);
                inode.allocated.insert(blocks_of(*offset, data.len()));
                let change = FileChange::Write { offset: *offset, data: data.clone() };
                change.apply(Arc::make_mut(&mut inode.current));
                inode.pending.push((change, Fate::Unsynced));
            }
            Operation::SetLen { file, len } => {
                let inode = self.inode(*file);
                inode.allocated.truncate(len.div_ceil(BLOCK));
                inode.set_len(*len);
            }
            Operation::Reserve { file, len } => {
                let inode = self.inode(*file);
                inode.allocated.insert(blocks_of(0, *len));
                if inode.current.len < *len {
                    inode.set_len(*len);
                }
            }
            Operation::SyncData { file } => self.inode(*file).sync(),
            Operation::SyncWrite { file } => self.inode(*file).sync_newest(),
            Operation::FailSync { file } => doubt(self.inode(*file).pending.iter_mut().map(|(_, fate)| fate)),
            Operation::Create { path, file } => {
                self.inodes.insert(*file, Inode::default());
                self.next_file = file + 1;
                self.change_name(NameChange::Set(path.clone(), Node::File(*file)));
            }
            Operation::MakeDir { path } => self.change_name(NameChange::Set(path.clone(), Node::Dir)),
            Operation::Rename { from, to } => {
                let node = self.names[from];
                self.change_name(NameChange::Rename { from: from.clone(), to: to.clone(), node });
            }
            Operation::Remove { path } => self.change_name(NameChange::Remove(path.clone())),
            Operation::SyncDir { dir } => self.sync_names(|change| change.is_in(dir)),
            Operation::FailSyncDir { dir } => {
                doubt(self.pending_names.iter_mut().filter(|(change, _)| change.is_in(dir)).map(|(_, fate)| fate));
            }
        }
    }

    /// Makes everything durable, as an idle machine does in time.
    pub(super) fn settle(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.sync();
        }
        self.sync_names(|_| true);
    }

    /// The disk as a machine finds it when power comes back.
    pub(super) fn after_crash(&self, survival: Survival, salt: u64) -> State {
        let mut coin = Coin::new(survival, salt);
        let mut names = self.durable_names.clone();
        for (change, fate) in &self.pending_names {
            if *fate == Fate::Synced || coin.keeps() {
                change.apply(&mut names);
            }
        }
        drop_orphans(&mut names);
        let mut inodes = BTreeMap::new();
        for node in names.values() {
            if let Node::File(file) = node {
                inodes.insert(*file, self.inodes[file].after_crash(&mut coin));
            }
        }
        State { inodes, durable_names: names.clone(), names, pending_names: Vec::new(), next_file: self.next_file }
    }

    /// Changes bytes behind everyone's back, durably.
    pub(super) fn damage(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let inode = self.inode(file);
        Arc::make_mut(&mut inode.current).write(bytes, offset);
        Arc::make_mut(&mut inode.durable).write(bytes, offset);
    }

    /// Bytes that named files take.
    pub(super) fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(file) => self.inodes.get(file),
            Node::Dir => None,
        });
        named.map(|inode| inode.allocated.count() * BLOCK).sum()
    }

    fn inode(&mut self, file: FileId) -> &mut Inode {
        self.inodes.get_mut(&file).expect("an open file keeps its inode")
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push((change, Fate::Unsynced));
    }

    fn sync_names(&mut self, covers: impl Fn(&NameChange) -> bool) {
        let in_doubt = self.pending_names.iter().any(|(_, fate)| *fate == Fate::Doubtful);
        let durable_names = &mut self.durable_names;
        self.pending_names.retain_mut(|(change, fate)| {
            if !covers(change) || *fate != Fate::Unsynced {
                return true;
            }
            change.apply(durable_names);
            *fate = Fate::Synced;
            in_doubt
        });
    }

    /// Drops files that no name, surviving or not, and no handle can reach. Not for replaying a recording, which has
    /// no handles.
    pub(super) fn forget_lost_files(&mut self) {
        let pending = self.pending_names.iter().filter_map(|(change, _)| match change {
            NameChange::Set(_, node) | NameChange::Rename { node, .. } => Some(node),
            NameChange::Remove(_) => None,
        });
        let reachable = self.names.values().chain(self.durable_names.values()).chain(pending);
        let kept: BTreeSet<FileId> = reachable
            .filter_map(|node| match node {
                Node::File(file) => Some(*file),
                Node::Dir => None,
            })
            .collect();
        self.inodes.retain(|file, inode| kept.contains(file) || Arc::strong_count(&inode.open) > 1);
    }
}

impl Inode {
    fn set_len(&mut self, len: u64) {
        Arc::make_mut(&mut self.current).set_len(len);
        self.pending.push((FileChange::SetLen(len), Fate::Unsynced));
    }

    fn sync(&mut self) {
        if self.pending.iter().any(|(_, fate)| *fate == Fate::Doubtful) {
            for (_, fate) in self.pending.iter_mut().filter(|(_, fate)| *fate == Fate::Unsynced) {
                *fate = Fate::Synced;
            }
            return;
        }
        if self.pending.iter().any(|(change, _)| matches!(change, FileChange::SetLen(_))) {
            self.durable = Arc::clone(&self.current);
        } else {
            let durable = Arc::make_mut(&mut self.durable);
            for (change, _) in &self.pending {
                if let FileChange::Write { offset, data } = change {
                    durable.adopt(&self.current, *offset..offset + data.len());
                }
            }
        }
        self.pending.clear();
    }

    /// As a sync of its own would, were the changes before it not there.
    fn sync_newest(&mut self) {
        let (_, fate) = self.pending.last_mut().expect("a write has just been done");
        *fate = Fate::Synced;
        if self.pending.len() == 1 {
            self.sync();
        }
    }

    fn after_crash(&self, coin: &mut Coin) -> Inode {
        let mut survived = Arc::clone(&self.durable);
        for (change, fate) in &self.pending {
            let content = Arc::make_mut(&mut survived);
            match (fate, change) {
                (Fate::Synced, change) => change.apply(content),
                (_, FileChange::SetLen(len)) => {
                    if coin.keeps() {
                        content.set_len(*len);
                    }
                }
                (_, FileChange::Write { offset, data }) => keep_some_sectors(content, *offset, data, coin),
            }
        }
        let mut allocated = self.allocated.clone();
        allocated.truncate(survived.len.div_ceil(BLOCK));
        Inode {
            current: Arc::clone(&survived),
            durable: survived,
            pending: Vec::new(),
            allocated,
            open: Arc::default(),
        }
    }
}

impl FileChange {
    fn apply(&self, content: &mut Content) {
        match self {
            FileChange::Write { offset, data: Data::Bytes(bytes) } => content.write(bytes, *offset),
            FileChange::Write { offset, data: Data::Zeros(len) } => content.write_zeros(*offset, *len),
            FileChange::SetLen(len) => content.set_len(*len),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameChange::Rename { from, to, node } => {
                names.remove(from);
                // An earlier rename of the same file may have been lost: a file has one name all the same.
                names.retain(|_, held| *node == Node::Dir || held != node);
                names.insert(to.clone(), *node);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

/// Whether each thing in doubt survives.
struct Coin {
    rng: SystemRng,
    /// Of 256.
    keep: u64,
}

impl Coin {
    fn new(survival: Survival, salt: u64) -> Coin {
        let (seed, keep) = match survival {
            Survival::None => (0, 0),
            Survival::All => (0, 256),
            // Some crashes lose nearly all, some nearly nothing: both find other faults than an even coin.
            Survival::Random(seed) => (seed, [8, 128, 128, 248][(seed % 4) as usize]),
        };
        Coin { rng: SystemRng::with_seed(seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)), keep }
    }

    fn keeps(&mut self) -> bool {
        self.keep == 256 || (self.keep != 0 && self.rng.below(256) < self.keep)
    }
}

fn keep_some_sectors(content: &mut Content, offset: u64, data: &Data, coin: &mut Coin) {
    let end = offset + data.len();
    let mut at = offset;
    while at < end {
        let stop = (at / SECTOR + 1).saturating_mul(SECTOR).min(end);
        if coin.keeps() {
            match data {
                Data::Bytes(bytes) => content.write(&bytes[(at - offset) as usize..(stop - offset) as usize], at),
                Data::Zeros(_) => content.write_zeros(at, stop - at),
            }
        }
        at = stop;
    }
    // The grown length may survive without the bytes, which then read as zero.
    if content.len < end && coin.keeps() {
        content.set_len(end);
    }
}

fn doubt<'a>(fates: impl Iterator<Item = &'a mut Fate>) {
    for fate in fates.filter(|fate| **fate == Fate::Unsynced) {
        *fate = Fate::Doubtful;
    }
}

/// A name is found only if all directories above it are.
fn drop_orphans(names: &mut Names) {
    let all = names.clone();
    names.retain(|path, _| path.ancestors().skip(1).all(|dir| is_root(dir) || all.get(dir) == Some(&Node::Dir)));
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/")
}
