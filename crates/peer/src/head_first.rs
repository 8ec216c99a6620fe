//! A connection of which HTTP sees no more than the head of an answer, so that what follows can be read without it.
//!
//! Invariants
//! - Until [`Gate::open`], not a byte behind the head's empty line is read by HTTP; what came with the head is kept.
//! - What is kept is less than one read of HTTP.
//!
//! Where a head ends is found here, what it says is HTTP's to read. An interim answer (1xx) is taken for the answer, and no other head follows it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(crate) struct HeadFirst {
    socket: TcpStream,
    head: Head,
    /// What came behind the head.
    kept: BytesMut,
    gate: Gate,
}

/// Lets HTTP read on.
#[derive(Clone, Default)]
pub(crate) struct Gate(Rc<Cell<bool>>);

/// How far a head has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    InLine,
    AtLineStart,
    Whole,
}

impl Gate {
    /// HTTP reads on when it is polled again.
    pub(crate) fn open(&self) {
        self.0.set(true);
    }
}

impl HeadFirst {
    pub(crate) fn new(socket: TcpStream) -> (HeadFirst, Gate) {
        let gate = Gate::default();
        (HeadFirst { socket, head: Head::InLine, kept: BytesMut::new(), gate: gate.clone() }, gate)
    }

    /// The connection, and what came behind the head.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.socket, self.kept)
    }
}

impl Head {
    /// Looks through more of it; says how much was the head's once it is whole.
    fn look_through(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Head::AtLineStart, b'\n') => Head::Whole,
                (_, b'\n') => Head::AtLineStart,
                (Head::AtLineStart, b'\r') => Head::AtLineStart,
                _ => Head::InLine,
            };
            if *self == Head::Whole {
                return Some(at + 1);
            }
        }
        None
    }
}

impl AsyncRead for HeadFirst {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head == Head::Whole {
            if !this.gate.0.get() {
                return Poll::Pending;
            }
            if !this.kept.is_empty() {
                let len = this.kept.len().min(buffer.remaining());
                buffer.put_slice(&this.kept.split_to(len));
                return Poll::Ready(Ok(()));
            }
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        if let Some(len) = this.head.look_through(&buffer.filled()[before..]) {
            this.kept = buffer.filled()[before + len..].into();
            buffer.set_filled(before + len);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeadFirst {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::body::{RequestBody, read_all};
    use crate::connection::{Connection, connect};
    use crate::peer_url::PeerUrl;
    use crate::settings::IO_TIMEOUT;

    /// Asks for something that is answered with these pieces. Both ends, and whether HTTP sees what follows the head.
    async fn asked(pieces: [&'static [u8]; 2], reads_on: bool) -> (Option<(TcpStream, BytesMut)>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = PeerUrl { host: "127.0.0.1".to_owned(), port };
        let (stream, gate) = HeadFirst::new(connect(&url, IO_TIMEOUT).await.unwrap());
        let mut connection = Connection::over(stream, &url).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(pieces[0]).await.unwrap();
        let request = Request::get("/").body(RequestBody::Whole(bytes::Bytes::new())).unwrap();
        let answer = connection.exchange(&url, request).await.unwrap();
        peer.write_all(pieces[1]).await.unwrap();
        if !reads_on {
            return (connection.into_stream().map(HeadFirst::into_parts), String::new());
        }
        gate.open();
        let text = connection.drive(read_all(answer.into_body(), 100, IO_TIMEOUT, |_| true)).await.unwrap();
        (None, String::from_utf8(text.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn http_reads_the_head_and_what_follows_is_kept_or_read_by_it_later() {
        let pieces: [&[u8]; 2] = [b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\r\n\r\nab", b"cd"];
        let (parts, _) = asked(pieces, false).await;
        let (mut socket, kept) = parts.expect("HTTP has read the head only");
        assert_eq!(kept, "\r\n\r\nab");
        let mut rest = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut rest).await.unwrap();
        assert_eq!(&rest, b"cd");
        assert_eq!(asked(pieces, true).await.1, "\r\n\r\nabcd");
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line_however_it_is_cut() {
        let heads: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: \ry\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\nX: y\n\n",
        ];
        for head in heads {
            let bytes = [head, b"\r\n\r\n1\r\n"].concat();
            for cut in 0..head.len() {
                let mut state = Head::InLine;
                assert_eq!(state.look_through(&bytes[..cut]), None);
                assert_eq!(state.look_through(&bytes[cut..]), Some(head.len() - cut));
            }
        }
    }
}
