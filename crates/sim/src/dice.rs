//! All randomness of a run.

use env::{Rng, SystemRng};

/// Simulated time in microseconds.
pub(crate) type Micros = u64;
pub(crate) const MS: Micros = 1000;
pub(crate) const SECOND: Micros = 1_000_000;

pub(crate) struct Dice(SystemRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        // Neighbouring seeds are to have nothing in common.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Dice(SystemRng::with_seed(mixed ^ mixed >> 31))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// With a probability in millionths.
    pub(crate) fn happens(&mut self, millionths: u64) -> bool {
        self.below(1_000_000) < millionths
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time around `mean`: mostly shorter, sometimes much longer.
    pub(crate) fn about(&mut self, mean: Micros) -> Micros {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - unit).ln() * mean as f64).min(mean as f64 * 8.0) as Micros
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// A source for a part of its own.
    pub(crate) fn split(&mut self) -> Box<dyn Rng> {
        Box::new(SystemRng::with_seed(self.next()))
    }
}
