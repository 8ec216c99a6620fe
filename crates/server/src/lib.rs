//! One member: wires consensus, log, machine, backend and watch together, owns their threads, and is what front ends
//! call.
//!
//! ```text
//! worker --requests--> consensus --entries--> wal          (one write, one sync for all that waits)
//!   ^                      |  ^----persisted----'
//!   |                      v committed
//!   '----replies------- apply --rows--> backend            (one commit per 0.1-1 s, off every request's path)
//!                          '----events--> watch::EventLog
//! ```
//!
//! Invariants
//! - A write is answered only after it is on disk and applied.
//! - A thread takes all that waits for it, and wakes the next one once for all of it.
//! - Nothing broken is worked around: a failed sync, a damaged file or an entry that cannot be applied ends the
//!   member ([`Member::wait_stopped`]) with a message that names it.
//!
//! Knows no gRPC, no HTTP and no sockets.

mod apply_queue;
mod apply_thread;
mod auto_compaction;
mod backend_thread;
mod boot;
mod bootstrap;
mod claim;
mod cluster;
mod cluster_task;
mod corruption;
mod divergence;
mod error;
mod fate;
mod figures;
mod handle;
mod history;
mod housekeeping;
mod inbox;
mod kv;
mod large_reads;
mod layout;
mod leader_calls;
mod leases;
mod mailbox;
mod maintenance;
mod member;
mod peer_thread;
mod peers;
mod request_id;
mod scrape;
mod settings;
mod shared;
mod snapshots;
mod stepper;
mod wal_thread;

pub use apply_thread::to_consensus;
pub use boot::{Core, StartError, boot, holds_data};
pub use bootstrap::{Bootstrap, BootstrapError, NotAMember, Outside, RemoteCluster, Told, standalone};
pub use error::Error;
pub use handle::Handle;
pub use history::read_history;
pub use large_reads::LargeReads;
pub use layout::{LOCK_FILE, Layout};
pub use leases::KeepAlive;
pub use machine::{ApplyError, Body, RangeBody, Reply, RequestError};
pub use maintenance::RaftStatus;
pub use member::{Door, Member, World};
pub use membership::{ClusterVersion, member_id};
pub use settings::{CorruptionChecks, FeatureGate, InitialState, Limits, Retention, Settings};
pub use shared::{COMPATIBLE_VERSION, Identity, Pulse, Standstill};
