//! Where a member's files lie, and whose they are.
//!
//! ```text
//! <data dir>/           0700
//!   lock                held by the running process
//!   wal/                the log (docs/wal.md), unless --wal-dir names another place
//!   state.redb          the backend (docs/backend.md)
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
        }
    }

    /// Makes the data directory, and its name durable: everything in it would be lost with the name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create_root(&self, disk: &dyn Disk) -> io::Result<()> {
        let missing = self.root.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && disk.list(dir).is_err());
        let missing = missing.collect::<Vec<_>>();
        disk.create_dir_all(&self.root)?;
        for dir in missing {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    /// Whether etcd's own data lies in the directory.
    pub fn holds_etcd_data(&self, disk: &dyn Disk) -> bool {
        ["member/snap", "member/wal"]
            .iter()
            .any(|dir| disk.list(&self.root.join(dir)).is_ok_and(|found| !found.is_empty()))
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
