//! What a member answers that cannot serve as it should: without a quorum, without a vote, cut off, removed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use api::etcdserverpb::{
    AlarmRequest, HashKvRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, MemberListRequest, RangeRequest, StatusRequest, WatchResponse,
};
use api::health::HealthCheckRequest;
use e2e::request::{get, lease, put, txn, watch, watch_create};
use e2e::{Cluster, Difference, SETTLE_LIMIT, Target, Wiring, holds_within, http, within};
use testkit::grpc::{Client, Status};
use tokio::task::JoinSet;

/// What any of the questions below is answered within: a request's time, and some more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lease that there was before.
const LEASE: i64 = 4711;

type Answers = BTreeMap<&'static str, String>;

/// Status code and body. The order of checks is open.
async fn page(address: SocketAddr, path: &str) -> Result<String> {
    let answer = within(PATIENCE, http::get(address, path)).await??;
    let mut lines: Vec<&str> = answer.body.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    Ok(format!("{} {}", answer.status, lines.join("|")))
}

/// The error, or what `shown` makes of the answer.
fn told<T>(answer: Result<T, Status>, shown: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(answer) => shown(answer),
        Err(status) => format!("{:?}: {}", status.code, status.message),
    }
}

async fn renewed(client: &Client) -> Result<Option<LeaseKeepAliveResponse>, Status> {
    let mut stream = client.lease_keep_alive().await?;
    stream.send(&LeaseKeepAliveRequest { id: LEASE })?;
    stream.next().await
}

async fn watched(client: &Client) -> Result<Option<WatchResponse>, Status> {
    let mut stream = client.watch().await?;
    stream.send(&watch_create(watch("key")))?;
    stream.next().await
}

const PAGES: [&str; 17] = [
    "/health",
    "/health?serializable=true",
    "/health?serializable=false",
    "/health?exclude=NOSPACE",
    "/livez",
    "/livez?verbose",
    "/livez/serializable_read",
    "/readyz",
    "/readyz?verbose",
    "/readyz?exclude=linearizable_read",
    "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
    "/readyz/data_corruption",
    "/readyz/serializable_read",
    "/readyz/linearizable_read",
    "/readyz/linearizable_read?verbose",
    "/readyz/non_learner",
    "/version",
];

/// One question put to the cluster.
async fn ask(client: Client, question: &'static str) -> Result<String> {
    let serializable = RangeRequest { serializable: true, ..get("key") };
    let list = |linearizable| client.member_list(MemberListRequest { linearizable });
    let answer = async {
        match question {
            "Status" => told(client.status(StatusRequest {}).await, |told| {
                format!("leader {}, errors {:?}, learner {}", told.leader != 0, told.errors, told.is_learner)
            }),
            "Range" => told(client.range(get("key")).await, |read| format!("{} keys", read.count)),
            "Range, serializable" => told(client.range(serializable).await, |read| format!("{} keys", read.count)),
            "MemberList" => told(list(false).await, |list| format!("{} members", list.members.len())),
            "MemberList, linearizable" => told(list(true).await, |list| format!("{} members", list.members.len())),
            "Alarm" => {
                told(client.alarm(AlarmRequest::default()).await, |told| format!("{} alarms", told.alarms.len()))
            }
            "Put" => told(client.put(put("other", "1")).await, |_| "done".to_owned()),
            "Txn of nothing" => told(client.txn(txn([])).await, |_| "done".to_owned()),
            "LeaseGrant" => told(client.lease_grant(lease(0, 60)).await, |_| "done".to_owned()),
            "LeaseKeepAlive" => told(renewed(&client).await, |told| format!("{:?}", told.map(|told| told.ttl))),
            "LeaseTimeToLive" => {
                let request = LeaseTimeToLiveRequest { id: LEASE, keys: false };
                told(client.lease_time_to_live(request).await, |told| format!("granted {}", told.granted_ttl))
            }
            "LeaseLeases" => told(client.lease_leases(LeaseLeasesRequest {}).await, |told| {
                format!("known {}", told.leases.iter().any(|one| one.id == LEASE))
            }),
            "HashKV" => told(client.hash_kv(HashKvRequest { revision: 0 }).await, |_| "a hash".to_owned()),
            "Watch" => told(watched(&client).await, |told| format!("{:?}", told.map(|told| told.created))),
            "Health" => told(client.health_check(HealthCheckRequest::default()).await, |told| told.status.to_string()),
            _ => unreachable!("these are all questions"),
        }
    };
    within(PATIENCE, answer).await
}

const QUESTIONS: [&str; 15] = [
    "Status",
    "Range",
    "Range, serializable",
    "MemberList",
    "MemberList, linearizable",
    "Alarm",
    "Put",
    "Txn of nothing",
    "LeaseGrant",
    "LeaseKeepAlive",
    "LeaseTimeToLive",
    "LeaseLeases",
    "HashKV",
    "Watch",
    "Health",
];

/// All that a member can be asked, all at once.
async fn asked(cluster: &Cluster, seat: usize) -> Result<Answers> {
    let address = cluster.seats()[seat].address();
    let mut asking = JoinSet::new();
    for path in PAGES {
        asking.spawn(async move { Ok((path, page(address, path).await?)) });
    }
    for question in QUESTIONS {
        let client = cluster.client(seat).await?;
        asking.spawn(async move { Ok((question, ask(client, question).await?)) });
    }
    asking.join_all().await.into_iter().collect()
}

/// Fails with all answers that are others than these.
fn require(answers: &Answers, expected: &[(&'static str, &str)]) -> Result<()> {
    let other = expected.iter().filter(|(question, answer)| answers.get(question).is_none_or(|told| told != answer));
    let other: Vec<_> = other.map(|(question, answer)| (question, answers.get(question), answer)).collect();
    ensure!(other.is_empty(), "question, answer, answer expected: {other:#?}");
    ensure!(answers.len() == expected.len(), "{} answers are expected", expected.len());
    Ok(())
}

const TIMED_OUT: &str = "Unavailable: etcdserver: request timed out";
const NO_LEADER: &str = "Unavailable: etcdserver: no leader";
const NOT_FOR_LEARNERS: &str = "Unavailable: etcdserver: rpc not supported for learner";

/// What a member says that knows no leader.
fn require_leaderless(target: Target, answers: &Answers) -> Result<()> {
    let unhealthy = r#"503 {"health":"false","reason":"RAFT NO LEADER"}"#;
    let unread = "[-]linearizable_read failed: etcdserver: request timed out";
    let unready = format!("503 [+]data_corruption ok|[+]non_learner ok|[+]serializable_read ok|{unread}");
    let unread = format!("503 {unread}");
    let proposed = match Difference::LeaderlessWritesTimeOut.shows(target) {
        true => TIMED_OUT,
        false => "DeadlineExceeded: context deadline exceeded",
    };
    let expected = [
        ("/health", unhealthy),
        ("/health?serializable=true", r#"200 {"health":"true","reason":""}"#),
        ("/health?serializable=false", unhealthy),
        ("/health?exclude=NOSPACE", unhealthy),
        ("/livez", "200 ok"),
        ("/livez?verbose", "200 [+]serializable_read ok|ok"),
        ("/livez/serializable_read", "200 ok"),
        ("/readyz", &unready),
        ("/readyz?verbose", &unready),
        ("/readyz?exclude=linearizable_read", "200 ok"),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            "200 [+]data_corruption ok|[+]serializable_read ok|ok",
        ),
        ("/readyz/data_corruption", "200 ok"),
        ("/readyz/serializable_read", "200 ok"),
        ("/readyz/linearizable_read", &unread),
        ("/readyz/linearizable_read?verbose", &unread),
        ("/readyz/non_learner", "200 ok"),
        ("/version", r#"200 {"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#),
        ("Status", r#"leader false, errors ["etcdserver: no leader"], learner false"#),
        ("Range", TIMED_OUT),
        ("Range, serializable", "1 keys"),
        ("MemberList", "3 members"),
        ("MemberList, linearizable", TIMED_OUT),
        ("Alarm", proposed),
        ("Put", proposed),
        // It reads nothing that could be old.
        ("Txn of nothing", "done"),
        ("LeaseGrant", proposed),
        ("LeaseKeepAlive", NO_LEADER),
        ("LeaseTimeToLive", NO_LEADER),
        ("LeaseLeases", "known true"),
        ("HashKV", "a hash"),
        ("Watch", "Some(true)"),
        ("Health", "1"),
    ];
    require(answers, &expected)
}

/// A cluster of three, with a key and a lease that all have, and that has settled its version.
async fn prepared(target: Target, wiring: Wiring) -> Result<Cluster> {
    let cluster = Cluster::start_with(target, 3, wiring, &[]).await?;
    let client = cluster.client(0).await?;
    client.put(put("key", "1")).await?;
    client.lease_grant(lease(LEASE, 6000)).await?;
    for seat in 0..3 {
        let address = cluster.seats()[seat].address();
        let decided = async || Ok(http::get(address, "/version").await?.body.contains(r#""etcdcluster":"3.5.0""#));
        holds_within(SETTLE_LIMIT, decided).await?;
    }
    cluster.equal().await?;
    Ok(cluster)
}

async fn leaderless(cluster: &Cluster, seat: usize) -> Result<()> {
    holds_within(SETTLE_LIMIT, async || Ok(cluster.status(seat).await?.leader == 0)).await
}

async fn a_member_without_a_quorum_answers_what_it_can(target: Target) -> Result<()> {
    let mut cluster = prepared(target, Wiring::Direct).await?;
    let last = cluster.follower().await?;
    for other in (0..3).filter(|&seat| seat != last) {
        cluster.seat(other).kill()?;
    }
    leaderless(&cluster, last).await?;
    require_leaderless(target, &asked(&cluster, last).await?)?;
    cluster.spawn_all()?;
    cluster.settled().await?;
    cluster.equal().await?;
    Ok(())
}

async fn a_leader_that_is_cut_off_answers_as_one_without_a_quorum(target: Target) -> Result<()> {
    let cluster = prepared(target, Wiring::Proxied).await?;
    let old = cluster.leader().await?;
    cluster.isolate(old)?;
    leaderless(&cluster, old).await?;
    require_leaderless(target, &asked(&cluster, old).await?)?;
    cluster.heal()?;
    cluster.equal().await?;
    Ok(())
}

async fn a_learner_says_what_it_is(target: Target) -> Result<()> {
    let mut cluster = prepared(target, Wiring::Direct).await?;
    let learner = cluster.add(0, true).await?;
    cluster.spawn(learner)?;
    holds_within(SETTLE_LIMIT, async || {
        let Ok(client) = cluster.client(learner).await else { return Ok(false) };
        let local = RangeRequest { serializable: true, ..get("key") };
        Ok(within(PATIENCE, client.range(local)).await?.is_ok_and(|read| read.count == 1))
    })
    .await?;
    let healthy = r#"200 {"health":"true","reason":""}"#;
    let no_voter = "[-]non_learner failed: not supported for learner";
    let unready = format!("503 [+]data_corruption ok|[+]linearizable_read ok|[+]serializable_read ok|{no_voter}");
    let local_only = format!("503 [+]data_corruption ok|[+]serializable_read ok|{no_voter}");
    let no_voter = format!("503 {no_voter}");
    let expected = [
        ("/health", healthy),
        ("/health?serializable=true", healthy),
        ("/health?serializable=false", healthy),
        ("/health?exclude=NOSPACE", healthy),
        ("/livez", "200 ok"),
        ("/livez?verbose", "200 [+]serializable_read ok|ok"),
        ("/livez/serializable_read", "200 ok"),
        ("/readyz", &unready),
        ("/readyz?verbose", &unready),
        ("/readyz?exclude=linearizable_read", &local_only),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            "200 [+]data_corruption ok|[+]serializable_read ok|ok",
        ),
        ("/readyz/data_corruption", "200 ok"),
        ("/readyz/serializable_read", "200 ok"),
        ("/readyz/linearizable_read", "200 ok"),
        ("/readyz/linearizable_read?verbose", "200 [+]linearizable_read ok|ok"),
        ("/readyz/non_learner", &no_voter),
        ("/version", r#"200 {"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#),
        ("Status", "leader true, errors [], learner true"),
        ("Range", NOT_FOR_LEARNERS),
        ("Range, serializable", "1 keys"),
        ("MemberList", NOT_FOR_LEARNERS),
        ("MemberList, linearizable", NOT_FOR_LEARNERS),
        ("Alarm", NOT_FOR_LEARNERS),
        ("Put", NOT_FOR_LEARNERS),
        ("Txn of nothing", NOT_FOR_LEARNERS),
        ("LeaseGrant", NOT_FOR_LEARNERS),
        ("LeaseKeepAlive", NOT_FOR_LEARNERS),
        ("LeaseTimeToLive", NOT_FOR_LEARNERS),
        ("LeaseLeases", NOT_FOR_LEARNERS),
        ("HashKV", NOT_FOR_LEARNERS),
        ("Watch", NOT_FOR_LEARNERS),
        ("Health", NOT_FOR_LEARNERS),
    ];
    require(&asked(&cluster, learner).await?, &expected)
}

/// One that was removed and does not know it is one without a quorum; once it hears of it, it ends.
async fn a_member_that_was_removed_while_cut_off_ends_when_it_is_back(target: Target) -> Result<()> {
    let mut cluster = prepared(target, Wiring::Proxied).await?;
    let away = cluster.follower().await?;
    let id = cluster.id(away).await?;
    cluster.isolate(away)?;
    leaderless(&cluster, away).await?;
    cluster.remove((away + 1) % 3, id).await?;
    require_leaderless(target, &asked(&cluster, away).await?)?;
    cluster.heal()?;
    let address = cluster.seats()[away].address();
    let (_, output) = cluster.seat(away).ended(SETTLE_LIMIT).await?;
    ensure!(output.contains("removed"), "it does not say why it ended");
    ensure!(Client::connect(address).await.is_err(), "nobody listens any more");
    let client = cluster.client((away + 1) % 3).await?;
    // On a busy machine the two that are left may be between leaders.
    holds_within(SETTLE_LIMIT, async || Ok(client.put(put("key", "2")).await.is_ok())).await?;
    let list = client.member_list(MemberListRequest { linearizable: true }).await?.members;
    ensure!(list.len() == 2 && list.iter().all(|member| member.id != id), "{list:?}");
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    a_member_without_a_quorum_answers_what_it_can,
    a_leader_that_is_cut_off_answers_as_one_without_a_quorum,
    a_learner_says_what_it_is,
    a_member_that_was_removed_while_cut_off_ends_when_it_is_back,
);
