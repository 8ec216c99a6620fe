//! Transports of several members in one process, over loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod garbage;
mod ground;
mod kept_connections;
mod members;
mod messages;
mod paths;
mod probes;
mod snapshots;
mod streams;
