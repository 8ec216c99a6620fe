//! What the transport asks of the member it serves.

use std::future::Future;
use std::io;

use bytes::Bytes;
use types::{LeaseId, MemberId, Message, SnapshotMeta};

use crate::request::{PeerError, PeerRequest, PeerResponse};

/// What is to be done once whoever `receive` has woken on its thread had their turn. Dropped, it is never done.
pub type Afterwards = Box<dyn FnOnce() + Send>;

/// Takes what other members say. Called on the thread that read it; must not block.
pub trait Receiver: Send + Sync + 'static {
    /// Messages that one read brought, in their order.
    #[must_use]
    fn receive(&self, messages: Vec<Message>) -> Option<Afterwards>;
}

/// The member behind the transport. Everything is called on the transport's thread and must not block.
pub trait Host: 'static {
    /// Messages to this peer were lost.
    fn unreachable(&self, peer: MemberId);

    /// A stream from this peer broke off, and it could not be dialled again: it looks as if it has ended.
    fn gone(&self, peer: MemberId);

    /// A snapshot reached the peer and was accepted, or not.
    fn snapshot_sent(&self, peer: MemberId, accepted: bool);

    /// A member of this cluster says that this one is no member any more. What follows is the host's to decide.
    fn removed(&self);

    /// Answers what peers ask beside raft.
    fn answer(&self, request: PeerRequest) -> impl Future<Output = Result<PeerResponse, PeerError>> + 'static;
}

/// Where the state comes from that a peer is to be sent.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Begins to read the state that `meta` names. Called on a thread of its own, which may wait.
    ///
    /// # Errors
    /// Whatever keeps it from being read; the peer is told nothing and raft tries again.
    fn open(&self, meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>>;
}

/// A state on its way out. Dropped when it is sent, or when nobody takes it any more.
pub trait SnapshotChunks {
    /// The next piece, some 10 KiB to 1 MiB; `None` at the end. May wait for the disk.
    ///
    /// # Errors
    /// The peer sees a body that ends early and abandons it.
    fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// Where a state goes that a peer sends.
pub trait SnapshotSink: Send + Sync + 'static {
    /// Begins to take a state; `message` says which. Called on a thread of its own, which may wait.
    ///
    /// # Errors
    /// Whatever keeps it from being taken; the sender is refused.
    fn begin(&self, message: &Message) -> io::Result<Box<dyn SnapshotWriter + Send>>;
}

/// A state on its way in. Dropped unfinished, it is abandoned and must leave nothing.
pub trait SnapshotWriter {
    /// The next piece, of any length.
    ///
    /// # Errors
    /// Ends the transfer.
    fn write(&mut self, bytes: Bytes) -> io::Result<()>;

    /// All has come: checks and syncs it. Only after this does raft learn of the snapshot.
    ///
    /// # Errors
    /// The sender is refused.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A lease as another member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    pub id: LeaseId,
    pub ttl: i64,
    pub granted_ttl: i64,
    pub keys: Vec<Bytes>,
}
