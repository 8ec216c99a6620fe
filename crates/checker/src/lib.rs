//! Judges what clients saw: histories of operations, watches and leases.
//!
//! Two judges of linearizability work on the same [`History`], and share nothing but what one request does to one state
//! ([`model`]):
//! - [`ordered`] trusts the revisions in the answers to tell the order, and checks everything else: O(n log n), for
//!   histories of any length.
//! - [`search()`] trusts nothing and looks for an order, as Wing and Gong did: for short histories, as a check of the first.
//!
//! Serializable reads, watches ([`check_watch`]) and leases ([`check_leases`]) are judged by what [`ordered`] found out
//! about the store: its [`Replay`].
//!
//! Invariants
//! - A verdict depends on the history alone: no clock, no randomness, no hash order.
//! - What is reported names the operations that contradict each other, as few as are needed.
//!
//! Leaves out: users and roles, alarms, and sorts and filters of ranges.

mod history;
mod leases;
mod model;
mod ordered;
mod replay;
mod search;
mod violation;
mod watch;

pub use history::{
    Answer, Body, Change, Comparison, History, KeyValue, Operation, Outcome, Put, RangeQuery, Refusal, Relation,
    Request, Step, Target, Txn,
};
pub use leases::{LeaseRules, check_leases};
pub use model::{Model, View};
pub use ordered::{Expiry, Findings, ordered};
pub use replay::Replay;
pub use search::{Verdict, search};
pub use violation::{Rule, Violation};
pub use watch::{Event, Received, Response, WatchSession, check_watch, learn};
