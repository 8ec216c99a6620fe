//! What others ask of this member: its port's paths, their checks in etcd's order, its texts.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/rafthttp/http.go`, `server/etcdserver/api/etcdhttp/peer.go`; texts taken from a running 3.5.30.

use std::rc::Rc;

use api::{etcdserverpb, leasepb};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use types::{LeaseId, MemberId, MessageKind};

use crate::answer::{self, Answer};
use crate::body::{self, BodyError, drain};
use crate::codec;
use crate::frames::{MESSAGE_BYTES_MAX, StreamKind};
use crate::headers::{self, CLUSTER_ID, MIN_CLUSTER, PEER_URLS, RAFT_TO, SERVER_FROM, SERVER_VERSION};
use crate::host::Host;
use crate::port::Port;
use crate::request::{HashKvHeader, HashKvRequest, HashKvResponse, PeerError, PeerRequest, PeerResponse};
use crate::settings::{POST_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::snapshot_receiver::{self, ReceiveError};
use crate::stream_writer::Opening;
use crate::version;

const REMOVED_SENDER: &str = "cannot process message from removed member";
const TO_MISMATCH: &str = "to field mismatch";
const UNREADABLE: &str = "error unmarshalling request";

/// What becomes of a request.
pub(crate) enum Reply {
    Answer(Answer),
    /// Its connection is a stream from now on.
    Stream(Opening),
}

/// Takes one request.
pub(crate) async fn reply<H: Host>(port: &Rc<Port<H>>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    if let Some(path) = head.uri.path().strip_prefix("/raft/stream/") {
        return open_stream(port, &head, path);
    }
    Reply::Answer(answer(port, &head, body).await)
}

async fn answer<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    let path = head.uri.path();
    if let Some(id) = path.strip_prefix("/members/promote/") {
        return answer_promote(port, head, id).await;
    }
    match path {
        "/raft" => answer_post(port, head, body).await,
        "/raft/snapshot" => answer_snapshot(port, head, body).await,
        "/raft/probing" => answer::probe(port.shared.clock.wall()),
        "/members" => answer_members(port, head).await,
        "/members/hashkv" => answer_hash_kv(port, head, body).await,
        "/leases" => answer_keep_alive(port, head, body).await,
        "/leases/internal" => answer_time_to_live(port, head, body).await,
        "/downgrade/enabled" => answer_downgrade_enabled(port, head).await,
        "/version" => answer_version(port, head).await,
        _ => answer::not_found(),
    }
}

fn open_stream<H: Host>(port: &Rc<Port<H>>, head: &Parts, path: &str) -> Reply {
    if head.method != Method::GET {
        return Reply::Answer(answer::method_not_allowed("GET"));
    }
    if let Err(text) = check_sender(port, head) {
        return Reply::Answer(refused(port, StatusCode::PRECONDITION_FAILED, text));
    }
    match find_stream(port, head, path) {
        Ok(opening) => Reply::Stream(opening),
        Err((status, text)) => {
            let answer = refused(port, status, text);
            Reply::Answer(answer::with_header(answer, SERVER_VERSION, &port.shared.settings.version))
        }
    }
}

fn find_stream<H: Host>(port: &Rc<Port<H>>, head: &Parts, path: &str) -> Result<Opening, (StatusCode, &'static str)> {
    let (kind, from) = path.split_once('/').ok_or((StatusCode::NOT_FOUND, "invalid path"))?;
    let kind = StreamKind::parse(kind).ok_or((StatusCode::NOT_FOUND, "invalid path"))?;
    let from = headers::parse_member(from).ok_or((StatusCode::NOT_FOUND, "invalid from"))?;
    if port.roster().removed.contains(&from) {
        return Err((StatusCode::GONE, "removed member"));
    }
    let Some(link) = port.link(from).filter(|link| !link.is_remote) else {
        // It may have joined and know of it earlier than we do.
        meet(port, head);
        return Err((StatusCode::NOT_FOUND, "error sender not found"));
    };
    let to = headers::text(&head.headers, &RAFT_TO).and_then(headers::parse_member);
    if to != Some(port.shared.settings.member) {
        return Err((StatusCode::PRECONDITION_FAILED, TO_MISMATCH));
    }
    if head.version != Version::HTTP_11 {
        return Err((StatusCode::HTTP_VERSION_NOT_SUPPORTED, "streams need HTTP/1.1"));
    }
    let closes = headers::text(&head.headers, &CONNECTION).unwrap_or_default();
    let closes = closes.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
    Ok(Opening { link, kind, closes })
}

async fn answer_post<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    if let Some(answer) = refuse_post(port, head) {
        drain(body).await;
        return answer;
    }
    let room = Room { port: port.clone(), bytes: 0 };
    let body = match read_post(room, body).await {
        Ok(body) => body,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a posted message cannot be read");
            return refused(port, StatusCode::BAD_REQUEST, "error reading raft message");
        }
    };
    let message = match codec::decode(&body) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!(%error, "a posted message cannot be read");
            return refused(port, StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        }
    };
    // The state of a snapshot comes on a path of its own.
    if message.kind == MessageKind::Snapshot || message.from == MemberId(0) {
        return refused(port, StatusCode::BAD_REQUEST, "error unmarshalling raft message");
    }
    if port.roster().removed.contains(&message.from) {
        return forbidden(port);
    }
    if message.to != port.shared.settings.member {
        return refused(port, StatusCode::PRECONDITION_FAILED, TO_MISMATCH);
    }
    if let Some(target) = port.shared.target(message.from) {
        target.received(body.len());
        target.activate(port.shared.clock.now());
    }
    port.deliver(message);
    answer::with_header(answer::no_content(), CLUSTER_ID, &port.shared.settings.cluster.to_string())
}

/// What posts that come in may hold together.
struct Room<H> {
    port: Rc<Port<H>>,
    bytes: usize,
}

impl<H> Drop for Room<H> {
    fn drop(&mut self) {
        self.port.post_bytes.set(self.port.post_bytes.get() - self.bytes);
    }
}

async fn read_post<H: Host>(mut room: Room<H>, body: Incoming) -> Result<Bytes, BodyError> {
    let take = |bytes| {
        let held = room.port.post_bytes.get() + bytes;
        if held > POST_BYTES_MAX {
            return false;
        }
        room.port.post_bytes.set(held);
        room.bytes += bytes;
        true
    };
    body::read_request(body, MESSAGE_BYTES_MAX, take).await
}

async fn answer_snapshot<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    if let Some(answer) = refuse_post(port, head) {
        drain(body).await;
        return answer;
    }
    let Err(error) = snapshot_receiver::receive(port, body).await else {
        return answer::with_header(answer::no_content(), CLUSTER_ID, &port.shared.settings.cluster.to_string());
    };
    let status = match &error {
        ReceiveError::RemovedSender => return forbidden(port),
        ReceiveError::Message(_) | ReceiveError::Kind => StatusCode::BAD_REQUEST,
        ReceiveError::To => StatusCode::PRECONDITION_FAILED,
        ReceiveError::Busy | ReceiveError::Save(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(port, status, &error.to_string())
}

/// What is wrong with a member's post, before its body is looked at.
fn refuse_post<H: Host>(port: &Rc<Port<H>>, head: &Parts) -> Option<Answer> {
    if head.method != Method::POST {
        return Some(answer::method_not_allowed("POST"));
    }
    if let Err(text) = check_sender(port, head) {
        return Some(refused(port, StatusCode::PRECONDITION_FAILED, text));
    }
    meet(port, head);
    None
}

/// Whether the sender's release and cluster fit ours.
fn check_sender<H: Host>(port: &Port<H>, head: &Parts) -> Result<(), &'static str> {
    let settings = &port.shared.settings;
    let text = |name| headers::text(&head.headers, name);
    if !version::is_compatible(&settings.version, text(&SERVER_VERSION), text(&MIN_CLUSTER)) {
        return Err("incompatible version");
    }
    if headers::cluster(&head.headers) != Some(settings.cluster) {
        return Err("cluster ID mismatch");
    }
    Ok(())
}

/// Remembers where a sender is reached that is no member yet: it has to get answers to become one.
fn meet<H: Host>(port: &Port<H>, head: &Parts) {
    let from = headers::text(&head.headers, &SERVER_FROM).and_then(headers::parse_member);
    let urls = headers::text(&head.headers, &PEER_URLS).unwrap_or_default();
    let urls: Vec<String> = urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
    if let Some(from) = from.filter(|from| *from != MemberId(0) && !urls.is_empty()) {
        port.shared.add_remote(from, urls);
    }
}

/// A refusal on one of raft's paths.
fn refused<H>(port: &Port<H>, status: StatusCode, text: &str) -> Answer {
    port.shared.count_refused();
    tracing::debug!(%status, text, "a raft request is refused");
    answer::with_header(answer::refusal(status, text), CLUSTER_ID, &port.shared.settings.cluster.to_string())
}

/// Tells a member that it was removed: it stops for good.
fn forbidden<H>(port: &Port<H>) -> Answer {
    port.shared.count_refused();
    let answer = answer::json_refusal(StatusCode::FORBIDDEN, REMOVED_SENDER);
    answer::with_header(answer, CLUSTER_ID, &port.shared.settings.cluster.to_string())
}

async fn answer_members<H: Host>(port: &Rc<Port<H>>, head: &Parts) -> Answer {
    if head.method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let answer = match port.host.answer(PeerRequest::Members).await {
        Ok(PeerResponse::Members(members)) => answer::json([&members[..], b"\n"].concat()),
        other => unexpected(other, StatusCode::INTERNAL_SERVER_ERROR),
    };
    named(port, answer)
}

async fn answer_promote<H: Host>(port: &Rc<Port<H>>, head: &Parts, id: &str) -> Answer {
    if head.method != Method::POST {
        return answer::method_not_allowed("POST");
    }
    let Ok(number) = id.parse() else {
        return named(port, answer::refusal(StatusCode::NOT_FOUND, &format!("member {id} not found in cluster")));
    };
    let authorization = headers::text(&head.headers, &AUTHORIZATION).map(str::to_owned);
    let answer = match port.host.answer(PeerRequest::Promote { id: number, authorization }).await {
        Ok(PeerResponse::Members(members)) => answer::json([&members[..], b"\n"].concat()),
        Err(PeerError::Other(text)) => answer::json_refusal(StatusCode::INTERNAL_SERVER_ERROR, &text),
        other => unexpected(other, StatusCode::INTERNAL_SERVER_ERROR),
    };
    named(port, answer)
}

async fn answer_hash_kv<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    if head.method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let is_stranger =
        head.headers.contains_key(CLUSTER_ID) && headers::cluster(&head.headers) != Some(port.shared.settings.cluster);
    if is_stranger {
        return unexpected(Err(PeerError::WrongCluster), StatusCode::BAD_REQUEST);
    }
    let body = match read_request(body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Ok(request) = serde_json::from_slice::<HashKvRequest>(&body) else {
        return answer::refusal(StatusCode::BAD_REQUEST, UNREADABLE);
    };
    match port.host.answer(PeerRequest::HashKv { revision: request.revision }).await {
        Ok(PeerResponse::HashKv(hash)) => {
            let response = HashKvResponse {
                header: HashKvHeader { revision: hash.revision },
                hash: hash.hash,
                compact_revision: hash.compact_revision,
            };
            named(port, answer::json(serde_json::to_vec(&response).expect("numbers are JSON")))
        }
        other => unexpected(other, StatusCode::BAD_REQUEST),
    }
}

async fn answer_keep_alive<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    let request: etcdserverpb::LeaseKeepAliveRequest = match lease_request(head, body).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    match port.host.answer(PeerRequest::KeepAlive { lease: LeaseId(request.id) }).await {
        Ok(PeerResponse::KeptAlive { lease, ttl }) => {
            answer::protobuf(&etcdserverpb::LeaseKeepAliveResponse { header: None, id: lease.0, ttl })
        }
        other => unexpected(other, StatusCode::BAD_REQUEST),
    }
}

async fn answer_time_to_live<H: Host>(port: &Rc<Port<H>>, head: &Parts, body: Incoming) -> Answer {
    let request: leasepb::LeaseInternalRequest = match lease_request(head, body).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    // etcd's handler ends its connection without an answer.
    let Some(request) = request.lease_time_to_live_request else {
        return answer::refusal(StatusCode::BAD_REQUEST, UNREADABLE);
    };
    let request = PeerRequest::TimeToLive { lease: LeaseId(request.id), keys: request.keys };
    match port.host.answer(request).await {
        Ok(PeerResponse::TimeToLive(lease)) => {
            let response = etcdserverpb::LeaseTimeToLiveResponse {
                header: Some(etcdserverpb::ResponseHeader::default()),
                id: lease.id.0,
                ttl: lease.ttl,
                granted_ttl: lease.granted_ttl,
                keys: lease.keys,
            };
            answer::protobuf(&leasepb::LeaseInternalResponse { lease_time_to_live_response: Some(response) })
        }
        other => unexpected(other, StatusCode::BAD_REQUEST),
    }
}

async fn lease_request<T: prost::Message + Default>(head: &Parts, body: Incoming) -> Result<T, Answer> {
    if head.method != Method::POST {
        return Err(answer::method_not_allowed(""));
    }
    let body = read_request(body).await?;
    T::decode(body).map_err(|_| answer::refusal(StatusCode::BAD_REQUEST, UNREADABLE))
}

async fn answer_downgrade_enabled<H: Host>(port: &Rc<Port<H>>, head: &Parts) -> Answer {
    if head.method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let answer = match port.host.answer(PeerRequest::DowngradeEnabled).await {
        Ok(PeerResponse::DowngradeEnabled(enabled)) => answer::text(enabled.to_string()),
        other => unexpected(other, StatusCode::INTERNAL_SERVER_ERROR),
    };
    named(port, answer)
}

async fn answer_version<H: Host>(port: &Rc<Port<H>>, head: &Parts) -> Answer {
    if head.method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    match port.host.answer(PeerRequest::Version).await {
        Ok(PeerResponse::Version(versions)) => answer::json(serde_json::to_vec(&versions).expect("two texts are JSON")),
        other => unexpected(other, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// With the cluster's id.
fn named<H>(port: &Port<H>, answer: Answer) -> Answer {
    answer::with_header(answer, CLUSTER_ID, &port.shared.settings.cluster.to_string())
}

async fn read_request(body: Incoming) -> Result<Bytes, Answer> {
    body::read_request(body, REQUEST_BYTES_MAX, |_| true).await.map_err(|error| match error {
        BodyError::TooLong(_) => answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
        BodyError::TimedOut | BodyError::Lost(_) => answer::refusal(StatusCode::BAD_REQUEST, "error reading body"),
    })
}

/// A refusal by the host.
fn unexpected(outcome: Result<PeerResponse, PeerError>, other: StatusCode) -> Answer {
    match outcome {
        Err(error) => answer::refusal(error.status(other), &error.to_string()),
        Ok(response) => {
            tracing::error!(?response, "the host answers another question than it was asked");
            answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
    }
}
