//! The body of an answer that is written while it is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::exchange::{Exchange, Next};
use super::failure;
use super::feed::HttpBody;
use crate::transport::Account;

/// What is left of an answer.
pub(crate) struct JsonStream {
    /// `None` once it has ended.
    exchange: Option<Box<Exchange<HttpBody>>>,
    /// What was written already.
    first: Option<Bytes>,
    account: Account,
}

/// The answer cannot be ended in order, so the connection ends with it.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off")]
pub(crate) struct BrokenOff;

impl JsonStream {
    pub(super) fn new(exchange: Exchange<HttpBody>, first: Vec<u8>, account: Account) -> JsonStream {
        JsonStream { exchange: Some(Box::new(exchange)), first: Some(first.into()), account }
    }

    pub(super) fn empty(account: Account) -> JsonStream {
        JsonStream { exchange: None, first: None, account }
    }
}

impl Body for JsonStream {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let text = match (this.first.take(), &mut this.exchange) {
            (Some(first), _) => first,
            (None, None) => return Poll::Ready(None),
            (None, Some(exchange)) => match ready!(exchange.poll_next(context)) {
                Next::Json(part) => part.text.into(),
                Next::Ended(outcome) => {
                    this.exchange = None;
                    match outcome {
                        Ok(()) => return Poll::Ready(None),
                        Err(status) => failure::stream_line(&status).into(),
                    }
                }
                Next::BrokenOff => {
                    this.exchange = None;
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            },
        };
        Poll::Ready(Some(Ok(Frame::data(this.account.leaving(text, false)))))
    }
}
