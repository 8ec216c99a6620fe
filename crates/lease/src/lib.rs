//! Leases: which ones live, when they lapse, and which keys hang from them.
//!
//! Invariants
//! - A key hangs from at most one lease, as long as callers say truly where it hung before ([`Lessor::attach`]).
//! - Only the primary's copy (the leader's) has deadlines; elsewhere leases change through applied entries alone.
//! - `0 <= remaining_ttl <= ttl` for every lease; 0 means that no checkpoint shortened it.
//! - What applied entries make of the leases does not depend on time or on who is primary: two members that applied
//!   the same entries store the same rows.
//!
//! Reads no clock and does no I/O: callers pass `now`. Storing the rows and deleting the keys is `machine`'s work.

mod error;
mod lessor;
mod primary;

pub use error::{GrantError, NotFound, RenewError};
pub use lessor::{Counts, Lessor, LessorOptions, Renewal, StoredLease, TTL_MAX, TTL_PLACES, TimeToLive};
