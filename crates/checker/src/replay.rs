//! The store's whole past, revision by revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::{KeyRange, LeaseId};

use crate::history::{Change, KeyValue};
use crate::model::{View, next_version};

/// Every key at every revision.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    last: i64,
    /// Of every key, what each revision that changed it made of it.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// Which keys hang from which lease at `last`.
    attached: BTreeMap<LeaseId, BTreeSet<Bytes>>,
    changes: BTreeMap<i64, Vec<Change>>,
}

impl Replay {
    /// A store without keys at revision `start`.
    pub fn new(start: i64) -> Replay {
        Replay { last: start, ..Replay::default() }
    }

    /// The newest revision.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// What `revision` did, in order; empty if it is not known.
    pub fn changes(&self, revision: i64) -> &[Change] {
        self.changes.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// All revisions from `from` on.
    pub fn since(&self, from: i64) -> impl Iterator<Item = (i64, &[Change])> {
        self.changes.range(from..).map(|(&revision, changes)| (revision, changes.as_slice()))
    }

    /// A key as of a revision.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(at, _)| *at <= revision);
        versions[..after].last()?.1.as_ref()
    }

    /// The state at `revision`, which may be the newest or any before.
    pub fn at(&self, revision: i64) -> impl View + '_ {
        At { replay: self, revision }
    }

    pub(crate) fn append(&mut self, changes: Vec<Change>) {
        self.last += 1;
        for Change { key, put } in &changes {
            let versions = self.keys.entry(key.clone()).or_default();
            let before = versions.last().and_then(|(_, kv)| kv.as_ref());
            if let Some(before) = before.filter(|before| before.lease != LeaseId::NONE)
                && let Some(keys) = self.attached.get_mut(&before.lease)
            {
                keys.remove(key);
            }
            let after = put.as_ref().map(|(value, lease)| next_version(before, key, value, *lease, self.last));
            if let Some(after) = after.as_ref().filter(|after| after.lease != LeaseId::NONE) {
                self.attached.entry(after.lease).or_default().insert(key.clone());
            }
            versions.push((self.last, after));
        }
        self.changes.insert(self.last, changes);
    }

    /// The keys that hang from a lease at the newest revision.
    pub(crate) fn attached_now(&self, lease: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.attached.get(&lease).into_iter().flatten()
    }
}

struct At<'a> {
    replay: &'a Replay,
    revision: i64,
}

impl View for At<'_> {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.replay.get(key, self.revision).cloned()
    }

    fn range(&self, keys: &KeyRange) -> Vec<KeyValue> {
        self.range_at(keys, self.revision)
    }

    fn range_at(&self, keys: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let from = self.replay.keys.range(keys.start.clone()..);
        let within = from.take_while(|(key, _)| !keys.ends_before(key));
        within.filter_map(|(key, _)| self.replay.get(key, revision)).cloned().collect()
    }

    fn attached(&self, lease: LeaseId) -> Vec<Bytes> {
        if self.revision == self.replay.last {
            return self.replay.attached_now(lease).cloned().collect();
        }
        let all = self.range(&KeyRange::all()).into_iter();
        all.filter(|kv| kv.lease == lease).map(|kv| kv.key).collect()
    }
}
