//! The plain HTTP/1.1 endpoints that tools probe: version, health, readiness. All else is not found.
//!
//! Which request means which of them, and what is wrong with others, is decided as Go's `net/http` does it.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/etcdhttp/{health,version}.go`; Go's `net/http` (`ServeMux` as of Go 1.21, `Redirect`).

use std::convert::Infallible;
use std::fmt::Write;

use api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use machine::Alarm;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::request_target::{Query, clean, escape, unescape};
use crate::status::Status;
use crate::worker::Worker;

/// Header bytes of one request.
const HEADER_BYTES_MAX: usize = 64 << 10;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Answer = Response<Full<Bytes>>;

/// Serves a connection until it ends or the member stops.
pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + 'static, worker: Worker) {
    let service = service_fn(|request| {
        let worker = worker.clone();
        async move { Ok::<_, Infallible>(answer(&worker, &request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(worker.settings().opening_timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    // What a client did wrong here concerns nobody else.
    tokio::select! {
        _ended = connection => {}
        () = worker.handle().stopped() => {}
    }
}

async fn answer<B>(worker: &Worker, request: &Request<B>) -> Answer {
    if let Some(fault) = host_fault(request) {
        return bad_request(fault);
    }
    let path = unescape(request.uri().path()).filter(|path| path.starts_with(b"/"));
    let mut answer = match (request.method(), &path) {
        (&Method::OPTIONS, _) => Answer::default(),
        (&Method::CONNECT, None) => not_found(),
        (_, None) => return bad_request("400 Bad Request"),
        (_, Some(path)) => route(worker, request, path).await,
    };
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    if let Some(origin) = allowed_origin(&worker.settings().cors_origins, request.headers()) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    answer
}

/// What is wrong with the `Host` header, of which HTTP/1.1 demands exactly one.
fn host_fault<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let valid = |host: &HeaderValue| {
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;=['._~]".contains(byte);
        host.as_bytes().iter().all(valid)
    };
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() >= Version::HTTP_11 && request.method() != Method::CONNECT => {
            Some("400 Bad Request: missing required Host header")
        }
        (_, Some(_)) => Some("400 Bad Request"),
        (Some(host), None) if !valid(host) => Some("400 Bad Request: malformed Host header"),
        _ => None,
    }
}

/// What `Access-Control-Allow-Origin` is to say.
fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    if allowed.iter().any(|origin| origin == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(ORIGIN)?;
    allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// `path` is the request's without escapes.
async fn route<B>(worker: &Worker, request: &Request<B>, path: &[u8]) -> Answer {
    if request.method() != Method::CONNECT {
        let clean = clean(path);
        if clean != path {
            return moved(request, &clean);
        }
    }
    let Some(endpoint) = str::from_utf8(path).ok().and_then(Endpoint::parse) else {
        return not_found();
    };
    if request.method() != Method::GET {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".into());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    let query = Query::new(request.uri().query());
    match endpoint {
        Endpoint::Version => version(worker),
        Endpoint::Health => health(worker, &query).await,
        Endpoint::Checks(checks) => {
            let excluded: Vec<_> = query.values("exclude").collect();
            let wanted = checks.iter().filter(|check| !excluded.iter().any(|name| name == check.name().as_bytes()));
            run_checks(worker, wanted, &query).await
        }
        Endpoint::OneCheck(check) => run_checks(worker, [check].into_iter(), &query).await,
    }
}

enum Endpoint {
    Version,
    Health,
    Checks(&'static [Check]),
    /// It cannot be excluded.
    OneCheck(&'static Check),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Endpoint {
    fn parse(path: &str) -> Option<Endpoint> {
        let endpoint = match path {
            "/version" => Endpoint::Version,
            "/health" => Endpoint::Health,
            "/livez" => Endpoint::Checks(LIVEZ),
            "/readyz" => Endpoint::Checks(READYZ),
            _ => {
                let (checks, name) = match path.strip_prefix("/livez/") {
                    Some(name) => (LIVEZ, name),
                    None => (READYZ, path.strip_prefix("/readyz/")?),
                };
                Endpoint::OneCheck(checks.iter().find(|check| check.name() == name)?)
            }
        };
        Some(endpoint)
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// # Errors
    /// Why it fails.
    async fn run(self, worker: &Worker) -> Result<(), String> {
        match self {
            Check::DataCorruption if has_alarm(worker, Alarm::Corrupt) => Err("alarm activated: CORRUPT".into()),
            Check::NonLearner if worker.handle().is_learner() => Err("not supported for learner".into()),
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => read(worker, true).await.map_err(|status| status.text.into_owned()),
            Check::LinearizableRead => read(worker, false).await.map_err(|status| status.text.into_owned()),
        }
    }
}

fn version(worker: &Worker) -> Answer {
    let cluster = worker.handle().state().membership().version();
    let cluster = cluster.map_or("not_decided".to_owned(), |version| version.to_string());
    let server = worker.handle().identity().version;
    let body = format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#);
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

async fn health(worker: &Worker, query: &Query<'_>) -> Answer {
    let reason = unhealthy(worker, query).await;
    let is_healthy = reason.is_none();
    let reason = reason.unwrap_or_default().replace('\\', "\\\\").replace('"', "\\\"");
    let body = format!(r#"{{"health":"{is_healthy}","reason":"{reason}"}}"#);
    if is_healthy {
        let mut answer = Response::new(Full::from(body));
        answer.headers_mut().insert(CONTENT_TYPE, TEXT);
        return answer;
    }
    text(StatusCode::SERVICE_UNAVAILABLE, body + "\n")
}

/// What `/health` finds wrong first.
async fn unhealthy(worker: &Worker, query: &Query<'_>) -> Option<String> {
    for (alarm, name) in [(Alarm::NoSpace, "NOSPACE"), (Alarm::Corrupt, "CORRUPT")] {
        if has_alarm(worker, alarm) && !query.values("exclude").any(|excluded| excluded == name.as_bytes()) {
            return Some(format!("ALARM {name}"));
        }
    }
    let serializable = query.values("serializable").next().is_some_and(|value| value == b"true");
    if !serializable && worker.handle().leader().is_none() {
        return Some("RAFT NO LEADER".into());
    }
    read(worker, serializable).await.err().map(|status| format!("RANGE ERROR:{}", status.text))
}

/// Reads next to nothing, to see whether reading works.
async fn read(worker: &Worker, serializable: bool) -> Result<(), Status> {
    let request = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: if serializable { Bytes::new() } else { Bytes::from_static(b"b") },
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    worker.handle().range(request).await.map(drop).map_err(Status::from)
}

fn has_alarm(worker: &Worker, alarm: Alarm) -> bool {
    worker.handle().state().alarms().has(alarm)
}

async fn run_checks(worker: &Worker, checks: impl Iterator<Item = &Check>, query: &Query<'_>) -> Answer {
    let mut lines = String::new();
    let mut all_passed = true;
    for check in checks {
        let outcome = check.run(worker).await;
        all_passed &= outcome.is_ok();
        let written = match outcome {
            Ok(()) => writeln!(lines, "[+]{} ok", check.name()),
            Err(reason) => writeln!(lines, "[-]{} failed: {reason}", check.name()),
        };
        written.expect("writing to a string does not fail");
    }
    match all_passed {
        false => text(StatusCode::SERVICE_UNAVAILABLE, lines + "\n"),
        true if query.values("verbose").next().is_some() => text(StatusCode::OK, lines + "ok\n"),
        true => text(StatusCode::OK, "ok\n".into()),
    }
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n".into())
}

/// A plain answer as Go's `http.Error` makes it.
fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Sends the client to the path it should have asked for.
fn moved<B>(request: &Request<B>, path: &[u8]) -> Answer {
    let mut location = escape(path);
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty()) {
        location = format!("{location}?{query}");
    }
    let mut answer = Answer::default();
    if request.method() == Method::GET {
        let entities = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];
        let shown = entities.iter().fold(location.clone(), |text, (special, entity)| text.replace(special, entity));
        *answer.body_mut() = Full::from(format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n"));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        answer.headers_mut().insert(CONTENT_TYPE, HTML);
    }
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::try_from(location).expect("paths are escaped, and queries hold no control characters");
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// What Go answers before any handler is asked; the connection ends with it.
fn bad_request(text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
