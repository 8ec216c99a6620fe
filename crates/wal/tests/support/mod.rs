//! What the tests of the log share: a disk with a directory, entries, and ways to open and compare.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "in a test every failure is a panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{Disk, SimDisk};
use types::{ClusterId, EntryKind, HardState, Index, LogEntry, MemberId, Term};
use wal::{Recovered, Wal, WalError, WalMeta, WalOptions};

pub(crate) const DIR: &str = "member/wal";
pub(crate) const META: WalMeta = WalMeta { cluster: ClusterId(0xc1), member: MemberId(0x3e) };

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Segments of 16 KiB: some 20 small batches each.
pub(crate) fn small() -> WalOptions {
    WalOptions { segment_size_bytes: 16 << 10 }
}

/// Segments of 64 KiB, and of 16 where the log starts anew.
pub(crate) fn mixed() -> WalOptions {
    WalOptions { segment_size_bytes: 64 << 10 }
}

/// A disk on which the log's parent directory is durable.
pub(crate) fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("member")).unwrap();
    disk.settle();
    disk
}

pub(crate) fn create(disk: &SimDisk, options: WalOptions) -> Wal {
    Wal::create(Arc::new(disk.clone()), dir(), META, options).unwrap()
}

pub(crate) fn open(disk: &SimDisk, options: WalOptions) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), dir(), options, Index(0), Index(0))
}

pub(crate) fn segment(sequence: u64) -> PathBuf {
    dir().join(format!("{sequence:016x}.wal"))
}

pub(crate) fn entry(index: u64, term: u64, data: impl Into<Bytes>) -> LogEntry {
    LogEntry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data: data.into() }
}

/// `count` entries from `first` on, each with `len` bytes that tell it from others.
pub(crate) fn entries(first: u64, count: u64, term: u64, len: usize) -> Vec<LogEntry> {
    let data = |index: u64| {
        (index.wrapping_mul(31).wrapping_add(term) ^ 0x5a5a_5a5a_5a5a_5a5a).to_le_bytes().into_iter().cycle().take(len)
    };
    (first..first + count).map(|index| entry(index, term, data(index).collect::<Vec<u8>>())).collect()
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: MemberId(vote), commit: Index(commit) }
}

/// Appends and syncs.
pub(crate) fn write(wal: &mut Wal, entries: &[LogEntry], state: Option<HardState>) {
    wal.append(entries, state).unwrap();
    wal.sync().unwrap();
}

/// The error of an open that must fail.
pub(crate) fn open_error(disk: &SimDisk, options: WalOptions) -> WalError {
    match open(disk, options) {
        Ok((_, recovered)) => panic!("opened a log it should not have: {recovered:?}"),
        Err(error) => error,
    }
}
