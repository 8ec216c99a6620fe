//! The backend's thread: commits what the apply thread staged, off the path of every request.

use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, BackendError};
use env::Clock;
use parking_lot::{Condvar, Mutex};
use types::Index;

use crate::fate::Fate;
use crate::inbox::Inbox;
use crate::shared::Board;
use crate::stepper::Stepper;
use crate::wal_thread::ToWal;

/// A commit writes some hundred kilobytes of its own, whatever it carries: with less than this waiting, it is put off ...
const STAGED_BYTES_WORTHWHILE: usize = 256 << 10;
/// ... for up to so many intervals. The log keeps everything meanwhile.
const INTERVALS_MAX: u32 = 10;
/// A commit is not put off once this much waits.
const STAGED_BYTES_EAGER: usize = 16 << 20;
/// Applying waits for the backend past this: memory is bounded even if the disk is slow.
const STAGED_BYTES_MAX: usize = 128 << 20;
/// How long to wait before a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the backend thread that something waits, and others that it was committed.
#[derive(Default)]
pub(crate) struct CommitBell {
    state: Mutex<BellState>,
    staged: Condvar,
    committed: Condvar,
}

#[derive(Default)]
struct BellState {
    something_is_staged: bool,
    /// Somebody waits for a commit: do not put it off.
    is_urgent: bool,
    commit_count: u64,
    thread_sleeps: bool,
}

impl CommitBell {
    /// Whether so much waits that [`CommitBell::ring`] may soon block.
    pub(crate) fn is_held_up(&self, backend: &Backend) -> bool {
        backend.staged_bytes() >= STAGED_BYTES_EAGER
    }

    /// Something was staged. Blocks while far too much waits.
    pub(crate) fn ring(&self, backend: &Backend, fate: &Fate) {
        let mut state = self.state.lock();
        state.something_is_staged = true;
        let eager = backend.staged_bytes() >= STAGED_BYTES_EAGER;
        state.is_urgent |= eager;
        if state.thread_sleeps || eager {
            state.thread_sleeps = false;
            self.staged.notify_one();
        }
        while backend.staged_bytes() >= STAGED_BYTES_MAX {
            self.committed.wait_for(&mut state, RETRY_INTERVAL);
            drop(state);
            if fate.wait_stopped(Duration::ZERO) {
                return;
            }
            state = self.state.lock();
        }
    }

    /// Returns once everything staged so far is committed, or the member has stopped.
    pub(crate) fn wait_commit(&self, fate: &Fate) {
        let mut state = self.state.lock();
        // The commit that runs now may have begun before the caller's changes were staged.
        let wanted = state.commit_count + 2;
        while state.commit_count < wanted {
            state.something_is_staged = true;
            state.is_urgent = true;
            self.staged.notify_one();
            self.committed.wait_for(&mut state, Duration::from_millis(100));
            drop(state);
            if fate.wait_stopped(Duration::ZERO) {
                return;
            }
            state = self.state.lock();
        }
    }

    /// The log has found the disk full. A commit lets it go of what it keeps.
    pub(crate) fn log_is_full(&self) {
        let mut state = self.state.lock();
        state.something_is_staged = true;
        state.is_urgent = true;
        self.staged.notify_one();
    }

    /// Wakes the thread to look whether it should stop.
    pub(crate) fn nudge(&self) {
        self.state.lock().is_urgent = true;
        self.staged.notify_one();
    }
}

pub(crate) struct BackendThread {
    pub(crate) backend: Backend,
    pub(crate) bell: Arc<CommitBell>,
    pub(crate) wal: Arc<Inbox<ToWal>>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) interval: Duration,
    pub(crate) catchup_entries: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

impl BackendThread {
    pub(crate) fn run(self) {
        loop {
            let stopping = self.wait_for_work();
            if let Err(error) = self.commit() {
                self.fate.fail(format!("backend: {error}"));
                return;
            }
            if stopping {
                return;
            }
        }
    }

    /// Returns whether the member is stopping: then one last commit is due.
    fn wait_for_work(&self) -> bool {
        let mut state = self.bell.state.lock();
        while !state.something_is_staged && !self.board.is_stopped() {
            state.thread_sleeps = true;
            self.bell.staged.wait(&mut state);
        }
        // Others' changes join this commit until it is worth its while, or too much waits.
        for _ in 0..INTERVALS_MAX {
            if state.is_urgent || self.board.is_stopped() {
                break;
            }
            self.bell.staged.wait_for(&mut state, self.interval);
            if self.backend.staged_bytes() >= STAGED_BYTES_WORTHWHILE {
                break;
            }
        }
        state.something_is_staged = false;
        state.is_urgent = false;
        state.thread_sleeps = false;
        self.board.is_stopped()
    }

    fn commit(&self) -> Result<(), BackendError> {
        loop {
            let (begun_at, has_something) = (self.clock.now(), self.backend.staged_bytes() > 0);
            self.board.backend_work.begin(begun_at);
            let outcome = self.backend.commit();
            self.board.backend_work.end();
            match outcome {
                Ok(committed) => {
                    if has_something {
                        self.board.figures.commit.observe(self.clock.now().since(begun_at));
                    }
                    self.board.set_backend_is_full(false);
                    self.release_log(committed.applied.0);
                    self.bell.state.lock().commit_count += 1;
                    self.bell.committed.notify_all();
                    return Ok(());
                }
                Err(BackendError::NoSpace { .. }) => {
                    self.board.set_backend_is_full(true);
                    self.release_log(self.backend.applied().0);
                    if self.fate.wait_stopped(RETRY_INTERVAL) {
                        // The log holds all that was acknowledged; the next start finds it there.
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the log go of what the file holds up to `applied`, but for some entries that a member which falls behind can
    /// catch up by, and for those that one which is in touch still needs: or a snapshot would be old before it is
    /// installed. On a full disk nothing is kept for that: such a member gets another snapshot.
    fn release_log(&self, applied: Index) {
        let full = self.board.disk_is_full();
        let kept = if full { 0 } else { self.catchup_entries };
        let before = Index(applied.0.saturating_sub(kept) + 1);
        let in_touch = self.consensus.progress().into_iter().filter(|progress| progress.is_active);
        let needed = in_touch.map(|progress| progress.needs).min().filter(|_| !full);
        self.wal.send(ToWal::Release { before, needed: needed.unwrap_or(before).min(before) });
    }
}
