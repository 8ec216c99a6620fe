//! What a member asks another: to join, to forward what only the leader can do, to compare. Each call has a connection of its own and a limit
//! of time. Usable on any runtime.

use std::future::Future;
use std::io;
use std::time::Duration;

use api::{etcdserverpb, leasepb};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use prost::Message as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use types::{ClusterId, LeaseId};

use crate::body::{RequestBody, read_all};
use crate::connection::{Connection, Patience};
use crate::headers::{self, CLUSTER_ID, JSON, PROTOBUF};
use crate::host::LeaseTimes;
use crate::peer_url::PeerUrl;
use crate::request::{HashKv, HashKvRequest, HashKvResponse, PeerError, Versions};

/// Members' lists, leases with all their keys.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why another member's answer did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody can be asked at this URL.
    #[error("peer URL {url:?} cannot be dialled: {reason}")]
    Address { url: String, reason: &'static str },
    /// The connection did not come about or was lost: ask another, or later.
    #[error("{address} cannot be reached")]
    Unreachable { address: String, source: io::Error },
    /// No answer in time: it may have been done or not.
    #[error("no answer in time")]
    TimedOut,
    /// It was understood and not done.
    #[error("{0}")]
    Refused(PeerError),
    /// An answer that makes no sense.
    #[error("an answer that cannot be read: {0}")]
    Malformed(String),
}

/// The members of the cluster that the one at `url` is in, as `M` reads them from etcd's JSON.
///
/// # Errors
/// Every one of [`ClientError`] but `Refused`.
pub async fn get_members<M: DeserializeOwned>(
    url: &str,
    patience: Duration,
) -> Result<(ClusterId, Vec<M>), ClientError> {
    let answer = call(url, patience, Ask::get("/members")).await?.succeed()?;
    let cluster = headers::cluster(&answer.headers);
    let cluster = cluster.ok_or_else(|| ClientError::Malformed("it names no cluster".to_owned()))?;
    Ok((cluster, parse_json(&answer.body)?))
}

/// The releases of the member at `url` and of its cluster.
///
/// # Errors
/// Every one of [`ClientError`] but `Refused`.
pub async fn get_version(url: &str, patience: Duration) -> Result<Versions, ClientError> {
    parse_json(&call(url, patience, Ask::get("/version")).await?.succeed()?.body)
}

/// Whether a downgrade is under way.
///
/// # Errors
/// Every one of [`ClientError`].
pub async fn downgrade_enabled(url: &str, patience: Duration) -> Result<bool, ClientError> {
    let answer = call(url, patience, Ask::get("/downgrade/enabled")).await?.succeed()?;
    match &*answer.body {
        b"true" => Ok(true),
        b"false" => Ok(false),
        other => Err(ClientError::Malformed(String::from_utf8_lossy(other).into_owned())),
    }
}

/// Has the leader at `url` prolong a lease; returns its new TTL in seconds.
///
/// # Errors
/// Every one of [`ClientError`]; `Refused` above all with `LeaseNotFound`, `NotPrimary`, `NotCaughtUp`.
pub async fn keep_alive(url: &str, lease: LeaseId, patience: Duration) -> Result<i64, ClientError> {
    let request = etcdserverpb::LeaseKeepAliveRequest { id: lease.0 };
    let ask = Ask::post("/leases", request.encode_to_vec(), PROTOBUF);
    let answer = call(url, patience, ask).await?.succeed()?;
    let answer: etcdserverpb::LeaseKeepAliveResponse = parse_proto(answer.body)?;
    check_lease(lease, answer.id)?;
    Ok(answer.ttl)
}

/// Asks the leader at `url` how long a lease lives, and for its keys if `keys`.
///
/// # Errors
/// Every one of [`ClientError`]; `Refused` above all with `LeaseNotFound`, `NotPrimary`, `NotCaughtUp`.
pub async fn time_to_live(
    url: &str,
    lease: LeaseId,
    keys: bool,
    patience: Duration,
) -> Result<LeaseTimes, ClientError> {
    let request = etcdserverpb::LeaseTimeToLiveRequest { id: lease.0, keys };
    let request = leasepb::LeaseInternalRequest { lease_time_to_live_request: Some(request) };
    let ask = Ask::post("/leases/internal", request.encode_to_vec(), PROTOBUF);
    let answer = call(url, patience, ask).await?.succeed()?;
    let answer: leasepb::LeaseInternalResponse = parse_proto(answer.body)?;
    let answer = answer.lease_time_to_live_response;
    let answer = answer.ok_or_else(|| ClientError::Malformed("it holds no lease".to_owned()))?;
    check_lease(lease, answer.id)?;
    Ok(LeaseTimes { id: lease, ttl: answer.ttl, granted_ttl: answer.granted_ttl, keys: answer.keys })
}

/// Has the leader at `url` make a learner a voter, for a client with this token; returns the members.
///
/// # Errors
/// Every one of [`ClientError`]; `Refused` above all with `MemberNotFound`, `MemberNotLearner`, `LearnerNotReady`.
pub async fn promote<M: DeserializeOwned>(
    url: &str,
    id: u64,
    authorization: Option<&str>,
    patience: Duration,
) -> Result<Vec<M>, ClientError> {
    let mut ask = Ask::post(&format!("/members/promote/{id}"), Vec::new(), PROTOBUF);
    if let Some(token) = authorization {
        let token = HeaderValue::try_from(token).map_err(|_| ClientError::Malformed("the token".to_owned()))?;
        ask.headers.insert(AUTHORIZATION, token);
    }
    parse_json(&call(url, patience, ask).await?.succeed()?.body)
}

/// The hash of the keys of the member at `url`, which must be of this cluster, at a revision (0: the current one).
///
/// # Errors
/// Every one of [`ClientError`]; `Refused` above all with `Compacted`, `FutureRevision`, `WrongCluster`.
pub async fn hash_kv(url: &str, cluster: ClusterId, revision: i64, patience: Duration) -> Result<HashKv, ClientError> {
    let body = serde_json::to_vec(&HashKvRequest { revision }).expect("a number is JSON");
    let mut ask = Ask { method: Method::GET, ..Ask::post("/members/hashkv", body, JSON) };
    let value = HeaderValue::try_from(cluster.to_string()).expect("hex digits make a header");
    ask.headers.insert(CLUSTER_ID, value);
    let answer: HashKvResponse = parse_json(&call(url, patience, ask).await?.succeed()?.body)?;
    Ok(HashKv { revision: answer.header.revision, hash: answer.hash, compact_revision: answer.compact_revision })
}

struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Ask {
    fn get(path: &str) -> Ask {
        Ask { method: Method::GET, path: path.to_owned(), headers: HeaderMap::new(), body: Vec::new() }
    }

    fn post(path: &str, body: Vec<u8>, content_type: HeaderValue) -> Ask {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Ask { method: Method::POST, path: path.to_owned(), headers, body }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn succeed(self) -> Result<Answer, ClientError> {
        match self.status {
            StatusCode::OK => Ok(self),
            _ => Err(ClientError::Refused(PeerError::from_text(&String::from_utf8_lossy(&self.body)))),
        }
    }
}

async fn call(url: &str, patience: Duration, ask: Ask) -> Result<Answer, ClientError> {
    let url = PeerUrl::parse(url)?;
    within(patience, async {
        let mut connection = Connection::open(&url, patience, Patience::default()).await?;
        let mut request = Request::new(RequestBody::Whole(ask.body.into()));
        *request.method_mut() = ask.method;
        *request.uri_mut() = ask.path.parse().expect("paths are well-formed");
        *request.headers_mut() = ask.headers;
        let host = HeaderValue::try_from(url.authority());
        let host = host.map_err(|_| ClientError::Malformed("the host's name".to_owned()))?;
        request.headers_mut().insert(HOST, host);
        let (head, body) = connection.exchange(&url, request).await?.into_parts();
        let body = connection.drive(read_all(body, ANSWER_BYTES_MAX, patience, |_| true)).await;
        let body = body.map_err(|error| ClientError::Malformed(error.to_string()))?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    })
    .await
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    timeout(patience, work).await.unwrap_or(Err(ClientError::TimedOut))
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed(error.to_string()))
}

fn parse_proto<T: prost::Message + Default>(body: Bytes) -> Result<T, ClientError> {
    T::decode(body).map_err(|error| ClientError::Malformed(error.to_string()))
}

fn check_lease(asked: LeaseId, answered: i64) -> Result<(), ClientError> {
    if asked.0 == answered {
        return Ok(());
    }
    Err(ClientError::Malformed(format!("it is about lease {}", LeaseId(answered))))
}
