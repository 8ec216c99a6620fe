//! How often something took how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper edges of a histogram's buckets, in a unit fine enough for whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    edges: Edges,
    /// So many of what is observed are one of what is told.
    per_unit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edges {
    Doubling { first: u64, count: usize },
    Listed(&'static [u64]),
}

const NANOSECONDS: u64 = 1_000_000_000;

impl Buckets {
    /// For durations, told in seconds; each edge is twice the one before.
    pub const fn seconds(first: Duration, count: usize) -> Buckets {
        Buckets { edges: Edges::Doubling { first: first.as_nanos() as u64, count }, per_unit: NANOSECONDS }
    }

    /// For durations, told in milliseconds.
    pub const fn milliseconds(first: Duration, count: usize) -> Buckets {
        Buckets { edges: Edges::Doubling { first: first.as_nanos() as u64, count }, per_unit: NANOSECONDS / 1000 }
    }

    /// For whole numbers.
    pub const fn numbers(first: u64, count: usize) -> Buckets {
        Buckets { edges: Edges::Doubling { first, count }, per_unit: 1 }
    }

    /// For durations, told in seconds; the edges are nanoseconds, ascending.
    pub const fn listed(nanoseconds: &'static [u64]) -> Buckets {
        Buckets { edges: Edges::Listed(nanoseconds), per_unit: NANOSECONDS }
    }

    fn count(&self) -> usize {
        match self.edges {
            Edges::Doubling { count, .. } => count,
            Edges::Listed(edges) => edges.len(),
        }
    }

    fn edge(&self, number: usize) -> u64 {
        match self.edges {
            Edges::Doubling { first, .. } => first << number,
            Edges::Listed(edges) => edges[number],
        }
    }

    /// The first bucket that holds `observed`.
    fn place(&self, observed: u64) -> usize {
        match self.edges {
            // The edge whose highest bit is that of `observed` is enough, or the one after it. No division.
            Edges::Doubling { first, count } => {
                let doublings = (observed | 1).ilog2().saturating_sub(first.ilog2()) as usize;
                (doublings + usize::from(observed > first << doublings)).min(count)
            }
            Edges::Listed(edges) => edges.partition_point(|edge| *edge < observed),
        }
    }

    /// The edges as they are told.
    pub(crate) fn told(&self) -> impl Iterator<Item = f64> {
        (0..self.count()).map(|number| self.told_as(self.edge(number)))
    }

    pub(crate) fn told_as(&self, observed: u64) -> f64 {
        observed as f64 / self.per_unit as f64
    }
}

/// Observations by size, and their sum.
#[derive(Debug)]
pub struct Histogram {
    buckets: Buckets,
    /// One more than there are edges.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at some moment, or several of the same buckets together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub(crate) buckets: Buckets,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: u64,
}

impl Histogram {
    pub fn new(buckets: Buckets) -> Histogram {
        let counts = (0..=buckets.count()).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        self.observe_number(nanoseconds(took));
    }

    pub fn observe_number(&self, number: u64) {
        self.observe_many(number, 1);
    }

    /// So many observations of the same duration.
    pub fn observe_equal(&self, took: Duration, times: u64) {
        self.observe_many(nanoseconds(took), times);
    }

    /// As [`Histogram::observe`], where only the calling thread writes.
    pub fn observe_alone(&self, took: Duration) {
        self.observe_equal_alone(took, 1);
    }

    /// As [`Histogram::observe_equal`], where only the calling thread writes.
    pub fn observe_equal_alone(&self, took: Duration, times: u64) {
        let number = nanoseconds(took);
        let add = |to: &AtomicU64, more| to.store(to.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        add(&self.counts[self.buckets.place(number)], times);
        add(&self.sum, number.wrapping_mul(times));
    }

    fn observe_many(&self, number: u64, times: u64) {
        self.counts[self.buckets.place(number)].fetch_add(times, Ordering::Relaxed);
        self.sum.fetch_add(number.wrapping_mul(times), Ordering::Relaxed);
    }

    pub fn read(&self) -> Reading {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Reading { buckets: self.buckets, counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Reading {
    /// What was counted otherwise: one more count than there are edges.
    pub fn new(buckets: Buckets, counts: Vec<u64>, sum: u64) -> Reading {
        debug_assert_eq!(counts.len(), buckets.count() + 1, "there is a count for each bucket");
        Reading { buckets, counts, sum }
    }

    /// One without observations.
    pub fn empty(buckets: Buckets) -> Reading {
        Reading { buckets, counts: vec![0; buckets.count() + 1], sum: 0 }
    }

    /// Adds those of a histogram with the same buckets.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.sum = self.sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn an_edge_belongs_to_its_own_bucket() {
        let buckets = Buckets::numbers(3, 3);
        let places: Vec<usize> = [0, 1, 3, 4, 6, 7, 12, 13, u64::MAX].map(|number| buckets.place(number)).into();
        assert_eq!(places, [0, 0, 0, 1, 1, 2, 2, 3, 3]);
        for first in 1..40 {
            let buckets = Buckets::numbers(first, 5);
            for number in 0..2000 {
                let least = (0..5).find(|place| number <= buckets.edge(*place)).unwrap_or(5);
                assert_eq!(buckets.place(number), least, "{number} from {first} on");
            }
        }
        let listed = Buckets::listed(&[5, 10]);
        assert_eq!([0, 5, 6, 10, 11].map(|number| listed.place(number)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn edges_are_told_in_their_unit() {
        let seconds: Vec<f64> = Buckets::seconds(MILLISECOND, 3).told().collect();
        assert_eq!(seconds, [0.001, 0.002, 0.004]);
        let milliseconds: Vec<f64> = Buckets::milliseconds(MILLISECOND / 2, 2).told().collect();
        assert_eq!(milliseconds, [0.5, 1.0]);
    }

    #[test]
    fn several_are_read_as_one() {
        let buckets = Buckets::seconds(MILLISECOND, 2);
        let (one, other) = (Histogram::new(buckets), Histogram::new(buckets));
        one.observe(MILLISECOND);
        one.observe_alone(5 * MILLISECOND);
        other.observe_equal(2 * MILLISECOND, 1);
        other.observe_equal_alone(2 * MILLISECOND, 2);
        let mut both = Reading::empty(buckets);
        assert!(both.is_empty());
        both.add(&one);
        both.add(&other);
        assert_eq!((&both.counts[..], both.sum), (&[1, 3, 1][..], 12_000_000));
    }
}
