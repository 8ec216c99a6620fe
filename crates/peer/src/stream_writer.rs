//! A stream to a peer, as the one that serves it sees it: it begins with an answer's head, and then is the lane's, endlessly.
//!
//! HTTP is over once the request was accepted. Senders write to the connection on their own threads (`lane`); the task here finishes what
//! they cannot, says every few seconds that the link lives, and notices when the other side is gone or takes nothing any more.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::Wait;
use crate::date;
use crate::frames::StreamKind;
use crate::lane::LaneError;
use crate::link::Link;
use crate::outbox::Shared;
use crate::settings::LINK_HEARTBEAT_INTERVAL;

/// A request for a stream that was accepted.
pub(crate) struct Opening {
    pub(crate) link: Rc<Link>,
    pub(crate) kind: StreamKind,
    /// The dialler asks for what comes anyway: no other request follows on this connection.
    pub(crate) closes: bool,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnded {
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error("the peer took nothing for too long")]
    TimedOut(#[source] io::Error),
    #[error("the peer closed the stream")]
    Closed,
    #[error("the stream's connection failed")]
    Failed(#[source] io::Error),
    #[error("the peer sent something after its request for a stream")]
    Garbage,
}

struct StreamWriter {
    shared: Arc<Shared>,
    link: Rc<Link>,
    kind: StreamKind,
    socket: Arc<TcpStream>,
    /// Which of the lane's streams this is.
    stream: u64,
    heartbeat: Pin<Box<Sleep>>,
    write: Wait,
}

/// Serves a stream until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, opening: Opening, socket: TcpStream) -> StreamEnded {
    let mut writer = StreamWriter::attach(shared, opening, socket);
    poll_fn(|cx| writer.poll(cx)).await
}

impl StreamWriter {
    /// Takes the lane.
    fn attach(shared: Arc<Shared>, opening: Opening, socket: TcpStream) -> StreamWriter {
        let Opening { link, kind, closes } = opening;
        let socket = Arc::new(socket);
        let stream = link.target.lane(kind).attach(kind, socket.clone(), head(&shared, closes));
        link.target.stream_attached();
        // Nothing is posted any more, and the other side closes them soon.
        link.idle_connections.take();
        if link.target.activate(shared.clock.now()) {
            tracing::info!(peer = %link.id, stream = kind.name(), "peer became active");
        }
        tracing::debug!(peer = %link.id, stream = kind.name(), "stream to the peer established");
        let write = Wait::new(Some(shared.settings.write_timeout));
        let heartbeat = Box::pin(sleep_until(Instant::now() + LINK_HEARTBEAT_INTERVAL));
        StreamWriter { shared, link, kind, socket, stream, heartbeat, write }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StreamEnded> {
        if let Err(ended) = self.write(cx) {
            return Poll::Ready(ended);
        }
        self.poll_read(cx)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), StreamEnded> {
        let mut heartbeat = false;
        while self.heartbeat.as_mut().poll(cx).is_ready() {
            heartbeat = true;
            self.heartbeat.as_mut().reset(Instant::now() + LINK_HEARTBEAT_INTERVAL);
        }
        let mut has_moved = false;
        let written = self.link.target.lane(self.kind).poll_write(self.stream, heartbeat, &mut has_moved, cx);
        let waits = match written {
            Poll::Ready(written) => Poll::Ready(Ok(written?)),
            Poll::Pending => Poll::Pending,
        };
        if has_moved {
            // A new wait begins.
            drop(self.write.watch(Poll::Ready(Ok(())), cx));
        }
        match self.write.watch(waits, cx) {
            Poll::Ready(Err(error)) => Err(StreamEnded::TimedOut(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The dialler has nothing to say: whatever comes from it ends the stream.
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<StreamEnded> {
        loop {
            if let Err(error) = ready!(self.socket.poll_read_ready(cx)) {
                return Poll::Ready(StreamEnded::Failed(error));
            }
            match self.socket.try_read(&mut [0; 64]) {
                Ok(0) => return Poll::Ready(StreamEnded::Closed),
                Ok(_) => return Poll::Ready(StreamEnded::Garbage),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(StreamEnded::Failed(error)),
            }
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.link.target.stream_detached();
        let lost = self.link.target.lane(self.kind).detach(self.stream);
        // What was written last may be lost, whatever comes after it.
        self.shared.report_lost(self.link.id);
        let Some(waiting) = lost else {
            return;
        };
        self.link.target.lost(waiting);
        self.link.target.send_failed();
        if self.link.target.deactivate() {
            tracing::warn!(peer = %self.link.id, stream = self.kind.name(), "peer became inactive: stream lost");
        }
    }
}

/// The answer's head, as hyper writes those of the others.
fn head(shared: &Shared, closes: bool) -> BytesMut {
    let mut head = BytesMut::new();
    let close = if closes { "Connection: close\r\n" } else { "" };
    write!(
        head,
        "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {}\r\nX-Server-Version: {}\r\n{close}Transfer-Encoding: chunked\r\nDate: {}\r\n\r\n",
        shared.settings.cluster,
        shared.settings.version,
        date::http(shared.clock.wall()),
    )
    .expect("a buffer grows as needed");
    head
}
