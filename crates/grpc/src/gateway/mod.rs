//! The JSON gateway: every method by a POST of JSON under `/v3/`, answered in JSON.
//!
//! It is a client of the services within the process: it translates the JSON it gets into messages, calls the method
//! that the path names as others do over HTTP/2, and translates the answer back. It knows no message by itself.
//!
//! Invariants
//! - Requests are bounded before they are read, messages while they are made of them, and either is charged to the
//!   connection while it is kept.
//! - A long answer is translated as the client takes it, in bounded parts; a line of an HTTP stream, which clients want
//!   whole, is charged until it is.
//!
//! Source: grpc-ecosystem/grpc-gateway `runtime`; where its versions differ, answers suit the clients of both.

mod answers;
mod exchange;
mod failure;
mod feed;
mod routes;
mod stream;
mod web_socket;

#[cfg(test)]
mod tests;

use std::cell::Cell;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};

use self::answers::Cut;
use self::exchange::{Exchange, Next};
use self::feed::HttpBody;
use self::stream::JsonStream;
use crate::rpc::Metadata;
use crate::status::Status;
use crate::transport::Account;
use crate::worker::Worker;

pub(crate) use self::web_socket::Upgrade;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC_METADATA_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub(crate) type Body = Either<Full<Bytes>, JsonStream>;

/// Where the paths begin.
pub(crate) const PREFIX: &[u8] = b"/v3/";

/// What is sent on to there.
pub(crate) const ROOT: &[u8] = b"/v3";

/// Where they began in etcd 3.3.
const OLD_PREFIX: &[u8] = b"/v3beta/";

/// The path as it is called today.
pub(crate) fn modern_path(path: &[u8]) -> Option<Vec<u8>> {
    path.strip_prefix(OLD_PREFIX).map(|rest| [PREFIX, rest].concat())
}

/// Answers a request for `path`, which is without escapes. A request to speak WebSocket from here on is left in
/// `upgrade`.
pub(crate) async fn answer(
    worker: &Worker,
    account: &Account,
    path: &[u8],
    request: &mut Request<Option<Incoming>>,
    upgrade: &Cell<Option<Upgrade>>,
) -> Response<Body> {
    if web_socket::is_wanted(request.headers()) {
        let (answer, accepted) = web_socket::accept(path, request);
        upgrade.set(accepted);
        return answer.map(Either::Left);
    }
    match call(worker, account, path, request).await {
        Ok(answer) => answer,
        Err(status) => failure::plain(&status).map(Either::Left),
    }
}

async fn call(
    worker: &Worker,
    account: &Account,
    path: &[u8],
    request: &mut Request<Option<Incoming>>,
) -> Result<Response<Body>, Status> {
    let method = routes::find(path)?;
    if request.method() != Method::POST {
        return Err(failure::method_not_allowed());
    }
    let metadata = Metadata::read_plain(request.headers())?;
    // What is announced to be too large need not be sent.
    let announced_bytes = request.body().as_ref().map_or(0, |body| body.size_hint().lower());
    let announced_bytes = usize::try_from(announced_bytes).unwrap_or(usize::MAX);
    let message_bytes_max = worker.message_bytes_max();
    if !method.client_streaming && announced_bytes > feed::text_bytes_max(message_bytes_max) {
        return Err(feed::too_large(announced_bytes, message_bytes_max));
    }
    let source = HttpBody::new(request.body_mut().take());
    let mut exchange = Exchange::start(worker, account, method, metadata, source, Cut::AtLines).await?;
    let first = exchange.next().await;
    let answer = match first {
        Next::Json(part) if !method.server_streaming && part.ends_message => {
            with_json(Either::Left(account.leaving(part.text.into(), false).into()))
        }
        Next::Json(part) => with_json(Either::Right(JsonStream::new(exchange, part.text, account.clone()))),
        Next::Ended(Ok(())) => Response::new(Either::Right(JsonStream::empty(account.clone()))),
        Next::Ended(Err(status)) if method.server_streaming => failure::streamed(&status).map(Either::Left),
        Next::Ended(Err(status)) => return Err(status),
        Next::BrokenOff => return Err(failure::broken_off()),
    };
    Ok(answer)
}

fn with_json(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer.headers_mut().insert(GRPC_METADATA_CONTENT_TYPE, GRPC);
    answer
}
