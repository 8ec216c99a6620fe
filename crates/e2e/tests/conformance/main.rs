//! What a client can observe of one member, by area. One member is started per test.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod auto_compaction;
mod cluster;
mod compaction;
mod compare;
mod delete_range;
mod election;
mod environment;
mod gateway;
mod gateway_random;
mod gateway_streams;
mod health;
mod lease;
mod lease_expiry;
mod lock;
mod maintenance;
mod messages;
mod probes;
mod put;
mod quota;
mod range;
mod range_sort;
mod range_stream;
mod revisions;
mod transport;
mod txn;
mod txn_validation;
mod watch;
mod watch_cancel;
mod watch_history;
mod watch_options;
mod watch_progress;
