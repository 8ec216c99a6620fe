//! What whoever watches over members is told: metrics, probes, and the listeners that serve them.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]
#![allow(clippy::disallowed_methods, reason = "a tool reads real files")]

mod cluster;
mod figures;
mod listeners;
mod prometheus;
