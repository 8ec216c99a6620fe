//! Every service against a member of one, over connections in memory.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::errors::{self, WireError};
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RangeStreamResponse,
    ResponseHeader, StatusRequest, StatusResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};
use api::health::{HealthCheckRequest, HealthCheckResponse};
use api::mvccpb::event::EventType;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse, ResignRequest,
    ResignResponse,
};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use env::{RealDisk, SystemClock, SystemRng};
use futures_util::FutureExt;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use server::Member;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::monitoring::{self, SCRAPES_AT_ONCE, SCRAPES_MAX};
use crate::{Meters, Settings, Surface, Worker};

fn run<F: Future<Output = ()>>(test: impl FnOnce(Fixture) -> F) {
    run_with(Settings::default(), test);
}

/// Runs a test against a fresh member.
pub(crate) fn run_with<F: Future<Output = ()>>(front_settings: Settings, test: impl FnOnce(Fixture) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = server::Settings::new(directory.path().join("data"));
    settings.wal_segment_size_bytes = 4 << 20;
    settings.heartbeat_interval = Duration::from_millis(10);
    settings.election_timeout = Duration::from_millis(50);
    settings.limits.election_timeout = Duration::from_millis(50);
    let clock = Arc::new(SystemClock::default());
    let world = server::World {
        disk: Arc::new(RealDisk),
        clock: clock.clone(),
        rng: Box::new(SystemRng::with_seed(1)),
        peer_listeners: vec![],
    };
    let begin = server::Bootstrap::founding(&settings.initial_cluster, &settings.name).unwrap();
    let member = Member::start(settings, &begin, world).unwrap();
    member.wait_ready().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let worker =
            Worker::start(member.door().open(), front_settings, Meters::new(true), clock, &mut SystemRng::with_seed(2));
        let fixture = Fixture { worker, member };
        timeout(Duration::from_secs(20), test(fixture)).await.expect("the test is done in time");
    });
}

pub(crate) struct Fixture {
    pub(crate) worker: Worker,
    member: Member,
}

impl Fixture {
    pub(crate) async fn client(&self) -> Client {
        self.client_with_window(8 << 20).await
    }

    async fn client_with_window(&self, window: u32) -> Client {
        let (near, far) = tokio::io::duplex(256 << 10);
        tokio::task::spawn_local(self.worker.clone().serve(near, "test", Surface::Everything));
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(64 << 20).data_frame_budget(64 << 20);
        let (requests, connection) = builder.handshake(far).await.unwrap();
        tokio::task::spawn_local(connection);
        Client { requests }
    }

    /// All that an HTTP/1.1 server says to `request`.
    async fn http1(&self, request: &str) -> String {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        tokio::task::spawn_local(self.worker.clone().serve(near, "test", Surface::Everything));
        far.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
}

type Failure = (u16, String);

impl Client {
    async fn open<Res>(&self, path: &str) -> Stream<Res> {
        let mut request = Request::post(format!("http://member{path}")).body(()).unwrap();
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, sending) = requests.send_request(request, false).unwrap();
        Stream { sending, incoming: Incoming::Expected(response), held: BytesMut::new(), kind: Default::default() }
    }

    async fn call<Res: Message + Default>(&self, path: &str, request: &impl Message) -> Result<Res, Failure> {
        let mut stream = self.open(path).await;
        stream.send(request);
        stream.close();
        let answer = stream.next().await?.expect("an answer");
        assert!(stream.next().await?.is_none());
        Ok(answer)
    }

    pub(crate) async fn put(&self, key: &str, value: impl Into<Bytes>) -> i64 {
        let request = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
        let response: PutResponse = self.call("/etcdserverpb.KV/Put", &request).await.unwrap();
        response.header.unwrap().revision
    }

    async fn get(&self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    async fn watch(&self, create: WatchCreateRequest) -> Stream<WatchResponse> {
        let mut stream = self.open("/etcdserverpb.Watch/Watch").await;
        stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
        stream
    }
}

struct Stream<Res> {
    sending: SendStream<Bytes>,
    incoming: Incoming,
    held: BytesMut,
    kind: std::marker::PhantomData<Res>,
}

enum Incoming {
    Expected(ResponseFuture),
    Open(RecvStream),
}

impl<Res: Message + Default> Stream<Res> {
    fn send(&mut self, request: &impl Message) {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(request.encoded_len() as u32);
        request.encode(&mut framed).unwrap();
        self.sending.send_data(framed.freeze(), false).unwrap();
    }

    fn close(&mut self) {
        let _ = self.sending.send_data(Bytes::new(), true);
    }

    async fn next(&mut self) -> Result<Option<Res>, Failure> {
        loop {
            if self.held.len() >= 5 {
                let len = 5 + (&self.held[1..5]).get_u32() as usize;
                if self.held.len() >= len {
                    let message = self.held.split_to(len).freeze().slice(5..);
                    return Ok(Some(Res::decode(message).unwrap()));
                }
            }
            match &mut self.incoming {
                Incoming::Expected(response) => {
                    let (head, body) = response.await.unwrap().into_parts();
                    if let Some(failure) = failure(&head.headers) {
                        return Err(failure);
                    }
                    self.incoming = Incoming::Open(body);
                }
                Incoming::Open(body) => match body.data().await {
                    Some(data) => {
                        let data = data.unwrap();
                        body.flow_control().release_capacity(data.len()).unwrap();
                        self.held.extend_from_slice(&data);
                    }
                    None => {
                        assert!(self.held.is_empty(), "ended inside a message");
                        let trailers = body.trailers().await.unwrap().unwrap();
                        return failure(&trailers).map_or(Ok(None), Err);
                    }
                },
            }
        }
    }

    async fn expect(&mut self) -> Res {
        self.next().await.unwrap().expect("a message")
    }

    async fn failure(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.next().await {
                return failure;
            }
        }
    }
}

fn failure(headers: &http::HeaderMap) -> Option<Failure> {
    let code: u16 = headers.get("grpc-status")?.to_str().unwrap().parse().unwrap();
    let text = headers.get("grpc-message").map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default();
    (code != 0).then_some((code, text))
}

fn is<T: std::fmt::Debug>(outcome: Result<T, Failure>, error: WireError) -> bool {
    outcome.unwrap_err() == (error.code as u16, error.text.to_owned())
}

fn key(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

fn prefix(prefix: &str, end: &str) -> RangeRequest {
    RangeRequest { range_end: end.to_owned().into(), ..key(prefix) }
}

#[test]
fn kv_answers_carry_the_header_and_what_was_asked() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let revision = client.put("a", "1").await;
        let found = client.get(&key("a")).await.unwrap();
        let identity = fixture.member.identity();
        let header = ResponseHeader {
            cluster_id: identity.cluster_id.0,
            member_id: identity.member_id.0,
            revision,
            raft_term: found.header.unwrap().raft_term,
        };
        assert_eq!(found.header.unwrap(), header);
        assert!(header.raft_term > 0);
        assert_eq!((found.count, found.kvs[0].value.as_ref()), (1, &b"1"[..]));
        let request = DeleteRangeRequest { key: "a".into(), prev_kv: true, ..DeleteRangeRequest::default() };
        let deleted: DeleteRangeResponse = client.call("/etcdserverpb.KV/DeleteRange", &request).await.unwrap();
        assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (1, 1));
        assert_eq!(deleted.header.unwrap().revision, revision + 1);
    });
}

#[test]
fn failures_reach_the_client_with_etcds_code_and_text() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let put: Result<PutResponse, _> = client.call("/etcdserverpb.KV/Put", &PutRequest::default()).await;
        assert!(is(put, errors::EMPTY_KEY));
        let request = PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() };
        let put: Result<PutResponse, _> = client.call("/etcdserverpb.KV/Put", &request).await;
        assert!(is(put, errors::LEASE_NOT_FOUND));
        assert!(is(client.get(&RangeRequest { revision: 99, ..key("a") }).await, errors::FUTURE_REVISION));
        let request = PutRequest { key: "a".into(), value: vec![0; 1_600_000].into(), ..PutRequest::default() };
        let put: Result<PutResponse, _> = client.call("/etcdserverpb.KV/Put", &request).await;
        assert!(is(put, errors::REQUEST_TOO_LARGE));
        let revision = client.put("a", "1").await;
        client.put("a", "2").await;
        let request = CompactionRequest { revision: revision + 1, physical: false };
        let _: CompactionResponse = client.call("/etcdserverpb.KV/Compact", &request).await.unwrap();
        assert!(is(client.get(&RangeRequest { revision, ..key("a") }).await, errors::COMPACTED));
    });
}

#[test]
fn large_ranges_arrive_whole_even_through_a_small_window() {
    run(|fixture| async move {
        let client = fixture.client_with_window(10_000).await;
        for number in 0..20 {
            client.put(&format!("k{number:02}"), vec![number; 100_000]).await;
        }
        let found = client.get(&prefix("k", "l")).await.unwrap();
        assert_eq!((found.kvs.len(), found.count, found.more), (20, 20, false));
        assert!(found.kvs.iter().enumerate().all(|(number, kv)| kv.value.iter().all(|&byte| byte as usize == number)));
        let limited = client.get(&RangeRequest { limit: 19, ..prefix("k", "l") }).await.unwrap();
        assert_eq!((limited.kvs.len(), limited.count, limited.more), (19, 20, true));
    });
}

#[test]
fn a_range_stream_ends_with_header_more_and_count() {
    run(|fixture| async move {
        let client = fixture.client().await;
        for number in 0..30 {
            client.put(&format!("k{number:02}"), vec![number; 100_000]).await;
        }
        let mut stream = client.open::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream").await;
        stream.send(&RangeRequest { limit: 29, ..prefix("k", "l") });
        stream.close();
        let mut pieces = vec![];
        while let Some(piece) = stream.next().await.unwrap() {
            pieces.push(piece.range_response.unwrap());
        }
        let last = pieces.last().unwrap();
        assert_eq!((last.count, last.more, last.header.unwrap().revision), (30, true, 31));
        assert!(pieces.len() > 1);
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.header.is_none() && piece.count == 0));
        assert_eq!(pieces.iter().map(|piece| piece.kvs.len()).sum::<usize>(), 29);

        for (request, error) in [
            (RangeRequest { sort_order: 2, ..key("k") }, errors::RANGE_STREAM_SORT),
            (RangeRequest { min_mod_revision: 1, ..key("k") }, errors::RANGE_STREAM_FILTER),
            (RangeRequest::default(), errors::EMPTY_KEY),
        ] {
            let mut stream = client.open::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream").await;
            stream.send(&request);
            stream.close();
            assert!(is(stream.next().await, error));
        }
        let mut stream = client.open::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream").await;
        stream.send(&key("nothing"));
        stream.close();
        assert_eq!(stream.expect().await.range_response.unwrap().header.unwrap().revision, 31);
        assert!(stream.next().await.unwrap().is_none());
    });
}

#[test]
fn a_watch_sees_live_events_and_answers_requests() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let mut watch = client.watch(WatchCreateRequest { key: "a".into(), prev_kv: true, ..Default::default() }).await;
        let created = watch.expect().await;
        assert!(created.created && created.watch_id == 0 && created.events.is_empty());
        let first = client.put("a", "1").await;
        client.put("b", "not watched").await;
        client.put("a", "2").await;
        let event = watch.expect().await;
        assert_eq!((event.header.unwrap().revision, event.events.len()), (first, 1));
        assert_eq!(event.events[0].prev_kv, None);
        let event = watch.expect().await;
        assert_eq!(event.events[0].prev_kv.as_ref().unwrap().value, "1");
        assert_eq!(event.events[0].kv.as_ref().unwrap().value, "2");

        watch.send(&WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) });
        let progress = watch.expect().await;
        assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, first + 2));
        watch.send(&WatchRequest { request_union: None });
        let cancel = WatchCancelRequest { watch_id: 0 };
        watch.send(&WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) });
        let canceled = watch.expect().await;
        assert!(canceled.canceled && !canceled.created && canceled.watch_id == 0);
    });
}

#[test]
fn a_watch_from_the_past_gets_history_with_previous_values() {
    run(|fixture| async move {
        let client = fixture.client().await;
        for value in ["1", "2", "3"] {
            client.put("a", value).await;
        }
        let request = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
        let _: DeleteRangeResponse = client.call("/etcdserverpb.KV/DeleteRange", &request).await.unwrap();
        let create = WatchCreateRequest { key: "a".into(), start_revision: 3, prev_kv: true, ..Default::default() };
        let mut watch = client.watch(create).await;
        assert!(watch.expect().await.created);
        let mut events = vec![];
        while events.len() < 3 {
            events.extend(watch.expect().await.events);
        }
        let previous = |event: &api::mvccpb::Event| event.prev_kv.as_ref().map(|kv| kv.value.clone());
        let seen: Vec<_> = events.iter().map(|event| (event.r#type(), previous(event).unwrap())).collect();
        assert_eq!(
            seen,
            [(EventType::Put, "1".into()), (EventType::Put, "2".into()), (EventType::Delete, "3".into()),]
        );

        let request = CompactionRequest { revision: 4, physical: false };
        let _: CompactionResponse = client.call("/etcdserverpb.KV/Compact", &request).await.unwrap();
        let mut watch =
            client.watch(WatchCreateRequest { key: "a".into(), start_revision: 2, ..Default::default() }).await;
        assert!(watch.expect().await.created);
        let canceled = watch.expect().await;
        assert_eq!((canceled.canceled, canceled.compact_revision), (true, 4));
    });
}

#[test]
fn a_watcher_that_reads_late_misses_nothing() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let slow = fixture.client_with_window(1000).await;
        let mut watch = slow.watch(WatchCreateRequest { key: "k".into(), ..Default::default() }).await;
        assert!(watch.expect().await.created);
        for number in 0..300u32 {
            client.put("k", vec![number as u8; 10_000]).await;
        }
        let mut revisions = vec![];
        while revisions.len() < 300 {
            revisions.extend(watch.expect().await.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
        }
        assert_eq!(revisions, (2..302).collect::<Vec<_>>());
    });
}

#[test]
fn bad_watches_are_refused_and_the_stream_lives_on() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let mut watch =
            client.watch(WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..Default::default() }).await;
        let refused = watch.expect().await;
        assert!(refused.created && refused.canceled && refused.watch_id == -1);
        assert_eq!(refused.cancel_reason, errors::watch_cancel::EMPTY_RANGE);
        let create = WatchCreateRequest { key: "b".into(), start_revision: -1, ..Default::default() };
        watch.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
        assert_eq!(watch.expect().await.cancel_reason, errors::watch_cancel::COMPACTED);
        let create = WatchCreateRequest { key: "b".into(), watch_id: 5, ..Default::default() };
        for _ in 0..2 {
            watch.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create.clone())) });
        }
        assert_eq!(watch.expect().await.watch_id, 5);
        assert_eq!(watch.expect().await.cancel_reason, errors::watch_cancel::DUPLICATE_ID);
        client.put("b", "1").await;
        assert_eq!(watch.expect().await.events.len(), 1);
    });
}

#[test]
fn keepalives_are_answered_in_order() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let request = LeaseGrantRequest { ttl: 100, id: 42 };
        let granted: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", &request).await.unwrap();
        assert_eq!((granted.id, granted.ttl), (42, 100));
        let mut stream = client.open::<LeaseKeepAliveResponse>("/etcdserverpb.Lease/LeaseKeepAlive").await;
        for id in [42, 7, 42] {
            stream.send(&LeaseKeepAliveRequest { id });
        }
        stream.close();
        let mut answers = vec![];
        while let Some(answer) = stream.next().await.unwrap() {
            assert_eq!(answer.header.unwrap().revision, 1);
            answers.push((answer.id, answer.ttl));
        }
        assert_eq!(answers, [(42, 100), (7, 0), (42, 100)]);
    });
}

#[test]
fn cluster_and_maintenance_answer_as_etcd_does() {
    run(|fixture| async move {
        let client = fixture.client().await;
        client.put("a", "1").await;
        let request = MemberListRequest { linearizable: true };
        let members: MemberListResponse = client.call("/etcdserverpb.Cluster/MemberList", &request).await.unwrap();
        assert_eq!((members.header.unwrap().revision, members.members.len()), (0, 1));
        let status: StatusResponse = client.call("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await.unwrap();
        assert_eq!((status.version.as_str(), status.leader), ("3.5.30", fixture.member.identity().member_id.0));
        let defragmented: DefragmentResponse =
            client.call("/etcdserverpb.Maintenance/Defragment", &StatusRequest {}).await.unwrap();
        assert_eq!(defragmented.header, None);
        let request = HashKvRequest { revision: 0 };
        let hash: HashKvResponse = client.call("/etcdserverpb.Maintenance/HashKV", &request).await.unwrap();
        assert_eq!((hash.compact_revision, hash.hash_revision), (-1, 2));
        let snapshot: Result<StatusResponse, _> =
            client.call("/etcdserverpb.Maintenance/Snapshot", &StatusRequest {}).await;
        assert_eq!(snapshot.unwrap_err(), (12, "quorate: Snapshot is not implemented yet".into()));
    });
}

#[test]
fn health_knows_the_server_and_no_service() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let check = "/grpc.health.v1.Health/Check";
        let whole: HealthCheckResponse = client.call(check, &HealthCheckRequest::default()).await.unwrap();
        assert_eq!(whole.status, 1);
        let named = HealthCheckRequest { service: "kv".into() };
        assert!(is(client.call::<HealthCheckResponse>(check, &named).await, errors::UNKNOWN_HEALTH_SERVICE));
        let mut watch = client.open::<HealthCheckResponse>("/grpc.health.v1.Health/Watch").await;
        watch.send(&named);
        watch.close();
        assert_eq!(watch.expect().await.status, 3);
    });
}

const LOCK: &str = "/v3lockpb.Lock/Lock";

#[test]
fn a_lock_passes_from_holder_to_waiter() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let request = LockRequest { name: "l".into(), lease: 0 };
        let first: LockResponse = client.call(LOCK, &request).await.unwrap();
        assert!(first.key.starts_with(b"l/"));
        let waiter = {
            let (client, request) = (client.clone(), request.clone());
            tokio::task::spawn_local(async move { client.call::<LockResponse>(LOCK, &request).await.unwrap() })
        };
        // The waiter stands in line once there are two keys.
        while client.get(&prefix("l/", "l0")).await.unwrap().count < 2 {}
        assert!(!waiter.is_finished());
        let unlock = UnlockRequest { key: first.key.clone() };
        let _: UnlockResponse = client.call("/v3lockpb.Lock/Unlock", &unlock).await.unwrap();
        let second = waiter.await.unwrap();
        assert_ne!(second.key, first.key);
        // Twice is as good as once.
        let _: UnlockResponse = client.call("/v3lockpb.Lock/Unlock", &unlock).await.unwrap();
        let unlock: Result<UnlockResponse, _> = client.call("/v3lockpb.Lock/Unlock", &UnlockRequest::default()).await;
        assert!(is(unlock, errors::LOCK_EMPTY_KEY));
        let request = LockRequest { name: "l".into(), lease: 99 };
        assert!(is(client.call::<LockResponse>(LOCK, &request).await, errors::LOCK_LEASE_NOT_FOUND));
    });
}

#[test]
fn the_same_lease_may_lock_again() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let grant = LeaseGrantRequest { ttl: 100, id: -16 };
        let _: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.unwrap();
        let request = LockRequest { name: "l".into(), lease: -16 };
        let first: LockResponse = client.call(LOCK, &request).await.unwrap();
        let second: LockResponse = client.call(LOCK, &request).await.unwrap();
        assert_eq!((first.key.as_ref(), second.key), (&b"l/-10"[..], first.key.clone()));
    });
}

/// Somebody who waits for lock `l`, which another call holds.
async fn second_in_line(client: &Client) -> Stream<LockResponse> {
    let request = LockRequest { name: "l".into(), lease: 0 };
    let _: LockResponse = client.call(LOCK, &request).await.unwrap();
    let mut waiter = client.open::<LockResponse>(LOCK).await;
    waiter.send(&request);
    waiter.close();
    while client.get(&prefix("l/", "l0")).await.unwrap().count < 2 {}
    waiter
}

#[test]
fn a_waiter_that_gives_up_leaves_the_line() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let mut waiter = second_in_line(&client).await;
        waiter.sending.send_reset(h2::Reason::CANCEL);
        while client.get(&prefix("l/", "l0")).await.unwrap().count > 1 {}
    });
}

#[test]
fn a_waiter_does_not_trouble_a_worker_that_ends() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let _waiter = second_in_line(&client).await;
    });
}

#[test]
fn an_idle_connection_is_small() {
    run(|fixture| async move {
        let (near, _far) = tokio::io::duplex(1);
        let serving = fixture.worker.clone().serve(near, "test", Surface::Everything);
        assert!(size_of_val(&serving) < 1024, "{}", size_of_val(&serving));
    });
}

#[test]
fn who_cancels_a_stream_is_let_go() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let create = || WatchCreateRequest { key: "a".into(), ..Default::default() };
        let mut watches = [client.watch(create()).await, client.watch(create()).await];
        watches[1].close();
        for watch in &mut watches {
            assert!(watch.expect().await.created);
        }
        let mut keepalive = client.open::<LeaseKeepAliveResponse>("/etcdserverpb.Lease/LeaseKeepAlive").await;
        keepalive.send(&LeaseKeepAliveRequest { id: 1 });
        keepalive.expect().await;
        for sending in watches.iter_mut().map(|watch| &mut watch.sending).chain([&mut keepalive.sending]) {
            sending.send_reset(h2::Reason::CANCEL);
        }
        let cancelled = [("Watch", "Watch", 2), ("LeaseKeepAlive", "Lease", 1)].map(|(method, service, count)| {
            format!(
                "grpc_server_handled_total{{grpc_code=\"Canceled\",grpc_method=\"{method}\",\
                 grpc_service=\"etcdserverpb.{service}\",grpc_type=\"bidi_stream\"}} {count}\n"
            )
        });
        // What is counted is known once the connection has been served again.
        let mut told = String::new();
        for _ in 0..1_000 {
            told = fixture.http1("GET /metrics").await;
            if cancelled.iter().all(|line| told.contains(line)) {
                break;
            }
        }
        for line in cancelled.iter().map(String::as_str).chain(["\netcd_debugging_mvcc_watch_stream_total 0\n"]) {
            assert!(told.contains(line), "{line}{told}");
        }
    });
}

/// It is moved for every renewal.
#[test]
fn a_renewal_is_small() {
    run(|fixture| async move {
        let renewing = fixture.worker.handle().lease_keep_alive(types::LeaseId(1));
        assert!(size_of_val(&renewing) <= 2048, "{}", size_of_val(&renewing));
    });
}

#[test]
fn a_waiter_whose_lease_ends_has_no_session_any_more() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let held: LockResponse = client.call(LOCK, &LockRequest { name: "l".into(), lease: 0 }).await.unwrap();
        let grant = LeaseGrantRequest { ttl: 100, id: 16 };
        let _: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.unwrap();
        let mut waiter = client.open::<LockResponse>(LOCK).await;
        waiter.send(&LockRequest { name: "l".into(), lease: 16 });
        waiter.close();
        while client.get(&key("l/10")).await.unwrap().count < 1 {}
        let revoke = api::etcdserverpb::LeaseRevokeRequest { id: 16 };
        let _: api::etcdserverpb::LeaseRevokeResponse =
            client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await.unwrap();
        let _: UnlockResponse = client.call("/v3lockpb.Lock/Unlock", &UnlockRequest { key: held.key }).await.unwrap();
        assert!(is(waiter.next().await, errors::SESSION_EXPIRED));
    });
}

#[test]
fn an_election_has_one_leader_at_a_time() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let leader_of = LeaderRequest { name: "e".into() };
        let leader = "/v3electionpb.Election/Leader";
        assert!(is(client.call::<LeaderResponse>(leader, &leader_of).await, errors::ELECTION_NO_LEADER));
        let mut observed = client.open::<LeaderResponse>("/v3electionpb.Election/Observe").await;
        observed.send(&leader_of);
        observed.close();

        let campaign = "/v3electionpb.Election/Campaign";
        let request = CampaignRequest { name: "e".into(), lease: 0, value: "one".into() };
        let first: CampaignResponse = client.call(campaign, &request).await.unwrap();
        let first = first.leader.unwrap();
        assert_eq!(observed.expect().await.kv.unwrap().value, "one");
        assert_eq!(client.call::<LeaderResponse>(leader, &leader_of).await.unwrap().kv.unwrap().key, first.key);

        let request = ProclaimRequest { leader: Some(first.clone()), value: "uno".into() };
        let _: ProclaimResponse = client.call("/v3electionpb.Election/Proclaim", &request).await.unwrap();
        let seen = observed.expect().await;
        assert_eq!((seen.kv.as_ref().unwrap().value.as_ref(), seen.header.unwrap().revision), (&b"uno"[..], 3));

        let mut second = client.open::<CampaignResponse>(campaign).await;
        second.send(&CampaignRequest { name: "e".into(), lease: 0, value: "two".into() });
        second.close();
        while client.get(&prefix("e/", "e0")).await.unwrap().count < 2 {}
        let request = ResignRequest { leader: Some(first.clone()) };
        let _: ResignResponse = client.call("/v3electionpb.Election/Resign", &request).await.unwrap();
        assert_ne!(second.expect().await.leader.unwrap().key, first.key);
        assert_eq!(observed.expect().await.kv.unwrap().value, "two");

        let request = ProclaimRequest { leader: Some(first), value: "late".into() };
        let late: Result<ProclaimResponse, _> = client.call("/v3electionpb.Election/Proclaim", &request).await;
        assert!(is(late, errors::ELECTION_NOT_LEADER));
        let none: Result<ProclaimResponse, _> =
            client.call("/v3electionpb.Election/Proclaim", &ProclaimRequest::default()).await;
        assert!(is(none, errors::LEADER_KEY_MISSING));
    });
}

#[test]
fn the_probes_answer_over_http1() {
    run(|fixture| async move {
        let version = fixture.http1("GET /version").await;
        assert!(version.ends_with(r#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#), "{version}");
        assert!(version.contains("Content-Type: application/json\r\n"));
        assert!(version.contains("Access-Control-Allow-Origin: *\r\n"));
        for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
            let health = fixture.http1(&format!("GET {path}")).await;
            assert!(health.ends_with("\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}"), "{health}");
        }
        assert!(fixture.http1("GET /livez").await.ends_with("\r\n\r\nok\n"));
        let verbose = fixture.http1("GET /readyz?verbose&exclude=non_learner").await;
        let lines = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n";
        assert!(verbose.ends_with(lines), "{verbose}");
        assert!(fixture.http1("GET /readyz/non_learner?verbose").await.ends_with("\r\n\r\n[+]non_learner ok\nok\n"));
        for path in ["/", "/nope", "/livez/non_learner", "/version/"] {
            let answer = fixture.http1(&format!("GET {path}")).await;
            assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n404 page not found\n"));
        }
        let posted = fixture.http1("POST /health").await;
        assert!(posted.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && posted.contains("Allow: GET\r\n"));
        assert!(fixture.http1("OPTIONS /anything").await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn scrapes_are_few_at_once_and_charged() {
    run(|fixture| async move {
        let scrapes = &fixture.worker.all_meters().scrapes;
        let mut others = vec![];
        while others.len() < SCRAPES_AT_ONCE {
            others.push(scrapes.turn().await.unwrap());
        }
        let mut waiting: Vec<_> = (SCRAPES_AT_ONCE..SCRAPES_MAX - 1).map(|_| Box::pin(scrapes.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut last = pin!(fixture.http1("GET /metrics"));
        assert!(timeout(Duration::from_millis(50), last.as_mut()).await.is_err(), "it waits");
        let refused = fixture.http1("GET /metrics").await;
        assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
        assert!(
            refused.ends_with("\r\n\r\nLimit of concurrent requests reached (32), try again later.\n"),
            "{refused}"
        );
        drop((others, waiting));
        let told = last.await;
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
        assert!(told.contains("\npromhttp_metric_handler_requests_in_flight 1\n"));
        assert!(told.contains("\npromhttp_metric_handler_requests_total{code=\"503\"} 1\n"));
        let account = fixture.worker.open_account();
        let answer = monitoring::metrics(&fixture.worker, &account, &http::HeaderMap::new()).await;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(account.held_bytes() >= body.len() && body.len() > 10_000);
        drop(body);
        assert_eq!(account.held_bytes(), 0);
    });
}

#[test]
fn streams_end_and_connections_drain_when_the_member_stops() {
    run(|fixture| async move {
        let client = fixture.client().await;
        let mut watch = client.watch(WatchCreateRequest { key: "a".into(), ..Default::default() }).await;
        assert!(watch.expect().await.created);
        let mut keepalive = client.open::<LeaseKeepAliveResponse>("/etcdserverpb.Lease/LeaseKeepAlive").await;
        keepalive.send(&LeaseKeepAliveRequest { id: 1 });
        keepalive.expect().await;
        let Fixture { worker, member } = fixture;
        let stopping = std::thread::spawn(move || member.stop());
        let stopped = (errors::STOPPED.code as u16, errors::STOPPED.text.to_owned());
        assert_eq!(watch.failure().await, stopped);
        assert_eq!(keepalive.failure().await, stopped);
        drop(client);
        worker.drained().await;
        stopping.join().unwrap().unwrap();
    });
}
