//! A snapshot from a peer: its message is looked at, its state goes to the sink on a thread of its own, and only when all of it is whole does
//! raft learn of it.
//!
//! Invariants
//! - One at a time. The next begins only when the thread of the last is done with its file.
//! - Once a transfer began it ends by itself, whatever becomes of the connection: taken whole and handed to raft, or abandoned.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use types::{Message, MessageKind};

use crate::body::next_piece;
use crate::codec;
use crate::host::{Host, SnapshotSink};
use crate::port::Port;
use crate::progress::Progress;
use crate::settings::{SNAPSHOT_CHUNKS_WAITING, SNAPSHOT_IDLE_TIMEOUT, SNAPSHOT_MESSAGE_BYTES_MAX};

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("failed to decode raft message ({0})")]
    Message(String),
    #[error("wrong raft message type")]
    Kind,
    #[error("cannot process message from removed member")]
    RemovedSender,
    #[error("to field mismatch")]
    To,
    #[error("another snapshot is being received")]
    Busy,
    #[error("failed to save snapshot ({0})")]
    Save(String),
}

/// What the sink's thread is told.
enum Piece {
    Bytes(Bytes),
    /// All has come. Without it, what came is abandoned.
    End,
}

/// Takes a snapshot and hands its message to the host.
///
/// # Errors
/// Nothing is left of it.
pub(crate) async fn receive<H: Host>(port: &Rc<Port<H>>, body: Incoming) -> Result<(), ReceiveError> {
    let (done, outcome) = oneshot::channel();
    let owner = port.clone();
    port.tasks.spawn(async move {
        // Who asked may be gone by now.
        drop(done.send(take(&owner, body).await));
    });
    outcome.await.unwrap_or_else(|_| Err(ReceiveError::Save("the member stops".to_owned())))
}

async fn take<H: Host>(port: &Rc<Port<H>>, mut body: Incoming) -> Result<(), ReceiveError> {
    let (message, rest) = read_message(&mut body).await?;
    if message.kind != MessageKind::Snapshot {
        return Err(ReceiveError::Kind);
    }
    if port.roster().removed.contains(&message.from) {
        return Err(ReceiveError::RemovedSender);
    }
    if message.to != port.shared.settings.member {
        return Err(ReceiveError::To);
    }
    let turn = Turn::take(&port.is_receiving_snapshot).ok_or(ReceiveError::Busy)?;
    tracing::info!(peer = %message.from, index = ?message.snapshot.as_ref().map(|snapshot| snapshot.index.0), "receiving a snapshot");
    let target = port.shared.target(message.from);
    let under_way = target.as_ref().map(|target| target.snapshots_received.begin());
    let mut progress = Progress::new(port.shared.clone(), message.from);
    let outcome = store(port, &message, body, rest, turn, &mut progress).await;
    let (bytes, took) = (progress.bytes(), progress.took());
    match outcome {
        Ok(saving) => {
            tracing::info!(peer = %message.from, bytes, ?took, ?saving, "the snapshot is whole");
            if let Some(under_way) = under_way {
                under_way.arrived(took);
            }
        }
        Err(error) => {
            tracing::warn!(peer = %message.from, bytes, ?took, %error, "the snapshot is abandoned");
            return Err(ReceiveError::Save(error.to_string()));
        }
    }
    if let Some(target) = &target {
        target.activate(port.shared.clock.now());
    }
    match port.deliver(message) {
        true => Ok(()),
        false => Err(ReceiveError::RemovedSender),
    }
}

/// Reads the length and the message; returns what came of the state already.
async fn read_message(body: &mut Incoming) -> Result<(Message, Bytes), ReceiveError> {
    let malformed = |reason: &str| ReceiveError::Message(reason.to_owned());
    let mut head = BytesMut::new();
    let mut len = None;
    loop {
        if len.is_none() && head.len() >= 8 {
            let claimed = head.get_u64();
            let claimed = usize::try_from(claimed).ok().filter(|len| *len <= SNAPSHOT_MESSAGE_BYTES_MAX);
            len = Some(claimed.ok_or_else(|| malformed("it is too long"))?);
        }
        if let Some(len) = len
            && head.len() >= len
        {
            let message = codec::decode(&head.split_to(len).freeze());
            // The type decides first, as in etcd, whatever else is missing.
            let message = message.map_err(|error| malformed(&error.to_string()))?;
            return Ok((message, head.freeze()));
        }
        match next_piece(body, SNAPSHOT_IDLE_TIMEOUT).await {
            Ok(Some(piece)) => head.extend_from_slice(&piece),
            Ok(None) if head.is_empty() && len.is_none() => return Err(malformed("EOF")),
            Ok(None) => return Err(malformed("unexpected EOF")),
            Err(error) => return Err(malformed(&error.to_string())),
        }
    }
}

/// Brings the state to the sink, whole or not at all. Returns how long the sink took after the last byte: to check and to sync.
async fn store<H: Host>(
    port: &Rc<Port<H>>,
    message: &Message,
    mut body: Incoming,
    first: Bytes,
    turn: Turn,
    progress: &mut Progress,
) -> io::Result<Duration> {
    let (sender, pieces) = mpsc::channel(SNAPSHOT_CHUNKS_WAITING);
    let writer = {
        let (sink, message) = (port.sink.clone(), message.clone());
        move || {
            let written = write(&*sink, &message, pieces);
            drop(turn);
            written
        }
    };
    let writer = spawn_blocking(|| env::give_way("snapshot-in", writer)?);
    let target = port.shared.target(message.from);
    let mut next = Some(first);
    while let Some(piece) = next {
        progress.add(piece.len());
        if let Some(target) = &target {
            target.received(piece.len());
        }
        // A sink that failed says why once it is asked for the outcome.
        if !piece.is_empty() && sender.send(Piece::Bytes(piece)).await.is_err() {
            break;
        }
        next = match next_piece(&mut body, SNAPSHOT_IDLE_TIMEOUT).await {
            Ok(next) => next,
            Err(error) => {
                drop(sender);
                drop(writer.await);
                return Err(io::Error::other(error));
            }
        };
    }
    let came_after = progress.took();
    drop(sender.send(Piece::End).await);
    writer.await.map_err(io::Error::other)??;
    Ok(progress.took() - came_after)
}

fn write(sink: &dyn SnapshotSink, message: &Message, mut pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
    let mut writer = sink.begin(message)?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => writer.write(bytes)?,
            Some(Piece::End) => return writer.finish(),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The right to receive a snapshot.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(is_taken: &Arc<AtomicBool>) -> Option<Turn> {
        (!is_taken.swap(true, Ordering::AcqRel)).then(|| Turn(is_taken.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
