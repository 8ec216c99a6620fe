//! The gRPC health service and the HTTP endpoints.

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{AlarmRequest, AlarmType};
use api::health::{HealthCheckRequest, HealthListRequest};
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

async fn a_list_of_statuses_has_the_whole_server_alone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let list = member.health_list(HealthListRequest {}).await?;
    let found: Vec<_> =
        list.statuses.iter().map(|entry| (entry.key.as_str(), entry.value.map(|value| value.status))).collect();
    assert_eq!(found, [("", Some(SERVING))]);
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

async fn paths_that_are_not_clean_are_sent_to_clean_ones(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (path, location) in [
        ("//health", "/health"),
        ("/./version", "/version"),
        ("/health/../livez", "/livez"),
        ("/readyz//", "/readyz/"),
        ("//", "/"),
        ("/%2e%2fhealth", "/health"),
        ("//nothing/h%c3%a9re'/.", "/nothing/h%C3%A9re%27"),
        ("//health?serializable=true&exclude='", "/health?serializable=true&exclude='"),
        ("//health?", "/health"),
    ] {
        let answer = http::get(member.address(), path).await?;
        assert_eq!((answer.status, answer.header("location")), (301, Some(location)), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        let shown = location.replace('&', "&amp;").replace('\'', "&#39;");
        assert_eq!(answer.body, format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n"), "{path}");
    }
    let head = http::send(member.address(), "HEAD", "//health").await?;
    assert_eq!((head.status, head.header("location"), head.body.as_str()), (301, Some("/health"), ""));
    let post = http::send(member.address(), "POST", "//health").await?;
    assert_eq!((post.status, post.header("content-type"), post.body.as_str()), (301, None, ""));
    let connect = http::send(member.address(), "CONNECT", "//health").await?;
    assert_eq!(connect.status, 404);
    Ok(())
}

async fn escapes_are_undone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.alarm(AlarmRequest { action: 1, member_id: 7, alarm: AlarmType::Nospace.into() }).await?;
    for (path, status) in [
        ("/he%61lth", 503),
        ("/he%61lth?e%78clude=%4eOSPACE", 200),
        ("/health?exclude=NOSPACE;x", 503),
        ("/health?exclude=NOSPACE%", 503),
        ("/health?exclude=%zz&exclude=NOSPACE", 200),
        ("/health%3Fexclude=NOSPACE", 404),
        ("/health%", 400),
        ("/health%zz", 400),
    ] {
        assert_eq!(http::get(member.address(), path).await?.status, status, "{path}");
    }
    Ok(())
}

async fn a_request_names_its_host_once(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (headers, expected) in [
        ("", "400 Bad Request: missing required Host header"),
        ("Host: a\r\nHost: a\r\n", "400 Bad Request"),
        ("Host: a b\r\n", "400 Bad Request: malformed Host header"),
    ] {
        let request = format!("GET /health HTTP/1.1\r\n{headers}\r\n");
        let answer = String::from_utf8(http::exchange(member.address(), request.as_bytes()).await?)?;
        ensure!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
        ensure!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    }
    let old = http::exchange(member.address(), b"GET /health HTTP/1.0\r\n\r\n").await?;
    ensure!(old.starts_with(b"HTTP/1.0 200 OK\r\n"));
    Ok(())
}

async fn requests_may_follow_each_other_at_once(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let requests = b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
        POST /version HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
        HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = String::from_utf8(http::exchange(member.address(), requests).await?)?;
    let statuses: Vec<_> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "405", "405", "200"], "{answers}");
    ensure!(answers.ends_with("\r\n\r\nok\n"), "{answers}");
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
    a_list_of_statuses_has_the_whole_server_alone,
    a_health_watch_answers_at_once,
    version_tells_server_and_cluster,
    a_healthy_member_says_so_in_text,
    other_methods_and_paths_are_refused,
    paths_that_are_not_clean_are_sent_to_clean_ones,
    escapes_are_undone,
    a_request_names_its_host_once,
    requests_may_follow_each_other_at_once,
    every_answer_carries_cors_headers,
    garbage_on_the_port_does_no_harm,
);
