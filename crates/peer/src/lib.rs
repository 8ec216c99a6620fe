//! Member to member: raft messages over streams and posts, snapshots, and what members ask one another. etcd's rafthttp, over HTTP/1.1 and plain TCP.
//!
//! One thread carries nearly all of it: [`Transport::serve`] runs on a current-thread runtime inside a `LocalSet` and calls the [`Host`] there. What
//! streams bring is read by others, [`Streams`]: those that store it, and that serve clients who wait for it. All hand it to the [`Receiver`].
//! Others send messages by the [`Outbox`], which never waits: it writes them to the peer's stream on the caller's thread, and leaves to the transport's
//! what has no stream, what is large, and what a full socket did not take.
//!
//! Invariants
//! - Messages of one kind to one peer arrive in their order, while one stream lasts. Any may be lost; a loss the transport sees is reported.
//! - What waits for a peer is bounded; a slow or dead peer holds up no other, and no caller.
//! - A message that reaches the host came from a member of this cluster's id, is addressed to this member, is of a kind that travels, and does not
//!   come from a removed member.
//! - Whoever is told that it was removed is told so only by this cluster, and only if it is certain.
//! - No length that somebody claims takes memory; only what arrives does.
//! - A snapshot reaches raft only after its state is whole on disk.
//!
//! Knows nothing of raft's rules, of the state, and of membership beyond ids and addresses. TLS is not there yet: `https` peers are refused by name.
//! What goes over the wire is in `docs/peer.md`.

mod answer;
mod body;
mod chunks;
pub mod client;
mod codec;
mod connection;
mod date;
mod frames;
mod head_first;
mod headers;
mod host;
mod inbound;
mod kept_connections;
mod lane;
mod link;
mod outbox;
mod peer_url;
mod port;
mod posts;
mod prober;
mod progress;
mod readings;
mod request;
mod settings;
mod snapshot_receiver;
mod snapshot_sender;
mod stream_body;
mod stream_reader;
mod stream_writer;
mod tasks;
mod transfers;
mod transport;
mod version;

pub use codec::{CodecError, decode, encode, encoded_len};
pub use host::{Afterwards, Host, LeaseTimes, Receiver, SnapshotChunks, SnapshotSink, SnapshotSource, SnapshotWriter};
pub use outbox::{Figures, Outbox};
pub use readings::{Readings, Streams};
pub use request::{HashKv, PeerError, PeerRequest, PeerResponse, Versions};
pub use settings::Settings;
pub use transfers::TransferFigures;
pub use transport::Transport;
