//! Calls from within the process: what an HTTP/2 stream is to other clients, two queues are to them.
//!
//! Both ends live on the worker's thread. The messages are those of gRPC, prefixes included, so that a service cannot
//! tell the difference.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::call::Call;
use super::metadata::Metadata;
use super::requests::{Body, Requests};
use super::respond::{Gone, Responder};
use crate::status::Status;
use crate::transport::Charge;

/// How much of the answers may wait for the caller before the service has to.
const WINDOW_BYTES: usize = 64 << 10;

/// A call as a service gets it, and its caller's end.
pub(crate) fn call(metadata: Metadata, message_bytes_max: usize, charge: Charge) -> (Call, Caller) {
    let pipe = Pipe::default();
    let body = Body::Local(LocalRequests(pipe.clone()));
    let requests = Requests::new(body, message_bytes_max, false, charge.account().charge(0));
    let responder = Responder::local(LocalAnswers(pipe.clone()), charge);
    (Call::new(metadata, requests, responder), Caller(pipe))
}

#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    requests: VecDeque<Bytes>,
    requests_ended: bool,
    answers: VecDeque<Bytes>,
    answer_bytes: usize,
    ended: Option<Ended>,
    caller_is_gone: bool,
    service: Option<Waker>,
    caller: Option<Waker>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Whole(Result<(), Status>),
    /// In the middle of a message.
    BrokenOff,
}

impl Pipe {
    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

impl State {
    fn wake_service(&mut self) {
        self.service.take().into_iter().for_each(Waker::wake);
    }

    fn wake_caller(&mut self) {
        self.caller.take().into_iter().for_each(Waker::wake);
    }

    fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
        self.wake_caller();
    }
}

/// The caller's end of a call. Dropping it cancels the call.
pub(crate) struct Caller(Pipe);

impl Caller {
    /// Ready when the service has taken the requests before.
    pub(crate) fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.requests.is_empty() {
            return Poll::Ready(());
        }
        state.caller = Some(context.waker().clone());
        Poll::Pending
    }

    /// Sends a message, prefix included.
    pub(crate) fn send(&self, message: Bytes) {
        let mut state = self.0.state();
        state.requests.push_back(message);
        state.wake_service();
    }

    /// There are no more requests.
    pub(crate) fn end_requests(&self) {
        let mut state = self.0.state();
        state.requests_ended = true;
        state.wake_service();
    }

    /// The next bytes of the answer.
    pub(crate) fn poll_answer(&self, context: &Context<'_>) -> Poll<Result<Bytes, Ended>> {
        let mut state = self.0.state();
        if let Some(data) = state.answers.pop_front() {
            state.answer_bytes -= data.len();
            state.wake_service();
            return Poll::Ready(Ok(data));
        }
        if let Some(ended) = state.ended.take() {
            return Poll::Ready(Err(ended));
        }
        state.caller = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.caller_is_gone = true;
        state.answers.clear();
        state.wake_service();
    }
}

/// The requests, at the service's end.
pub(crate) struct LocalRequests(Pipe);

impl LocalRequests {
    /// The next bytes; nothing after the last.
    pub(crate) fn poll_data(&self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let mut state = self.0.state();
        if let Some(data) = state.requests.pop_front() {
            state.wake_caller();
            return Poll::Ready(Some(Ok(data)));
        }
        if state.caller_is_gone {
            return Poll::Ready(Some(Err(Gone)));
        }
        if state.requests_ended {
            return Poll::Ready(None);
        }
        state.service = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The answers, at the service's end. Dropping it breaks the call off, unless it has ended.
pub(crate) struct LocalAnswers(Pipe);

impl LocalAnswers {
    pub(crate) fn send(&self, data: Bytes) {
        let mut state = self.0.state();
        if state.caller_is_gone || data.is_empty() {
            return;
        }
        state.answer_bytes += data.len();
        state.answers.push_back(data);
        state.wake_caller();
    }

    /// How much the caller takes, once it takes anything.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<Result<usize, Gone>> {
        let mut state = self.0.state();
        if state.caller_is_gone {
            return Poll::Ready(Err(Gone));
        }
        if state.answer_bytes < WINDOW_BYTES {
            return Poll::Ready(Ok(WINDOW_BYTES - state.answer_bytes));
        }
        state.service = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when the caller is gone.
    pub(crate) fn poll_gone(&self, context: &Context<'_>) -> Poll<Gone> {
        let mut state = self.0.state();
        if state.caller_is_gone {
            return Poll::Ready(Gone);
        }
        state.service = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn end(self, outcome: Result<(), Status>) {
        self.0.state().end(Ended::Whole(outcome));
    }
}

impl Drop for LocalAnswers {
    fn drop(&mut self) {
        self.0.state().end(Ended::BrokenOff);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;
    use crate::transport::{Account, Budget};

    fn open() -> (Call, Caller) {
        let account = Account::open(&Budget::new(1 << 20));
        call(Metadata::default(), 1000, account.charge_call())
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_wait_for_who_does_not_take_them() {
        let (call, caller) = open();
        let mut outgoing = call.responder.open().unwrap();
        assert_eq!(outgoing.room(usize::MAX).await, Ok(WINDOW_BYTES));
        outgoing.send(vec![7; WINDOW_BYTES].into());
        assert!(outgoing.poll_room(1, &mut context()).is_pending());
        let (room, taken) = tokio::join!(outgoing.room(1), poll_fn(|context| caller.poll_answer(context)));
        assert_eq!((room, taken.unwrap().len()), (Ok(1), WINDOW_BYTES));
        outgoing.finish(Ok(()));
        assert!(matches!(caller.poll_answer(&context()), Poll::Ready(Err(Ended::Whole(Ok(()))))));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn requests_are_taken_one_after_another() {
        let (mut call, caller) = open();
        let read = async { (call.requests.next::<()>().await.unwrap(), call.requests.next::<()>().await.unwrap()) };
        let write = async {
            poll_fn(|context| caller.poll_ready(context)).await;
            caller.send(Bytes::from_static(&[0; 5]));
            assert!(caller.poll_ready(&context()).is_pending());
            poll_fn(|context| caller.poll_ready(context)).await;
            caller.end_requests();
        };
        let (taken, ()) = tokio::join!(read, write);
        assert_eq!(taken, (Some(()), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn either_side_hears_that_the_other_is_gone() {
        let (mut call, caller) = open();
        assert!(waits(call.requests.next::<()>()));
        drop(caller);
        let cancelled = call.requests.next::<()>().await.unwrap_err();
        assert_eq!(cancelled, api::errors::CONTEXT_CANCELED.into());
        assert_eq!(call.responder.open().unwrap().room(1).await, Err(Gone));

        let (call, caller) = open();
        drop(call);
        assert!(matches!(caller.poll_answer(&context()), Poll::Ready(Err(Ended::BrokenOff))));
    }

    fn waits(future: impl Future) -> bool {
        std::pin::pin!(future).poll(&mut context()).is_pending()
    }
}
