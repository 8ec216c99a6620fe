//! The machine as the server sees it: entries in; replies, events and reads out.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test; the lint's exception for tests misses helpers here"
)]
#![allow(clippy::needless_pass_by_value, reason = "tables of requests read better without &")]

mod cluster;
mod counts;
mod harness;
mod install;
mod keys;
mod leadership;
mod leases;
mod model;
mod reads;
mod replay;
mod snapshots;
mod transactions;
