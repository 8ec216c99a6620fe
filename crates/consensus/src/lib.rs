//! Consensus: turns raft-rs into a state machine that takes events and returns ordered effects.
//!
//! The caller owns time, disk and network. It calls [`Driver`] methods with what happened (a tick, a proposal, a
//! batch persisted, a batch applied) and then [`Driver::drain`] for what must be done now: persist, apply, answer.
//!
//! Invariants
//! - Entries are handed out for persistence in log order; an entry is handed out for apply only once it is committed,
//!   which for this member's own share means that [`Driver::persisted`] was told.
//! - A read context is used once in the life of a process, so an answer can never serve a later attempt.
//! - No randomness but the caller's: raft-rs draws election timeouts from the thread's generator, and every one of
//!   them is overridden (see `election_timeout`).
//!
//! Knows nothing of keys, requests, files or sockets. No other crate sees raft-rs.

mod driver;
mod effect;
mod election_timeout;
mod guard;
mod held;
mod log_store;
mod logger;
mod raft_form;

pub use driver::{ConsensusError, Driver, DriverConfig, ProposeError, Restored};
pub use effect::{Effect, LogProgress, Progress, Role, Sending, Status, VoterChange};
