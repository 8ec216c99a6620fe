//! What the server counts and measures, and how it is told: Prometheus' text format, under etcd's names.
//!
//! A [`Counter`] or [`Histogram`] lies where something happens and is written there, by one or two relaxed atomic operations. Nobody looks up a
//! name or a label for that. Whoever is scraped walks over them and writes an [`Exposition`], in which [`names`] are looked up once.
//!
//! Why no library: those there are either write another format, with other names (OpenMetrics, whose counters end in `_total`), or numbers
//! otherwise than Go does, so that `le` labels would differ from etcd's; and a request would pay for a look-up or a lock.
//!
//! Invariants
//! - Writing never allocates, locks or waits.
//! - Reading sees every number that was written, but not all numbers at one moment.

pub mod names;
pub mod process;

mod counter;
mod exposition;
mod histogram;
mod number;

pub use counter::Counter;
pub use exposition::{Exposition, Family, Kind, Labels};
pub use histogram::{Buckets, Histogram, Reading};
