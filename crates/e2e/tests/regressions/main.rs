//! Bugs that etcd really had, as black-box tests. Each test names the issues and pull requests of etcd-io/etcd it is
//! about.
//!
//! What does not apply as it was meant for etcd: leases are checkpointed every five minutes in both programs, so one of a minute
//! is never stored as partly over when its leader moves (D2; `checkpoint` takes longer ones). A member that holds other data is
//! found, named and fenced by the alarm, but its data is not fetched anew without its operator, who may want to know why they
//! differ (F6; `tests/cluster/corruption.rs`). Disks that forget are ext4 with its power cut, where the originals have FUSE
//! (A13, A14).
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod checkpoint;
mod churn;
mod crash;
mod files;
mod members;
mod overload;
mod power;
mod stopped;
mod versions;
mod watchers;
