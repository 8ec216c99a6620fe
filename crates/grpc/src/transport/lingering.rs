//! The end of a connection whose client may still be sending.
//!
//! A socket that is closed while something unread has come resets the connection, and with that the client may lose an
//! answer that it has not read yet. So the end is announced first, and what still comes is thrown away for a while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A client that is silent for so long has heard that nobody listens. As Go's `net/http` has it.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// For all of what a client still sends.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// How much is thrown away at a time.
const PIECE_BYTES: usize = 16 << 10;

/// A stream that, once it is shut down, is read until the client has nothing more to say.
pub(crate) struct Lingering<S> {
    io: S,
    end: Option<End>,
}

struct End {
    latest: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> Lingering<S> {
    pub(crate) fn new(io: S) -> Lingering<S> {
        Lingering { io, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Ready when the client has closed its side too, or it is time.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
        }
        let end = this
            .end
            .get_or_insert_with(|| End { latest: Instant::now() + LINGER_MAX, timer: Box::pin(sleep(SILENCE_MAX)) });
        let mut piece = [0; PIECE_BYTES];
        loop {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut this.io).poll_read(context, &mut piece) {
                Poll::Pending => return end.timer.as_mut().poll(context).map(Ok),
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= end.latest {
                        return Poll::Ready(Ok(()));
                    }
                    end.timer.as_mut().reset(end.latest.min(now + SILENCE_MAX));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::timeout;

    use super::*;

    fn open() -> (Lingering<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        (Lingering::new(near), far)
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_still_comes_is_thrown_away_until_the_client_closes() {
        let (mut io, mut client) = open();
        io.write_all(b"the answer").await.unwrap();
        let ((), ()) = tokio::join!(async { io.shutdown().await.unwrap() }, async {
            client.write_all(&[7; 100_000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"the answer");
            drop(client);
        });
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn nobody_is_listened_to_for_long() {
        let (mut io, _silent) = open();
        let started = Instant::now();
        io.shutdown().await.unwrap();
        assert!(started.elapsed() < 2 * SILENCE_MAX, "{:?}", started.elapsed());

        let (mut io, mut client) = open();
        let started = Instant::now();
        let endless = async {
            while timeout(LINGER_MAX, client.write_all(b"more")).await.is_ok_and(|sent| sent.is_ok()) {
                sleep(SILENCE_MAX / 2).await;
            }
        };
        tokio::select! {
            () = endless => {}
            ended = io.shutdown() => ended.unwrap(),
        }
        let lingered = started.elapsed();
        assert!(lingered >= LINGER_MAX && lingered < LINGER_MAX + SILENCE_MAX, "{lingered:?}");
    }
}
