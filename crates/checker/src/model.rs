//! What one request does to one state: the sequential store.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use types::{KeyRange, LeaseId};

use crate::history::{
    Answer, Body, Change, Comparison, KeyValue, Put, RangeQuery, Refusal, Relation, Request, Step, Target, Txn,
};

/// A state at one revision.
pub trait View {
    fn revision(&self) -> i64;
    fn get(&self, key: &[u8]) -> Option<KeyValue>;
    /// The keys of a range in order.
    fn range(&self, keys: &KeyRange) -> Vec<KeyValue>;
    /// The same as of an earlier revision, which is not compacted.
    fn range_at(&self, keys: &KeyRange, revision: i64) -> Vec<KeyValue>;
    /// The keys that hang from a lease, in order.
    fn attached(&self, lease: LeaseId) -> Vec<Bytes>;
}

/// What a request does to the keys of `view`, and its answer. Leases and compaction are taken to allow it.
pub(crate) fn evaluate(view: &dyn View, request: &Request) -> (Answer, Vec<Change>) {
    let mut run = Run { view, changed: BTreeMap::new(), changes: Vec::new() };
    let body = match request {
        Request::Put(put) => run.put(put),
        Request::Delete { keys, previous } => run.delete(keys, *previous),
        Request::Range(range) => run.range(range),
        Request::Txn(txn) => run.txn(txn),
        Request::Compact(_) => Body::Compacted,
        Request::Grant { ttl, .. } => Body::Granted { ttl: *ttl },
        Request::Revoke(lease) => {
            for key in view.attached(*lease) {
                run.changes.push(Change { key, put: None });
            }
            Body::Revoked
        }
        Request::KeepAlive(_) => Body::KeptAlive { ttl: 0 },
    };
    let revision = view.revision() + i64::from(!run.changes.is_empty());
    (Answer { revision, body }, run.changes)
}

struct Run<'a> {
    view: &'a dyn View,
    /// Keys that this request has changed so far.
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    changes: Vec<Change>,
}

impl Run<'_> {
    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.changed.get(key).cloned().unwrap_or_else(|| self.view.get(key))
    }

    fn current(&self, keys: &KeyRange) -> Vec<KeyValue> {
        let stored = self.view.range(keys).into_iter();
        let untouched = stored.filter(|kv| !self.changed.contains_key(&kv.key));
        let touched = self.changed.iter().filter(|(key, _)| keys.contains(key)).filter_map(|(_, kv)| kv.clone());
        let mut found: Vec<KeyValue> = untouched.chain(touched).collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    fn put(&mut self, put: &Put) -> Body {
        let before = self.get(&put.key);
        let revision = self.view.revision() + 1;
        let kv = next_version(before.as_ref(), &put.key, &put.value, put.lease, revision);
        self.changed.insert(put.key.clone(), Some(kv));
        self.changes.push(Change { key: put.key.clone(), put: Some((put.value.clone(), put.lease)) });
        Body::Put { previous: before.filter(|_| put.previous) }
    }

    fn delete(&mut self, keys: &KeyRange, previous: bool) -> Body {
        let gone = self.current(keys);
        for kv in &gone {
            self.changed.insert(kv.key.clone(), None);
            self.changes.push(Change { key: kv.key.clone(), put: None });
        }
        Body::Deleted { count: gone.len() as i64, previous: if previous { gone } else { Vec::new() } }
    }

    fn range(&self, query: &RangeQuery) -> Body {
        let mut kvs = match query.revision {
            ..=0 => self.current(&query.keys),
            revision => self.view.range_at(&query.keys, revision),
        };
        let count = kvs.len() as i64;
        if query.count_only {
            return Body::Range { kvs: Vec::new(), count, more: false };
        }
        let more = query.limit > 0 && count > query.limit;
        if more {
            kvs.truncate(query.limit as usize);
        }
        Body::Range { kvs, count, more }
    }

    fn txn(&mut self, txn: &Txn) -> Body {
        let succeeded = txn.compare.iter().all(|comparison| holds(comparison, self.view.get(&comparison.key).as_ref()));
        let steps = if succeeded { &txn.success } else { &txn.failure };
        let bodies = steps.iter().map(|step| match step {
            Step::Put(put) => self.put(put),
            Step::Delete { keys, previous } => self.delete(keys, *previous),
            Step::Range(range) => self.range(range),
        });
        Body::Txn { succeeded, bodies: bodies.collect() }
    }
}

/// The key after a put at `revision`.
pub(crate) fn next_version(
    before: Option<&KeyValue>,
    key: &Bytes,
    value: &Bytes,
    lease: LeaseId,
    revision: i64,
) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: value.clone(),
        created: before.map_or(revision, |kv| kv.created),
        modified: revision,
        version: before.map_or(0, |kv| kv.version) + 1,
        lease,
    }
}

fn holds(comparison: &Comparison, stored: Option<&KeyValue>) -> bool {
    let number = |of: fn(&KeyValue) -> i64| stored.map_or(0, of);
    let order = match &comparison.target {
        Target::Version(given) => number(|kv| kv.version).cmp(given),
        Target::Created(given) => number(|kv| kv.created).cmp(given),
        Target::Modified(given) => number(|kv| kv.modified).cmp(given),
        Target::Lease(given) => number(|kv| kv.lease.0).cmp(&given.0),
        Target::Value(given) => match stored {
            Some(kv) => kv.value.cmp(given),
            // The value of a key that is not there compares as nothing, not even as unequal.
            None => return false,
        },
    };
    match comparison.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}

/// A store of one client after the other. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    /// Reads below it are refused; -1 before the first compaction.
    compacted: i64,
    keys: Arc<BTreeMap<Bytes, KeyValue>>,
    leases: BTreeSet<LeaseId>,
    /// Earlier states of the keys, from the first revision on; kept only if asked for.
    earlier: Option<Vec<Arc<BTreeMap<Bytes, KeyValue>>>>,
    /// What stands for `keys` and `earlier` in comparisons: a hash of all changes so far.
    digest: u64,
}

impl PartialEq for Model {
    fn eq(&self, other: &Model) -> bool {
        let identity = |model: &Model| (model.revision, model.compacted, model.digest);
        identity(self) == identity(other) && self.leases == other.leases
    }
}

impl Eq for Model {}

impl Hash for Model {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.revision, self.compacted, self.digest, &self.leases).hash(hasher);
    }
}

impl Model {
    /// A store without keys at `revision`. With `keeps_history` it answers reads at earlier revisions.
    pub fn new(revision: i64, keeps_history: bool) -> Model {
        let earlier = keeps_history.then(Vec::new);
        Model { revision, compacted: -1, keys: Arc::default(), leases: BTreeSet::new(), earlier, digest: 0 }
    }

    /// Does a request. Returns its answer and what it changed.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn apply(&mut self, request: &Request) -> Result<(Answer, Vec<Change>), Refusal> {
        self.admit(request)?;
        let (answer, changes) = evaluate(self, request);
        match request {
            Request::Compact(revision) => self.compacted = *revision,
            Request::Grant { lease, .. } => drop(self.leases.insert(*lease)),
            Request::Revoke(lease) => drop(self.leases.remove(lease)),
            _ => {}
        }
        if !changes.is_empty() {
            if let Some(earlier) = &mut self.earlier {
                earlier.push(Arc::clone(&self.keys));
            }
            self.revision += 1;
            let mut hasher = DefaultHasher::new();
            (self.digest, &changes).hash(&mut hasher);
            self.digest = hasher.finish();
            let keys = Arc::make_mut(&mut self.keys);
            for Change { key, put } in &changes {
                let next =
                    |(value, lease): &(Bytes, LeaseId)| next_version(keys.get(key), key, value, *lease, self.revision);
                match put.as_ref().map(next) {
                    Some(kv) => keys.insert(key.clone(), kv),
                    None => keys.remove(key),
                };
            }
        }
        Ok((answer, changes))
    }

    pub fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease)
    }

    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::Put(put) => self.admit_lease(put.lease),
            Request::Range(range) => self.admit_revision(range.revision),
            Request::Txn(txn) => {
                let succeeded = txn.compare.iter().all(|comparison| holds(comparison, self.keys.get(&comparison.key)));
                for step in if succeeded { &txn.success } else { &txn.failure } {
                    match step {
                        Step::Put(put) => self.admit_lease(put.lease)?,
                        Step::Range(range) => self.admit_revision(range.revision)?,
                        Step::Delete { .. } => {}
                    }
                }
                Ok(())
            }
            Request::Compact(revision) if *revision <= self.compacted => Err(Refusal::Compacted),
            Request::Compact(revision) if *revision > self.revision => Err(Refusal::FutureRevision),
            Request::Grant { lease, .. } if self.leases.contains(lease) => Err(Refusal::LeaseExists),
            Request::Revoke(lease) if !self.leases.contains(lease) => Err(Refusal::LeaseNotFound),
            _ => Ok(()),
        }
    }

    fn admit_lease(&self, lease: LeaseId) -> Result<(), Refusal> {
        let is_known = lease == LeaseId::NONE || self.leases.contains(&lease);
        if is_known { Ok(()) } else { Err(Refusal::LeaseNotFound) }
    }

    fn admit_revision(&self, revision: i64) -> Result<(), Refusal> {
        match revision {
            ..=0 => Ok(()),
            _ if revision > self.revision => Err(Refusal::FutureRevision),
            _ if revision < self.compacted => Err(Refusal::Compacted),
            _ => Ok(()),
        }
    }
}

impl View for Model {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.keys.get(key).cloned()
    }

    fn range(&self, keys: &KeyRange) -> Vec<KeyValue> {
        self.keys.values().filter(|kv| keys.contains(&kv.key)).cloned().collect()
    }

    fn range_at(&self, keys: &KeyRange, revision: i64) -> Vec<KeyValue> {
        if revision >= self.revision {
            return self.range(keys);
        }
        let earlier = self.earlier.as_ref().expect("a model that is asked for earlier revisions keeps them");
        let back = usize::try_from(self.revision - revision).expect("an earlier revision");
        let state = earlier.len().checked_sub(back).map(|at| earlier[at].values());
        state.into_iter().flatten().filter(|kv| keys.contains(&kv.key)).cloned().collect()
    }

    fn attached(&self, lease: LeaseId) -> Vec<Bytes> {
        self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }
}
