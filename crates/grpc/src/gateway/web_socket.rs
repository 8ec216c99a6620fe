//! The gateway over WebSocket: what a client sends is the body of its request, every line of the answer is a message to
//! it. A long one is sent as it is made, in fragments, and so is no more held than that of an HTTP request.
//!
//! A connection ends with a close frame that says why.
//!
//! Source: tmc/grpc-websocket-proxy `wsproxy/websocket_proxy.go`, which etcd uses.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use api::errors::{self, Code};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::answers::{Cut, Part};
use super::exchange::{Exchange, Next};
use super::feed::{self, NoMore, Source};
use super::{failure, routes};
use crate::rpc::Metadata;
use crate::status::Status;
use crate::transport::{Account, Charge};
use crate::worker::Worker;

/// What the protocol has both sides hash with the client's key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Clients send little.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// What stands before the content of a ping or a pong from a client.
const CONTROL_HEAD_BYTES: usize = 6;

/// A request that was granted: what the connection is for from here on.
pub(crate) struct Upgrade {
    path: Vec<u8>,
    connection: OnUpgrade,
}

/// Whether a request asks to speak WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

/// Whether a header lists a word.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// Grants the request, if it is in order.
pub(super) fn accept(path: &[u8], request: &mut Request<Option<Incoming>>) -> (Response<Full<Bytes>>, Option<Upgrade>) {
    let headers = request.headers();
    let refusal = |status: StatusCode| {
        let reason = status.canonical_reason().unwrap_or_default();
        let mut refusal = Response::new(Full::from(format!("{reason}\n")));
        *refusal.status_mut() = status;
        refusal.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        refusal.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        (refusal, None)
    };
    if request.method() != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let (Some(key), true) = (key, has_token(headers, SEC_WEBSOCKET_VERSION, "13")) else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accepted(key));
    // Browsers can send a token only in the guise of a protocol, and want to hear that it is spoken.
    let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let first = protocol.and_then(|list| list.split(',').next()).map(str::trim);
    if let Some(bearer) = first.filter(|first| first.eq_ignore_ascii_case("bearer")) {
        let bearer = HeaderValue::from_str(bearer).expect("a word of a header is one");
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, bearer);
    }
    let connection = hyper::upgrade::on(request);
    (answer, Some(Upgrade { path: path.to_vec(), connection }))
}

/// Sixteen bytes in base64.
fn is_key(key: &HeaderValue) -> bool {
    BASE64_STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}

fn accepted(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(KEY_SUFFIX).finalize();
    HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).expect("base64 is plain")
}

impl Upgrade {
    /// Serves the one call that the connection was granted for.
    pub(crate) async fn serve(self, worker: &Worker, account: &Account) {
        let Ok(connection) = self.connection.await else { return };
        let message_bytes_max = worker.message_bytes_max();
        let text_bytes_max = Some(feed::text_bytes_max(message_bytes_max));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(text_bytes_max)
            .max_frame_size(text_bytes_max);
        let io = Metered { io: TokioIo::new(connection), charge: account.charge(0), held_bytes: 0, is_refused: false };
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let socket = Rc::new(Socket { stream: RefCell::new(socket), fault: Cell::default(), is_gone: Cell::default() });
        let source = Messages { socket: socket.clone(), has_ended: false, message_bytes_max };
        let mut lines = Lines { socket: socket.clone(), has_begun: false, charge: account.charge(0) };
        let outcome = answer(worker, account, &self.path, source, &mut lines).await;
        let close = socket.fault.take().unwrap_or_else(|| close_frame(outcome.as_ref().err()));
        let _ = timeout(worker.settings().opening_timeout, socket.close(close)).await;
    }
}

/// Makes the call and sends what it gives.
///
/// # Errors
/// What the call fails with, of which the client is told.
async fn answer(
    worker: &Worker,
    account: &Account,
    path: &[u8],
    source: Messages,
    lines: &mut Lines,
) -> Result<(), Status> {
    let started = match routes::find(path) {
        Ok(method) => {
            let metadata = Metadata::default();
            let exchange = Exchange::start(worker, account, method, metadata, source, Cut::Anywhere).await;
            exchange.map(|exchange| (method, exchange))
        }
        Err(status) => Err(status),
    };
    let (method, mut exchange) = match started {
        Ok(started) => started,
        Err(status) => {
            lines.fail(failure::plain_json(&status)).await;
            return Err(status);
        }
    };
    loop {
        match exchange.next().await {
            Next::Json(part) => lines.send(part).await.map_err(|ConnectionLost| failure::broken_off())?,
            Next::Ended(Ok(())) => return Ok(()),
            Next::Ended(Err(status)) => {
                let line = match method.server_streaming {
                    true => failure::stream_line(&status),
                    false => failure::plain_json(&status),
                };
                lines.fail(line).await;
                return Err(status);
            }
            Next::BrokenOff => return Err(failure::broken_off()),
        }
    }
}

/// What the connection ends with after a call, which failed with `status` if there is one. Most failures are the call's
/// and not the connection's, and told in the answer.
fn close_frame(status: Option<&Status>) -> CloseFrame {
    let code = match status {
        Some(status) if feed::says_too_large(status) => CloseCode::Size,
        Some(status) if *status == errors::TOO_MANY_REQUESTS.into() => CloseCode::Again,
        Some(status) if *status == failure::broken_off() => CloseCode::Error,
        Some(status) if *status == not_unicode() => CloseCode::Invalid,
        _ => return CloseFrame { code: CloseCode::Normal, reason: "".into() },
    };
    CloseFrame { code, reason: status.map_or("", |status| &status.text).into() }
}

/// What the gateway says of such text.
fn not_unicode() -> Status {
    Status::new(Code::InvalidArgument, "proto: invalid UTF-8 in string")
}

struct ConnectionLost;

/// The connection, which both directions of the call share.
struct Socket {
    stream: RefCell<WebSocketStream<Metered>>,
    /// What the client did wrong, if that is what the connection ends with.
    fault: Cell<Option<CloseFrame>>,
    /// Whether the client is gone, or cannot be understood any more.
    is_gone: Cell<bool>,
}

impl Socket {
    /// Sends a frame and waits until it is gone.
    async fn send(&self, message: Message) -> Result<(), ConnectionLost> {
        let mut message = Some(message);
        poll_fn(|context| {
            let stream = &mut *self.stream.borrow_mut();
            if message.is_some() {
                ready!(stream.poll_ready_unpin(context))?;
                message.take().map_or(Ok(()), |message| stream.start_send_unpin(message))?;
            }
            stream.poll_flush_unpin(context)
        })
        .await
        .map_err(|_| ConnectionLost)
    }

    /// Notes that so much of what has come is handed out.
    fn release(&self, bytes: usize) {
        let stream = &mut *self.stream.borrow_mut();
        let metered = stream.get_mut();
        metered.held_bytes = metered.held_bytes.saturating_sub(bytes);
        metered.charge.resize(metered.held_bytes);
    }

    /// Says why the connection ends, and ends it.
    async fn close(&self, frame: CloseFrame) {
        // A client that has closed it by itself gets its own frame back.
        if self.send(Message::Close(Some(frame))).await.is_err() {
            let _ = poll_fn(|context| self.stream.borrow_mut().poll_flush_unpin(context)).await;
        }
        let _ = poll_fn(|context| Pin::new(self.stream.borrow_mut().get_mut()).poll_shutdown(context)).await;
    }
}

/// What goes to the client, a line a message.
struct Lines {
    socket: Rc<Socket>,
    /// Whether a message has begun and not ended.
    has_begun: bool,
    charge: Charge,
}

impl Lines {
    async fn send(&mut self, part: Part) -> Result<(), ConnectionLost> {
        let Part { mut text, ends_message } = part;
        if ends_message && text.ends_with(b"\n") {
            text.pop();
        }
        // It is copied when it is framed.
        self.charge.resize(2 * text.len());
        let kind = if self.has_begun { Data::Continue } else { Data::Text };
        self.has_begun = !ends_message;
        let frame = Frame::message(text, OpCode::Data(kind), ends_message);
        let sent = self.socket.send(Message::Frame(frame)).await;
        self.charge.resize(0);
        sent
    }

    /// Sends what the call failed with, as `text`, if the client is there to hear it.
    async fn fail(&mut self, text: Vec<u8>) {
        if !self.has_begun && !self.socket.is_gone.get() {
            let _ = self.send(Part { text, ends_message: true }).await;
        }
    }
}

/// What comes from the client.
struct Messages {
    socket: Rc<Socket>,
    has_ended: bool,
    message_bytes_max: usize,
}

impl Messages {
    /// Notes that nothing more is understood, and why; a fault of the protocol itself is told only in closing.
    fn end(&mut self, error: &Error) -> Option<NoMore> {
        self.has_ended = true;
        let is_refused = self.socket.stream.borrow().get_ref().is_refused;
        let refusal = match error {
            Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
                feed::too_large(*size, self.message_bytes_max)
            }
            Error::Utf8(_) => not_unicode(),
            Error::Io(_) if is_refused => errors::TOO_MANY_REQUESTS.into(),
            Error::Protocol(fault) if *fault != ProtocolError::ResetWithoutClosingHandshake => {
                let frame = CloseFrame { code: CloseCode::Protocol, reason: fault.to_string().into() };
                self.socket.fault.set(Some(frame));
                self.socket.is_gone.set(true);
                return None;
            }
            _ => {
                self.socket.is_gone.set(true);
                return None;
            }
        };
        self.socket.fault.set(Some(close_frame(Some(&refusal))));
        Some(NoMore::Refused(refusal))
    }
}

impl Source for Messages {
    /// Nobody ends the text before the answer to it.
    const ENDS_BEFORE_THE_ANSWER: bool = false;

    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, NoMore>>> {
        while !self.has_ended {
            let next = ready!(self.socket.stream.borrow_mut().poll_next_unpin(context));
            let text = match next {
                Some(Ok(Message::Text(text))) => Bytes::from(text),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(data) | Message::Pong(data))) => {
                    self.socket.release(CONTROL_HEAD_BYTES + data.len());
                    continue;
                }
                Some(Ok(Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => {
                    self.has_ended = true;
                    self.socket.is_gone.set(true);
                    continue;
                }
                Some(Err(error)) => match self.end(&error) {
                    Some(refusal) => return Poll::Ready(Some(Err(refusal))),
                    None => continue,
                },
            };
            self.socket.release(usize::MAX);
            return Poll::Ready(Some(Ok(text)));
        }
        Poll::Ready(None)
    }

    /// Whoever closes the connection waits for no answer.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_text(context)).is_some() {}
        Poll::Ready(())
    }
}

/// A connection whose messages are charged while they come.
struct Metered {
    io: TokioIo<Upgraded>,
    charge: Charge,
    /// What has come of a message that is not whole.
    held_bytes: usize,
    is_refused: bool,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, into))?;
        let held_bytes = self.held_bytes + into.filled().len() - before;
        self.held_bytes = held_bytes;
        self.charge.resize(held_bytes);
        if !self.charge.account().has_room() {
            self.is_refused = true;
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
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
    use super::*;

    /// Source: RFC 6455, section 1.3.
    #[test]
    fn a_key_is_answered_as_the_protocol_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert!(is_key(&key) && !is_key(&HeaderValue::from_static("dGhlIHNhbXBsZQ==")));
        assert_eq!(accepted(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
