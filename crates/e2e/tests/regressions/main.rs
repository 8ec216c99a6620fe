//! Bugs that etcd really had, as black-box tests. Each test names the issues and pull requests of etcd-io/etcd it is
//! about; what holds for one member is here.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod checkpoint;
mod churn;
mod crash;
mod members;
mod overload;
mod stopped;
mod versions;
mod watchers;
