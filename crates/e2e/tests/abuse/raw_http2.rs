//! HTTP/2 by hand, to send what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The setting for how much each stream may send.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// The bytes of one frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block without compression: each field a literal that enters no table.
pub(crate) fn header_block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |bytes: &[u8], block: &mut Vec<u8>| {
        let mut rest = bytes.len();
        if rest < 127 {
            block.push(rest as u8);
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push(rest as u8 | 128);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
        block.extend(bytes);
    };
    for (name, value) in fields {
        block.push(0);
        text(name.as_bytes(), &mut block);
        text(value, &mut block);
    }
    block
}

/// The headers of a gRPC call.
pub(crate) fn call(path: &str) -> Vec<u8> {
    header_block(call_fields(path))
}

pub(crate) fn call_fields(path: &str) -> [(&str, &[u8]); 6] {
    [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("te", b"trailers"),
        ("content-type", b"application/grpc"),
    ]
}

/// How a server got rid of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// With a reason: error code and text.
    GoAway(u32, String),
    /// Without.
    Bare,
}

/// One connection.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    /// Connects, and sends what every client sends first.
    pub(crate) async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Result<Connection> {
        let mut socket = TcpStream::connect(address).await?;
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()).await?;
        Ok(Connection(socket))
    }

    /// Sends bytes and reads nothing. An error is the server's having closed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Reads frames until the server closes.
    ///
    /// # Errors
    /// If it does not within `limit`.
    pub(crate) async fn closed(self, limit: Duration) -> Result<Closed> {
        let (mut reading, _writing) = self.0.into_split();
        let read = async {
            let mut closed = Closed::Bare;
            let mut head = [0; 9];
            loop {
                if reading.read_exact(&mut head).await.is_err() {
                    return closed;
                }
                let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                if reading.read_exact(&mut payload).await.is_err() {
                    return closed;
                }
                if let (GOAWAY, Some((code, text))) = (head[3], payload.get(4..).and_then(<[u8]>::split_first_chunk)) {
                    closed = Closed::GoAway(u32::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned());
                }
            }
        };
        timeout(limit, read).await.context("the server does not close")
    }

    /// Sends `bytes` again and again until the server has enough.
    ///
    /// # Errors
    /// If it still has not after `limit_bytes`.
    pub(crate) async fn flood(self, bytes: &[u8], limit_bytes: usize) -> Result<Closed> {
        let (mut reading, mut writing) = self.0.into_split();
        let send = async {
            let mut sent = 0;
            while sent < limit_bytes {
                if writing.write_all(bytes).await.is_err() {
                    return Ok(());
                }
                sent += bytes.len();
            }
            bail!("the server takes {limit_bytes} bytes and more")
        };
        let read = async {
            let mut all = Vec::new();
            let mut piece = vec![0; 64 << 10];
            while let Ok(len @ 1..) = reading.read(&mut piece).await {
                all.extend_from_slice(&piece[..len]);
            }
            all
        };
        let mut read = std::pin::pin!(read);
        let received = tokio::select! {
            received = &mut read => received,
            sent = send => {
                sent?;
                timeout(Duration::from_secs(10), read).await.context("the server does not close")?
            }
        };
        Ok(last_goaway(&received).unwrap_or(Closed::Bare))
    }
}

fn last_goaway(mut received: &[u8]) -> Option<Closed> {
    let mut found = None;
    while let Some((head, rest)) = received.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        if let (GOAWAY, Some((code, text))) = (head[3], payload.get(4..).and_then(<[u8]>::split_first_chunk)) {
            found = Some(Closed::GoAway(u32::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()));
        }
        received = rest;
    }
    found
}
