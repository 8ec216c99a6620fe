//! End-to-end tests: one test body, two targets.
//!
//! Every test drives a real process, once etcd and once Quorate, over its public ports, and states what a client must
//! observe. What passes on etcd and fails on Quorate is Quorate's fault; the few intended differences that tests meet are
//! those of [`Difference`].
//!
//! - [`Target`] says which program, [`Member`] is a running one, [`on_both_targets!`] makes the tests.
//! - [`request`] builds requests, [`refusal`] lists the errors they may get, [`Watch`] reads a watch stream, [`http`] makes plain HTTP requests,
//!   [`Exposition`] reads metrics.
//! - [`Cluster`] runs several members, and harms them and the network between them.
//! - [`SmallDisk`] can be filled, [`FragileDisk`] loses its power and with it what was not synced.
//! - [`Ground`] is a place for a member whose surroundings, flags and files the test chooses.
//! - [`chaos`] loads a cluster, does it harm, and has what clients saw judged.
//! - [`differential`] compares both programs on random requests.
//!
//! Tests here use real time, files and sockets; that is what they are about.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes need real time and files")]

pub mod chaos;
pub mod differential;
pub mod http;
pub mod refusal;
pub mod request;

mod address;
mod check;
mod cluster;
mod ctl_script;
mod difference;
mod exposition;
mod fragile_disk;
mod ground;
mod member;
mod process;
mod run;
mod small_disk;
mod target;
mod watch;

pub use address::unused_host;
pub use check::{fails, found_within, holds_within, revision, within};
pub use cluster::{CALL_LIMIT, Cluster, SETTLE_LIMIT, Seat, Wiring, early_snapshots, missed_bytes};
pub use ctl_script::{ctl_output, run_ctl, run_ctl_page, run_ctl_script};
pub use difference::Difference;
pub use exposition::{Exposition, Family, Labels};
pub use fragile_disk::FragileDisk;
pub use ground::{Ended, Ground, ended};
pub use member::Member;
pub use process::Process;
pub use run::{CLUSTER_LIMIT, LIMIT, chosen, run, run_unlimited, run_within};
pub use small_disk::SmallDisk;
pub use target::{Target, Tool, cached};
pub use watch::{Watch, shown};
