//! Bodies of requests and answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::settings::{BODY_TIMEOUT, IO_TIMEOUT};

/// What a request carries: all at once, or as it is read from the state.
pub(crate) enum RequestBody {
    Whole(Bytes),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            RequestBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            RequestBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            RequestBody::Pieces(pieces) => {
                let piece = ready!(pieces.poll_recv(cx));
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, RequestBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Pieces(_) => SizeHint::default(),
        }
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("nothing of the body came for a while")]
    TimedOut,
    #[error("the connection failed within the body")]
    Lost(#[source] hyper::Error),
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_piece(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, BodyError> {
    loop {
        match timeout(patience, body.frame()).await {
            Err(_elapsed) => return Err(BodyError::TimedOut),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(BodyError::Lost(error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole request body of at most `bytes_max`; whoever sends it a byte at a time does not keep his connection for ever.
pub(crate) async fn read_request(
    body: Incoming,
    bytes_max: usize,
    take: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError> {
    timeout(BODY_TIMEOUT, read_all(body, bytes_max, IO_TIMEOUT, take)).await.unwrap_or(Err(BodyError::TimedOut))
}

/// A whole body of at most `bytes_max`. `take` is asked for every piece and may refuse it.
pub(crate) async fn read_all(
    mut body: Incoming,
    bytes_max: usize,
    patience: Duration,
    mut take: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = next_piece(&mut body, patience).await? {
        if whole.len() + piece.len() > bytes_max || !take(piece.len()) {
            return Err(BodyError::TooLong(bytes_max));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads what a refused sender still sends, within reason: closed too early, a connection takes the answer with it.
pub(crate) async fn drain(body: Incoming) {
    let drained = async {
        let mut left: usize = 256 << 10;
        let mut body = body;
        while let Ok(Some(piece)) = next_piece(&mut body, Duration::from_secs(1)).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    drop(timeout(Duration::from_secs(1), drained).await);
}
