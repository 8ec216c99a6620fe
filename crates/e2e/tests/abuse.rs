//! Clients that mean no good, or no longer know what they do: the server stays small, and serves the others.
//!
//! Most of it is Quorate alone: etcd 3.5 has no answer to much of this.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process is looked at from outside")]

#[path = "abuse/connections.rs"]
mod connections;
#[path = "abuse/frames.rs"]
mod frames;
#[path = "abuse/gateway.rs"]
mod gateway;
#[path = "abuse/leases.rs"]
mod leases;
#[path = "abuse/raw_http2.rs"]
mod raw_http2;
#[path = "abuse/slow_readers.rs"]
mod slow_readers;
#[path = "abuse/usage.rs"]
mod usage;
