//! Answers as Go's `net/http` makes them, since etcd's members read them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::headers::{JSON, PROTOBUF};
use crate::stream_writer::{StreamEnded, StreamWriter};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(crate) type Answer = Response<AnswerBody>;

pub(crate) enum AnswerBody {
    Whole(Bytes),
    Stream(Box<StreamWriter>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = StreamEnded;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamEnded>>> {
        match self.get_mut() {
            AnswerBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            AnswerBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            AnswerBody::Stream(writer) => Pin::new(&mut **writer).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Stream(_) => SizeHint::default(),
        }
    }
}

/// A refusal: a line of text.
pub(crate) fn refusal(status: StatusCode, text: &str) -> Answer {
    let mut answer = with_type(text.to_owned() + "\n", TEXT);
    *answer.status_mut() = status;
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A refusal in JSON, which etcd's members read the reason from.
pub(crate) fn json_refusal(status: StatusCode, text: &str) -> Answer {
    let mut answer = json(serde_json::json!({ "message": text }).to_string());
    *answer.status_mut() = status;
    answer
}

/// `allowed` is empty where etcd leaves it out.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if !allowed.is_empty() {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    answer
}

pub(crate) fn not_found() -> Answer {
    refusal(StatusCode::NOT_FOUND, "404 page not found")
}

pub(crate) fn no_content() -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

pub(crate) fn json(body: impl Into<Bytes>) -> Answer {
    with_type(body, JSON)
}

pub(crate) fn protobuf(message: &impl prost::Message) -> Answer {
    with_type(message.encode_to_vec(), PROTOBUF)
}

pub(crate) fn text(body: impl Into<Bytes>) -> Answer {
    with_type(body, HeaderValue::from_static("text/plain"))
}

/// What a prober reads: that somebody is here, and what time it is here.
pub(crate) fn probe(wall: Duration) -> Answer {
    with_type(format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", utc(wall)), TEXT)
}

pub(crate) fn stream(writer: StreamWriter) -> Answer {
    Response::new(AnswerBody::Stream(Box::new(writer)))
}

pub(crate) fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    let value = HeaderValue::try_from(value).expect("ids and releases make headers");
    answer.headers_mut().insert(name, value);
    answer
}

fn with_type(body: impl Into<Bytes>, content_type: HeaderValue) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// A time since the Unix epoch as RFC 3339 shows it.
fn utc(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(utc(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(utc(Duration::new(951_782_399, 5)), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(utc(Duration::from_secs(951_782_400)), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(utc(Duration::from_secs(1_767_225_599)), "2025-12-31T23:59:59.000000000Z");
    }
}
