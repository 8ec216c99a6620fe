//! Finds out whether a silent client still lives: a ping after a quiet interval, the end if no byte comes back.
//!
//! Reading anything counts as life. The timer runs once an interval, whatever the traffic; nothing is done per byte.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Watches over one connection.
pub(crate) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    reads_seen: u64,
    waits_for_life: bool,
}

impl Keepalive {
    pub(crate) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Keepalive {
        Keepalive { pings, interval, timeout, timer: Box::pin(sleep(interval)), reads_seen: 0, waits_for_life: false }
    }

    /// `reads` counts the reads so far. Ready when the client is given up.
    pub(crate) fn poll_given_up(&mut self, reads: u64, context: &mut Context<'_>) -> Poll<()> {
        // Takes in the answer to our ping, else the next could not be sent. That it came shows in `reads`.
        let _ = self.pings.poll_pong(context);
        loop {
            ready!(self.timer.as_mut().poll(context));
            let quiet = reads == self.reads_seen;
            if quiet && self.waits_for_life {
                return Poll::Ready(());
            }
            self.reads_seen = reads;
            // A ping that cannot be sent is one still under way: the client is waited for all the same.
            self.waits_for_life = quiet;
            if quiet {
                let _ = self.pings.send_ping(Ping::opaque());
            }
            let next = if quiet { self.timeout } else { self.interval };
            self.timer.as_mut().reset(Instant::now() + next);
        }
    }
}
