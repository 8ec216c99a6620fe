//! The answer to a stream's dialler: whatever waits in the lane, endlessly, and a heartbeat of the link.
//!
//! All that waits leaves together: it is encoded into one buffer, which becomes one chunk and one write.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::frames::{Encoder, StreamKind};
use crate::link::Link;
use crate::outbox::Shared;
use crate::settings::LINK_HEARTBEAT_INTERVAL;

/// A chunk is not added to beyond this; the next one follows in the same write, as far as the connection's buffer goes.
const CHUNK_BYTES: usize = 256 << 10;

/// A stream to a peer, as the body of an answer.
pub(crate) struct StreamWriter {
    shared: Arc<Shared>,
    link: Rc<Link>,
    kind: StreamKind,
    /// Which of the lane's streams this is.
    stream: u64,
    encoder: Encoder,
    buffer: BytesMut,
    heartbeat: Pin<Box<Sleep>>,
}

/// A newer stream took the lane, or the peer is no peer any more.
#[derive(Debug, thiserror::Error)]
#[error("the stream was replaced or its peer removed")]
pub(crate) struct StreamEnded;

impl StreamWriter {
    /// Takes the lane.
    pub(crate) fn attach(shared: Arc<Shared>, link: Rc<Link>, kind: StreamKind) -> StreamWriter {
        let stream = link.lane(kind).attach();
        link.target.stream_attached();
        // Nothing is posted any more, and the other side closes them soon.
        link.idle_connections.take();
        if link.target.activate(shared.clock.now()) {
            tracing::info!(peer = %link.id, stream = kind.name(), "peer became active");
        }
        tracing::debug!(peer = %link.id, stream = kind.name(), "stream to the peer established");
        StreamWriter {
            shared,
            link,
            kind,
            stream,
            encoder: Encoder::new(kind),
            buffer: BytesMut::new(),
            heartbeat: Box::pin(sleep_until(Instant::now() + LINK_HEARTBEAT_INTERVAL)),
        }
    }

    fn encode_waiting(&mut self) {
        let lane = self.link.lane(self.kind);
        while self.buffer.len() < CHUNK_BYTES {
            let Some(queued) = lane.pop() else { break };
            self.encoder.message(&queued.message, &mut self.buffer);
        }
    }
}

impl Body for StreamWriter {
    type Data = Bytes;
    type Error = StreamEnded;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamEnded>>> {
        let this = self.get_mut();
        if !this.link.lane(this.kind).is_held_by(this.stream) {
            return Poll::Ready(Some(Err(StreamEnded)));
        }
        this.encode_waiting();
        if !this.buffer.is_empty() {
            this.link.target.sent(this.buffer.len());
        }
        while this.heartbeat.as_mut().poll(cx).is_ready() {
            this.encoder.heartbeat(&mut this.buffer);
            this.heartbeat.as_mut().reset(Instant::now() + LINK_HEARTBEAT_INTERVAL);
        }
        if this.buffer.is_empty() {
            this.link.lane(this.kind).wake_later(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(this.buffer.split().freeze()))))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.link.target.stream_detached();
        // What was written last may be lost, whatever comes after it.
        self.shared.report_lost(self.link.id);
        let Some(waiting) = self.link.lane(self.kind).detach(self.stream) else {
            return;
        };
        self.link.target.lost(waiting);
        self.link.target.send_failed();
        if self.link.target.deactivate() {
            tracing::warn!(peer = %self.link.id, stream = self.kind.name(), "peer became inactive: stream lost");
        }
    }
}
