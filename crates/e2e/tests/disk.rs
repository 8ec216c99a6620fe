//! Disks that fill up, fail and rot under a running or a stopped member.
//!
//! Quorate alone: etcd has other files, and other ideas of what to do.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes need real files")]

#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/failing.rs"]
mod failing;
#[path = "disk/full.rs"]
mod full;
#[path = "disk/serving.rs"]
mod serving;

use std::time::Duration;

/// What a stop may take, in a debug build on a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(10);
