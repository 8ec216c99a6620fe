//! The server's side of one call: headers, messages, and the status at the end.
//!
//! Sending can only fail because the client or its connection is gone, and then nobody is left to tell: the plain
//! answers pass over it, the streaming ones say [`Gone`] so that the caller stops.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::{Instant, Sleep, sleep_until};

use super::metadata::Refusal;
use crate::status::Status;
use crate::transport::Charge;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// How much of a long message is made at a time, room permitting.
const PIECE_BYTES: usize = 64 << 10;

/// The client has cancelled the call, or its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// How waiting for a call's work ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// The client's time is up.
    Late,
    Gone,
}

/// The later part of a message that is too long to be made at once.
pub(crate) trait MessageTail {
    /// Appends the next bytes, about `bytes_max`, to `out`; tells whether there is more.
    fn encode_next(&mut self, out: &mut BytesMut, bytes_max: usize) -> Result<bool, Status>;

    /// About how much memory it takes until then.
    fn held_bytes(&self) -> usize;
}

/// A call that has not been answered.
pub(crate) struct Responder {
    respond: SendResponse<Bytes>,
    charge: Charge,
}

impl Responder {
    pub(crate) fn new(respond: SendResponse<Bytes>, charge: Charge) -> Responder {
        Responder { respond, charge }
    }

    /// Ends the call with one message, given with its prefix, and success.
    pub(crate) fn message(self, message: Bytes) {
        let Ok(mut outgoing) = self.open() else { return };
        outgoing.send_answer(message);
        outgoing.finish(Ok(()));
    }

    /// Ends the call with one long message, of which `head` (prefix included) is made and `tail` is not.
    pub(crate) async fn long_message(self, head: Bytes, mut tail: impl MessageTail) -> Result<(), Gone> {
        let mut outgoing = self.open()?;
        outgoing.hold(tail.held_bytes());
        outgoing.send_answer(head);
        loop {
            let room = outgoing.room(PIECE_BYTES).await?;
            let mut piece = BytesMut::with_capacity(room);
            let Ok(more) = tail.encode_next(&mut piece, room) else {
                // The length is announced and part of the message is out: only the stream itself can be broken off.
                outgoing.stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(Gone);
            };
            outgoing.send_answer(piece.freeze());
            if !more {
                break;
            }
        }
        outgoing.finish(Ok(()));
        Ok(())
    }

    /// Ends the call without a message.
    pub(crate) fn fail(self, status: &Status) {
        self.end_with_headers(StatusCode::OK, status);
    }

    /// Turns away a request that is no call.
    pub(crate) fn refuse(self, refusal: &Refusal) {
        self.end_with_headers(refusal.http, &refusal.status);
    }

    fn end_with_headers(mut self, http: StatusCode, status: &Status) {
        let mut response = Response::new(());
        *response.status_mut() = http;
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        status.write(response.headers_mut());
        // Whoever is gone has no use for it.
        let _ = self.respond.send_response(response, true);
    }

    /// Sends the headers; messages follow.
    pub(crate) fn open(mut self) -> Result<Outgoing, Gone> {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(CONTENT_TYPE, GRPC);
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        let stream = self.respond.send_response(response, false).map_err(|_| Gone)?;
        Ok(Outgoing { stream, charge: self.charge })
    }

    /// Awaits `work`, unless the client cancels the call or its `deadline` comes first.
    pub(crate) async fn guard<T>(&mut self, deadline: Option<Instant>, work: impl Future<Output = T>) -> Outcome<T> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Outcome::Late;
        }
        let mut work = pin!(work);
        let mut timer = pin!(None::<Sleep>);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Outcome::Done(done));
            }
            if self.respond.poll_reset(context).is_ready() {
                return Poll::Ready(Outcome::Gone);
            }
            // Most calls are done before a timer is worth setting.
            if let (Some(deadline), None) = (deadline, timer.as_ref().get_ref()) {
                timer.set(Some(sleep_until(deadline)));
            }
            match timer.as_mut().as_pin_mut().map(|timer| timer.poll(context)) {
                Some(Poll::Ready(())) => Poll::Ready(Outcome::Late),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

/// A call whose answer has begun.
pub(crate) struct Outgoing {
    stream: SendStream<Bytes>,
    charge: Charge,
}

impl Outgoing {
    /// Has `bytes` more charged to the connection until the call ends.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.charge.add(bytes);
    }

    /// Queues bytes of a stream of messages, prefix included. They leave as the client's window allows; ask for
    /// [`Outgoing::room`] before if they are many. No other call waits for them: whoever reads the stream may well make
    /// a call before it reads on.
    pub(crate) fn send(&mut self, message: Bytes) {
        self.queue(message, false);
    }

    /// Queues bytes of the answer to a call: until a client has taken its answers, its further calls wait.
    fn send_answer(&mut self, part: Bytes) {
        self.queue(part, true);
    }

    fn queue(&mut self, data: Bytes, delays_calls: bool) {
        let _ = self.stream.send_data(self.charge.account().leaving(data, delays_calls), false);
    }

    /// Waits until the client takes at least one byte; returns how many, at most `wanted`.
    pub(crate) async fn room(&mut self, wanted: usize) -> Result<usize, Gone> {
        poll_fn(|context| self.poll_room(wanted, context)).await
    }

    /// As [`Outgoing::room`].
    pub(crate) fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        self.stream.reserve_capacity(wanted);
        loop {
            // Room given earlier and not used up is not announced again.
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(self.stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
    }

    /// Ready when the client has cancelled the call.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_reset(context).map(|_| Gone)
    }

    /// Awaits `work`, unless the client cancels the call first.
    pub(crate) async fn guard<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            self.poll_gone(context).map(Err)
        })
        .await
    }

    /// Ends the call.
    pub(crate) fn finish(mut self, outcome: Result<(), Status>) {
        let mut trailers = HeaderMap::with_capacity(2);
        match outcome {
            Ok(()) => {
                trailers.insert(GRPC_STATUS, OK);
            }
            Err(status) => status.write(&mut trailers),
        }
        let _ = self.stream.send_trailers(trailers);
    }
}
