//! What the member's threads tell each other without a message: a few numbers, each with one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use consensus::{Role, Status};
use env::Monotonic;
use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use types::{ClusterId, Index, MemberId, Term};

use crate::backend_thread::CommitBell;
use crate::figures::Figures;

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

/// What shows, from one look to the next, that consensus goes on.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// How often time has passed for raft.
    ticks: u64,
    commit: Index,
    applied: Index,
    /// How long the disk has kept the log waiting by now.
    log: Duration,
    /// The same of the backend.
    backend: Duration,
}

/// What keeps a member from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Standstill {
    #[error("consensus stands still")]
    Consensus,
    #[error("the disk has not answered the log for {0:?}")]
    Log(Duration),
    #[error("the disk has not answered the backend for {0:?}")]
    Backend(Duration),
}

impl Pulse {
    /// What stands still: raft was not stepped since `earlier`, or what was committed then waited ever since to be applied,
    /// or the disk has kept somebody waiting for more than `patience`.
    pub fn standstill_since(&self, earlier: &Pulse, patience: Duration) -> Option<Standstill> {
        if self.log > patience {
            return Some(Standstill::Log(self.log));
        }
        if self.backend > patience {
            return Some(Standstill::Backend(self.backend));
        }
        let applies = self.applied > earlier.applied || self.applied >= earlier.commit;
        (self.ticks == earlier.ticks || !applies).then_some(Standstill::Consensus)
    }
}

/// Since when something is under way that has not come back yet. Written by one thread.
#[derive(Default)]
pub(crate) struct UnderWay(AtomicU64);

impl UnderWay {
    pub(crate) fn begin(&self, now: Monotonic) {
        self.0.store((now.0.as_nanos() as u64).max(1), Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Zero if nothing is.
    fn time(&self, now: Monotonic) -> Duration {
        let since = self.0.load(Ordering::Relaxed);
        if since == 0 { Duration::ZERO } else { now.since(Monotonic(Duration::from_nanos(since))) }
    }
}

/// Published by the thread named at each field, read by all.
#[derive(Default)]
pub(crate) struct Board {
    // consensus
    ticks: AtomicU64,
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    /// On the monotonic clock, in nanoseconds; 0 if no leader was ever known.
    leader_since: AtomicU64,
    is_leader: AtomicBool,
    leads_in_term: AtomicBool,
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
    /// What the log's thread does with the disk.
    pub(crate) log_work: UnderWay,
    /// A commit.
    pub(crate) backend_work: UnderWay,
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
    /// For whoever watches over the member.
    pub(crate) figures: Figures,
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

    pub(crate) fn note_tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pulse(&self, now: Monotonic) -> Pulse {
        // Commits wait while a new file takes the old one's place, for as long as that is.
        let is_replaced = self.figures.defragmenting.get() > 0;
        Pulse {
            ticks: self.ticks.load(Ordering::Relaxed),
            commit: self.commit(),
            applied: self.applied(),
            log: self.log_work.time(now),
            backend: if is_replaced { Duration::ZERO } else { self.backend_work.time(now) },
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.term.store(status.term.0, Ordering::Relaxed);
        let leader_before = self.leader.swap(status.leader.0, Ordering::Relaxed);
        if status.leader != MemberId(0) && status.leader.0 != leader_before {
            self.figures.leader_changes.increment();
        }
        self.is_leader.store(status.role == Role::Leader, Ordering::Relaxed);
        if !status.sole_voter {
            self.sole_voter.store(false, Ordering::SeqCst);
        } else if !self.sole_voter.load(Ordering::Relaxed) {
            self.sole_since.store(status.commit.0, Ordering::SeqCst);
            self.sole_voter.store(true, Ordering::SeqCst);
        }
        self.commit.store(status.commit.0, Ordering::Release);
        self.leads_in_term.store(status.leads_in_term, Ordering::Release);
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

    /// Whether all is applied here that any leader acknowledged, as far as this one knows: it may have been replaced.
    pub(crate) fn leader_has_caught_up(&self) -> bool {
        self.leads_in_term.load(Ordering::Acquire) && self.applied() >= self.commit()
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
    fn a_pulse_shows_a_raft_that_is_not_stepped_and_entries_that_are_not_applied() {
        let pulse = |ticks, commit, applied| {
            let (log, backend) = (Duration::ZERO, Duration::ZERO);
            Pulse { ticks, commit: Index(commit), applied: Index(applied), log, backend }
        };
        let stands = |now: Pulse, earlier: &Pulse| now.standstill_since(earlier, Duration::ZERO).is_some();
        let earlier = pulse(7, 20, 10);
        assert!(!stands(pulse(8, 30, 11), &earlier));
        assert!(stands(pulse(7, 30, 11), &earlier), "raft was not stepped");
        assert!(stands(pulse(8, 30, 10), &earlier), "nothing is applied though much is committed");
        let idle = pulse(7, 10, 10);
        assert!(!stands(pulse(8, 10, 10), &idle), "nothing is asked of it");
        assert!(!stands(pulse(8, 30, 10), &idle), "what is committed came right now");
    }

    #[test]
    fn a_pulse_shows_a_disk_that_does_not_answer() {
        let second = Duration::from_secs(1);
        let at = |seconds: u32| Monotonic(second * seconds);
        let board = Board::default();
        let first = board.pulse(at(0));
        let found = |now| {
            board.note_tick();
            board.pulse(at(now)).standstill_since(&first, 5 * second)
        };
        board.log_work.begin(at(1));
        board.backend_work.begin(at(4));
        assert_eq!(found(6), None, "so long it may take");
        assert_eq!(found(10), Some(Standstill::Log(9 * second)));
        board.log_work.end();
        assert_eq!(found(10), Some(Standstill::Backend(6 * second)));
        board.figures.defragmenting.increment();
        assert_eq!(found(10), None, "commits wait for the new file");
        board.figures.defragmenting.subtract(1);
        board.backend_work.end();
        assert_eq!(found(99), None, "nothing is asked of the disk");
    }

    #[test]
    fn a_new_leader_has_not_caught_up_before_its_term_has_an_entry() {
        let board = Board::default();
        let led = |leads_in_term, commit| Status {
            role: Role::Leader,
            commit: Index(commit),
            leads_in_term,
            ..Status::default()
        };
        board.set_applied(Index(7));
        board.set_status(led(false, 7));
        assert!(
            !board.leader_has_caught_up(),
            "an earlier leader may have acknowledged what it does not know as committed"
        );
        board.set_status(led(true, 9));
        assert!(!board.leader_has_caught_up());
        board.set_applied(Index(9));
        assert!(board.leader_has_caught_up());
    }

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
