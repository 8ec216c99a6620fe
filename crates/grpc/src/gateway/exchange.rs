//! A call made in JSON.

use std::future::poll_fn;
use std::task::{Context, Poll};

use api::errors;
use api::schema::Method;

use super::answers::{Answers, Cut, Part, Untold};
use super::feed::{Feed, Source, empty_message};
use crate::rpc::Metadata;
use crate::rpc::local::{self, Caller, Ended};
use crate::service;
use crate::status::Status;
use crate::transport::Account;
use crate::worker::Worker;

/// A call under way: requests are read as the service takes them, answers are written as they are asked for. Dropping it
/// cancels the call.
pub(super) struct Exchange<S> {
    feed: Feed<S>,
    caller: Caller,
    answers: Answers,
    /// Whether requests are still to be read.
    takes_requests: bool,
    /// Why they cannot be.
    bad_request: Option<Status>,
}

/// What a call gives next.
pub(super) enum Next {
    Json(Part),
    Ended(Result<(), Status>),
    /// It ends in the middle of an answer, or nobody waits for one.
    BrokenOff,
}

impl<S: Source> Exchange<S> {
    /// Starts a call whose answers may be cut as `cut` says; reads the request before if there is to be one. No text
    /// counts as an empty request, and what follows the request is not looked at.
    ///
    /// # Errors
    /// There is no request to be had.
    pub(super) async fn start(
        worker: &Worker,
        account: &Account,
        method: &'static Method,
        metadata: Metadata,
        source: S,
        cut: Cut,
    ) -> Result<Exchange<S>, Status> {
        if !account.has_room() {
            return Err(errors::TOO_MANY_REQUESTS.into());
        }
        let message_bytes_max = worker.message_bytes_max();
        let mut feed = Feed::new(source, method.input, !method.client_streaming, message_bytes_max, account.charge(0));
        let request = match method.client_streaming {
            true => None,
            false => {
                let request = poll_fn(|context| feed.poll_message(context)).await.transpose()?;
                let is_gone = poll_fn(|context| Poll::Ready(feed.poll_gone(context).is_ready())).await;
                if is_gone {
                    return Err(errors::CONTEXT_CANCELED.into());
                }
                Some(request.unwrap_or_else(empty_message))
            }
        };
        let (call, caller) = local::call(metadata, message_bytes_max, account.charge_call());
        if let Some(request) = request {
            caller.send(account.leaving(request, false));
            caller.end_requests();
        }
        service::start_call(worker.clone(), method.path, call);
        let answers = Answers::new(method.output, method.server_streaming, cut, account.charge(0));
        Ok(Exchange { feed, caller, answers, takes_requests: method.client_streaming, bad_request: None })
    }

    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        self.poll_requests(context);
        loop {
            match self.answers.next() {
                Ok(Some(part)) => return Poll::Ready(Next::Json(part)),
                Ok(None) => {}
                Err(Untold::NoRoom) => return Poll::Ready(Next::Ended(Err(errors::TOO_MANY_REQUESTS.into()))),
                Err(Untold::Unreadable) => return Poll::Ready(Next::BrokenOff),
            }
            match self.caller.poll_answer(context) {
                Poll::Ready(Ok(piece)) => self.answers.push(piece),
                Poll::Ready(Err(Ended::Whole(outcome))) => return Poll::Ready(Next::Ended(outcome)),
                Poll::Ready(Err(Ended::BrokenOff)) => return Poll::Ready(Next::BrokenOff),
                Poll::Pending => break,
            }
        }
        if let Some(status) = self.bad_request.take() {
            return Poll::Ready(Next::Ended(Err(status)));
        }
        if !self.takes_requests && self.feed.poll_gone(context).is_ready() {
            return Poll::Ready(Next::BrokenOff);
        }
        Poll::Pending
    }

    fn poll_requests(&mut self, context: &mut Context<'_>) {
        while self.takes_requests && self.caller.poll_ready(context).is_ready() {
            match self.feed.poll_message(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(message))) => self.caller.send(message),
                Poll::Ready(last) => {
                    self.caller.end_requests();
                    self.takes_requests = false;
                    self.bad_request = last.and_then(Result::err);
                }
            }
        }
    }
}
