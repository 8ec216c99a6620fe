//! What a member asks another: to join, to forward what only the leader can do, to compare. Each call has a limit of time, and
//! a connection of its own but for what is asked all the time: see [`KeptConnections`]. Usable on any runtime.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use types::{ClusterId, LeaseId};

use crate::body::{RequestBody, read_all};
use crate::connection::{Connection, Patience};
use crate::headers::{self, CLUSTER_ID, JSON, PROTOBUF};
pub use crate::kept_connections::KeptConnections;
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

#[derive(Clone)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    fn get(path: &str) -> Ask {
        Ask { method: Method::GET, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(crate) fn post(path: &str, body: Vec<u8>, content_type: HeaderValue) -> Ask {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Ask { method: Method::POST, path: path.to_owned(), headers, body: body.into() }
    }
}

pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn succeed(self) -> Result<Answer, ClientError> {
        match self.status {
            StatusCode::OK => Ok(self),
            _ => Err(ClientError::Refused(PeerError::from_text(&String::from_utf8_lossy(&self.body)))),
        }
    }
}

async fn call(url: &str, patience: Duration, ask: Ask) -> Result<Answer, ClientError> {
    let url = PeerUrl::parse(url)?;
    within(patience, async {
        let mut connection = open(&url, patience).await?;
        send(&mut connection, &url, patience, ask).await
    })
    .await
}

pub(crate) async fn open(url: &PeerUrl, patience: Duration) -> Result<Connection, ClientError> {
    Connection::open(url, patience, Patience::default()).await
}

/// Sends a request and reads the answer to it.
pub(crate) async fn send(
    connection: &mut Connection,
    url: &PeerUrl,
    patience: Duration,
    ask: Ask,
) -> Result<Answer, ClientError> {
    let mut request = Request::new(RequestBody::Whole(ask.body));
    *request.method_mut() = ask.method;
    *request.uri_mut() = ask.path.parse().expect("paths are well-formed");
    *request.headers_mut() = ask.headers;
    let host = HeaderValue::try_from(url.authority());
    let host = host.map_err(|_| ClientError::Malformed("the host's name".to_owned()))?;
    request.headers_mut().insert(HOST, host);
    let (head, body) = connection.exchange(url, request).await?.into_parts();
    let body = connection.drive(read_all(body, ANSWER_BYTES_MAX, patience, |_| true)).await;
    let body = body.map_err(|error| ClientError::Malformed(error.to_string()))?;
    Ok(Answer { status: head.status, headers: head.headers, body })
}

pub(crate) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(patience, work).await.unwrap_or(Err(ClientError::TimedOut))
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed(error.to_string()))
}

pub(crate) fn parse_proto<T: prost::Message + Default>(body: Bytes) -> Result<T, ClientError> {
    T::decode(body).map_err(|error| ClientError::Malformed(error.to_string()))
}

pub(crate) fn check_lease(asked: LeaseId, answered: i64) -> Result<(), ClientError> {
    if asked.0 == answered {
        return Ok(());
    }
    Err(ClientError::Malformed(format!("it is about lease {}", LeaseId(answered))))
}
