//! Where a member's files lie, and whose they are.
//!
//! ```text
//! <data dir>/           0700
//!   lock                held by the running process
//!   wal/                the log (docs/wal.md), unless --wal-dir names another place
//!   state.redb          the backend (docs/backend.md)
//! <wal dir>/            0700, if it is a place of its own: the log, and a lock too
//! ```

use std::io;
use std::path::{Path, PathBuf};

use env::Disk;

/// The paths of one member.
#[derive(Clone, Debug)]
pub struct Layout {
    pub root: PathBuf,
    pub wal: PathBuf,
    pub state: PathBuf,
    wal_is_apart: bool,
}

/// A directory that the operator chose.
pub(crate) struct Place {
    pub(crate) flag: &'static str,
    pub(crate) path: PathBuf,
}

/// The name of the file that is locked while a process uses the directory.
pub const LOCK_FILE: &str = "lock";

impl Layout {
    /// The paths below `data_dir`; the log goes to `wal_dir` if one is given.
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Layout {
        Layout {
            root: data_dir.to_owned(),
            wal: wal_dir.map_or_else(|| data_dir.join("wal"), Path::to_owned),
            state: data_dir.join("state.redb"),
            wal_is_apart: wal_dir.is_some_and(|dir| dir != data_dir),
        }
    }

    /// The directories that the operator chose, the data directory first.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = vec![Place { flag: "--data-dir", path: self.root.clone() }];
        if self.wal_is_apart {
            places.push(Place { flag: "--wal-dir", path: self.wal.clone() });
        }
        places
    }

    /// See [`Place::create`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn create_root(&self, disk: &dyn Disk) -> io::Result<()> {
        create(disk, &self.root)
    }

    /// Names in the directory that are neither ours nor harmless; empty if the directory is new or our own.
    pub fn foreign_names(&self, disk: &dyn Disk) -> Vec<String> {
        let entries = disk.list(&self.root).unwrap_or_default();
        if entries.iter().any(|entry| entry.name == "state.redb" || entry.name == LOCK_FILE) {
            return Vec::new();
        }
        // A fresh volume carries these.
        let harmless = |name: &str| name == "lost+found" || name == "wal" || name.starts_with('.');
        entries.into_iter().map(|entry| entry.name).filter(|name| !harmless(name)).collect()
    }
}

impl Place {
    /// Makes the directory, and its name durable: everything in it would be lost with the name.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create(&self, disk: &dyn Disk) -> io::Result<()> {
        create(disk, &self.path)
    }

    /// Whether a process has used the directory, or uses it.
    pub(crate) fn has_lock_file(&self, disk: &dyn Disk) -> bool {
        disk.list(&self.path).unwrap_or_default().iter().any(|entry| entry.name == LOCK_FILE)
    }

    /// Whether etcd's own data lies in the directory: all of it, what etcd keeps in `member/`, or the log alone.
    pub(crate) fn holds_etcd_data(&self, disk: &dyn Disk) -> bool {
        let names = |dir: &Path| disk.list(dir).unwrap_or_default();
        let has_log = |dir: &Path| names(dir).iter().any(|entry| is_etcd_log(&entry.name));
        let has_state = |dir: &Path| names(dir).iter().any(|entry| entry.name == "db");
        let is_all = ["member/snap", "member/wal"].iter().any(|dir| !names(&self.path.join(dir)).is_empty());
        is_all || has_log(&self.path) || has_log(&self.path.join("wal")) || has_state(&self.path.join("snap"))
    }
}

/// Whether a file is called as etcd calls those of its log: `<sequence>-<index>.wal`.
fn is_etcd_log(name: &str) -> bool {
    let is_number = |part: &str| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let numbers = name.strip_suffix(".wal").and_then(|stem| stem.split_once('-'));
    numbers.is_some_and(|(sequence, index)| is_number(sequence) && is_number(index))
}

fn create(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && disk.list(dir).is_err());
    let missing = missing.collect::<Vec<_>>();
    disk.create_dir_all(dir)?;
    for dir in missing {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}
