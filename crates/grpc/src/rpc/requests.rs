//! The messages a client sends in one call.
//!
//! A message is a flag byte (compressed or not), its length in four bytes, and that many bytes. It may be cut into
//! HTTP/2 frames anywhere. A message that lies within one frame is handed out as a piece of that frame, without
//! copying.
//!
//! A request may come as slowly as its client likes, as in etcd: a stream may be quiet for days, and a unary call has a
//! deadline only if its client set one. What slow ones cost is bounded by the calls of a connection and by the budget.
//!
//! Invariants
//! - A length over the limit is refused when its five bytes have come, before any of the message is kept.
//! - What is kept grows with what has come, not with what is announced, and is charged to the connection while more is
//!   waited for.

use std::task::{Context, Poll, ready};

use api::errors::{self, Code};
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use prost::Message;

use super::gzip;
use super::local::LocalRequests;
use super::operations;
use super::respond::Gone;
use crate::meters::MessageMeter;
use crate::status::Status;
use crate::transport::Charge;

const PREFIX_LEN: usize = 5;

/// Up to so many operations, a transaction is decoded even if it may have less, so that it is refused in etcd's order.
const OPERATIONS_DECODED_MAX: usize = 10_000;

/// Where a call's requests come from.
pub(crate) enum Body {
    Http2(RecvStream),
    Local(LocalRequests),
}

/// Reads one call's messages in order.
pub(crate) struct Requests {
    body: Body,
    /// What has come and is not handed out yet.
    held: Held,
    message_bytes_max: usize,
    gzip: bool,
    charge: Charge,
    meter: Option<MessageMeter>,
    /// How many operations a transaction may have, if that is what the requests are.
    ops_max: Option<usize>,
}

impl Requests {
    pub(crate) fn new(body: Body, message_bytes_max: usize, gzip: bool, charge: Charge) -> Requests {
        Requests { body, held: Held::Frame(Bytes::new()), message_bytes_max, gzip, charge, meter: None, ops_max: None }
    }

    pub(crate) fn count(&mut self, meter: MessageMeter) {
        self.meter = Some(meter);
    }

    /// Has transactions looked at before they are decoded, which may have `ops_max` operations.
    pub(crate) fn bound_operations(&mut self, ops_max: usize) {
        self.ops_max = Some(ops_max);
    }

    /// The message of a call with one request and one answer. Whatever follows it is ignored, as grpc-go does.
    ///
    /// # Errors
    /// The message is missing, too large, cut off, compressed in a way not announced or no protobuf; or the client went
    /// away.
    pub(crate) async fn only<Q: Message + Default>(&mut self) -> Result<Q, Status> {
        let message = self.next_bytes().await?.ok_or_else(missing)?;
        if let Some(ops_max) = self.ops_max {
            self.charge_operations(&message, ops_max)?;
        }
        decode(message, "grpc: error unmarshalling request")
    }

    /// The message of a call with one request and many answers: nothing may follow it.
    ///
    /// # Errors
    /// As [`Requests::only`]; and if there is another message.
    pub(crate) async fn only_and_last<Q: Message + Default>(&mut self) -> Result<Q, Status> {
        let request = self.next().await?.ok_or_else(missing)?;
        match self.next_bytes().await? {
            None => Ok(request),
            Some(_) => {
                let text = "cardinality violation: received multiple request messages for non-client-streaming RPC";
                Err(Status::new(Code::Internal, text))
            }
        }
    }

    /// The next message of a stream of requests, or `None` if the client has sent its last. May be dropped half-way
    /// without loss.
    ///
    /// # Errors
    /// As [`Requests::only`], save that there need be no message.
    pub(crate) async fn next<Q: Message + Default>(&mut self) -> Result<Option<Q>, Status> {
        let Some(message) = self.next_bytes().await? else { return Ok(None) };
        decode(message, "grpc: failed to unmarshal the received message").map(Some)
    }

    /// Charges what a transaction takes beyond its bytes once it is decoded, until the call ends.
    ///
    /// # Errors
    /// It has far more operations than it may, or there is no room for them.
    fn charge_operations(&mut self, txn: &[u8], ops_max: usize) -> Result<(), Status> {
        let counts = operations::count(txn);
        if counts.longest > ops_max.max(OPERATIONS_DECODED_MAX) {
            return Err(errors::TOO_MANY_OPS.into());
        }
        self.charge.resize(counts.all.saturating_mul(operations::OPERATION_BYTES));
        match self.charge.account().has_room() {
            true => Ok(()),
            false => Err(errors::TOO_MANY_REQUESTS.into()),
        }
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Status> {
        if !self.gather(PREFIX_LEN).await? {
            return match self.held.bytes().is_empty() {
                true => Ok(None),
                false => Err(cut_off("EOF")),
            };
        }
        let mut prefix = self.held.bytes();
        let compressed = self.is_compressed(prefix.get_u8())?;
        let len = prefix.get_u32() as usize;
        if len > self.message_bytes_max {
            let max = self.message_bytes_max;
            let text = format!("grpc: received message larger than max ({len} vs. {max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if !self.gather(PREFIX_LEN + len).await? {
            return Err(cut_off("unexpected EOF"));
        }
        let message = self.held.take(PREFIX_LEN + len).slice(PREFIX_LEN..);
        let message = match compressed {
            true => gzip::decompress(&message, self.message_bytes_max)?,
            false => message,
        };
        if let Some(meter) = &self.meter {
            meter.received(message.len());
        }
        Ok(Some(message))
    }

    fn is_compressed(&self, flag: u8) -> Result<bool, Status> {
        let wrong = match (flag, self.gzip) {
            (0, _) => return Ok(false),
            (1, true) => return Ok(true),
            (1, false) => "grpc: compressed flag set with identity or empty encoding".to_owned(),
            _ => format!("grpc: received unexpected payload format {flag}"),
        };
        Err(Status::new(Code::Internal, wrong))
    }

    /// Waits until `len` bytes are held; `false` if the body ends before.
    async fn gather(&mut self, len: usize) -> Result<bool, Status> {
        while self.held.bytes().len() < len {
            self.charge.resize(self.held.bytes().len());
            if !self.charge.account().has_room() {
                return Err(errors::TOO_MANY_REQUESTS.into());
            }
            let Some(frame) = self.next_frame().await? else { return Ok(false) };
            self.held.push(frame);
        }
        self.charge.resize(0);
        Ok(true)
    }

    /// The next frame that is not empty.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match std::future::poll_fn(|context| self.body.poll_frame(context)).await {
                None => return Ok(None),
                Some(Err(Gone)) => return Err(errors::CONTEXT_CANCELED.into()),
                Some(Ok(frame)) if frame.is_empty() => {}
                Some(Ok(frame)) => return Ok(Some(frame)),
            }
        }
    }
}

impl Body {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let stream = match self {
            Body::Local(requests) => return requests.poll_data(context),
            Body::Http2(stream) => stream,
        };
        let frame = ready!(stream.poll_data(context));
        // After the last frame nobody needs the window, and the library takes it back by itself.
        if let Some(Ok(frame)) = &frame
            && !stream.is_end_stream()
        {
            let _ = stream.flow_control().release_capacity(frame.len());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Gone)))
    }
}

/// Bytes in order: those of one frame as they are, those of several put together.
enum Held {
    Frame(Bytes),
    Gathered(BytesMut),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Held::Frame(frame) => frame,
            Held::Gathered(gathered) => gathered,
        }
    }

    fn push(&mut self, frame: Bytes) {
        match self {
            Held::Frame(held) if held.is_empty() => *held = frame,
            Held::Frame(held) => {
                let mut gathered = BytesMut::with_capacity(held.len() + frame.len());
                gathered.extend_from_slice(held);
                gathered.extend_from_slice(&frame);
                *self = Held::Gathered(gathered);
            }
            Held::Gathered(gathered) => gathered.extend_from_slice(&frame),
        }
    }

    fn take(&mut self, len: usize) -> Bytes {
        let (taken, left) = match self {
            Held::Frame(frame) => (frame.split_to(len), frame.len()),
            Held::Gathered(gathered) => (gathered.split_to(len).freeze(), gathered.len()),
        };
        if left == 0 {
            *self = Held::Frame(Bytes::new());
        }
        taken
    }
}

fn missing() -> Status {
    Status::new(Code::Internal, "cardinality violation: received no request message from non-client-streaming RPC")
}

/// What grpc-go ends a call with whose body stops inside a prefix or a message.
fn cut_off(text: &'static str) -> Status {
    Status::new(Code::Unknown, text)
}

/// Decodes a message; `what` is said of one that is broken, and why.
fn decode<Q: Message + Default>(mut message: Bytes, what: &str) -> Result<Q, Status> {
    Q::decode(&mut message).map_err(|error| unreadable(what, &error, message.is_empty()))
}

/// `what` and why: in the commonest case what Go's decoder says, otherwise what ours says. Ours says the same of a number
/// that is cut off and of one that is too long; only the first was `read_to_end`.
/// Only transactions nest, so a message nested deeper than the decoder follows is one with too much in it.
fn unreadable(what: &str, error: &prost::DecodeError, read_to_end: bool) -> Status {
    let text = error.to_string();
    if text.ends_with("recursion limit reached") {
        return errors::TOO_MANY_OPS.into();
    }
    let text = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    let cut_off = text.ends_with("buffer underflow")
        || text.ends_with("delimited length exceeded")
        || (read_to_end && text.ends_with("invalid varint"));
    let why = if cut_off { "unexpected EOF" } else { text };
    Status::new(Code::Internal, format!("{what}: {why}"))
}
