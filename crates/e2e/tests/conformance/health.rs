//! The gRPC health service and the HTTP endpoints.

use anyhow::{Context, Result};
use api::health::HealthCheckRequest;
use e2e::request::put;
use e2e::{Member, Target, fails, http};
use testkit::grpc::Code;

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.to_owned() }
}

const SERVING: i32 = 1;
const SERVICE_UNKNOWN: i32 = 3;

async fn the_whole_server_is_serving(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    assert_eq!(member.health_check(service("")).await?.status, SERVING);
    fails(member.health_check(service("etcdserverpb.KV")).await, (Code::NotFound, "unknown service"));
    Ok(())
}

async fn a_health_watch_answers_at_once(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut known = member.health_watch(service("")).await?;
    assert_eq!(known.next().await?.context("an answer")?.status, SERVING);
    let mut unknown = member.health_watch(service("nope")).await?;
    assert_eq!(unknown.next().await?.context("an answer")?.status, SERVICE_UNKNOWN);
    Ok(())
}

async fn version_tells_server_and_cluster(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = http::get(member.address(), "/version").await?;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let version: serde_json::Value = serde_json::from_str(&answer.body)?;
    assert!(version["etcdserver"].as_str().is_some_and(|version| version.starts_with("3.5.")), "{version}");
    assert_eq!(version["etcdcluster"], "3.5.0");
    Ok(())
}

async fn a_healthy_member_says_so_in_text(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE&exclude=nonsense"] {
        let answer = http::get(member.address(), path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"health":"true","reason":""}"#), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    Ok(())
}

async fn other_methods_and_paths_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for path in ["/version", "/health"] {
        let answer = http::send(member.address(), "POST", path).await?;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{path}");
    }
    let answer = http::get(member.address(), "/nothing/here").await?;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
    Ok(())
}

async fn every_answer_carries_cors_headers(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = http::get(member.address(), "/version").await?;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST, GET, OPTIONS, PUT, DELETE"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("accept, content-type, authorization"));
    let options = http::send(member.address(), "OPTIONS", "/anything").await?;
    assert_eq!((options.status, options.body.as_str()), (200, ""));
    Ok(())
}

async fn garbage_on_the_port_does_no_harm(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for garbage in
        [&b"\0\x01\x02\x03garbage\r\n\r\n"[..], b"GET", b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxx"]
    {
        let limit = std::time::Duration::from_secs(2);
        // Whether and how it is answered is open; that others are served is not.
        let _ = tokio::time::timeout(limit, http::exchange(member.address(), garbage)).await;
        member.put(put("a", "1")).await?;
    }
    Ok(())
}

e2e::on_both_targets!(
    the_whole_server_is_serving,
    a_health_watch_answers_at_once,
    version_tells_server_and_cluster,
    a_healthy_member_says_so_in_text,
    other_methods_and_paths_are_refused,
    every_answer_carries_cors_headers,
    garbage_on_the_port_does_no_harm,
);
