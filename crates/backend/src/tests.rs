//! What the backend promises, against a naive model, power cuts, full disks, failing disks and rot.

mod crash;
mod defragment;
mod faults;
mod model;
mod real_disk;
mod rot;
mod snapshot;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use env::{Disk, SimDisk};
use types::{Index, Record, RecordMeta, Revision, RowKey, Term};

use crate::{Backend, BackendError, Options, Staged, Table};

const PATH: &str = "db";

fn open(disk: &SimDisk) -> Result<Backend, BackendError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Backend::open(disk, Path::new(PATH), Options { cache_size_bytes: 1 << 20 })
}

/// How much was written to a file of a disk that records, at most, before it was synced.
fn unsynced_bytes_max(disk: &SimDisk) -> usize {
    let (mut unsynced, mut max) = (0, 0);
    for operation in (0..disk.operation_count()).map(|operation| disk.describe(operation)) {
        if operation.starts_with("Sync") {
            unsynced = 0;
        } else if let Some((before, _)) = operation.split_once(" bytes") {
            let len = before.rsplit(' ').next().expect("a part is there");
            unsynced += len.parse::<usize>().expect("a write tells its length");
            max = max.max(unsynced);
        }
    }
    max
}

fn row(main: i64) -> RowKey {
    RowKey { revision: Revision::first(main), tombstone: false }
}

fn record(main: i64, value_len: usize) -> Record {
    let meta = RecordMeta { create_revision: main, mod_revision: main, version: 1, ..RecordMeta::default() };
    Record::put(format!("key{main}").as_bytes(), &vec![main as u8; value_len], meta)
}

/// Rows `mains`, with values of `value_len` bytes, applied at index `index`.
fn puts(mains: std::ops::Range<i64>, value_len: usize, index: u64) -> Staged {
    Staged {
        rows: mains.map(|main| (row(main), record(main, value_len))).collect(),
        applied: Some((Index(index), Term(1))),
        digest: Some(index * 1_000_003),
        ..Staged::default()
    }
}

fn removals(mains: impl IntoIterator<Item = i64>, index: u64) -> Staged {
    Staged {
        removed_rows: mains.into_iter().map(row).collect(),
        applied: Some((Index(index), Term(1))),
        digest: Some(index * 1_000_003),
        ..Staged::default()
    }
}

/// Everything a reader can see.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    rows: BTreeMap<RowKey, Vec<u8>>,
    values: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl Contents {
    fn apply(&mut self, staged: &Staged) {
        self.rows.extend(staged.rows.iter().map(|(row, record)| (*row, record.as_bytes().to_vec())));
        for row in &staged.removed_rows {
            self.rows.remove(row);
        }
        for (table, key, value) in &staged.values {
            match value {
                Some(value) => drop(self.values.insert((*table, key.clone()), value.clone())),
                None => drop(self.values.remove(&(*table, key.clone()))),
            }
        }
    }
}

const END: Revision = Revision { main: i64::MAX, sub: 0 };

/// All there is but for the consistent index.
fn contents(backend: &Backend) -> Result<Contents, BackendError> {
    let mut contents = Contents::default();
    backend.scan(Revision::default(), END, &mut |row, record| {
        contents.rows.insert(row, record.to_vec());
        ControlFlow::Continue(())
    })?;
    for table in Table::ALL {
        for (key, value) in backend.values(table)? {
            if table != Table::Meta || (key != b"consistent_index" && key != b"term") {
                contents.values.insert((table, key), value);
            }
        }
    }
    Ok(contents)
}
