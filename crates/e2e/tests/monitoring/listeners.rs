//! Listeners for metrics and for HTTP alone, and who may ask.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Difference, Exposition, Ground, Member, Target, found_within, http, on_both_targets, run};
use testkit::grpc::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(20);

/// Another address of the member's own.
fn beside(member: &Member, port: u16) -> SocketAddr {
    (member.address().ip(), port).into()
}

/// Where a fresh member of this target would have its listeners; the addresses of members are their own.
async fn started(target: Target, flags: &[(&str, &str)]) -> Result<Member> {
    let mut member = Member::start(target).await?;
    let ip = member.address().ip();
    let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, value.replace("IP", &ip.to_string()))).collect();
    let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, &**value)).collect();
    member.restart_with(&flags).await?;
    Ok(member)
}

async fn a_metrics_listener_serves_metrics_and_probes_alone(target: Target) -> Result<()> {
    let member = started(target, &[("listen-metrics-urls", "http://IP:2381,http://IP:2382")]).await?;
    for port in [2381, 2382] {
        let address = beside(&member, port);
        Exposition::scrape(address).await?;
        for path in ["/health", "/livez", "/readyz", "/livez/serializable_read"] {
            let answer = http::get(address, path).await?;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
        }
        for path in ["/version", "/debug/vars", "/v3/kv/range", "/", "/metrics/"] {
            let answer = http::get(address, path).await?;
            assert_eq!((answer.status, &*answer.body), (404, "404 page not found\n"), "{path}");
        }
        assert_eq!(http::send(address, "POST", "/health").await?.status, 405);
        assert_eq!(http::send(address, "POST", "/metrics").await?.status, 200, "as Prometheus' own handler has it");
        assert_eq!(http::send(address, "OPTIONS", "/health").await?.status, 405);
        let client = Client::connect(address).await;
        let answered = async { client?.range(get("key")).await };
        ensure!(answered.await.is_err(), "gRPC is not served");
    }
    // The clients' URL serves all of it as ever.
    Exposition::scrape(member.address()).await?;
    member.put(put("key", "value")).await?;
    Ok(())
}

async fn with_a_listener_for_http_the_others_are_for_grpc(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let http_address = beside(&member, 2382);
    member.restart_with(&[("listen-client-http-urls", &format!("http://{http_address}"))]).await?;
    for path in ["/version", "/health", "/readyz", "/debug/vars"] {
        let answer = http::get(http_address, path).await?;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")), "{path}");
        ensure!(http::get(member.address(), path).await.is_err(), "{path} is not served beside gRPC");
    }
    Exposition::scrape(http_address).await?;
    member.put(put("key", "value")).await?;
    let client = Client::connect(http_address).await;
    let answered = async { client?.range(get("key")).await };
    ensure!(answered.await.is_err(), "gRPC is not served there");
    Ok(())
}

async fn unix_sockets_serve_too(target: Target) -> Result<()> {
    let ground = tempfile_dir()?;
    // etcd wants a port in every URL, and makes it part of the file's name.
    let (metrics, plain) = (ground.path().join("metrics:1"), ground.path().join("http:1"));
    let (metrics_url, plain_url) = (format!("unix://{}", metrics.display()), format!("unix://{}", plain.display()));
    let mut flags = vec![("listen-client-http-urls", &*plain_url)];
    let mut asked = vec![(&plain, "/version", 200), (&plain, "/metrics", 200)];
    if Difference::MetricsSocketsHavePaths.shows(target) {
        flags.push(("listen-metrics-urls", &metrics_url));
        asked.extend([(&metrics, "/metrics", 200), (&metrics, "/version", 404)]);
    }
    let member = Member::start_with(target, &flags).await?;
    for (socket, path, status) in asked {
        let mut stream = tokio::net::UnixStream::connect(socket).await.with_context(|| socket.display().to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: socket\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    member.put(put("key", "value")).await?;
    Ok(())
}

fn tempfile_dir() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("quorate-e2e-").tempdir()?)
}

async fn only_hosts_on_the_list_may_be_named(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("host-whitelist", "good.example,::1")]).await?;
    let ask = async |method: &str, host: &str| {
        let request = format!("{method} /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = http::exchange(member.address(), request.as_bytes()).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    for host in ["good.example", "good.example:2379", "[::1]:2379"] {
        let answer = ask("GET", host).await?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    for (method, host) in
        [("GET", "evil.example"), ("GET", "evil.example:2379"), ("OPTIONS", "evil.example"), ("GET", "")]
    {
        let answer = ask(method, host).await?;
        ensure!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
        ensure!(answer.contains("\n\netcd received your request, but the Host header was unrecognized.\n"), "{answer}");
        ensure!(answer.contains(&format!("{:?}", host.trim_end_matches(":2379"))), "{answer}");
        ensure!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    // gRPC clients may call a server what they like.
    member.put(put("key", "value")).await?;
    Ok(())
}

async fn hosts_are_not_looked_at_where_metrics_are_served(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let metrics = beside(&member, 2381);
    let url = format!("http://{metrics}");
    member.restart_with(&[("host-whitelist", "good.example"), ("listen-metrics-urls", &url)]).await?;
    Exposition::scrape(metrics).await?;
    assert_eq!(http::get(member.address(), "/metrics").await?.status, 421);
    Ok(())
}

/// A member of two whose other one never comes. etcd serves its metrics from the same moment.
#[test]
fn probes_are_answered_while_a_member_waits_for_its_cluster() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let ip = ground.address().ip();
        let metrics = SocketAddr::from((ip, 2381));
        let flags = [
            format!("--listen-metrics-urls=http://{metrics}"),
            format!("--initial-cluster=m1=http://{ip}:2380,m2=http://{ip}:2390"),
            format!("--initial-advertise-peer-urls=http://{ip}:2380"),
            "--name=m1".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let _process = ground.start(&[], &flags)?;
        found_within(LIMIT, async || Ok(http::get(metrics, "/livez").await.ok().filter(|answer| answer.status == 200)))
            .await?;
        let health = http::get(metrics, "/health").await?;
        assert_eq!((health.status, &*health.body), (503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"));
        let scrape = Exposition::scrape(metrics).await?;
        assert_eq!(scrape.value("etcd_server_has_leader", &[]), Some(0.0));
        Ok(())
    });
}

async fn variables_are_published(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = http::get(member.address(), "/debug/vars").await?;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let told: serde_json::Value = serde_json::from_str(&answer.body)?;
    ensure!(told["cmdline"].as_array().is_some_and(|arguments| arguments.len() > 9), "{told}");
    ensure!(told["file_descriptor_limit"].as_u64().is_some_and(|limit| limit > 0), "{told}");
    ensure!(told["memstats"]["Alloc"].as_u64().is_some_and(|bytes| bytes > 0), "{told}");
    let raft = &told["raft.status"];
    assert_eq!((&raft["raftState"], &raft["lead"], &raft["vote"]), (&"StateLeader".into(), &raft["id"], &raft["id"]));
    let own = raft["id"].as_str().context("an id")?;
    let progress = &raft["progress"][own];
    assert_eq!((&progress["match"], &progress["state"]), (&raft["commit"], &"StateReplicate".into()));
    ensure!(raft["term"].as_u64().is_some_and(|term| term > 0) && raft["applied"] == raft["commit"], "{raft}");
    assert_eq!(raft["leadtransferee"], "0");
    assert_eq!(http::send(member.address(), "POST", "/debug/vars").await?.status, 405);
    Ok(())
}

on_both_targets!(
    a_metrics_listener_serves_metrics_and_probes_alone,
    with_a_listener_for_http_the_others_are_for_grpc,
    unix_sockets_serve_too,
    only_hosts_on_the_list_may_be_named,
    hosts_are_not_looked_at_where_metrics_are_served,
    variables_are_published,
);
