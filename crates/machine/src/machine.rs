//! The machine: owns the state, applies entries in batches.

use std::sync::Arc;

use backend::{Backend, Staged};
use env::Monotonic;
use lease::LessorOptions;
use membership::{ClusterVersion, Membership};
use mvcc::{Store, StoreOptions};
use types::{Index, LogEntry, Term};
use watch::RevisionEvents;

use crate::alarms::Alarms;
use crate::counts::Counts;
use crate::digest::{self, Digest};
use crate::error::{ApplyError, MachineError};
use crate::execute::Execution;
use crate::members::VoterChange;
use crate::reply::Reply;
use crate::restore;
use crate::shared::Shared;

/// How many entries are applied under one lock of the index, at most: readers wait that long.
const BATCH_ENTRIES_MAX: usize = 128;
/// How many bytes of entries, beyond the first of a batch.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Settings of a [`Machine`].
#[derive(Clone, Copy, Debug)]
pub struct MachineOptions {
    pub store: StoreOptions,
    pub lessor: LessorOptions,
    /// How many learners the cluster may have. Must be the same on every member.
    pub learners_max: usize,
    /// Whether checkpoints of leases are stored although the cluster's version is below 3.6.
    pub persist_checkpoints: bool,
}

impl Default for MachineOptions {
    /// etcd's defaults, and a gigabyte of values in memory.
    fn default() -> MachineOptions {
        MachineOptions {
            store: StoreOptions { value_budget_bytes: 1 << 30, restore_threads: 1 },
            lessor: LessorOptions { ttl_min: 2, checkpoint_interval: None },
            learners_max: 1,
            persist_checkpoints: false,
        }
    }
}

/// What came of applied entries. The caller empties what it has used; everything is appended.
#[derive(Debug, Default)]
pub struct Applied {
    /// In log order: the request's id (0 if it could not be read), its index, and what it is answered with.
    pub results: Vec<(u64, Index, Result<Reply, ApplyError>)>,
    /// Every change of a key, one item for each main revision, ascending.
    pub events: Vec<RevisionEvents>,
    /// One for each membership entry, in log order.
    pub voter_changes: Vec<VoterChange>,
    /// History was cut off: its rows can be removed.
    pub compacted: bool,
    /// [`Shared::alarms`] has changed.
    pub alarms_changed: bool,
    /// [`Shared::membership`] has changed.
    pub membership_changed: bool,
    /// What the cluster's version was before it was set, each time.
    pub versions_before: Vec<ClusterVersion>,
    pub counts: Counts,
}

/// The replicated state. Owned by one thread; others read through [`Machine::shared`].
pub struct Machine {
    store: Store,
    backend: Backend,
    state: State,
    applied: Index,
    digest: Digest,
}

/// Everything but the keys.
pub(crate) struct State {
    pub(crate) shared: Shared,
    pub(crate) alarms: Alarms,
    pub(crate) membership: Membership,
    pub(crate) options: MachineOptions,
}

impl Machine {
    /// The state as the backend has it committed; nothing is staged there yet.
    ///
    /// # Errors
    /// If the backend cannot be read or holds what it should not.
    pub fn restore(backend: Backend, options: MachineOptions) -> Result<Machine, MachineError> {
        let view = backend.view();
        let store = Store::restore(backend.clone(), options.store).map_err(MachineError::Mvcc)?;
        let lessor = restore::lessor(&view, |visit| store.attachments(visit), options.lessor)?;
        let alarms = restore::alarms(&view)?;
        let membership = restore::membership(&view)?;
        let ((applied, _), digest) = (view.applied(), Digest::restored(view.digest()));
        let shared = Shared::new(store.view(), lessor, alarms.clone(), membership.clone(), applied);
        let machine = Machine { store, backend, state: State { shared, alarms, membership, options }, applied, digest };
        machine.remember_digest();
        Ok(machine)
    }

    /// Puts the state that was received beside the backend's in the place of this one, under the same handles: the one that
    /// reflects log entry `expected`, at which the log was started anew. Everything is read and built beside what is in use
    /// before anything changes, so readers wait no longer than for a batch. What was staged and not committed is dropped.
    ///
    /// The leases have no deadlines afterwards: a leader is never sent a state. Watchers are the caller's to tell
    /// (`EventLog::reset`), once this has returned.
    ///
    /// # Errors
    /// [`MachineError::OtherState`], with nothing changed, if what was received is not what is expected, or not newer than
    /// this state. After any other error the member must stop; a start then goes on with the one state or the other.
    pub fn adopt_received(&mut self, expected: (Index, Term)) -> Result<(), MachineError> {
        let received = self.backend.open_received()?;
        let view = Arc::clone(received.view());
        let ((found, _), applied) = (view.applied(), self.applied);
        if view.applied() != expected || found <= applied {
            return Err(MachineError::OtherState { expected: expected.0, found, applied });
        }
        let replacement = self.store.prepare(&view).map_err(MachineError::Mvcc)?;
        let mut lessor = restore::lessor(&view, |visit| replacement.attachments(visit), self.state.options.lessor)?;
        let alarms = restore::alarms(&view)?;
        let membership = restore::membership(&view)?;
        let adoption = self.backend.begin_adoption(received)?;
        self.store.replace(replacement, || adoption.publish());
        let replaced = {
            let mut current = self.state.shared.lessor().lock();
            lessor.continue_counts(&current);
            std::mem::replace(&mut *current, lessor)
        };
        drop(replaced);
        (self.state.alarms, self.state.membership) = (alarms, membership);
        (self.applied, self.digest) = (found, Digest::restored(view.digest()));
        self.state.shared.forget_digests();
        self.remember_digest();
        self.publish(true, true);
        Ok(())
    }

    pub fn shared(&self) -> &Shared {
        &self.state.shared
    }

    /// The last applied entry.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Applies committed entries, in log order. Those already applied are passed over, which is how a restart goes
    /// on. `now` dates the leases granted here; it is no part of the state.
    ///
    /// # Errors
    /// Something is broken; the member must stop, and nothing of `out` may be used.
    pub fn apply(&mut self, entries: &[LogEntry], now: Monotonic, out: &mut Applied) -> Result<(), MachineError> {
        let mut entries = &entries[entries.partition_point(|entry| entry.index <= self.applied)..];
        while !entries.is_empty() {
            let (batch, rest) = entries.split_at(batch_len(entries));
            self.apply_batch(batch, now, out)?;
            entries = rest;
        }
        Ok(())
    }

    fn apply_batch(&mut self, entries: &[LogEntry], now: Monotonic, out: &mut Applied) -> Result<(), MachineError> {
        let mut last = (self.applied, Term(0));
        let mut staged = Staged::default();
        let (alarms_changed, membership_changed);
        let mut remembered = Vec::new();
        {
            let mut batch = self.store.begin();
            let mut execution = Execution::new(&mut batch, &mut self.state, &mut staged, now, out);
            let mut digest = self.digest;
            for entry in entries {
                if entry.index != last.0.next() {
                    return Err(MachineError::Gap { expected: last.0.next(), found: entry.index });
                }
                let mark = execution.mark();
                let folding = execution.entry(entry)?;
                digest.fold(entry, execution.staged(), mark, folding);
                if entry.index.0.is_multiple_of(digest::REMEMBERED_EVERY) {
                    remembered.push((entry.index, digest));
                }
                last = (entry.index, entry.term);
            }
            (alarms_changed, membership_changed) = (execution.alarms_changed, execution.membership_changed);
            staged.applied = Some(last);
            staged.digest = Some(digest.get());
            self.digest = digest;
            // Before the batch is published: what readers see must be found in the backend.
            self.backend.stage(staged);
        }
        self.applied = last.0;
        self.state.shared.remember_digests(&remembered);
        self.publish(alarms_changed, membership_changed);
        out.alarms_changed |= alarms_changed;
        out.membership_changed |= membership_changed;
        Ok(())
    }

    /// After a restart: the others may ask for it.
    fn remember_digest(&self) {
        if self.applied.0.is_multiple_of(digest::REMEMBERED_EVERY) {
            self.state.shared.remember_digests(&[(self.applied, self.digest)]);
        }
    }

    /// The applied index last: whoever reads it must find everything up to it.
    fn publish(&self, alarms_changed: bool, membership_changed: bool) {
        let shared = &self.state.shared;
        if alarms_changed {
            shared.publish_alarms(&self.state.alarms);
        }
        if membership_changed {
            shared.publish_membership(&self.state.membership);
        }
        shared.publish_applied(self.applied);
    }
}

/// How many of `entries` (at least one) make the next batch.
fn batch_len(entries: &[LogEntry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        bytes += entry.data.len();
        bytes <= BATCH_BYTES_MAX
    };
    entries.iter().take(BATCH_ENTRIES_MAX).take_while(fits).count().max(1)
}
