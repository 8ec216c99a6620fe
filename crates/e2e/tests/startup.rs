//! Starting and stopping one member: what it refuses, what it says then, and what it leaves on the disk.
//!
//! Quorate alone: where etcd is the model, its behaviour stands beside the case.
#![allow(clippy::disallowed_methods, reason = "real processes need real files")]

#[path = "startup/called.rs"]
mod called;
#[path = "startup/data.rs"]
mod data;
#[path = "startup/discovery.rs"]
mod discovery;
#[path = "startup/environment.rs"]
mod environment;
#[path = "startup/refused.rs"]
mod refused;
#[path = "startup/service_manager.rs"]
mod service_manager;
#[path = "startup/stopping.rs"]
mod stopping;
#[path = "startup/tree.rs"]
mod tree;
