//! What the tests share: a store over a simulated disk, and a naive store to hold it against.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backend::{Backend, Options, Staged};
use bytes::{Buf, BytesMut};
use env::SimDisk;
use mvcc::{Batch, Changes, PruneStep, RangeQuery, RangeResult, SortOrder, SortTarget, Store, StoreOptions, Txn, View};
use types::{KeyRange, LeaseId, Record, RecordMeta, Revision, RowKey};

/// A store with its backend and disk.
pub struct Fixture {
    pub disk: SimDisk,
    pub backend: Backend,
    pub store: Store,
    pub budget: usize,
}

impl Fixture {
    pub fn new(budget: usize) -> Fixture {
        let disk = SimDisk::new();
        let backend = open(&disk);
        let store = restore(&backend, budget);
        Fixture { disk, backend, store, budget }
    }

    /// Commits and starts anew from what is on disk.
    pub fn restart(self) -> Fixture {
        let Fixture { disk, backend, store, budget } = self;
        backend.commit().expect("the simulated disk works");
        drop((backend, store));
        let backend = open(&disk);
        let store = restore(&backend, budget);
        Fixture { disk, backend, store, budget }
    }

    pub fn view(&self) -> View {
        self.store.view()
    }

    /// Runs one transaction in a batch of its own.
    pub fn write(&mut self, write: impl FnOnce(&mut Txn<'_>)) -> Changes {
        self.batch(|batch, staged| run(batch, staged, write))
    }

    /// Runs a batch and stages it before it is published.
    pub fn batch<T>(&mut self, write: impl FnOnce(&mut Batch<'_>, &mut Staged) -> T) -> T {
        let mut staged = Staged::default();
        let mut batch = self.store.begin();
        let done = write(&mut batch, &mut staged);
        self.backend.stage(staged);
        done
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) -> i64 {
        self.write(|txn| drop(txn.put(key, value, LeaseId::NONE))).revision
    }

    pub fn delete(&mut self, key: &[u8]) -> i64 {
        self.write(|txn| drop(txn.delete_range(&KeyRange::single(key.to_vec())))).revision
    }

    pub fn compact(&mut self, revision: i64) {
        self.batch(|batch, staged| batch.compact(staged, revision)).expect("the revision can be compacted");
    }

    /// Runs removal to its end.
    pub fn prune(&mut self) {
        while self.prune_step(7) {}
    }

    /// Runs one step of removal; whether there may be more.
    pub fn prune_step(&mut self, max_rows: usize) -> bool {
        match self.view().prune_step(max_rows).expect("the simulated disk works") {
            PruneStep::Removed(staged) => {
                assert!(staged.removed_rows.len() <= max_rows);
                self.backend.stage(staged);
                true
            }
            PruneStep::Waiting => panic!("nobody reads"),
            PruneStep::Finished => false,
        }
    }
}

pub fn run(batch: &mut Batch<'_>, staged: &mut Staged, write: impl FnOnce(&mut Txn<'_>)) -> Changes {
    let mut txn = batch.txn();
    write(&mut txn);
    txn.finish(staged)
}

fn open(disk: &SimDisk) -> Backend {
    let options = Options { cache_size_bytes: 1 << 20 };
    Backend::open(Arc::new(disk.clone()), Path::new("db"), options).expect("the simulated disk works")
}

fn restore(backend: &Backend, budget: usize) -> Store {
    Store::restore(backend.clone(), StoreOptions { value_budget_bytes: budget, restore_threads: 1 })
        .expect("the backend is sound")
}

/// The rows of an answer, by taking its encoding apart again, in pieces of `piece` bytes.
pub fn decoded(result: RangeResult, piece: usize) -> Vec<Record> {
    let mut rows = result.rows;
    let (len, encoded_len) = (rows.len(), rows.encoded_len());
    let mut out = BytesMut::new();
    while rows.encode_next(&mut out, piece).expect("the backend works") {}
    assert_eq!(out.len() as u64, encoded_len);
    assert_eq!((rows.len(), rows.encoded_len()), (0, 0));
    let mut records = Vec::new();
    while !out.is_empty() {
        assert_eq!(out.get_u8(), 0x12);
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = out.get_u8();
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        records.push(Record::from_stored(&out.split_to(len)).expect("rows are records"));
    }
    assert_eq!(records.len(), len);
    records
}

/// All versions ever, and nothing clever.
#[derive(Clone, Debug, Default)]
pub struct Naive {
    /// Every row not removed by a compaction.
    pub rows: BTreeMap<Revision, (Vec<u8>, Option<Record>)>,
    pub revision: i64,
    pub compacted: i64,
    /// Target and predecessor of compactions made since the last restart, if they are hashed.
    pub hashes: Vec<(i64, i64, u32)>,
}

impl Naive {
    pub fn new() -> Naive {
        Naive { revision: 1, compacted: -1, ..Naive::default() }
    }

    pub fn get(&self, key: &[u8], at: i64) -> Option<&Record> {
        let versions = self.rows.range(..Revision::first(at + 1)).rev();
        versions.map(|(_, row)| row).find(|(of, _)| of == key).and_then(|(_, record)| record.as_ref())
    }

    pub fn live(&self, range: &KeyRange, at: i64) -> Vec<Record> {
        let mut live = BTreeMap::new();
        for (key, record) in self.rows.range(..Revision::first(at + 1)).map(|(_, row)| row) {
            live.insert(key, record);
        }
        let inside = live.into_iter().filter(|(key, _)| range.contains(key));
        inside.filter_map(|(_, record)| record.clone()).collect()
    }

    /// Puts `key` at the given revision.
    pub fn put(&mut self, revision: Revision, key: &[u8], value: &[u8], lease: LeaseId) -> Record {
        let before = self.get(key, revision.main).map(Record::meta);
        let meta = RecordMeta {
            create_revision: before.map_or(revision.main, |before| before.create_revision),
            mod_revision: revision.main,
            version: before.map_or(1, |before| before.version + 1),
            lease,
        };
        let record = Record::put(key, value, meta);
        self.rows.insert(revision, (key.to_vec(), Some(record.clone())));
        record
    }

    /// The answer to a query at a revision that can be read: rows, count, more. Ties are in key order.
    pub fn range(&self, query: &RangeQuery, at: i64) -> (Vec<Record>, i64, bool) {
        let mut rows = self.live(&query.range, at);
        let count = rows.len() as i64;
        if query.count_only {
            return (Vec::new(), count, false);
        }
        let bounds =
            [query.min_mod_revision, query.max_mod_revision, query.min_create_revision, query.max_create_revision];
        let limit = if query.limit > 0 { query.limit as usize } else { usize::MAX - 1 };
        if query.order == SortOrder::None && bounds == [0; 4] {
            rows.truncate(limit + 1);
        }
        rows.retain(|row| {
            let meta = row.meta();
            (bounds[0] == 0 || meta.mod_revision >= bounds[0])
                && (bounds[1] == 0 || meta.mod_revision <= bounds[1])
                && (bounds[2] == 0 || meta.create_revision >= bounds[2])
                && (bounds[3] == 0 || meta.create_revision <= bounds[3])
        });
        let sort_key = |row: &Record| match query.target {
            SortTarget::Key => row.key().to_vec(),
            SortTarget::Version => row.meta().version.to_be_bytes().to_vec(),
            SortTarget::CreateRevision => row.meta().create_revision.to_be_bytes().to_vec(),
            SortTarget::ModRevision => row.meta().mod_revision.to_be_bytes().to_vec(),
            SortTarget::Value => row.value().to_vec(),
        };
        match query.order {
            SortOrder::Descend => rows.sort_by_key(|row| std::cmp::Reverse(sort_key(row))),
            _ => rows.sort_by_key(sort_key),
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        if query.keys_only {
            rows = rows.iter().map(|row| Record::put(row.key(), b"", row.meta())).collect();
        }
        (rows, count, more)
    }

    pub fn events(&self, range: &KeyRange, from: i64, to: i64) -> Vec<(RowKey, Record)> {
        let rows = self.rows.range(Revision::first(from)..Revision::first(to + 1));
        let inside = rows.filter(|(_, (key, _))| range.contains(key));
        inside.map(|(&revision, (key, record))| encode_row(revision, key, record.as_ref())).collect()
    }

    /// Which rows etcd's `keyIndex` keeps at a revision.
    fn keep(&self, at: i64, keeps_tombstone: bool) -> Vec<Revision> {
        let mut newest = BTreeMap::new();
        for (revision, (key, record)) in self.rows.range(..Revision::first(at + 1)) {
            newest.insert(key, (*revision, record.is_some()));
        }
        let kept = newest.into_values().filter(|(row, is_put)| *is_put || keeps_tombstone && row.main == at);
        kept.map(|(revision, _)| revision).collect()
    }

    pub fn hash(&self, at: i64) -> (u32, i64) {
        if let Some((_, previous, hash)) = self.hashes.iter().find(|made| made.0 == at) {
            return (*hash, *previous);
        }
        (self.hash_rows(at, self.compacted, &self.keep(at, false)), self.compacted)
    }

    fn hash_rows(&self, at: i64, compacted: i64, keep: &[Revision]) -> u32 {
        let mut bytes = b"key".to_vec();
        for (&revision, (key, record)) in self.rows.range(..Revision::first(at + 1)) {
            if revision.main <= compacted && !keep.is_empty() && !keep.contains(&revision) {
                continue;
            }
            let (row, record) = encode_row(revision, key, record.as_ref());
            if revision.main == compacted && row.tombstone {
                continue;
            }
            bytes.extend_from_slice(row.encode().as_ref());
            bytes.extend_from_slice(record.as_bytes());
        }
        crc32c::crc32c(&bytes)
    }

    /// Compacts and removes at once. The hash is what etcd makes while it removes.
    pub fn compact(&mut self, at: i64, is_hashed: bool) {
        let keep = self.keep(at, true);
        let hash = self.hash_rows(at, self.compacted, &keep);
        if is_hashed {
            self.hashes.push((at, self.compacted, hash));
        }
        self.rows.retain(|revision, _| revision.main > at || keep.contains(revision));
        self.compacted = at;
    }
}

fn encode_row(revision: Revision, key: &[u8], record: Option<&Record>) -> (RowKey, Record) {
    let row = RowKey { revision, tombstone: record.is_none() };
    (row, record.cloned().unwrap_or_else(|| Record::tombstone(key)))
}
