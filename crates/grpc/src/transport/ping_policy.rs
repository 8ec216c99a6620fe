//! How often a client may ping, by grpc-go's rules.
//!
//! A ping less than `min_time` after the one before is a strike, and so is one that comes within two hours of the one
//! before while no call is open. Headers or data sent in between wipe the slate. The third strike ends the connection.
//!
//! Source: grpc/proposal A8; grpc-go `internal/transport/http2_server.go`, `handlePing`.

use std::time::Duration;

use tokio::time::Instant;

const STRIKES_MAX: u32 = 2;
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Judges the pings of one connection.
#[derive(Debug)]
pub(crate) struct PingPolicy {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u32,
}

impl PingPolicy {
    pub(crate) fn new(min_time: Duration) -> PingPolicy {
        PingPolicy { min_time, last: None, strikes: 0 }
    }

    /// Headers or data went to the client.
    pub(crate) fn forgive(&mut self) {
        self.strikes = 0;
        self.last = None;
    }

    /// A ping came at `now`; `calls_open` tells whether any call was open. Returns whether it was one too many.
    pub(crate) fn ping(&mut self, now: Instant, calls_open: bool) -> bool {
        let interval = if calls_open { self.min_time } else { IDLE_PING_INTERVAL };
        if self.last.is_some_and(|last| now < last + interval) {
            self.strikes += 1;
        }
        self.last = Some(now);
        self.strikes > STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn the_fourth_ping_in_a_row_is_one_too_many() {
        let now = Instant::now();
        let mut policy = PingPolicy::new(5 * SECOND);
        let verdicts = [0, 1, 2, 3].map(|at| policy.ping(now + at * SECOND, true));
        assert_eq!(verdicts, [false, false, false, true]);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn pings_at_the_allowed_pace_go_on_for_ever_while_a_call_is_open() {
        let now = Instant::now();
        let mut policy = PingPolicy::new(5 * SECOND);
        assert!((0..100).all(|at| !policy.ping(now + at * 5 * SECOND, true)));
        assert!((100..103).any(|at| policy.ping(now + at * 5 * SECOND, false)), "but not without one");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn an_answer_wipes_the_slate() {
        let now = Instant::now();
        let mut policy = PingPolicy::new(5 * SECOND);
        for _ in 0..100 {
            assert!(!policy.ping(now, true) && !policy.ping(now, true));
            policy.forgive();
        }
    }
}
