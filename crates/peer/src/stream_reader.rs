//! The receiving end of a stream: dials the peer, and has what it writes read and handed on, over and over.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use crate::body::{RequestBody, read_all};
use crate::chunks::Chunks;
use crate::client::ClientError;
use crate::connection::{Connection, connect};
use crate::frames::{Decoder, FrameError, StreamKind};
use crate::head_first::HeadFirst;
use crate::headers::{self, RAFT_TO, SERVER_VERSION};
use crate::host::Host;
use crate::link::Link;
use crate::outbox::Target;
use crate::peer_url::PeerUrl;
use crate::port::{Hearing, Port};
use crate::settings::{IO_TIMEOUT, REDIAL_INTERVAL, REQUEST_BYTES_MAX, Settings};
use crate::stream_body::{StreamBody, StreamEnd};
use crate::version;

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
    #[error("the peer's answer is not coded as streams are")]
    Coding,
    #[error(transparent)]
    End(#[from] StreamEnd),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message of a removed member")]
    RemovedSender,
    #[error("this member stops")]
    Unread,
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
            let error = read_once(&port, &link, kind, &url, &mut is_told).await;
            if matches!(error, StreamError::Unread) {
                // No fault of the peer's, and nobody will read the next one either.
                return;
            }
            link.rotation.borrow_mut().failed(&url);
            link.target.receive_failed();
            let is_refused = matches!(
                error,
                StreamError::Frame(_) | StreamError::RemovedSender | StreamError::End(StreamEnd::Chunk(_))
            );
            if is_refused {
                port.shared.count_refused();
            }
            let error_shown = &error as &dyn std::error::Error;
            link.target.deactivate();
            if is_told {
                tracing::debug!(peer = %link.id, stream = kind.name(), error = error_shown, "stream failed");
            } else {
                tracing::warn!(peer = %link.id, stream = kind.name(), error = error_shown, "stream failed");
            }
            was_up |= matches!(error, StreamError::End(StreamEnd::Lost(_) | StreamEnd::Silent | StreamEnd::Ended));
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
) -> StreamError {
    let dialled = match dial(&port.shared.settings, link, kind, url).await {
        Ok(dialled) => dialled,
        Err(error) => return error,
    };
    if link.target.activate(port.shared.clock.now()) {
        tracing::info!(peer = %link.id, stream = kind.name(), "peer became active");
    }
    *is_told = false;
    let hearer = Hearer {
        dialled,
        decoder: Decoder::new(kind, link.id, port.shared.settings.member),
        patience: port.shared.settings.read_timeout,
        target: link.target.clone(),
        hearing: port.hearing.clone(),
    };
    let reading = async { hearer.run().await.map_or_else(|error| error, |never| match never {}) };
    port.shared.readers.of(kind).run(reading).await.unwrap_or(StreamError::Unread)
}

/// An accepted stream, which no runtime knows any more.
struct Dialled {
    socket: std::net::TcpStream,
    /// What came with the answer's head.
    kept: BytesMut,
    chunks: Option<Chunks>,
}

/// Reads one stream.
struct Hearer {
    dialled: Dialled,
    decoder: Decoder,
    patience: Duration,
    target: Arc<Target>,
    hearing: Arc<Hearing>,
}

impl Hearer {
    async fn run(self) -> Result<Infallible, StreamError> {
        let Hearer { dialled: Dialled { socket, kept, chunks }, mut decoder, patience, target, hearing } = self;
        let socket = TcpStream::from_std(socket).map_err(StreamEnd::Lost)?;
        let mut body = StreamBody::new(socket, kept, chunks, patience);
        let mut buffer = StreamBody::buffer();
        loop {
            let read = body.read(&mut buffer).await?;
            target.received(read);
            let mut messages = Vec::new();
            // What came before something bad is as good as ever.
            let read = decoder.read(&mut buffer, &mut messages);
            let heard = hearing.hear(messages);
            if let Some(afterwards) = heard.afterwards {
                // It is this task's turn again once nothing else on the thread has anything to do.
                yield_now().await;
                afterwards();
            }
            if heard.is_from_removed {
                return Err(StreamError::RemovedSender);
            }
            read?;
        }
    }
}

/// Asks for a stream.
async fn dial(settings: &Settings, link: &Link, kind: StreamKind, url: &str) -> Result<Dialled, StreamError> {
    let url = PeerUrl::parse(url)?;
    let (stream, gate) = HeadFirst::new(connect(&url, settings.dial_timeout).await?);
    let mut connection = Connection::over(stream, &url).await?;
    let request =
        Request::get(format!("/raft/stream/{}/{}", kind.name(), settings.member)).header(HOST, url.authority());
    let request = headers::identify(request, settings)
        .header(RAFT_TO, link.id.to_string())
        .body(RequestBody::Whole(Bytes::new()))
        .map_err(|error| ClientError::Malformed(error.to_string()))?;
    let answer = match timeout(settings.read_timeout, connection.exchange(&url, request)).await {
        Ok(answer) => answer?,
        Err(_elapsed) => return Err(url.unreachable(io::ErrorKind::TimedOut.into()).into()),
    };
    let (head, body) = answer.into_parts();
    match head.status {
        StatusCode::OK => {}
        // Somebody else's cluster may use this address by now; its word is nothing.
        StatusCode::GONE if headers::cluster(&head.headers) == Some(settings.cluster) => {
            return Err(StreamError::Removed);
        }
        status => {
            gate.open();
            let text = connection.drive(read_all(body, REQUEST_BYTES_MAX, IO_TIMEOUT, |_| true)).await;
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).trim_end().to_owned();
            return Err(StreamError::Refused { status, text });
        }
    }
    if !version::serves_streams(&settings.version, headers::text(&head.headers, &SERVER_VERSION)) {
        return Err(StreamError::Version);
    }
    let chunks = chunks_of(&head)?;
    // HTTP is over: it has read the head, and no more.
    let (socket, kept) = connection.into_stream().ok_or(StreamError::Coding)?.into_parts();
    Ok(Dialled { socket: socket.into_std().map_err(StreamEnd::Lost)?, kept, chunks })
}

/// How an accepted answer's body is coded: in chunks, or not at all and up to the connection's end.
fn chunks_of(head: &Parts) -> Result<Option<Chunks>, StreamError> {
    match head.headers.get(TRANSFER_ENCODING) {
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Some(Chunks::new())),
        None if !head.headers.contains_key(CONTENT_LENGTH) => Ok(None),
        _ => Err(StreamError::Coding),
    }
}
