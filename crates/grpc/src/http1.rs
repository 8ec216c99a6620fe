//! Plain HTTP/1.1: version, health, readiness and metrics, which tools ask for, and the way to the JSON gateway. All else is not
//! found.
//!
//! Which request means which of them, and what is wrong with others, is decided as Go's `net/http` does it.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/etcdhttp/{health,version}.go`; Go's `net/http` (`ServeMux` as of Go 1.21, `Redirect`).

use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Write;

use api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, LOCATION, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use machine::Alarm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::gateway;
use crate::meters::{Check, Checks};
use crate::monitoring;
use crate::request_target::{Query, clean, escape, unescape};
use crate::status::Status;
use crate::transport::{Account, Lingering};
use crate::worker::{Surface, Worker};

/// How much of a body that nobody wants is taken in so that the connection can go on, as in Go's `net/http`.
const UNWANTED_BYTES_MAX: u64 = 256 << 10;

/// Header bytes of one request.
const HEADER_BYTES_MAX: usize = 64 << 10;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) type Answer = Response<gateway::Body>;

/// Serves a connection until it ends or the member stops.
pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, worker: Worker, surface: Surface) {
    let account = worker.open_account();
    let upgrade = Cell::new(None);
    let (unwanted, mut passed_over) = mpsc::unbounded_channel();
    let service = service_fn(async |request: Request<Incoming>| {
        let mut request = request.map(Some);
        let mut answer = answer(&worker, surface, &account, &mut request, &upgrade).await;
        let is_awaited = request.headers().contains_key(EXPECT);
        if let Some(body) = request.into_body()
            && !body.is_end_stream()
        {
            // The answer does not wait for it.
            if is_awaited || body.size_hint().lower() >= UNWANTED_BYTES_MAX {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            } else {
                let _ = unwanted.send(body);
            }
        }
        Ok::<_, Infallible>(answer)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(worker.settings().opening_timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Lingering::new(io)), service).with_upgrades();
    let pass_over_all = async {
        // There is one at a time: the next request comes after it.
        while let Some(body) = passed_over.recv().await {
            // With who does not send it in that time, the connection ends.
            let _ = timeout(worker.settings().opening_timeout, pass_over(body)).await;
        }
    };
    let served = async {
        // What a client did wrong here concerns nobody else.
        tokio::select! {
            _ended = connection => {}
            () = pass_over_all => {}
        }
        if let Some(upgrade) = upgrade.take() {
            upgrade.serve(&worker, &account).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = worker.handle().stopped() => {}
    }
}

/// Takes in a body that nobody wanted, if it is short, so that the connection can go on.
async fn pass_over(mut body: Incoming) {
    let mut len = 0;
    while len < UNWANTED_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        len += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

async fn answer(
    worker: &Worker,
    surface: Surface,
    account: &Account,
    request: &mut Request<Option<Incoming>>,
    upgrade: &Cell<Option<gateway::Upgrade>>,
) -> Answer {
    if let Some(fault) = host_fault(request) {
        return bad_request(fault);
    }
    let path = unescape(request.uri().path()).filter(|path| path.starts_with(b"/"));
    if surface == Surface::Metrics {
        let path = path.map(Cow::into_owned);
        return match &path {
            Some(path) => route(worker, surface, account, request, path, upgrade).await,
            None => not_found(),
        };
    }
    if let Some(host) = refused_host(&worker.settings().hosts, request) {
        return misdirected(&host);
    }
    let origin = allowed_origin(&worker.settings().cors_origins, request.headers());
    let path = path.map(|path| gateway::modern_path(&path).unwrap_or_else(|| path.into_owned()));
    let mut answer = match (request.method(), &path) {
        (&Method::OPTIONS, _) => whole(""),
        (&Method::CONNECT, None) => not_found(),
        (_, None) => return bad_request("400 Bad Request"),
        (_, Some(path)) => route(worker, surface, account, request, path, upgrade).await,
    };
    if let Some(origin) = origin {
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
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

/// The host that a request names, without its port, if none of that name is to be served: a page on another site may have made a browser ask
/// this address by a name of its own.
fn refused_host<B>(allowed: &[String], request: &Request<B>) -> Option<String> {
    if allowed.is_empty() || allowed.iter().any(|host| host == "*") {
        return None;
    }
    let header = || request.headers().get(HOST).map_or("", |host| host.to_str().unwrap_or_default());
    let named = request.uri().authority().map_or_else(header, |authority| authority.as_str());
    let host = without_port(named);
    (!allowed.iter().any(|allowed| allowed == host)).then(|| host.to_owned())
}

/// As Go's `net.SplitHostPort` takes a host and a port apart; what it cannot, is taken for a host.
fn without_port(named: &str) -> &str {
    match named.rsplit_once(':') {
        Some((host, _)) if !host.contains([':', '[', ']']) => host,
        Some((host, _)) => {
            let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            bracketed.filter(|host| !host.contains(['[', ']'])).unwrap_or(named)
        }
        None => named,
    }
}

fn misdirected(host: &str) -> Answer {
    let body = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\nIt names {host:?}. Write that name in --host-whitelist, or \
         ask by one that is written there.\n(Otherwise a page on another site could have a browser read from here: CVE-2018-5702.)\n\n"
    );
    text(StatusCode::MISDIRECTED_REQUEST, body)
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
async fn route(
    worker: &Worker,
    surface: Surface,
    account: &Account,
    request: &mut Request<Option<Incoming>>,
    path: &[u8],
    upgrade: &Cell<Option<gateway::Upgrade>>,
) -> Answer {
    if request.method() != Method::CONNECT {
        let clean = clean(path);
        if clean != path {
            return moved(request, &clean);
        }
    }
    if worker.settings().serves_gateway && surface != Surface::Metrics {
        if path.starts_with(gateway::PREFIX) {
            return gateway::answer(worker, account, path, request, upgrade).await;
        }
        if path == gateway::ROOT {
            return moved(request, gateway::PREFIX);
        }
    }
    let Some(endpoint) = str::from_utf8(path).ok().and_then(Endpoint::parse) else {
        return not_found();
    };
    if surface == Surface::Metrics && matches!(endpoint, Endpoint::Version | Endpoint::Variables) {
        return not_found();
    }
    if request.method() != Method::GET && !matches!(endpoint, Endpoint::Metrics) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".into());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    let query = Query::new(request.uri().query());
    match endpoint {
        Endpoint::Version => version(worker),
        Endpoint::Health => health(worker, &query).await,
        Endpoint::Metrics => monitoring::metrics(worker, account, request.headers()).await,
        Endpoint::Variables => monitoring::variables(worker),
        Endpoint::Checks(kind, checks) => {
            let excluded: Vec<_> = query.values("exclude").collect();
            let wanted = checks.iter().filter(|check| !excluded.iter().any(|name| name == check.name().as_bytes()));
            run_checks(worker, kind, wanted, &query).await
        }
        Endpoint::OneCheck(kind, check) => run_checks(worker, kind, [check].into_iter(), &query).await,
    }
}

enum Endpoint {
    Version,
    Health,
    Metrics,
    /// Go's `expvar`.
    Variables,
    Checks(Checks, &'static [Check]),
    /// It cannot be excluded.
    OneCheck(Checks, &'static Check),
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Endpoint {
    fn parse(path: &str) -> Option<Endpoint> {
        let endpoint = match path {
            "/version" => Endpoint::Version,
            "/health" => Endpoint::Health,
            "/metrics" => Endpoint::Metrics,
            "/debug/vars" => Endpoint::Variables,
            "/livez" => Endpoint::Checks(Checks::Livez, LIVEZ),
            "/readyz" => Endpoint::Checks(Checks::Readyz, READYZ),
            _ => {
                let (kind, checks, name) = match path.strip_prefix("/livez/") {
                    Some(name) => (Checks::Livez, LIVEZ, name),
                    None => (Checks::Readyz, READYZ, path.strip_prefix("/readyz/")?),
                };
                Endpoint::OneCheck(kind, checks.iter().find(|check| check.name() == name)?)
            }
        };
        Some(endpoint)
    }
}

impl Check {
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
    let mut answer = whole(body);
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

async fn health(worker: &Worker, query: &Query<'_>) -> Answer {
    let reason = unhealthy(worker, query).await;
    let is_healthy = reason.is_none();
    worker.all_meters().health[usize::from(is_healthy)].increment();
    let reason = reason.unwrap_or_default().replace('\\', "\\\\").replace('"', "\\\"");
    let body = format!(r#"{{"health":"{is_healthy}","reason":"{reason}"}}"#);
    if is_healthy {
        let mut answer = whole(body);
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

async fn run_checks(worker: &Worker, kind: Checks, checks: impl Iterator<Item = &Check>, query: &Query<'_>) -> Answer {
    let mut lines = String::new();
    let mut all_passed = true;
    for check in checks {
        let outcome = check.run(worker).await;
        all_passed &= outcome.is_ok();
        worker.all_meters().note_check(kind, *check, outcome.is_ok());
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

/// An answer that is there as a whole.
pub(crate) fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(Either::Left(Full::new(body.into())))
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n".into())
}

/// A plain answer as Go's `http.Error` makes it.
pub(crate) fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = whole(body);
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
    let mut answer = whole("");
    if request.method() == Method::GET {
        let entities = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];
        let shown = entities.iter().fold(location.clone(), |text, (special, entity)| text.replace(special, entity));
        answer = whole(format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n"));
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
    let mut answer = whole(text);
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go's `net.SplitHostPort` and etcd's use of it have it.
    #[test]
    fn a_host_is_what_stands_before_its_port() {
        let cases = [
            ("a.example", "a.example"),
            ("a.example:2379", "a.example"),
            ("a.example:", "a.example"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            (":2379", ""),
            ("", ""),
        ];
        for (named, host) in cases {
            assert_eq!(without_port(named), host, "{named}");
        }
    }
}
