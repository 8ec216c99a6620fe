//! The byte stream under one HTTP/2 connection: gathers writes, watches for abuse.
//!
//! The HTTP/2 library flushes whenever its own small buffer is full or a frame is large. A [`Socket`] lets it believe
//! so and keeps the bytes; the connection's task calls [`Socket::poll_drain`] once, after all that was ready has been
//! framed. So the answers of one turn leave in one write.
//!
//! Invariants
//! - At most [`HELD_BYTES_MAX`] bytes, and one write's worth more, are held back; then writing waits for the peer.
//! - Bytes reach the peer in the order written.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_walker::FrameWalker;

/// How much may wait for the peer before writers wait too.
const HELD_BYTES_MAX: usize = 256 << 10;

/// A drained buffer larger than this is given back, so that an idle connection is cheap.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// One end for the HTTP/2 library, one for the connection's task: clones share the stream.
pub(crate) struct Socket<S>(Rc<Shared<S>>);

struct Shared<S> {
    io: RefCell<S>,
    held: RefCell<BytesMut>,
    /// A writer was told to wait, and must hear of it when there is room again.
    writer_waits: Cell<bool>,
    came: RefCell<FrameWalker>,
    sent: RefCell<FrameWalker>,
    reads: Cell<u64>,
}

impl<S> Clone for Socket<S> {
    fn clone(&self) -> Self {
        Socket(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) fn new(io: S) -> Socket<S> {
        Socket(Rc::new(Shared {
            io: RefCell::new(io),
            held: RefCell::new(BytesMut::new()),
            writer_waits: Cell::new(false),
            came: RefCell::new(FrameWalker::of_client()),
            sent: RefCell::new(FrameWalker::of_server()),
            reads: Cell::new(0),
        }))
    }

    /// Counts reads that brought something, to tell an idle peer from a live one.
    pub(crate) fn reads(&self) -> u64 {
        self.0.reads.get()
    }

    /// Takes the number of pings that came since the last call.
    pub(crate) fn take_pings(&self) -> u32 {
        self.0.came.borrow_mut().take_pings()
    }

    /// As [`FrameWalker::owed`].
    pub(crate) fn owed(&self) -> Option<u64> {
        self.0.came.borrow().owed()
    }

    /// Counts the calls the client cancelled.
    pub(crate) fn resets(&self) -> u64 {
        self.0.came.borrow().resets()
    }

    /// Counts what was said to the client besides control frames, which excuses its pings.
    pub(crate) fn answers(&self) -> u64 {
        self.0.sent.borrow().answers()
    }

    /// Puts `bytes` behind what is held, past the HTTP/2 library: for the last words of a connection.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.0.held.borrow_mut().extend_from_slice(bytes);
    }

    /// Writes what is held; ready when nothing is left.
    pub(crate) fn poll_drain(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.held.borrow_mut();
        if held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut io = self.0.io.borrow_mut();
        while !held.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(context, &held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => held.advance(written),
            }
        }
        held.clear();
        if held.capacity() > KEPT_BYTES_MAX {
            *held = BytesMut::new();
        }
        if self.0.writer_waits.take() {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut *io).poll_flush(context)
    }

    /// Makes room for a write: waits for the peer if too much is held.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.held.borrow().len() >= HELD_BYTES_MAX {
            self.0.writer_waits.set(true);
            ready!(self.poll_drain(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &self.0;
        let filled = into.filled().len();
        ready!(Pin::new(&mut *shared.io.borrow_mut()).poll_read(context, into))?;
        let read = &into.filled()[filled..];
        shared.reads.set(shared.reads.get() + u64::from(!read.is_empty()));
        shared.came.borrow_mut().walk(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        self.0.sent.borrow_mut().walk(bytes);
        self.0.held.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        let (mut held, mut sent) = (self.0.held.borrow_mut(), self.0.sent.borrow_mut());
        for slice in slices {
            sent.walk(slice);
            held.extend_from_slice(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only says yes: the connection's task drains when the turn is over.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn writes_wait_for_the_drain_and_leave_together() {
        let (near, mut far) = tokio::io::duplex(1024);
        let socket = Socket::new(near);
        let mut library = socket.clone();
        library.write_all(b"one ").await.unwrap();
        library.write_all(b"two").await.unwrap();
        library.flush().await.unwrap();
        let mut read = [0; 16];
        let early = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut far).poll_read(context, &mut ReadBuf::new(&mut [0; 1])).is_pending())
        });
        assert!(early.await, "nothing leaves before the drain");
        std::future::poll_fn(|context| socket.poll_drain(context)).await.unwrap();
        assert_eq!(far.read(&mut read).await.unwrap(), 7);
        assert_eq!(&read[..7], b"one two");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_peer_that_does_not_read_stops_the_writer() {
        let (near, _far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near);
        let chunk = vec![0; 64 << 10];
        let mut accepted = 0;
        std::future::poll_fn(|context| {
            while let Poll::Ready(Ok(written)) = Pin::new(&mut socket).poll_write(context, &chunk) {
                accepted += written;
                assert!(accepted <= HELD_BYTES_MAX + chunk.len());
            }
            Poll::Ready(())
        })
        .await;
        assert!(accepted >= HELD_BYTES_MAX);
    }
}
