//! The server's side of one call: headers, messages, and the status at the end.
//!
//! Sending can only fail because the client or its connection is gone, and then nobody is left to tell: the plain
//! answers pass over it, the streaming ones say [`Gone`] so that the caller stops.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use api::errors::Code;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::{Instant, Sleep, sleep_until};

use super::local::LocalAnswers;
use super::metadata::Refusal;
use crate::meters::CallMeter;
use crate::status::Status;
use crate::transport::Charge;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// How much of a long message is made at a time, room permitting.
const PIECE_BYTES: usize = 64 << 10;

/// The flag and the length before every message.
const PREFIX_LEN: usize = 5;

/// How long the message is whose start is given.
fn announced_bytes(head: &[u8]) -> usize {
    let length = head.get(1..PREFIX_LEN).and_then(|length| length.try_into().ok());
    length.map_or(0, u32::from_be_bytes) as usize
}

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
    respond: Respond,
    charge: Charge,
    meter: Option<CallMeter>,
}

enum Respond {
    Http2(SendResponse<Bytes>),
    Local(LocalAnswers),
}

impl Responder {
    pub(crate) fn new(respond: SendResponse<Bytes>, charge: Charge) -> Responder {
        Responder { respond: Respond::Http2(respond), charge, meter: None }
    }

    pub(crate) fn local(answers: LocalAnswers, charge: Charge) -> Responder {
        Responder { respond: Respond::Local(answers), charge, meter: None }
    }

    pub(crate) fn count(&mut self, meter: CallMeter) {
        self.meter = Some(meter);
    }

    /// Ends the call with one message, given with its prefix, and success.
    pub(crate) fn message(self, message: Bytes) {
        let Ok(mut outgoing) = self.open() else { return };
        outgoing.count_messages(1, message.len().saturating_sub(PREFIX_LEN));
        outgoing.send_answer(message);
        outgoing.finish(Ok(()));
    }

    /// Ends the call with one long message, of which `head` (prefix included) is made and `tail` is not.
    pub(crate) async fn long_message(self, head: Bytes, mut tail: impl MessageTail) -> Result<(), Gone> {
        let mut outgoing = self.open()?;
        outgoing.hold(tail.held_bytes());
        outgoing.count_messages(1, announced_bytes(&head));
        outgoing.send_answer(head);
        loop {
            let room = outgoing.room(PIECE_BYTES).await?;
            let mut piece = BytesMut::with_capacity(room);
            let Ok(more) = tail.encode_next(&mut piece, room) else {
                // The length is announced and part of the message is out: only the stream itself can be broken off.
                outgoing.break_off();
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

    fn end_with_headers(self, http: StatusCode, status: &Status) {
        if let Some(meter) = self.meter {
            meter.end(status.code);
        }
        let mut respond = match self.respond {
            Respond::Local(answers) => return answers.end(Err(status.clone())),
            Respond::Http2(respond) => respond,
        };
        let mut response = Response::new(());
        *response.status_mut() = http;
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        status.write(response.headers_mut());
        // Whoever is gone has no use for it.
        let _ = respond.send_response(response, true);
    }

    /// Sends the headers; messages follow.
    pub(crate) fn open(self) -> Result<Outgoing, Gone> {
        let mut respond = match self.respond {
            Respond::Local(answers) => {
                return Ok(Outgoing { stream: Stream::Local(answers), charge: self.charge, meter: self.meter });
            }
            Respond::Http2(respond) => respond,
        };
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(CONTENT_TYPE, GRPC);
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        let stream = respond.send_response(response, false).map_err(|_| Gone)?;
        Ok(Outgoing { stream: Stream::Http2(stream), charge: self.charge, meter: self.meter })
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
            let is_gone = match &mut self.respond {
                Respond::Http2(respond) => respond.poll_reset(context).is_ready(),
                Respond::Local(answers) => answers.poll_gone(context).is_ready(),
            };
            if is_gone {
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
    stream: Stream,
    charge: Charge,
    meter: Option<CallMeter>,
}

enum Stream {
    Http2(SendStream<Bytes>),
    Local(LocalAnswers),
}

impl Outgoing {
    /// Has `bytes` more charged to the connection until the call ends.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.charge.add(bytes);
    }

    /// Notes that messages of so many bytes together, their prefixes not among them, are sent.
    pub(crate) fn count_messages(&self, count: usize, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.sent(count, bytes);
        }
    }

    /// Queues a message of a stream, prefix included.
    pub(crate) fn send_message(&mut self, message: Bytes) {
        self.count_messages(1, message.len().saturating_sub(PREFIX_LEN));
        self.send(message);
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
        let data = self.charge.account().leaving(data, delays_calls);
        match &mut self.stream {
            Stream::Http2(stream) => {
                let _ = stream.send_data(data, false);
            }
            Stream::Local(answers) => answers.send(data),
        }
    }

    /// Waits until the client takes at least one byte; returns how many, at most `wanted`.
    pub(crate) async fn room(&mut self, wanted: usize) -> Result<usize, Gone> {
        poll_fn(|context| self.poll_room(wanted, context)).await
    }

    /// As [`Outgoing::room`].
    pub(crate) fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        let stream = match &mut self.stream {
            Stream::Local(answers) => return answers.poll_room(context).map_ok(|room| room.min(wanted)),
            Stream::Http2(stream) => stream,
        };
        stream.reserve_capacity(wanted);
        loop {
            // Room given earlier and not used up is not announced again.
            let room = stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
    }

    /// Ready when the client has cancelled the call.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        match &mut self.stream {
            Stream::Http2(stream) => stream.poll_reset(context).map(|_| Gone),
            Stream::Local(answers) => answers.poll_gone(context),
        }
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

    /// Ends the call in the middle of a message.
    fn break_off(self) {
        if let Some(meter) = self.meter {
            meter.end(Code::Internal);
        }
        match self.stream {
            Stream::Http2(mut stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            Stream::Local(answers) => drop(answers),
        }
    }

    /// Ends the call.
    pub(crate) fn finish(self, outcome: Result<(), Status>) {
        if let Some(meter) = self.meter {
            meter.end(outcome.as_ref().err().map_or(Code::Ok, |status| status.code));
        }
        let mut stream = match self.stream {
            Stream::Local(answers) => return answers.end(outcome),
            Stream::Http2(stream) => stream,
        };
        let mut trailers = HeaderMap::with_capacity(2);
        match outcome {
            Ok(()) => {
                trailers.insert(GRPC_STATUS, OK);
            }
            Err(status) => status.write(&mut trailers),
        }
        let _ = stream.send_trailers(trailers);
    }
}
