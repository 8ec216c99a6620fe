//! What threads other than the apply thread see of the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lease::Lessor;
use membership::Membership;
use mvcc::View;
use parking_lot::Mutex;
use types::Index;

use crate::alarms::{Alarm, Alarms};

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
    applied: AtomicU64,
}

impl Shared {
    pub(crate) fn new(view: View, lessor: Lessor, alarms: Alarms, membership: Membership, applied: Index) -> Shared {
        Shared(Arc::new(Inner {
            view,
            lessor: Mutex::new(lessor),
            alarms: Mutex::new(Arc::new(alarms)),
            membership: Mutex::new(Arc::new(membership)),
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
