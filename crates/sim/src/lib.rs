//! Whole clusters in one thread, from one seed.
//!
//! A simulated member is made of the parts that ship: consensus, log, backend, machine, leases, watches. Only what the
//! server's threads do between them is written anew here, as events with simulated delays ([`life`]), in the same order;
//! disks, clocks, network and clients are simulated. Faults strike; at the end all is healed, the members must agree,
//! and what the clients saw is judged by `checker`.
//!
//! Invariants
//! - One seed gives one run, byte for byte: no threads, no clock but the simulated one, no hash order.
//! - What is checked while it runs: one leader a term; an entry, once applied anywhere, is the same everywhere; a member
//!   that was done nothing to does not stop.
//! - A fault never does more than a real one could: a disk that lies is the business of [`planted`] faults, which must
//!   be found.

mod boot;
mod clients;
mod counts;
mod dice;
mod disks;
mod doubled_panic;
mod faults;
mod invariants;
mod judge;
mod life;
mod network;
mod operator;
mod plan;
pub mod planted;
mod rot;
mod snapshot;
mod translate;
mod watchers;
mod world;

pub use counts::Counts;
pub use doubled_panic::is_abort_excused;
pub use plan::Plan;
pub use planted::Plant;
pub use world::{Found, Report, World};
