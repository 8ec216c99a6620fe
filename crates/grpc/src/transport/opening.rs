//! The first bytes of a connection: they tell HTTP/2 from HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is certain; the stream handed back begins at its first byte again.
///
/// # Errors
/// If reading fails, or the peer closes before the protocol is certain.
pub(crate) async fn read_opening<S: AsyncRead + Unpin>(mut io: S) -> io::Result<(Protocol, Reread<S>)> {
    let mut opening = BytesMut::with_capacity(1024);
    loop {
        if io.read_buf(&mut opening).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let compared = opening.len().min(PREFACE.len());
        let protocol = match () {
            () if opening[..compared] != PREFACE[..compared] => Protocol::Http1,
            () if compared == PREFACE.len() => Protocol::Http2,
            () => continue,
        };
        return Ok((protocol, Reread { opening, io }));
    }
}

/// A stream from which the opening is read once more.
pub(crate) struct Reread<S> {
    opening: BytesMut,
    io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Reread<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.opening.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, into);
        }
        let taken = self.opening.len().min(into.remaining());
        into.put_slice(&self.opening[..taken]);
        self.opening.advance(taken);
        if self.opening.is_empty() {
            self.opening = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reread<S> {
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn open(pieces: &[&[u8]]) -> io::Result<(Protocol, Vec<u8>)> {
        let (near, mut far) = tokio::io::duplex(1024);
        for piece in pieces {
            far.write_all(piece).await?;
        }
        drop(far);
        let (protocol, mut io) = read_opening(near).await?;
        let mut all = Vec::new();
        io.read_to_end(&mut all).await?;
        Ok((protocol, all))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_preface_decides_and_nothing_is_lost() {
        let http2 = open(&[&PREFACE[..5], &PREFACE[5..], b"rest"]).await.unwrap();
        assert_eq!(http2, (Protocol::Http2, [PREFACE, b"rest"].concat()));
        let http1 = open(&[b"GET /version HTTP/1.1\r\n\r\n"]).await.unwrap();
        assert_eq!(http1, (Protocol::Http1, b"GET /version HTTP/1.1\r\n\r\n".to_vec()));
        assert_eq!(open(&[b"PRI * HTTP/9"]).await.unwrap().0, Protocol::Http1);
        assert!(open(&[b"PRI"]).await.is_err());
        assert!(open(&[]).await.is_err());
    }
}
