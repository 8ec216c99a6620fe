//! Who this member is on the wire, and the limits of its links.

use std::time::Duration;

use types::{ClusterId, MemberId};

/// A writer says so often that the link lives, whatever else it says.
pub(crate) const LINK_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(5000 / 3);
/// One read or write of a stream, and what a caller has to begin a request.
pub(crate) const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// etcd's.
const PROBE_INTERVAL: Duration = Duration::from_secs(4);
/// A stream is not dialled more often.
pub(crate) const REDIAL_INTERVAL: Duration = Duration::from_millis(100);
/// An answer to one posted message.
pub(crate) const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Posts to one peer under way together, and those that wait behind them.
pub(crate) const POSTS_AT_ONCE: usize = 4;
pub(crate) const POSTS_WAITING_MAX: usize = 64;
/// Connections are closed by the other side after five idle seconds.
pub(crate) const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(3);
/// Calls from one thread to one URL under way together, where connections are kept, and URLs they are kept for.
pub(crate) const CALLS_AT_ONCE: usize = 32;
pub(crate) const KEPT_URLS_MAX: usize = 4;
/// Messages to one peer that wait to be written.
pub(crate) const QUEUE_MESSAGES_MAX: usize = 4096;
/// A body that is no snapshot, from its first byte to its last.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Members that write to us before they are known as members.
pub(crate) const REMOTES_MAX: usize = 64;
/// Bodies of posted messages under way, all together.
pub(crate) const POST_BYTES_MAX: usize = 512 << 20;
/// Bodies of the requests that are no raft messages.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;
/// The message in front of a snapshot.
pub(crate) const SNAPSHOT_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Either side of a snapshot gives up when nothing moved for so long.
pub(crate) const SNAPSHOT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a receiver may check and sync a whole snapshot before it answers.
pub(crate) const SNAPSHOT_FINISH_TIMEOUT: Duration = Duration::from_secs(600);
/// Pieces of a snapshot between a thread that reads or writes the state and the network.
pub(crate) const SNAPSHOT_CHUNKS_WAITING: usize = 4;
pub(crate) const SNAPSHOT_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// What stays as it is while a member runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// The release this member says it is, three numbers with dots.
    pub version: String,
    /// Where the others reach this member, as it tells them.
    pub peer_urls: Vec<String>,
    /// How long a connection may take to come about; etcd: 1 s and the election timeout.
    pub dial_timeout: Duration,
    /// How long nothing may come on a stream, and how long the answer to its request may take; link heartbeats come far more often.
    pub read_timeout: Duration,
    /// How long one write to a peer may take.
    pub write_timeout: Duration,
    /// How often a peer is asked for its clock.
    pub probe_interval: Duration,
    /// Bytes of messages that may wait for one peer.
    pub queue_bytes_max: usize,
    /// Connections that others may hold open to this member.
    pub connections_max: usize,
}

impl Settings {
    /// Limits that suit any cluster.
    pub fn new(cluster: ClusterId, member: MemberId, version: &str, peer_urls: Vec<String>) -> Settings {
        Settings {
            cluster,
            member,
            version: version.to_owned(),
            peer_urls,
            dial_timeout: Duration::from_secs(2),
            read_timeout: IO_TIMEOUT,
            write_timeout: IO_TIMEOUT,
            probe_interval: PROBE_INTERVAL,
            queue_bytes_max: 64 << 20,
            connections_max: 1024,
        }
    }
}
