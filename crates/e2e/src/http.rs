//! Plain HTTP/1.1 requests, one a connection, and streams of JSON both ways.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back, undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    send(address, "GET", path).await
}

/// A request without a body.
pub async fn send(address: SocketAddr, method: &str, path: &str) -> Result<Response> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, request.as_bytes()).await?;
    parse(&answer).with_context(|| format!("not an HTTP answer: {:?}", String::from_utf8_lossy(&answer)))
}

/// A request with a body. `headers` are lines without their end.
pub async fn post(address: SocketAddr, path: &str, headers: &[&str], body: &[u8]) -> Result<Response> {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}", body.len());
    let head = [&[&*head], headers, &["\r\n"]].concat().join("\r\n");
    let answer = exchange(address, &[head.as_bytes(), body].concat()).await?;
    parse(&answer).with_context(|| format!("not an HTTP answer: {:?}", String::from_utf8_lossy(&answer)))
}

/// Sends bytes as they are and returns all that comes until the server closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(request).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: body.to_owned() };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunk(body)?;
    }
    Some(response)
}

fn unchunk(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (len, rest) = chunks.split_once("\r\n")?;
        let len = usize::from_str_radix(len, 16).ok()?;
        if len == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..len)?);
        chunks = rest.get(len..)?.strip_prefix("\r\n")?;
    }
}

/// A request whose body is sent bit by bit while its answer, lines of JSON, comes back.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    received: Vec<u8>,
    /// What came with the answer's head.
    head: Option<String>,
}

impl Stream {
    pub async fn open(address: SocketAddr, path: &str) -> Result<Stream> {
        let mut socket = TcpStream::connect(address).await?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n");
        socket.write_all(head.as_bytes()).await?;
        Ok(Stream { socket, received: Vec::new(), head: None })
    }

    /// Sends a part of the request's body.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        Ok(self.socket.write_all(chunk.as_bytes()).await?)
    }

    /// Ends the request's body.
    pub async fn end(&mut self) -> Result<()> {
        Ok(self.socket.write_all(b"0\r\n\r\n").await?)
    }

    /// The answer's head, once it has come.
    pub async fn head(&mut self) -> Result<&str> {
        if self.head.is_none() {
            let head = self.take_through(b"\r\n\r\n").await?.context("the answer has a head")?;
            self.head = Some(String::from_utf8(head)?);
        }
        Ok(self.head.as_deref().unwrap_or_default())
    }

    /// The next line of the answer; nothing after the last. Clients rely on it that a line is a chunk.
    pub async fn next(&mut self) -> Result<Option<serde_json::Value>> {
        self.head().await?;
        loop {
            let len = self.take_through(b"\r\n").await?.context("the answer goes on, or ends with its last chunk")?;
            let len = usize::from_str_radix(str::from_utf8(&len)?.trim_end(), 16)?;
            let chunk = self.take(len + 2).await?.context("a chunk is whole")?;
            if len == 0 {
                return Ok(None);
            }
            // etcd sends the end of a long line by itself.
            if !chunk.trim_ascii().is_empty() {
                return Ok(Some(serde_json::from_slice(&chunk).context("one line")?));
            }
        }
    }

    async fn take(&mut self, len: usize) -> Result<Option<Vec<u8>>> {
        while self.received.len() < len {
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
        let rest = self.received.split_off(len);
        Ok(Some(std::mem::replace(&mut self.received, rest)))
    }

    /// What comes until `end`, with it; nothing if the server closes before.
    async fn take_through(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let rest = self.received.split_off(at + end.len());
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }
}
