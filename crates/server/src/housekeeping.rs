//! Work that nobody waits for: expired leases, and the removal of what was compacted.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use backend::Backend;
use env::Clock;
use machine::Shared;
use mvcc::PruneStep;
use parking_lot::{Condvar, Mutex};

use crate::backend_thread::CommitBell;
use crate::fate::Fate;
use crate::request_id::{RequestIds, encode};
use crate::shared::Board;
use crate::stepper::{Proposal, Stepper, ToConsensus};

/// How often expired leases are looked for.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);
/// At most so many leases are revoked in one look.
const LEASES_PER_LOOK_MAX: usize = 500;
const CHECKPOINTS_PER_ENTRY_MAX: usize = 1000;

/// How long removal waits before it looks again whether old rows are still being read.
const PINNED_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// So long it waits; then answers whose clients do not take them are given up.
const PINNED_WAIT_MAX: Duration = Duration::from_secs(30);

/// What is to be done, as the apply thread sees it.
#[derive(Default)]
pub(crate) struct Chores {
    state: Mutex<State>,
    /// Both threads wait on it, for different things: whoever changes something wakes both.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    compaction_is_due: bool,
    stopping: bool,
}

impl Chores {
    pub(crate) fn compaction_is_due(&self) {
        self.state.lock().compaction_is_due = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits until a compaction is due. Returns whether the member stops instead.
    fn wait_compaction(&self) -> bool {
        let mut state = self.state.lock();
        while !state.stopping && !state.compaction_is_due {
            self.changed.wait(&mut state);
        }
        state.compaction_is_due = false;
        state.stopping
    }

    /// Waits for `timeout`, or less if something else is due. Returns whether the member stops.
    fn wait_stop(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopping {
            self.changed.wait_for(&mut state, timeout);
        }
        state.stopping
    }
}

/// Removes compacted history, one small batch after the other.
pub(crate) struct CompactionThread {
    pub(crate) shared: Shared,
    pub(crate) backend: Backend,
    pub(crate) chores: Arc<Chores>,
    pub(crate) bell: Arc<CommitBell>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) board: Arc<Board>,
    pub(crate) batch_limit: usize,
    pub(crate) sleep_interval: Duration,
    /// Tells waiting physical compactions up to which revision removal is done and committed.
    pub(crate) finished: tokio::sync::watch::Sender<i64>,
}

impl CompactionThread {
    pub(crate) fn run(self) {
        // A compaction that the last run left unfinished is taken up again.
        loop {
            if let Err(error) = self.prune() {
                return self.fate.fail(format!("compaction: {error}"));
            }
            if self.chores.wait_compaction() {
                return;
            }
        }
    }

    fn prune(&self) -> Result<(), mvcc::MvccError> {
        let view = self.shared.view();
        let target = view.compacted();
        let figures = &self.board.figures;
        let (mut waiting_since, mut begun_at) = (None, None);
        loop {
            let step_at = self.clock.now();
            match view.prune_step(self.batch_limit)? {
                PruneStep::Removed(staged) => {
                    waiting_since = None;
                    begun_at.get_or_insert(step_at);
                    figures.compacted_rows.add(staged.removed_rows.len() as u64);
                    self.backend.stage(staged);
                    figures.compaction_step.observe(self.clock.now().since(step_at));
                    self.bell.ring(&self.backend, &self.fate);
                }
                // An answer that is still being sent needs old rows; it may be with a slow client.
                PruneStep::Waiting => {
                    let now = self.clock.now();
                    if now.since(*waiting_since.get_or_insert(now)) >= PINNED_WAIT_MAX {
                        tracing::warn!("answers at compacted revisions are not taken by their clients; given up");
                        view.break_reads();
                        waiting_since = None;
                    }
                    self.fate.wait_stopped(PINNED_RETRY_INTERVAL);
                }
                PruneStep::Finished => break,
            }
            if self.chores.state.lock().stopping {
                return Ok(());
            }
            self.pause();
        }
        if let Some(begun_at) = begun_at {
            figures.compaction.observe(self.clock.now().since(begun_at));
            figures.compacted_at.set(self.clock.wall().as_secs());
        }
        self.bell.wait_commit(&self.fate);
        self.finished.send_if_modified(|finished| {
            let advanced = target > *finished;
            *finished = target.max(*finished);
            advanced
        });
        Ok(())
    }

    /// Leaves room between batches for requests.
    fn pause(&self) {
        if !self.sleep_interval.is_zero() {
            self.fate.wait_stopped(self.sleep_interval);
        }
    }
}

/// Looks for leases that ran out, and asks the cluster to revoke them.
pub(crate) struct LeaseThread {
    pub(crate) shared: Shared,
    pub(crate) chores: Arc<Chores>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<RequestIds>,
}

impl LeaseThread {
    pub(crate) fn run(self) {
        while !self.chores.wait_stop(LEASE_INTERVAL) {
            self.look();
        }
    }

    fn look(&self) {
        let mut proposals = Vec::new();
        let now = self.clock.now();
        let mut lessor = self.shared.lessor().lock();
        for lease in lessor.expired(now, LEASES_PER_LOOK_MAX) {
            proposals.push(self.proposal(Request::LeaseRevoke(LeaseRevokeRequest { id: lease.0 })));
        }
        let checkpoints = lessor.checkpoints(now, CHECKPOINTS_PER_ENTRY_MAX);
        if !checkpoints.is_empty() {
            let checkpoints =
                checkpoints.into_iter().map(|(lease, remaining_ttl)| LeaseCheckpoint { id: lease.0, remaining_ttl });
            let request = LeaseCheckpointRequest { checkpoints: checkpoints.collect() };
            proposals.push(self.proposal(Request::LeaseCheckpoint(request)));
        }
        // Under the lessor's lock: who renews one of these leases next has its checkpoint cleared through the log, and that
        // must come behind the checkpoint. The inbox's lock is never held while the lessor's is waited for.
        self.consensus.enqueue(&mut proposals);
        drop(lessor);
        self.consensus.look_again();
    }

    fn proposal(&self, request: Request) -> ToConsensus {
        let id = self.ids.next();
        ToConsensus::Propose(Proposal { id, data: encode(id, request), reply_to: None })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use backend::Options;
    use env::{SimDisk, SystemClock};
    use lease::LessorOptions;
    use machine::{Machine, MachineOptions};
    use types::{LeaseId, MemberId};

    use super::*;
    use crate::stepper::tests::single_voter;

    /// A renewal in between would have its clearing in the log before the checkpoint, and the next leader would shorten the
    /// lease although its client was told that it lives.
    #[test]
    fn nobody_renews_a_lease_between_its_checkpoint_and_the_proposal_of_it() {
        let disk = Arc::new(SimDisk::new());
        let backend = Backend::open(disk, Path::new("state"), Options::default()).unwrap();
        let lessor = LessorOptions { ttl_min: 1, checkpoint_interval: Some(Duration::from_nanos(1)) };
        let machine = Machine::restore(backend, MachineOptions { lessor, ..MachineOptions::default() }).unwrap();
        let clock = Arc::new(SystemClock::default());
        let shared = machine.shared().clone();
        let granted_at = clock.now();
        {
            let mut lessor = shared.lessor().lock();
            lessor.promote(granted_at, Duration::ZERO);
            lessor.grant(LeaseId(1), 600, granted_at).unwrap();
        }
        while clock.now() < granted_at.plus(Duration::from_nanos(1)) {}
        let parts = single_voter();
        let ids = Arc::new(RequestIds::new(MemberId(1), Duration::ZERO));
        let lease_thread = LeaseThread {
            shared: shared.clone(),
            chores: Arc::default(),
            consensus: parts.stepper.clone(),
            clock,
            ids: ids.clone(),
        };
        let held = parts.stepper.hold_inbox();
        let mut last = ids.next();
        let looking = thread::spawn(move || lease_thread.look());
        // Once it has taken an id, the checkpoint is taken, and the proposal cannot leave yet.
        while ids.next() == last + 1 {
            last += 1;
            thread::yield_now();
        }
        assert!(shared.lessor().try_lock().is_none(), "a renewal finds the lessor free");
        drop(held);
        looking.join().unwrap();
    }
}
