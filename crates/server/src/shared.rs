//! What the member's threads tell each other without a message: a few numbers, each with one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use consensus::{Role, Status};
use env::Monotonic;
use parking_lot::{Condvar, Mutex};
use types::{ClusterId, Index, MemberId, Term};

use crate::backend_thread::CommitBell;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// The etcd version this server is compatible with, as `/version` and `Status` tell it.
    pub version: &'static str,
}

/// The etcd release whose behaviour this server has.
pub const COMPATIBLE_VERSION: &str = "3.5.30";

/// Published by the thread named at each field, read by all.
#[derive(Default)]
pub(crate) struct Board {
    // consensus
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    /// On the monotonic clock, in nanoseconds; 0 if no leader was ever known.
    leader_since: AtomicU64,
    is_leader: AtomicBool,
    sole_voter: AtomicBool,
    /// What must have been applied before the sole voter may answer reads from its state alone.
    sole_since: AtomicU64,
    // apply
    applied: AtomicU64,
    is_learner: AtomicBool,
    // peers
    /// Its data is yet to be compared with the others'.
    is_unchecked: AtomicBool,
    // wal and backend
    wal_is_full: AtomicBool,
    backend_is_full: AtomicBool,
    // whoever stops the member
    stopped: AtomicBool,
    /// How often status, applied index or end have moved while somebody waited for it.
    moves: Mutex<u64>,
    moved: Condvar,
    is_awaited: AtomicBool,
    /// Told when the log finds the disk full.
    bell: Arc<CommitBell>,
}

impl Board {
    pub(crate) fn new(bell: Arc<CommitBell>) -> Board {
        Board { bell, ..Board::default() }
    }

    /// Waits until `is_so`, asking again after every change of status and applied index and when the member stops.
    /// For one thread, which sees to start and end.
    pub(crate) fn wait_until(&self, is_so: impl FnMut() -> bool) {
        self.wait_until_for(Duration::MAX, is_so);
    }

    /// The same, but gives up when nothing has changed for `patience`.
    pub(crate) fn wait_until_for(&self, patience: Duration, mut is_so: impl FnMut() -> bool) {
        self.is_awaited.store(true, Ordering::SeqCst);
        loop {
            let seen = *self.moves.lock();
            if is_so() {
                break;
            }
            if self.moved.wait_while_for(&mut self.moves.lock(), |moves| *moves == seen, patience).timed_out() {
                break;
            }
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }

    fn note_move(&self) {
        // What moved is seen by whoever begins to wait, or that one is seen here.
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            *self.moves.lock() += 1;
            self.moved.notify_all();
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.term.store(status.term.0, Ordering::Relaxed);
        self.leader.store(status.leader.0, Ordering::Relaxed);
        self.is_leader.store(status.role == Role::Leader, Ordering::Relaxed);
        if !status.sole_voter {
            self.sole_voter.store(false, Ordering::SeqCst);
        } else if !self.sole_voter.load(Ordering::Relaxed) {
            self.sole_since.store(status.commit.0, Ordering::SeqCst);
            self.sole_voter.store(true, Ordering::SeqCst);
        }
        self.commit.store(status.commit.0, Ordering::Release);
        self.note_move();
    }

    /// Whether the applied state alone answers a linearizable read: this member is the only voter and leads, so
    /// nobody else commits; it acknowledges only what it has applied; and it has applied what earlier terms left.
    pub(crate) fn reads_need_no_round(&self) -> bool {
        self.sole_voter.load(Ordering::SeqCst)
            && self.applied.load(Ordering::SeqCst) >= self.sole_since.load(Ordering::SeqCst)
    }

    /// A leader has been elected.
    pub(crate) fn note_leader(&self, at: Monotonic) {
        self.leader_since.store(at.0.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Since when there is the leader that there is.
    pub(crate) fn leader_since(&self) -> Option<Monotonic> {
        let since = self.leader_since.load(Ordering::Relaxed);
        (since != 0).then(|| Monotonic(Duration::from_nanos(since)))
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    pub(crate) fn leader(&self) -> Option<MemberId> {
        let leader = self.leader.load(Ordering::Relaxed);
        (leader != 0).then_some(MemberId(leader))
    }

    pub(crate) fn has_other_leader(&self) -> bool {
        self.leader().is_some() && !self.is_leader()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    /// Entries up to `index` are committed: said before they are applied, while the status follows.
    pub(crate) fn set_commit(&self, index: Index) {
        self.commit.store(index.0, Ordering::Release);
    }

    pub(crate) fn commit(&self) -> Index {
        Index(self.commit.load(Ordering::Acquire))
    }

    pub(crate) fn set_is_learner(&self, is_learner: bool) {
        self.is_learner.store(is_learner, Ordering::Relaxed);
    }

    pub(crate) fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    pub(crate) fn set_applied(&self, index: Index) {
        self.applied.store(index.0, Ordering::SeqCst);
        self.note_move();
    }

    /// Whether this member takes no part in raft, and so serves nothing, before its data was compared with the others'.
    pub(crate) fn set_is_unchecked(&self, is_unchecked: bool) {
        self.is_unchecked.store(is_unchecked, Ordering::SeqCst);
        self.note_move();
    }

    pub(crate) fn is_unchecked(&self) -> bool {
        self.is_unchecked.load(Ordering::SeqCst)
    }

    pub(crate) fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::SeqCst))
    }

    pub(crate) fn set_wal_is_full(&self, full: bool) {
        if self.wal_is_full.swap(full, Ordering::Relaxed) != full {
            log_fullness("log", full);
            if full {
                self.bell.log_is_full();
            }
        }
    }

    pub(crate) fn wal_is_full(&self) -> bool {
        self.wal_is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_backend_is_full(&self, full: bool) {
        if self.backend_is_full.swap(full, Ordering::Relaxed) != full {
            log_fullness("backend", full);
        }
    }

    pub(crate) fn disk_is_full(&self) -> bool {
        self.wal_is_full.load(Ordering::Relaxed) || self.backend_is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.note_move();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

fn log_fullness(what: &str, full: bool) {
    if full {
        tracing::error!(what, "no space left on the disk; writes are refused until there is, reads go on");
    } else {
        tracing::info!(what, "there is space on the disk again; writes are taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_by_every_move() {
        let board = Arc::new(Board::default());
        let mover = board.clone();
        let moving = std::thread::spawn(move || (1..=1000).for_each(|index| mover.set_applied(Index(index))));
        for index in 1..=1000 {
            board.wait_until(|| board.applied() >= Index(index));
        }
        moving.join().unwrap();
        let stopper = board.clone();
        let stopping = std::thread::spawn(move || stopper.stop());
        board.wait_until(|| board.is_stopped());
        stopping.join().unwrap();
    }
}
