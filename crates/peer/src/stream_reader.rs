//! The receiving end of a stream: dials the peer and hands on what it writes, over and over.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use crate::body::{RequestBody, read_all};
use crate::client::ClientError;
use crate::connection::{Connection, Driver, Patience};
use crate::frames::{Decoder, FrameError, StreamKind};
use crate::headers::{self, RAFT_TO, SERVER_VERSION};
use crate::host::Host;
use crate::link::Link;
use crate::peer_url::PeerUrl;
use crate::port::Port;
use crate::settings::{IO_TIMEOUT, REDIAL_INTERVAL, REQUEST_BYTES_MAX};
use crate::version;

/// Frames are gathered in blocks of this size, which their entries then share: an entry alone would hold on to a whole buffer of
/// its connection.
const BLOCK_BYTES: usize = 64 << 10;
/// So much is taken from the connection before it is looked at.
const READ_BYTES_MAX: usize = 1 << 20;

/// Why a stream ended or did not come about.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the peer says that this member was removed")]
    Removed,
    #[error("the peer refuses the stream: {status} {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the peer's release is too old or unknown")]
    Version,
    #[error("the stream broke off")]
    Lost(#[source] hyper::Error),
    #[error("the peer ended the stream")]
    Ended,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message of a removed member")]
    RemovedSender,
}

/// Reads the peer's stream until the peer goes.
pub(crate) async fn read<H: Host>(port: Rc<Port<H>>, link: Rc<Link>, kind: StreamKind) {
    // The first failure of a row is for people, those of every tenth of a second after it are not.
    let mut is_told = false;
    // Whether there was a stream since the peer was last said to be gone.
    let mut was_up = false;
    loop {
        let dialled_at = Instant::now();
        let url = link.rotation.borrow().current().map(str::to_owned);
        if let Some(url) = url {
            let Err(error) = read_once(&port, &link, kind, &url, &mut is_told).await;
            link.rotation.borrow_mut().failed(&url);
            link.target.receive_failed();
            if matches!(error, StreamError::Frame(_) | StreamError::RemovedSender) {
                port.shared.count_refused();
            }
            let error_shown = &error as &dyn std::error::Error;
            link.target.deactivate();
            if is_told {
                tracing::debug!(peer = %link.id, stream = kind.name(), error = error_shown, "stream failed");
            } else {
                tracing::warn!(peer = %link.id, stream = kind.name(), error = error_shown, "stream failed");
            }
            was_up |= matches!(error, StreamError::Lost(_) | StreamError::Ended);
            is_told = true;
            // A stream that breaks may be one connection's fault; a peer that cannot be reached right after has ended.
            if was_up && matches!(error, StreamError::Client(ClientError::Unreachable { .. })) {
                was_up = false;
                port.host.gone(link.id);
            }
            if matches!(error, StreamError::Removed) {
                port.host.removed();
            }
        }
        sleep_until(dialled_at + REDIAL_INTERVAL).await;
    }
}

async fn read_once<H: Host>(
    port: &Rc<Port<H>>,
    link: &Link,
    kind: StreamKind,
    url: &str,
    is_told: &mut bool,
) -> Result<std::convert::Infallible, StreamError> {
    let settings = &port.shared.settings;
    let url = PeerUrl::parse(url)?;
    let patience = Patience { read: Some(settings.read_timeout), write: Some(settings.write_timeout) };
    let mut connection = Connection::open(&url, settings.dial_timeout, patience).await?;
    let request =
        Request::get(format!("/raft/stream/{}/{}", kind.name(), settings.member)).header(HOST, url.authority());
    let request = headers::identify(request, settings)
        .header(RAFT_TO, link.id.to_string())
        .body(RequestBody::Whole(bytes::Bytes::new()))
        .map_err(|error| ClientError::Malformed(error.to_string()))?;
    let answer = connection.exchange(&url, request).await?;
    let (head, mut body) = answer.into_parts();
    match head.status {
        StatusCode::OK => {}
        // Somebody else's cluster may use this address by now; its word is nothing.
        StatusCode::GONE if headers::cluster(&head.headers) == Some(settings.cluster) => {
            return Err(StreamError::Removed);
        }
        status => {
            let text = connection.drive(read_all(body, REQUEST_BYTES_MAX, IO_TIMEOUT, |_| true)).await;
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).trim_end().to_owned();
            return Err(StreamError::Refused { status, text });
        }
    }
    if !version::serves_streams(&settings.version, headers::text(&head.headers, &SERVER_VERSION)) {
        return Err(StreamError::Version);
    }
    if link.target.activate(port.shared.clock.now()) {
        tracing::info!(peer = %link.id, stream = kind.name(), "peer became active");
    }
    *is_told = false;
    let mut decoder = Decoder::new(kind, link.id, settings.member);
    let mut buffer = BytesMut::with_capacity(BLOCK_BYTES);
    loop {
        let read = poll_fn(|cx| poll_some(connection.driver(), &mut body, &mut buffer, cx)).await?;
        link.target.received(read);
        let mut messages = Vec::new();
        // What came before something bad is as good as ever.
        let read = decoder.read(&mut buffer, &mut messages);
        if !port.deliver(messages) {
            return Err(StreamError::RemovedSender);
        }
        read?;
    }
}

/// Takes everything that has come and says how much.
fn poll_some(
    driver: &mut Driver,
    body: &mut Incoming,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, StreamError>> {
    let mut read = 0;
    while read < READ_BYTES_MAX {
        driver.poll(cx);
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                read += data.len();
                if buffer.capacity() - buffer.len() < data.len() {
                    buffer.reserve(data.len().max(BLOCK_BYTES));
                }
                buffer.extend_from_slice(&data);
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(StreamError::Lost(error))),
            Poll::Ready(None) if read == 0 => return Poll::Ready(Err(StreamError::Ended)),
            Poll::Pending if read == 0 => return Poll::Pending,
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(read))
}
