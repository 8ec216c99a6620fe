//! Randomness: election timeouts, lease ids, jitter. Never secrets.

/// A source of random numbers.
pub trait Rng: Send {
    /// The next number, uniform over all 64-bit values.
    fn next_u64(&mut self) -> u64;

    /// A number in `0..bound`; 0 if `bound` is 0.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// Seeded from the operating system.
#[derive(Debug)]
pub struct SystemRng(fastrand::Rng);

impl Default for SystemRng {
    #[allow(clippy::disallowed_methods, reason = "this is where randomness enters")]
    fn default() -> Self {
        SystemRng(fastrand::Rng::new())
    }
}

impl SystemRng {
    /// A generator that gives the same numbers for the same seed.
    pub fn with_seed(seed: u64) -> SystemRng {
        SystemRng(fastrand::Rng::with_seed(seed))
    }
}

impl Rng for SystemRng {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}
