//! The requests of a call: JSON as it comes in, messages out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use api::errors::{self, Code};
use api::schema::Message;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;
use json::{ValueEnd, Wrong};

use crate::status::Status;
use crate::transport::Charge;

const PREFIX_LEN: usize = 5;

/// How many bytes of JSON a byte of a message may take: base64 takes a third more, and what names and punctuation add
/// is much only in what is small.
const JSON_PER_BYTE: usize = 4;

/// Where JSON comes from.
pub(super) trait Source {
    /// The next piece; nothing after the last.
    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, NoMore>>>;

    /// Whether a call with one request is answered only once all text has come: over HTTP/1.1 that keeps the connection in
    /// order, and a client that is still sending may not hear an answer.
    const ENDS_BEFORE_THE_ANSWER: bool;

    /// Ready when the client is gone, asked once no more text is wanted.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// Why no more text comes.
#[derive(Debug)]
pub(super) enum NoMore {
    /// It ends where it should not.
    CutOff,
    Refused(Status),
}

/// The body of a request.
pub(super) struct HttpBody(Option<Incoming>);

impl HttpBody {
    pub(super) fn new(body: Option<Incoming>) -> HttpBody {
        HttpBody(body)
    }
}

impl Source for HttpBody {
    const ENDS_BEFORE_THE_ANSWER: bool = true;

    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, NoMore>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(NoMore::CutOff))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// The connection is dropped with all that belongs to it.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

enum Outcome {
    Message(Bytes),
    Refused(Status),
    /// More text than there may be; how much.
    TooLarge(usize),
}

/// Reads the requests of one call in order.
pub(super) struct Feed<S> {
    source: S,
    schema: &'static Message,
    /// What has come and is not read yet.
    held: BytesMut,
    end: ValueEnd,
    has_ended: bool,
    text_bytes_max: usize,
    message_bytes_max: usize,
    /// What came of the text so far.
    outcome: Option<Outcome>,
    /// Whether what follows a request is thrown away before the request is handed out.
    takes_all: bool,
    charge: Charge,
}

impl<S: Source> Feed<S> {
    /// Reads from `source`: one request, if `is_single`, else as many as there are.
    pub(super) fn new(
        source: S,
        schema: &'static Message,
        is_single: bool,
        message_bytes_max: usize,
        charge: Charge,
    ) -> Feed<S> {
        Feed {
            source,
            schema,
            outcome: None,
            takes_all: is_single && S::ENDS_BEFORE_THE_ANSWER,
            held: BytesMut::new(),
            end: ValueEnd::default(),
            has_ended: false,
            text_bytes_max: text_bytes_max(message_bytes_max),
            message_bytes_max,
            charge,
        }
    }

    /// The next request, encoded and with its prefix; nothing after the last.
    pub(super) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if self.outcome.is_none() {
                match self.end.find(&self.held) {
                    Ok(Some(end)) => self.outcome = Some(self.read(end)),
                    Err(wrong) => {
                        let status = Status::new(Code::InvalidArgument, wrong.to_string());
                        self.outcome = Some(Outcome::Refused(status));
                    }
                    Ok(None) if self.has_ended => {
                        return Poll::Ready(self.end.has_begun().then(|| Err(cut_off())));
                    }
                    Ok(None) => {}
                }
            }
            if !self.takes_all || self.has_ended {
                let outcome = self.outcome.take();
                self.charge.resize(self.held.len());
                match outcome {
                    Some(Outcome::Message(message)) => return Poll::Ready(Some(Ok(message))),
                    Some(Outcome::Refused(status)) => return Poll::Ready(Some(Err(status))),
                    Some(Outcome::TooLarge(len)) => {
                        return Poll::Ready(Some(Err(too_large(len, self.message_bytes_max))));
                    }
                    None => {}
                }
            }
            match ready!(self.source.poll_text(context)) {
                None => self.has_ended = true,
                // What counts is there, as for etcd.
                Some(Err(NoMore::CutOff)) if self.outcome.is_some() => self.has_ended = true,
                Some(Err(NoMore::CutOff)) => return Poll::Ready(Some(Err(cut_off()))),
                Some(Err(NoMore::Refused(status))) => return Poll::Ready(Some(Err(status))),
                Some(Ok(text)) => self.take_in(&text),
            }
        }
    }

    fn read(&mut self, end: usize) -> Outcome {
        let text = self.held.split_to(end);
        match encode(self.schema, &text, self.message_bytes_max) {
            Ok(message) => {
                // It may wait long for the end of the body.
                self.charge.resize(self.held.len() + message.len());
                Outcome::Message(message)
            }
            Err(status) => {
                self.charge.resize(self.held.len());
                Outcome::Refused(status)
            }
        }
    }

    fn take_in(&mut self, text: &[u8]) {
        match &mut self.outcome {
            Some(Outcome::TooLarge(len)) => return *len += text.len(),
            Some(_) => return,
            None => {}
        }
        let len = self.held.len() + text.len();
        self.charge.resize(len);
        self.outcome = match () {
            () if len > self.text_bytes_max => Some(Outcome::TooLarge(len)),
            () if !self.charge.account().has_room() => Some(Outcome::Refused(errors::TOO_MANY_REQUESTS.into())),
            () => return self.held.extend_from_slice(text),
        };
        self.held = BytesMut::new();
        self.charge.resize(0);
    }

    /// Ready when the client is gone; to be asked once no more requests are wanted.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.source.poll_gone(context)
    }
}

/// A message without fields, with its prefix.
pub(super) fn empty_message() -> Bytes {
    Bytes::from_static(&[0; PREFIX_LEN])
}

fn encode(schema: &'static Message, text: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let mut message = vec![0; PREFIX_LEN];
    json::read(schema, text, bytes_max, &mut message).map_err(|wrong| match wrong {
        Wrong::TooLong(len) => larger_than_max(len, bytes_max),
        // Only transactions nest.
        Wrong::TooDeep => errors::TOO_MANY_OPS.into(),
        Wrong::Text(text) => Status::new(Code::InvalidArgument, text),
    })?;
    let len = message.len() - PREFIX_LEN;
    let Ok(prefix) = u32::try_from(len) else { return Err(larger_than_max(len, u32::MAX as usize)) };
    (&mut message[1..PREFIX_LEN]).put_u32(prefix);
    Ok(message.into())
}

/// How much text a request may have whose message may have so many bytes.
pub(super) fn text_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_mul(JSON_PER_BYTE)
}

/// What is said of a request that has more text than it may.
pub(super) fn too_large(text_bytes: usize, message_bytes_max: usize) -> Status {
    // How large the message would be, if it is base64 for the most part.
    larger_than_max(text_bytes / 4 * 3, message_bytes_max)
}

const LARGER_THAN_MAX: &str = "grpc: received message larger than max";

fn larger_than_max(len: usize, max: usize) -> Status {
    Status::new(Code::ResourceExhausted, format!("{LARGER_THAN_MAX} ({len} vs. {max})"))
}

/// Whether `status` says of a request that it is too large to be read.
pub(super) fn says_too_large(status: &Status) -> bool {
    status.text.starts_with(LARGER_THAN_MAX)
}

fn cut_off() -> Status {
    Status::new(Code::InvalidArgument, "unexpected EOF")
}
