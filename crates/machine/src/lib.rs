//! The replicated state machine: one committed entry in; new state, a response and events out.
//!
//! What always holds
//! - Applying is deterministic and total. The same entries give the same rows, replies and events on every member,
//!   however they are cut into batches; an entry that cannot be carried out, or not even be read, has an error as its
//!   result and changes nothing. Only a broken disk or a damaged store stops the member ([`MachineError`]).
//! - A request happens wholly or not at all: whatever can refuse it is checked before the first change is made.
//! - What entries changed is staged for the backend together with their index, before readers can see it. A restart
//!   goes on at the staged index and skips what is applied already.
//! - The digest of the state goes with its index, wherever that goes: into the backend, and with a snapshot to others.
//!
//! Knows nothing of clocks, tasks, sockets or raft. `now` is passed through to the leases, whose deadlines are this
//! member's own and no part of the replicated state. Replies carry the encoded response message without its header,
//! which only the front end can fill in.
//!
//! The parts: [`Machine`] is owned by the apply thread; [`Shared`] is what other threads read, and answers what need not
//! go through the log; [`validate`] is what a front end checks before it proposes.

mod alarms;
mod brief;
mod compare;
mod cost;
mod counts;
mod digest;
mod error;
mod execute;
mod key_spans;
mod kv;
mod leases;
mod machine;
mod members;
mod query;
mod read;
mod reply;
mod restore;
mod shared;
mod txn;
pub mod validate;
mod wire;

pub use alarms::{Alarm, Alarms};
pub use brief::is_brief;
pub use cost::{put_cost, txn_cost};
pub use counts::{Counts, Operation};
pub use error::{ApplyError, Failure, MachineError, RequestError};
pub use machine::{Applied, Machine, MachineOptions};
pub use members::{VoterChange, encode_conf_change, parse_conf_change};
pub use read::NotPrimary;
pub use reply::{Body, RangeBody, Reply};
pub use restore::snapshot_meta;
pub use shared::Shared;
