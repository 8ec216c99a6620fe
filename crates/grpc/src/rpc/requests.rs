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

use api::errors::{self, Code};
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use prost::Message;

use super::gzip;
use crate::status::Status;
use crate::transport::Charge;

const PREFIX_LEN: usize = 5;

/// Reads one call's messages in order.
pub(crate) struct Requests {
    body: RecvStream,
    /// What has come and is not handed out yet.
    held: Held,
    message_bytes_max: usize,
    gzip: bool,
    charge: Charge,
}

impl Requests {
    pub(crate) fn new(body: RecvStream, message_bytes_max: usize, gzip: bool, charge: Charge) -> Requests {
        Requests { body, held: Held::Frame(Bytes::new()), message_bytes_max, gzip, charge }
    }

    /// The message of a call with one request and one answer. Whatever follows it is ignored, as grpc-go does.
    ///
    /// # Errors
    /// The message is missing, too large, cut off, compressed in a way not announced or no protobuf; or the client went
    /// away.
    pub(crate) async fn only<Q: Message + Default>(&mut self) -> Result<Q, Status> {
        let message = self.next_bytes().await?.ok_or_else(missing)?;
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
        match compressed {
            true => gzip::decompress(&message, self.message_bytes_max).map(Some),
            false => Ok(Some(message)),
        }
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
            let frame = std::future::poll_fn(|context| self.body.poll_data(context)).await;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(errors::CONTEXT_CANCELED.into()),
                Some(Ok(frame)) => {
                    // After the last frame nobody needs the window, and the library takes it back by itself.
                    if !self.body.is_end_stream() {
                        let _ = self.body.flow_control().release_capacity(frame.len());
                    }
                    if !frame.is_empty() {
                        return Ok(Some(frame));
                    }
                }
            }
        }
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
