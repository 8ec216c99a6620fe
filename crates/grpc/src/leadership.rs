//! Tells the streams that would rather end than wait when the member has been without a leader for long.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use consensus::Status;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

/// So many election timeouts in a row without a leader end the streams that asked for it.
const LEADERLESS_CHECKS: u32 = 3;

/// Watches over the leader on behalf of one worker's streams.
pub(crate) struct Leadership {
    lost: Notify,
    missing: Cell<bool>,
}

impl Leadership {
    /// Spawns the watch on the worker's `LocalSet`.
    pub(crate) fn start(status: Receiver<Status>, election_timeout: Duration) -> Rc<Leadership> {
        let leadership = Rc::new(Leadership { lost: Notify::new(), missing: Cell::new(false) });
        tokio::task::spawn_local(leadership.clone().run(status, election_timeout));
        leadership
    }

    /// Resolves when there was no leader for three election timeouts, as seen from now on.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> {
        self.lost.notified()
    }

    /// Whether there was no leader for an election timeout when that was looked at last. A moment without one belongs to
    /// every change of leaders, and clients that come from a leader that died come in that moment.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing.get()
    }

    /// Ends with the member.
    async fn run(self: Rc<Self>, mut status: Receiver<Status>, election_timeout: Duration) {
        let has_leader = |status: &Status| status.leader.0 != 0;
        loop {
            if status.wait_for(|status| !has_leader(status)).await.is_err() {
                return;
            }
            for check in 1.. {
                sleep(election_timeout).await;
                self.missing.set(!has_leader(&status.borrow()));
                if !self.missing.get() {
                    break;
                }
                if check >= LEADERLESS_CHECKS {
                    // Streams that began meanwhile are told at the next check.
                    self.lost.notify_waiters();
                }
                if status.has_changed().is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use types::MemberId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with_leader(leader: u64) -> Status {
        Status { leader: MemberId(leader), ..Status::default() }
    }

    #[test]
    fn three_leaderless_election_timeouts_are_too_many() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (change, status) = tokio::sync::watch::channel(with_leader(1));
            let leadership = Leadership::start(status, SECOND);
            assert!(timeout(100 * SECOND, leadership.lost()).await.is_err(), "there is a leader");
            change.send(with_leader(0)).unwrap();
            assert!(timeout(SECOND / 2, leadership.lost()).await.is_err() && !leadership.is_missing());
            assert!(timeout(SECOND * 2, leadership.lost()).await.is_err(), "not for long enough");
            assert!(leadership.is_missing());
            change.send(with_leader(2)).unwrap();
            assert!(timeout(100 * SECOND, leadership.lost()).await.is_err(), "there is one again");
            assert!(!leadership.is_missing());
            change.send(with_leader(0)).unwrap();
            assert!(timeout(SECOND * 7 / 2, leadership.lost()).await.is_ok());
        });
    }
}
