//! Answers as Go's `net/http` makes them, since etcd's members read them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::date;
use crate::headers::{JSON, PROTOBUF};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(crate) type Answer = Response<Full<Bytes>>;

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
    let mut answer = Response::new(Full::default());
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
    with_type(format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", date::utc(wall)), TEXT)
}

pub(crate) fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    let value = HeaderValue::try_from(value).expect("ids and releases make headers");
    answer.headers_mut().insert(name, value);
    answer
}

fn with_type(body: impl Into<Bytes>, content_type: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
