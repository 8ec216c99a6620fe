//! What threads other than the apply thread see of the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lease::Lessor;
use membership::Membership;
use mvcc::View;
use parking_lot::Mutex;
use types::Index;

use crate::alarms::{Alarm, Alarms};
use crate::digest::{Digest, Remembered};

/// A handle on the state for readers; clones share it.
///
/// Alarms and members are snapshots that the apply thread replaces; the leases are the state itself, because their
/// deadlines are driven from outside. Nobody holds two of the locks at once, nor one of them over a read of the store.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: View,
    lessor: Mutex<Lessor>,
    alarms: Mutex<Arc<Alarms>>,
    membership: Mutex<Arc<Membership>>,
    digests: Mutex<Remembered>,
    applied: AtomicU64,
}

impl Shared {
    pub(crate) fn new(view: View, lessor: Lessor, alarms: Alarms, membership: Membership, applied: Index) -> Shared {
        Shared(Arc::new(Inner {
            view,
            lessor: Mutex::new(lessor),
            alarms: Mutex::new(Arc::new(alarms)),
            membership: Mutex::new(Arc::new(membership)),
            digests: Mutex::default(),
            applied: AtomicU64::new(applied.0),
        }))
    }

    pub fn view(&self) -> &View {
        &self.0.view
    }

    pub fn lessor(&self) -> &Mutex<Lessor> {
        &self.0.lessor
    }

    pub fn alarms(&self) -> Arc<Alarms> {
        self.0.alarms.lock().clone()
    }

    /// Whether any member has raised this alarm.
    pub fn has_alarm(&self, alarm: Alarm) -> bool {
        self.0.alarms.lock().has(alarm)
    }

    pub fn membership(&self) -> Arc<Membership> {
        self.0.membership.lock().clone()
    }

    /// The last entry whose effects every read from now on sees.
    pub fn applied(&self) -> Index {
        Index(self.0.applied.load(Ordering::Acquire))
    }

    /// The digest of the state at `index`, by which members find out that they differ: of the latest 64 indexes that are
    /// multiples of 1000, as far as this process has applied them. Members that applied the same entries alike have the
    /// same ones, whatever their versions and settings.
    pub fn digest_at(&self, index: Index) -> Option<u64> {
        self.0.digests.lock().at(index)
    }

    /// The newest of them: what a follower tells its leader.
    pub fn newest_digest(&self) -> Option<(Index, u64)> {
        self.0.digests.lock().newest()
    }

    pub(crate) fn remember_digests(&self, digests: &[(Index, Digest)]) {
        if digests.is_empty() {
            return;
        }
        let mut remembered = self.0.digests.lock();
        digests.iter().for_each(|(index, digest)| remembered.push(*index, digest.get()));
    }

    pub(crate) fn forget_digests(&self) {
        self.0.digests.lock().clear();
    }

    pub(crate) fn publish_alarms(&self, alarms: &Alarms) {
        *self.0.alarms.lock() = Arc::new(alarms.clone());
    }

    pub(crate) fn publish_membership(&self, membership: &Membership) {
        *self.0.membership.lock() = Arc::new(membership.clone());
    }

    pub(crate) fn publish_applied(&self, applied: Index) {
        self.0.applied.store(applied.0, Ordering::Release);
    }
}
