//! The port between members: what it answers to whom, and that our transport gets on with it as a member among others.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    CALL_LIMIT, Cluster, SETTLE_LIMIT, Target, Wiring, found_within, holds_within, http, on_both_targets, request,
    within,
};
use membership::{Member, cluster_id, member_id};
use peer::client::{self, ClientError, KeptConnections};
use peer::{
    Afterwards, Host, Outbox, PeerError, PeerRequest, PeerResponse, Receiver, Settings, SnapshotChunks, SnapshotSink,
    SnapshotSource, SnapshotWriter, Transport,
};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use types::{ClusterId, Index, LeaseId, LogEntry, MemberId, Message, MessageKind, SnapshotMeta, Term};

/// As the harness sets it.
const TOKEN: &str = "tested";

/// Method, path, headers, body; status and body.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'static str);

/// Texts and statuses of refusals, and the few answers that are known beforehand.
async fn refusals_have_their_texts(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let address = cluster.seats()[0].peer_address();
    let (id, members) = client::get_members::<Member>(&cluster.seats()[0].peer_url(), CALL_LIMIT).await?;
    let known = members.iter().find(|member| member.id.0 != own_id(&cluster, 0).0).context("there are others")?.id;
    let identity = |from: MemberId, cluster: ClusterId| {
        format!(
            "X-Server-From: {from}\r\nX-Server-Version: 3.5.30\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: {cluster}\r\n"
        )
    };
    let stranger = identity(MemberId(0xf00), id);
    let another_cluster = identity(MemberId(0xf00), ClusterId(1));
    let old = stranger.replace("3.5.30", "2.2.0");
    let member = identity(known, id);
    let stream = format!("/raft/stream/msgapp/{known}");
    let cases: Vec<Case<'_>> = vec![
        ("POST", "/members", "", b"", 405, "Method Not Allowed\n"),
        ("POST", "/version", "", b"", 405, "Method Not Allowed\n"),
        ("GET", "/nothing", "", b"", 404, "404 page not found\n"),
        ("GET", "/raft", "", b"", 405, "Method Not Allowed\n"),
        ("POST", "/raft", "", b"", 412, "incompatible version\n"),
        ("POST", "/raft", &old, b"", 412, "incompatible version\n"),
        ("POST", "/raft", &another_cluster, b"", 412, "cluster ID mismatch\n"),
        ("POST", "/raft", &stranger, b"zz", 400, "error unmarshalling raft message\n"),
        ("POST", "/raft/snapshot", &stranger, b"", 400, "failed to decode raft message (EOF)\n"),
        ("GET", "/raft/snapshot", &stranger, b"", 405, "Method Not Allowed\n"),
        ("GET", "/raft/stream/msgappx/f00", &stranger, b"", 404, "invalid path\n"),
        ("GET", "/raft/stream/msgapp/zz", &stranger, b"", 404, "invalid from\n"),
        ("GET", "/raft/stream/msgapp/f00", &stranger, b"", 404, "error sender not found\n"),
        ("GET", "/raft/stream/msgapp/f00", &another_cluster, b"", 412, "cluster ID mismatch\n"),
        ("GET", &stream, &member, b"", 412, "to field mismatch\n"),
        ("GET", "/leases", "", b"", 405, "Method Not Allowed\n"),
        ("POST", "/leases", "", b"\x0a\xff", 400, "error unmarshalling request\n"),
        ("GET", "/downgrade/enabled", "", b"", 200, "false"),
        ("POST", "/members/promote/5", "", b"", 404, "membership: ID not found\n"),
        ("POST", "/members/promote/zz", "", b"", 404, "member zz not found in cluster\n"),
        ("GET", "/members/hashkv", "", b"", 400, "error unmarshalling request\n"),
        ("GET", "/members/hashkv", "", br#"{"revision":9999}"#, 400, "mvcc: required revision is a future revision\n"),
        ("GET", "/members/hashkv", "X-Etcd-Cluster-ID: 1\r\n", b"{}", 412, "cluster ID mismatch\n"),
    ];
    // All at once: etcd takes five seconds to close some of the connections.
    let mut answers = JoinSet::new();
    for (method, path, headers, body, status, text) in cases {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let request = [head.as_bytes(), body].concat();
        let what = format!("{method} {path} {status} {text}");
        answers.spawn(async move {
            let answer = within(CALL_LIMIT, http::exchange(address, &request)).await??;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let is_right =
                answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(&format!("\r\n\r\n{text}"));
            ensure!(is_right, "{what}: {answer}");
            Ok(())
        });
    }
    while let Some(answer) = answers.join_next().await {
        answer??;
    }
    Ok(())
}

/// Our calls, on whoever answers.
async fn members_answer_our_calls(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let urls: Vec<String> = cluster.seats().iter().map(e2e::Seat::peer_url).collect();
    let ids: Vec<MemberId> = (0..3).map(|seat| own_id(&cluster, seat)).collect();
    let (id, members) = client::get_members::<Member>(&urls[0], CALL_LIMIT).await?;
    ensure!(id == cluster_id(ids.iter().copied()), "{id}");
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    ensure!(members.iter().map(|member| member.id).eq(sorted), "{members:?}");
    let versions = client::get_version(&urls[0], CALL_LIMIT).await?;
    ensure!(versions.server.starts_with("3.5."), "{versions:?}");
    ensure!(!client::downgrade_enabled(&urls[0], CALL_LIMIT).await?);

    let leader = cluster.leader().await?;
    let kv = cluster.client(leader).await?;
    let lease = kv.lease_grant(request::lease(77, 500)).await?.id;
    let mut put = request::put("a", "b");
    put.lease = lease;
    let revision = e2e::revision(&kv.put(put).await?.header);
    let kept = KeptConnections::default();
    ensure!(kept.keep_alive(&urls[leader], LeaseId(lease), CALL_LIMIT).await? == 500);
    let times = kept.time_to_live(&urls[leader], LeaseId(lease), true, CALL_LIMIT).await?;
    ensure!(times.granted_ttl == 500 && (499..=500).contains(&times.ttl) && times.keys == ["a"], "{times:?}");
    let unknown = kept.keep_alive(&urls[leader], LeaseId(78), CALL_LIMIT).await;
    ensure!(matches!(unknown, Err(ClientError::Refused(PeerError::LeaseNotFound))), "{unknown:?}");

    let hashes = found_within(SETTLE_LIMIT, async || {
        let mut hashes = Vec::new();
        for url in &urls {
            match client::hash_kv(url, id, revision, CALL_LIMIT).await {
                Ok(hash) => hashes.push(hash),
                // It has not applied the put yet.
                Err(ClientError::Refused(PeerError::FutureRevision)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(hashes))
    })
    .await?;
    ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let other = client::hash_kv(&urls[0], ClusterId(1), 0, CALL_LIMIT).await;
    ensure!(matches!(other, Err(ClientError::Refused(PeerError::WrongCluster))), "{other:?}");
    let unknown = client::promote::<Member>(&urls[0], 5, None, CALL_LIMIT).await;
    ensure!(matches!(unknown, Err(ClientError::Refused(PeerError::MemberNotFound))), "{unknown:?}");
    let voter = client::promote::<Member>(&urls[0], ids[1].0, None, CALL_LIMIT).await;
    ensure!(matches!(voter, Err(ClientError::Refused(PeerError::MemberNotLearner))), "{voter:?}");
    Ok(())
}

/// Two members and our transport, which votes for nobody and holds a log: once one of the two is gone, every put needs its answers.
async fn our_transport_is_one_of_three(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &[])?;
    let voter = Voter::start(&cluster, 2)?;
    cluster.spawn(0)?;
    cluster.spawn(1)?;
    for seat in [0, 1] {
        cluster.seat(seat).ready().await?;
    }
    let leader = cluster.leader_among(&[0, 1]).await?;
    let kv = cluster.client(leader).await?;
    within(CALL_LIMIT, kv.put(request::put("first", "1"))).await??;
    holds_within(SETTLE_LIMIT, async || Ok(voter.holds(b"first"))).await.context("the log reaches us")?;

    cluster.seat(1 - leader).kill()?;
    for n in 0..300 {
        let put = kv.put(request::put(format!("key-{n}"), vec![b'x'; n * 50]));
        within(SETTLE_LIMIT, put).await?.with_context(|| format!("put {n} needs our answer"))?;
        ensure!(voter.holds(format!("key-{n}").as_bytes()), "put {n} was answered before we held it");
    }
    let id = own_id(&cluster, leader);
    let figures = voter.outbox.figures(id).context("it is a peer")?;
    ensure!(figures.streams == 2 && figures.dropped == 0, "{figures:?}");
    ensure!(voter.outbox.active_since(id).is_some());

    // We vanish and nothing is committed; we come back with our log and things go on.
    let log = voter.stop();
    let lonely = kv.put(request::put("lonely", "2"));
    ensure!(
        tokio::time::timeout(Duration::from_secs(2), lonely).await.is_err_and(|_| true),
        "one of three is a quorum"
    );
    cluster.spawn(1 - leader)?;
    let voter = Voter::start_with(&cluster, 2, log)?;
    cluster.seat(1 - leader).ready().await?;
    cluster.leader_among(&[0, 1]).await?;
    let kv = cluster.client(leader).await?;
    within(SETTLE_LIMIT, kv.put(request::put("last", "3"))).await??;
    holds_within(SETTLE_LIMIT, async || Ok(voter.holds(b"last"))).await.context("the log reaches us again")?;
    Ok(())
}

on_both_targets!(clusters: refusals_have_their_texts, members_answer_our_calls, our_transport_is_one_of_three);

fn own_id(cluster: &Cluster, seat: usize) -> MemberId {
    member_id(&[cluster.seats()[seat].peer_url()], TOKEN, None)
}

/// A member that follows whoever leads, keeps the log in memory, and applies nothing.
struct Voter {
    outbox: Outbox,
    log: Arc<Mutex<Vec<LogEntry>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Voter {
    fn start(cluster: &Cluster, seat: usize) -> Result<Voter> {
        Voter::start_with(cluster, seat, Arc::default())
    }

    fn start_with(cluster: &Cluster, seat: usize, log: Arc<Mutex<Vec<LogEntry>>>) -> Result<Voter> {
        let everyone: Vec<(MemberId, Vec<String>)> = (0..cluster.seats().len())
            .map(|seat| (own_id(cluster, seat), vec![cluster.seats()[seat].peer_url()]))
            .collect();
        let id = everyone[seat].0;
        let settings = Settings::new(
            cluster_id(everyone.iter().map(|(id, _)| *id)),
            id,
            "3.5.30",
            vec![cluster.seats()[seat].peer_url()],
        );
        let (transport, streams) = Transport::new(settings, Arc::new(env::SystemClock::default()));
        let outbox = transport.outbox();
        outbox.set_members(&everyone, BTreeSet::new());
        let listener = TcpListener::bind(cluster.seats()[seat].peer_address())?;
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let (outbox, log) = (outbox.clone(), log.clone());
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let follower = Arc::new(Follower { id, outbox, log });
                let snapshots = Arc::new(NoSnapshots);
                let serve = transport.serve(vec![listener], Rc::new(Silent), follower, snapshots.clone(), snapshots);
                LocalSet::new().block_on(&runtime, async {
                    tokio::select! {
                        ended = serve => drop(ended.unwrap()),
                        never = streams.appends.run() => match never {},
                        never = streams.messages.run() => match never {},
                        _ = stopped => {}
                    }
                });
            })
        };
        Ok(Voter { outbox, log, stop: Some(stop), thread: Some(thread) })
    }

    fn holds(&self, text: &[u8]) -> bool {
        let log = self.log.lock().unwrap();
        log.iter().rev().any(|entry| entry.data.windows(text.len()).any(|window| window == text))
    }

    /// Closes everything; returns the log.
    fn stop(mut self) -> Arc<Mutex<Vec<LogEntry>>> {
        drop(self.stop.take());
        self.thread.take().expect("it stops once").join().unwrap();
        self.log.clone()
    }
}

/// The least of raft that a follower needs.
struct Follower {
    id: MemberId,
    outbox: Outbox,
    log: Arc<Mutex<Vec<LogEntry>>>,
}

impl Follower {
    fn answer_to(&self, message: &Message) -> Option<Message> {
        let answer = |kind| Message { term: message.term, ..Message::new(kind, self.id, message.from) };
        match message.kind {
            MessageKind::Heartbeat => {
                Some(Message { context: message.context.clone(), ..answer(MessageKind::HeartbeatResponse) })
            }
            MessageKind::Append => {
                let mut log = self.log.lock().unwrap();
                let last = log.last().map_or((Term(0), Index(0)), |entry| (entry.term, entry.index));
                if message.index > last.1 {
                    return Some(Message {
                        index: message.index,
                        reject: true,
                        reject_hint: last.1,
                        log_term: last.0,
                        ..answer(MessageKind::AppendResponse)
                    });
                }
                if let Some(first) = message.entries.first() {
                    log.retain(|entry| entry.index < first.index);
                    log.extend(message.entries.iter().cloned());
                }
                let matched = message.entries.last().map_or(message.index, |entry| entry.index);
                Some(Message { index: matched, ..answer(MessageKind::AppendResponse) })
            }
            _ => None,
        }
    }
}

impl Receiver for Follower {
    fn receive(&self, messages: Vec<Message>) -> Option<Afterwards> {
        self.outbox.send(messages.iter().filter_map(|message| self.answer_to(message)).collect());
        None
    }
}

/// Who answers nothing but raft.
struct Silent;

impl Host for Silent {
    fn unreachable(&self, _peer: MemberId) {}

    fn gone(&self, _: MemberId) {}

    fn snapshot_sent(&self, _peer: MemberId, _accepted: bool) {}

    fn removed(&self) {
        panic!("nobody removed this member");
    }

    fn answer(&self, request: PeerRequest) -> impl Future<Output = Result<PeerResponse, PeerError>> + 'static {
        let versions = peer::Versions { server: "3.5.30".to_owned(), cluster: "3.5.0".to_owned() };
        async move {
            match request {
                PeerRequest::Version => Ok(PeerResponse::Version(versions)),
                // Its author has no state to answer from.
                _ => pending().await,
            }
        }
    }
}

struct NoSnapshots;

impl SnapshotSource for NoSnapshots {
    fn open(&self, _meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>> {
        Err(io::Error::other("there is no state"))
    }
}

impl SnapshotSink for NoSnapshots {
    fn begin(&self, _message: &Message) -> io::Result<Box<dyn SnapshotWriter + Send>> {
        Err(io::Error::other("there is no place"))
    }
}
