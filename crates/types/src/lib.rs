//! Plain values that every part of Quorate speaks in: revisions, ids, key ranges, stored records, log entries,
//! the members a cluster starts with; and quoted text as Go writes it, which etcd's messages have.
//!
//! Nothing here does I/O, reads a clock or knows the wire protocol beyond the one message that is also the
//! stored form, `mvccpb.KeyValue` ([`Record`]), and how its numbers are encoded.

mod field;
mod go_quote;
mod id;
mod initial_cluster;
mod key_range;
mod log_entry;
mod message;
mod record;
mod revision;

pub use field::{number_len, put_number, put_varint, varint_len};
pub use go_quote::go_quote;
pub use id::{ClusterId, Index, LeaseId, MemberId, Term};
pub use initial_cluster::{InitialCluster, InitialMember};
pub use key_range::{KeyRange, RangeEnd};
pub use log_entry::{EntryKind, HardState, LogEntry};
pub use message::{Message, MessageKind, SnapshotMeta};
pub use record::{Record, RecordMeta};
pub use revision::{ParseRevisionError, Revision, RowKey};
