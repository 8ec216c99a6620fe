//! Time: a monotonic reading for deadlines, a wall reading for ids and logs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the monotonic clock: time since some fixed moment before the process began its work.
///
/// It keeps running at one second a second whatever is done to the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The point `after` later; stays at the far end of time instead of overflowing.
    pub fn plus(self, after: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(after))
    }

    /// How far this point lies after `earlier`; zero if it lies before.
    pub fn since(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The monotonic reading. Never goes back.
    fn now(&self) -> Monotonic;

    /// Time since the Unix epoch by the wall clock. May jump either way.
    fn wall(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn default() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Monotonic {
        Monotonic(self.start.elapsed())
    }

    #[allow(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
