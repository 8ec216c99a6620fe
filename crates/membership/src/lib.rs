//! Who belongs to the cluster, and which version of the API the cluster agreed on.
//!
//! Invariants
//! - A removed id never returns.
//! - No two members share a peer URL, as far as changes made here go (a cluster restored from elsewhere may differ).
//! - Changes are validated when they are applied, against the state at that point of the log: every member accepts
//!   and refuses the same ones.
//!
//! Does no I/O. The stored forms ([`rows`]) are etcd's, byte for byte where Go's encoder leaves no choice.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/membership`.

mod change;
mod founding;
mod identity;
mod log_form;
mod member;
mod membership;
mod peer_urls;
mod reconfiguration;
pub mod rows;
mod version;

pub use change::{Change, MembershipError};
pub use founding::{JoinError, NewCluster, OwnUrlsError, check_own_urls, find_own_id};
pub use identity::{cluster_id, member_id};
pub use log_form::LoggedChange;
pub use member::{Attributes, Member};
pub use membership::{ConfState, Membership};
pub use peer_urls::{Resolve, UrlsDiffer, compare_urls};
pub use reconfiguration::{HEALTH_INTERVAL_SECONDS, Link, Unwise, is_in_sync};
pub use version::{
    ClusterVersion, Downgrade, ParseVersionError, ServerTooOld, check_server_version, next_cluster_version,
};
