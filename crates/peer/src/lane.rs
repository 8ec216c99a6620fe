//! What leaves on one stream to one peer: the messages that wait, the bytes they become, the socket that takes them.
//!
//! Whoever brings messages writes them, on its own thread, as long as nothing is before them and they are few. All else is left to the
//! stream's task on the transport's thread: what a full socket did not take, much to encode, link heartbeats, the stream's end.
//!
//! Invariants
//! - The bytes of one stream leave in the order in which their messages were pushed.
//! - Who pushes never waits for another's write. Who finds the writer taken leaves the messages to the one who has it, and that one
//!   looks into the queue again after letting go of it.
//! - After [`Lane::detach`] nobody writes to the stream any more, and what was pushed to it is with the other side or lost.
//!
//! A stream that cannot be written from any thread, as over TLS, needs no more than a writer that always leaves it to the task.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::frames::{Encoder, StreamKind};
use crate::outbox::Queued;

/// A chunk is not added to beyond this; and if more than this waits, it is the task's.
const CHUNK_BYTES: usize = 256 << 10;
/// So often does a sender go on with what others brought meanwhile, and the task with what does not end.
const CHUNKS_AT_ONCE: usize = 8;
/// Eight digits and the end of a line.
const CHUNK_HEAD: &[u8; 10] = b"00000000\r\n";

#[derive(Default)]
pub(crate) struct Lane {
    /// Held for a few lines only. May be taken by who holds `writer`, never the other way round.
    queue: Mutex<Queue>,
    writer: Mutex<Option<Writer>>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Queued>,
    bytes: usize,
    /// Which of the streams that ever were holds the lane; 0 if none does.
    holder: u64,
    last: u64,
}

struct Writer {
    stream: u64,
    socket: Arc<TcpStream>,
    encoder: Encoder,
    /// Bytes for the socket, and how many of them it took. Empty once it took all.
    buffer: BytesMut,
    sent: usize,
    owes_heartbeat: bool,
    /// The stream's task.
    waker: Option<Waker>,
}

/// How far a writer came.
enum Progress {
    Done,
    Blocked,
}

/// Why a stream's task has nothing more to write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("the stream was replaced or its peer removed")]
    Replaced,
    #[error("the stream broke off")]
    Lost(#[from] io::Error),
}

impl Lane {
    /// A new stream takes the lane, and what waits in it; the one before it, if any, ends. `head` goes before all messages.
    pub(crate) fn attach(&self, kind: StreamKind, socket: Arc<TcpStream>, head: BytesMut) -> u64 {
        let stream = {
            let mut queue = self.queue.lock();
            queue.last += 1;
            queue.last
        };
        let writer = Writer {
            stream,
            socket,
            encoder: Encoder::new(kind),
            buffer: head,
            sent: 0,
            owes_heartbeat: false,
            waker: None,
        };
        let replaced = self.writer.lock().replace(writer);
        self.queue.lock().holder = stream;
        if let Some(replaced) = replaced {
            replaced.wake();
        }
        stream
    }

    /// The stream is lost, and with it what waited for it: so many messages. `None` if the lane was not its own any more.
    pub(crate) fn detach(&self, stream: u64) -> Option<usize> {
        let waiting = {
            let mut queue = self.queue.lock();
            if queue.holder != stream {
                return None;
            }
            queue.end()
        };
        // Waits for who writes right now: what it took from the queue is lost too, and is to be so before anyone is told.
        drop(self.writer.lock().take());
        Some(waiting.len())
    }

    /// The peer is none any more.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().end());
        if let Some(writer) = self.writer.lock().take() {
            writer.wake();
        }
    }

    /// Puts a message behind those that wait. Hands it back if no stream holds the lane.
    pub(crate) fn push(&self, queued: Queued) -> Option<Queued> {
        let mut queue = self.queue.lock();
        if queue.holder == 0 {
            return Some(queued);
        }
        queue.bytes += queued.bytes();
        queue.messages.push_back(queued);
        None
    }

    /// Writes what waits, or sees to it that the stream's task does. Never blocks.
    pub(crate) fn write(&self) {
        for _ in 0..CHUNKS_AT_ONCE {
            let waiting = self.waiting_bytes();
            if waiting == 0 {
                return;
            }
            let Some(mut writer) = self.writer.try_lock() else { return };
            // Without a stream nothing waits any more.
            let Some(writer) = &mut *writer else { return };
            let is_left_to_task = !writer.buffer.is_empty() || waiting > CHUNK_BYTES;
            // What fails here fails for the task as well, and it knows what to do then.
            if is_left_to_task || !matches!(writer.write_chunk(&self.queue), Ok(Progress::Done)) {
                return writer.wake();
            }
        }
        if let Some(writer) = self.writer.try_lock()
            && let Some(writer) = &*writer
        {
            writer.wake();
        }
    }

    /// For the stream's task: writes what waits until there is no more, or else is pending. `has_moved` becomes true if the socket took
    /// anything.
    pub(crate) fn poll_write(
        &self,
        stream: u64,
        mut heartbeat: bool,
        has_moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), LaneError>> {
        for _ in 0..CHUNKS_AT_ONCE {
            {
                let mut writer = self.writer.lock();
                let Some(writer) = writer.as_mut().filter(|writer| writer.stream == stream) else {
                    return Poll::Ready(Err(LaneError::Replaced));
                };
                writer.wake_later(cx.waker());
                writer.owes_heartbeat |= std::mem::take(&mut heartbeat);
                let sent = writer.sent;
                let progress = writer.write_chunk(&self.queue)?;
                *has_moved |= writer.buffer.is_empty() || writer.sent > sent;
                if matches!(progress, Progress::Blocked) {
                    ready!(writer.socket.poll_write_ready(cx))?;
                    continue;
                }
            }
            // Only now: a sender that found the writer taken left its messages to this turn.
            if self.waiting_bytes() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// 0 only if nothing waits: no message counts as none.
    fn waiting_bytes(&self) -> usize {
        self.queue.lock().bytes
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.bytes();
        Some(queued)
    }

    fn end(&mut self) -> VecDeque<Queued> {
        self.holder = 0;
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

impl Writer {
    /// Writes what is left of the last chunk, or else one of all that waits.
    fn write_chunk(&mut self, queue: &Mutex<Queue>) -> io::Result<Progress> {
        if self.buffer.is_empty() {
            self.encode(queue);
        }
        while self.sent < self.buffer.len() {
            match self.socket.try_write(&self.buffer[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.clear();
        self.sent = 0;
        if self.buffer.capacity() > 2 * CHUNK_BYTES {
            self.buffer = BytesMut::new();
        }
        Ok(Progress::Done)
    }

    /// Makes a chunk of all that waits, up to a bound.
    fn encode(&mut self, queue: &Mutex<Queue>) {
        self.buffer.put_slice(CHUNK_HEAD);
        while self.buffer.len() < CHUNK_BYTES {
            let Some(queued) = queue.lock().pop() else { break };
            let start = self.buffer.len();
            self.encoder.message(queued.message(), &mut self.buffer);
            queued.sent(self.buffer.len() - start);
        }
        if std::mem::take(&mut self.owes_heartbeat) {
            self.encoder.heartbeat(&mut self.buffer);
        }
        let length = self.buffer.len() - CHUNK_HEAD.len();
        if length == 0 {
            return self.buffer.clear();
        }
        self.sent = put_length(&mut self.buffer, length);
        self.buffer.put_slice(b"\r\n");
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn wake_later(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(current) => current.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }
}

/// Writes a chunk's length into its head, and says where it begins there: a chunk has no leading zeros.
fn put_length(chunk: &mut [u8], length: usize) -> usize {
    let digits = format!("{length:x}");
    let start = CHUNK_HEAD.len() - 2 - digits.len();
    chunk[start..start + digits.len()].copy_from_slice(digits.as_bytes());
    start
}
