//! Snapshots arrive whole, in pieces that never fill the memory, or leave nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use peer::{SnapshotChunks, SnapshotSink, SnapshotSource, SnapshotWriter};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use types::{MemberId, Message, MessageKind, SnapshotMeta};

use crate::ground::{Event, Member, Setup, ask, identity, join, request, run, snapshot};

const CHUNK_BYTES: usize = 64 << 10;

/// A state of so many chunks, of which the last may fail.
#[derive(Default)]
struct State {
    chunks: usize,
    breaks: AtomicBool,
    /// Chunks that were read and are not written yet, at most.
    ahead_max: AtomicUsize,
    read: AtomicUsize,
    sink: Arc<Kept>,
}

/// What a sink took.
#[derive(Default)]
struct Kept {
    bytes: AtomicUsize,
    begun: AtomicUsize,
    dropped: AtomicUsize,
    finished: Mutex<Vec<u64>>,
    refuses: AtomicBool,
}

struct Source(Arc<State>);
struct Chunks(Arc<State>);
struct Sink(Arc<Kept>);
struct Writer(Arc<Kept>, u64);

impl SnapshotSource for Source {
    fn open(&self, meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>> {
        assert_eq!(meta.voters.len(), 2);
        Ok(Box::new(Chunks(self.0.clone())))
    }
}

impl SnapshotChunks for Chunks {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let read = self.0.read.fetch_add(1, Ordering::Relaxed);
        if read == self.0.chunks {
            return match self.0.breaks.load(Ordering::Relaxed) {
                true => Err(io::Error::other("the disk is gone")),
                false => Ok(None),
            };
        }
        let written = self.0.sink.bytes.load(Ordering::Relaxed) / CHUNK_BYTES;
        self.0.ahead_max.fetch_max(read.saturating_sub(written), Ordering::Relaxed);
        Ok(Some(Bytes::from(vec![read as u8; CHUNK_BYTES])))
    }
}

impl SnapshotSink for Sink {
    fn begin(&self, message: &Message) -> io::Result<Box<dyn SnapshotWriter + Send>> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Writer(self.0.clone(), message.snapshot.as_ref().unwrap().index.0)))
    }
}

impl SnapshotWriter for Writer {
    fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut at = self.0.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        let mut is_right = true;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(CHUNK_BYTES - at % CHUNK_BYTES));
            is_right &= piece == &[(at / CHUNK_BYTES) as u8; CHUNK_BYTES][..piece.len()];
            (at, rest) = (at + piece.len(), after);
        }
        if is_right { Ok(()) } else { Err(io::Error::other("bytes are missing")) }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.0.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::other("its checksum is wrong"));
        }
        self.0.finished.lock().unwrap().push(self.1);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn pair(chunks: usize) -> (Member, Member, Arc<State>) {
    let state = Arc::new(State { chunks, ..State::default() });
    let source = Arc::new(Source(state.clone()));
    let sink = Arc::new(Sink(state.sink.clone()));
    let a = Member::start_with(1, Setup { source, ..Setup::default() });
    let b = Member::start_with(2, Setup { sink, ..Setup::default() });
    join(&[&a, &b]);
    (a, b, state)
}

#[test]
fn two_hundred_megabytes_pass_with_a_few_in_memory() {
    run(async {
        let (a, b, state) = pair((200 << 20) / CHUNK_BYTES);
        let message = snapshot(a.id, b.id, 77);
        a.outbox.send(vec![message.clone()]);
        a.record.until_event(&Event::SnapshotSent(b.id, true)).await;
        assert_eq!(*state.sink.finished.lock().unwrap(), [77]);
        assert_eq!(state.sink.bytes.load(Ordering::Relaxed), 200 << 20);
        assert_eq!(b.record.taken(), [message]);
        // Both channels and the connection's buffers hold little; the kernel's may grow to some 40 MiB.
        let ahead = state.ahead_max.load(Ordering::Relaxed) * CHUNK_BYTES;
        assert!(ahead < 80 << 20, "{ahead}");
        // The messages go on meanwhile and afterwards.
        b.reach(&a).await;
    });
}

#[test]
fn a_state_that_breaks_off_is_abandoned() {
    run(async {
        let (a, b, state) = pair(100);
        state.breaks.store(true, Ordering::Relaxed);
        a.outbox.send(vec![snapshot(a.id, b.id, 5)]);
        a.record.until_event(&Event::SnapshotSent(b.id, false)).await;
        abandoned(&state, 1).await;
        assert!(b.record.taken().is_empty());

        // The next attempt finds the way free.
        state.breaks.store(false, Ordering::Relaxed);
        state.read.store(0, Ordering::Relaxed);
        state.sink.bytes.store(0, Ordering::Relaxed);
        a.outbox.send(vec![snapshot(a.id, b.id, 6)]);
        a.record.until_event(&Event::SnapshotSent(b.id, true)).await;
        assert_eq!(*state.sink.finished.lock().unwrap(), [6]);
    });
}

#[test]
fn a_state_that_is_refused_at_its_end_never_reaches_raft() {
    run(async {
        let (a, b, state) = pair(3);
        state.sink.refuses.store(true, Ordering::Relaxed);
        a.outbox.send(vec![snapshot(a.id, b.id, 5)]);
        a.record.until_event(&Event::SnapshotSent(b.id, false)).await;
        assert!(b.record.taken().is_empty());
    });
}

#[test]
fn a_sender_that_dies_leaves_nothing() {
    run(async {
        let (a, b, state) = pair(usize::MAX);
        a.outbox.send(vec![snapshot(a.id, b.id, 5)]);
        while state.sink.bytes.load(Ordering::Relaxed) < 10 << 20 {
            tokio::task::yield_now().await;
        }
        a.stop().await;
        abandoned(&state, 1).await;
        assert!(b.record.taken().is_empty());
        assert!(state.sink.finished.lock().unwrap().is_empty());
    });
}

#[test]
fn a_receiver_that_dies_is_reported() {
    run(async {
        let (a, b, state) = pair(usize::MAX);
        a.outbox.send(vec![snapshot(a.id, b.id, 5)]);
        while state.sink.bytes.load(Ordering::Relaxed) < 10 << 20 {
            tokio::task::yield_now().await;
        }
        let id = b.id;
        b.stop().await;
        a.record.until_event(&Event::SnapshotSent(id, false)).await;
        a.record.until_event(&Event::Unreachable(id)).await;
    });
}

#[test]
fn one_comes_in_at_a_time() {
    run(async {
        let (_a, b, state) = pair(0);
        let from = MemberId(1);
        let mut head = BytesMut::new();
        head.put_u64(peer::encoded_len(&snapshot(from, b.id, 9)) as u64);
        peer::encode(&snapshot(from, b.id, 9), &mut head);
        // One that does not end.
        let mut first = TcpStream::connect(b.address).await.unwrap();
        let start = format!(
            "POST /raft/snapshot HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n",
            identity(from),
            head.len() + 1
        );
        first.write_all(&[start.as_bytes(), &head].concat()).await.unwrap();
        while state.sink.begun.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let second = request("POST", "/raft/snapshot", &identity(from), &head);
        assert_eq!(ask(b.address, &second).await.short(), (500, "another snapshot is being received\n"));
        drop(first);
        abandoned(&state, 1).await;
        // The thread that ended it is gone a moment later.
        while ask(b.address, &second).await.status != 204 {}
        assert_eq!(*state.sink.finished.lock().unwrap(), [9]);
        assert_eq!(b.record.taken(), [snapshot(from, b.id, 9)]);
    });
}

#[test]
fn snapshots_for_others_or_of_removed_members_are_refused() {
    run(async {
        let (a, b, state) = pair(0);
        b.outbox.set_members(&[a.peer()], BTreeSet::from([MemberId(9)]));
        let body = |message: &Message| {
            let mut body = BytesMut::new();
            body.put_u64(peer::encoded_len(message) as u64);
            peer::encode(message, &mut body);
            body
        };
        let misdirected = request("POST", "/raft/snapshot", &identity(a.id), &body(&snapshot(a.id, MemberId(8), 1)));
        assert_eq!(ask(b.address, &misdirected).await.short(), (412, "to field mismatch\n"));
        let removed = request("POST", "/raft/snapshot", &identity(a.id), &body(&snapshot(MemberId(9), b.id, 1)));
        assert_eq!(ask(b.address, &removed).await.status, 403);
        let mut posted = BytesMut::new();
        peer::encode(&snapshot(a.id, b.id, 1), &mut posted);
        assert_eq!(ask(b.address, &request("POST", "/raft", &identity(a.id), &posted)).await.status, 400);
        assert_eq!(state.sink.begun.load(Ordering::Relaxed), 0);
        assert!(b.record.messages.lock().iter().all(|message| message.kind != MessageKind::Snapshot));
    });
}

/// So many transfers have ended, and none of them whole.
async fn abandoned(state: &State, count: usize) {
    while state.sink.dropped.load(Ordering::Relaxed) < count {
        tokio::task::yield_now().await;
    }
}
