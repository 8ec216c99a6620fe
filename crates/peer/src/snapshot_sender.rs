//! A snapshot on its way to a peer: the message, then the state, in one post of its own.
//!
//! A thread reads the state and waits whenever a few pieces are not taken yet. Whatever fails, the body ends early, and the peer
//! abandons it.

use std::io;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use types::Message;

use crate::body::RequestBody;
use crate::client::ClientError;
use crate::codec;
use crate::connection::{Connection, Patience};
use crate::host::{Host, SnapshotSource};
use crate::link::Link;
use crate::peer_url::PeerUrl;
use crate::port::Port;
use crate::posts::{self, PostError};
use crate::progress::Progress;
use crate::settings::{SNAPSHOT_CHUNKS_WAITING, SNAPSHOT_FINISH_TIMEOUT, SNAPSHOT_IDLE_TIMEOUT};

/// Sends a snapshot unless one is on its way to this peer: raft hears of that one.
pub(crate) fn start<H: Host>(port: &Rc<Port<H>>, link: &Rc<Link>, message: Message) {
    if link.is_sending_snapshot.replace(true) {
        tracing::info!(peer = %link.id, "a snapshot is on its way to the peer already");
        return;
    }
    let (owner, link_of_task) = (port.clone(), link.clone());
    link.keep(port.tasks.spawn(async move {
        send(&owner, &link_of_task, &message).await;
        link_of_task.is_sending_snapshot.set(false);
    }));
}

async fn send<H: Host>(port: &Rc<Port<H>>, link: &Link, message: &Message) {
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.0);
    let Some(url) = link.rotation.borrow().current().map(str::to_owned) else {
        port.host.snapshot_sent(link.id, false);
        return;
    };
    tracing::info!(peer = %link.id, index, "sending a snapshot");
    let under_way = link.target.snapshots_sent.begin();
    let begun_at = port.shared.clock.now();
    let outcome = transfer(port, link, &url, message).await;
    let took = port.shared.clock.now().since(begun_at);
    match outcome {
        Ok(()) => {
            under_way.arrived(took);
            link.target.activate(port.shared.clock.now());
            tracing::info!(peer = %link.id, index, ?took, "the peer took the snapshot");
            port.host.snapshot_sent(link.id, true);
        }
        Err(error) => {
            let shown = &error as &dyn std::error::Error;
            tracing::warn!(peer = %link.id, index, ?took, error = shown, "the snapshot did not arrive");
            posts::failed(port, link, &url, &error);
            port.host.snapshot_sent(link.id, false);
        }
    }
}

async fn transfer<H: Host>(port: &Rc<Port<H>>, link: &Link, url: &str, message: &Message) -> Result<(), PostError> {
    let settings = &port.shared.settings;
    let address = PeerUrl::parse(url)?;
    let patience = Patience { read: Some(SNAPSHOT_FINISH_TIMEOUT), write: Some(SNAPSHOT_IDLE_TIMEOUT) };
    let mut connection = Connection::open(&address, settings.dial_timeout, patience).await?;
    let (sender, pieces) = mpsc::channel(SNAPSHOT_CHUNKS_WAITING);
    let (source, shared, target) = (port.source.clone(), port.shared.clone(), link.target.clone());
    let reader = {
        let message = message.clone();
        move || {
            let mut progress = Progress::new(shared, message.to);
            let passed = |bytes| {
                target.sent(bytes);
                progress.add(bytes);
            };
            match read(&*source, &message, &sender, passed) {
                Ok(true) => {
                    let (bytes, took) = (progress.bytes(), progress.took());
                    tracing::info!(peer = %message.to, bytes, ?took, "all of the snapshot is read");
                }
                // Whoever sends it says why it ended.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(peer = %message.to, %error, "the state cannot be read for a snapshot");
                    drop(sender.blocking_send(Err(error)));
                }
            }
        }
    };
    spawn_blocking(|| {
        if let Err(error) = env::give_way("snapshot-out", reader) {
            tracing::warn!(%error, "cannot start a thread to read a snapshot");
        }
    });
    let request = posts::request("/raft/snapshot", &address, settings, RequestBody::Pieces(pieces))?;
    let answer = connection.exchange(&address, request).await?;
    let accepted = posts::accepted(&mut connection, answer, settings, SNAPSHOT_IDLE_TIMEOUT);
    timeout(SNAPSHOT_IDLE_TIMEOUT, accepted).await.unwrap_or(Err(ClientError::TimedOut.into()))
}

/// Reads the state until its end, or until nobody takes it any more. Returns whether it came to the end.
fn read(
    source: &dyn SnapshotSource,
    message: &Message,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    mut passed: impl FnMut(usize),
) -> io::Result<bool> {
    let meta = message.snapshot.as_ref();
    let meta = meta.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a snapshot message without one"))?;
    let mut chunks = source.open(meta)?;
    let mut next = Some(head(message));
    while let Some(piece) = next {
        passed(piece.len());
        if sender.blocking_send(Ok(piece)).is_err() {
            return Ok(false);
        }
        next = chunks.next()?;
    }
    Ok(true)
}

/// The message and its length.
fn head(message: &Message) -> Bytes {
    let mut head = BytesMut::new();
    head.put_u64(codec::encoded_len(message) as u64);
    codec::encode(message, &mut head);
    head.freeze()
}
