//! How far a snapshot got, told now and then.

use std::sync::Arc;
use std::time::Duration;

use env::Monotonic;
use types::MemberId;

use crate::outbox::Shared;
use crate::settings::SNAPSHOT_PROGRESS_INTERVAL;

/// Counts what passed of one snapshot.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    peer: MemberId,
    bytes: usize,
    begun_at: Monotonic,
    told_at: Monotonic,
}

impl Progress {
    /// Of a snapshot to or from `peer`.
    pub(crate) fn new(shared: Arc<Shared>, peer: MemberId) -> Progress {
        let now = shared.clock.now();
        Progress { shared, peer, bytes: 0, begun_at: now, told_at: now }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let now = self.shared.clock.now();
        if now.since(self.told_at) >= SNAPSHOT_PROGRESS_INTERVAL {
            self.told_at = now;
            tracing::info!(peer = %self.peer, bytes = self.bytes, took = ?self.took(), "the snapshot is under way");
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since it began.
    pub(crate) fn took(&self) -> Duration {
        self.shared.clock.now().since(self.begun_at)
    }
}
