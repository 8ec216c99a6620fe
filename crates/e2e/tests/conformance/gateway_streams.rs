//! The streams of the JSON gateway, over HTTP and over WebSocket.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::http::Stream;
use e2e::{Difference, Member, Target, holds_within, http, request, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

const SOON: Duration = Duration::from_secs(10);

/// As long as nothing may come.
const QUIET: Duration = Duration::from_millis(300);

async fn open(member: &Member, path: &str, requests: &str) -> Result<Stream> {
    let mut stream = Stream::open(member.address(), path).await?;
    stream.send(requests).await?;
    stream.end().await?;
    Ok(stream)
}

/// The next message of a stream, without its header.
async fn next(stream: &mut Stream) -> Result<Value> {
    let line = within(SOON, stream.next()).await??.context("the stream goes on")?;
    result(&line)
}

fn result(line: &Value) -> Result<Value> {
    let mut result = line["result"].as_object().with_context(|| format!("a result and not {line}"))?.clone();
    let header = result.remove("header").context("there is a header")?;
    assert!(header["raft_term"].is_string(), "{header}");
    Ok(result.into())
}

#[track_caller]
fn assert_error(target: Target, line: &Value, (http, reason): (u16, &str), code: u16, text: &str) {
    let expected = match Difference::ErrorsSuitBothGateways.shows(target) {
        false => json!({"code": code, "message": text}),
        true => json!({"grpc_code": code, "http_code": http, "message": text, "http_status": reason, "code": code}),
    };
    assert_eq!(line, &json!({"error": expected}));
}

async fn a_watch_is_a_line_a_message(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(request::put("k", "1")).await?;
    let mut stream = open(&member, "/v3/watch", r#"{"create_request":{"key":"aw==","start_revision":"2"}}"#).await?;
    let head = within(SOON, stream.head()).await??.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for line in [
        "content-type: application/json\r\n",
        "grpc-metadata-content-type: application/grpc\r\n",
        "transfer-encoding: chunked\r\n",
        "access-control-allow-origin: *\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(next(&mut stream).await?, json!({"created": true}));
    let put = |revision: &str, version: &str, value: &str| json!({"kv": {"key": "aw==", "create_revision": "2", "mod_revision": revision, "version": version, "value": value}});
    assert_eq!(next(&mut stream).await?, json!({"events": [put("2", "1", "MQ==")]}));
    member.put(request::put("k", "2")).await?;
    assert_eq!(next(&mut stream).await?, json!({"events": [put("3", "2", "Mg==")]}));
    member.delete_range(request::delete("k")).await?;
    assert_eq!(
        next(&mut stream).await?,
        json!({"events": [{"type": "DELETE", "kv": {"key": "aw==", "mod_revision": "4"}}]})
    );
    Ok(())
}

async fn a_stream_takes_several_requests(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Stream::open(member.address(), "/v3/watch").await?;
    stream.send("{\"create_request\":{\"key\":\"YQ==\",\"wat").await?;
    stream.send("ch_id\":7}}\n{\"create_request\":{\"key\":\"Yg==\",\"watch_id\":\"8\"}}").await?;
    stream.send(r#" {"cancel_request":{"watch_id":7}}"#).await?;
    stream.end().await?;
    assert_eq!(next(&mut stream).await?, json!({"watch_id": "7", "created": true}));
    assert_eq!(next(&mut stream).await?, json!({"watch_id": "8", "created": true}));
    assert_eq!(next(&mut stream).await?, json!({"watch_id": "7", "canceled": true}));
    member.put(request::put("a", "")).await?;
    member.put(request::put("b", "")).await?;
    let event = json!({"kv": {"key": "Yg==", "create_revision": "3", "mod_revision": "3", "version": "1"}});
    assert_eq!(next(&mut stream).await?, json!({"watch_id": "8", "events": [event]}));
    Ok(())
}

/// Events that are there at the same time still come as a chunk each.
async fn a_burst_of_events_is_a_line_a_message(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let request = r#"{"create_request":{"key":"aw=="}}{"create_request":{"key":"aw==","watch_id":"7"}}"#;
    let mut stream = open(&member, "/v3/watch", request).await?;
    next(&mut stream).await?;
    next(&mut stream).await?;
    for _ in 0..50 {
        member.put(request::put("k", vec![b'x'; 10_000])).await?;
    }
    let mut seen = [2, 2];
    while seen != [52, 52] {
        let message = next(&mut stream).await?;
        let watcher = usize::from(message["watch_id"] == "7");
        for event in message["events"].as_array().context("events")? {
            assert_eq!(event["kv"]["mod_revision"], seen[watcher].to_string());
            seen[watcher] += 1;
        }
    }
    Ok(())
}

async fn a_stream_is_answered_while_it_is_sent(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Stream::open(member.address(), "/v3/watch").await?;
    stream.send(r#"{"create_request":{"key":"YQ=="}}"#).await?;
    if !Difference::StreamsGoBothWays.shows(target) {
        assert!(within(QUIET, stream.head()).await.is_err());
        stream.end().await?;
        assert_eq!(next(&mut stream).await?, json!({"created": true}));
        return Ok(());
    }
    assert_eq!(next(&mut stream).await?, json!({"created": true}));
    stream.send(r#"{"create_request":{"key":"YQ==","watch_id":"7"}}"#).await?;
    assert_eq!(next(&mut stream).await?, json!({"watch_id": "7", "created": true}));
    Ok(())
}

async fn a_watch_of_what_is_compacted_is_cancelled(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3"] {
        member.put(request::put("k", value)).await?;
    }
    member.compact(request::compact(4)).await?;
    let mut stream = open(&member, "/v3beta/watch", r#"{"create_request":{"key":"aw==","start_revision":2}}"#).await?;
    assert_eq!(next(&mut stream).await?, json!({"created": true}));
    let cancelled = next(&mut stream).await?;
    assert_eq!((&cancelled["canceled"], &cancelled["compact_revision"]), (&json!(true), &json!("4")));
    Ok(())
}

async fn leases_are_kept_alive(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(request::lease(77, 600)).await?;
    let both = r#"{"ID":77}{"ID":"78"}"#;
    let response = http::post(member.address(), "/v3/lease/keepalive", &[], both.as_bytes()).await?;
    let lines: Vec<Value> = response.body.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let answers: Vec<Value> = lines.iter().map(result).collect::<Result<_>>()?;
    assert_eq!(answers, [json!({"ID": "77", "TTL": "600"}), json!({"ID": "78"})]);

    let nothing = http::post(member.address(), "/v3/lease/keepalive", &[], b"").await?;
    assert_eq!((nothing.status, nothing.body.as_str(), nothing.header("content-type")), (200, "", None));
    Ok(())
}

async fn an_election_is_observed(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = open(&member, "/v3/election/observe", r#"{"name":"ZQ=="}"#).await?;
    assert!(within(QUIET, stream.next()).await.is_err());
    let campaign = r#"{"name":"ZQ==","value":"YQ=="}"#;
    let won = http::post(member.address(), "/v3/election/campaign", &[], campaign.as_bytes()).await?;
    let leader: Value = serde_json::from_str(&won.body)?;
    assert_eq!(next(&mut stream).await?["kv"]["value"], "YQ==");
    let proclaim = json!({"leader": leader["leader"], "value": "Yg=="}).to_string();
    http::post(member.address(), "/v3/election/proclaim", &[], proclaim.as_bytes()).await?;
    assert_eq!(next(&mut stream).await?["kv"]["value"], "Yg==");
    let wrong = http::post(member.address(), "/v3/election/observe", &[], b"zz").await?;
    assert_eq!(wrong.status, 400);
    Ok(())
}

async fn a_stream_that_fails_says_so_in_its_last_line(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let late = "context deadline exceeded";
    let post = |path, timeout, body: &'static str| http::post(member.address(), path, timeout, body.as_bytes());
    let watch = post("/v3/watch", &["Grpc-Timeout: 300m"], r#"{"create_request":{"key":"aw=="}}"#).await?;
    let lines: Vec<Value> = watch.body.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((watch.status, lines.len()), (200, 2), "{lines:?}");
    // Which of etcd's two ends of the call sees the deadline first is open.
    let cancelled = "stream terminated by RST_STREAM with error code: CANCEL";
    let told = |line: &Value| match target {
        Target::Etcd if line["error"]["message"] == cancelled => cancelled,
        Target::Etcd | Target::Quorate => late,
    };
    assert_error(target, &lines[1], (504, "Gateway Timeout"), 4, told(&lines[1]));
    let observed = post("/v3/election/observe", &["Grpc-Timeout: 300m"], r#"{"name":"ZQ=="}"#).await?;
    assert_eq!((observed.status, observed.header("content-type")), (504, Some("application/json")));
    let observed = serde_json::from_str(&observed.body)?;
    assert_error(target, &observed, (504, "Gateway Timeout"), 4, told(&observed));
    // What etcd streams and Quorate does not have yet.
    let snapshot = post("/v3/maintenance/snapshot", &[], "").await?;
    match target {
        Target::Etcd => assert_eq!(snapshot.status, 200),
        Target::Quorate => {
            assert_eq!(snapshot.status, 501);
            let text = "quorate: Snapshot is not implemented yet";
            assert_error(target, &serde_json::from_str(&snapshot.body)?, (501, "Not Implemented"), 12, text);
        }
    }
    Ok(())
}

async fn a_wrong_request_in_a_stream_ends_it(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let text = "invalid character 'z' looking for beginning of value";
    let mut stream = open(&member, "/v3/watch", r#"{"create_request":{"key":"aw=="}} zz"#).await?;
    assert_eq!(next(&mut stream).await?, json!({"created": true}));
    if !Difference::BadStreamedRequestsAreNamed.shows(target) {
        assert!(within(QUIET, stream.next()).await.is_err());
        return Ok(());
    }
    let last = within(SOON, stream.next()).await??.context("the reason")?;
    assert_error(target, &last, (400, "Bad Request"), 3, text);
    assert_eq!(within(SOON, stream.next()).await??, None);
    let at_once = http::post(member.address(), "/v3/watch", &[], b"zz").await?;
    assert_eq!(at_once.status, 400);
    assert_error(target, &serde_json::from_str(&at_once.body)?, (400, "Bad Request"), 3, text);
    let cut_off = http::post(member.address(), "/v3/lease/keepalive", &[], b"{\"ID\":").await?;
    assert_error(target, &serde_json::from_str(&cut_off.body)?, (400, "Bad Request"), 3, "unexpected EOF");
    let huge = format!("{{\"x\":\"{}", "y".repeat(20_000_000));
    let mut stream = Stream::open(member.address(), "/v3/watch").await?;
    let _ = stream.send(&huge).await;
    assert!(within(SOON, stream.head()).await??.starts_with("HTTP/1.1 429"));
    Ok(())
}

/// A client that goes away takes what it waited for with it.
async fn who_hangs_up_stops_waiting(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let lock = json!({"name": "bA=="}).to_string();
    let held = http::post(member.address(), "/v3/lock/lock", &[], lock.as_bytes()).await?;
    assert_eq!(held.status, 200);
    member.lease_grant(request::lease(5, 600)).await?;
    let waiting = open(&member, "/v3/lock/lock", r#"{"name":"bA==","lease":5}"#).await?;
    let in_line = async || anyhow::Ok(member.range(request::get("l/5")).await?.count);
    holds_within(SOON, async || Ok(in_line().await? == 1)).await?;
    drop(waiting);
    holds_within(SOON, async || Ok(in_line().await? == 0)).await
}

type Socket = WebSocketStream<TcpStream>;

async fn connect(member: &Member, path: &str, protocol: Option<&'static str>) -> Result<(Socket, Option<String>)> {
    let mut request = format!("ws://{}{path}", member.address()).into_client_request()?;
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
    }
    let socket = TcpStream::connect(member.address()).await?;
    let (socket, response) = tokio_tungstenite::client_async(request, socket).await?;
    let spoken = response.headers().get("sec-websocket-protocol");
    Ok((socket, spoken.map(|spoken| spoken.to_str().map(str::to_owned)).transpose()?))
}

async fn next_message(socket: &mut Socket) -> Result<Value> {
    loop {
        match within(SOON, socket.next()).await?.context("the connection is open")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("not a text: {other:?}"),
        }
    }
}

/// Whether the server ends the connection; etcd does so without a word.
async fn is_ended(socket: &mut Socket) -> Result<bool> {
    Ok(match within(SOON, socket.next()).await? {
        None | Some(Ok(Message::Close(_)) | Err(Error::Protocol(_) | Error::Io(_))) => true,
        Some(other) => bail!("{other:?}"),
    })
}

async fn a_watch_over_web_socket(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let (mut socket, _) = connect(&member, "/v3/watch", None).await?;
    socket.send(Message::text(r#"{"create_request":{"key":"aw=="}}"#)).await?;
    assert_eq!(result(&next_message(&mut socket).await?)?, json!({"created": true}));
    member.put(request::put("k", "v")).await?;
    assert_eq!(result(&next_message(&mut socket).await?)?["events"][0]["kv"]["value"], "dg==");
    // A request may come in several messages.
    socket.send(Message::text(r#"{"create_request":{"key":"YQ==","#)).await?;
    socket.send(Message::text(r#""watch_id":7}}"#)).await?;
    assert_eq!(result(&next_message(&mut socket).await?)?, json!({"watch_id": "7", "created": true}));
    socket.send(Message::Ping("still there?".into())).await?;
    let pong = within(SOON, socket.next()).await?.context("the connection is open")??;
    assert_eq!(pong, Message::Pong("still there?".into()));
    member.put(request::put("a", vec![b'x'; 1_000_000])).await?;
    let event = result(&next_message(&mut socket).await?)?;
    assert_eq!(event["events"][0]["kv"]["value"].as_str().map(str::len), Some(1_333_336));
    socket.close(None).await?;
    Ok(())
}

async fn one_call_over_web_socket(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let (mut socket, spoken) = connect(&member, "/v3/kv/put", Some("Bearer, token")).await?;
    assert_eq!(spoken.as_deref(), Some("Bearer"));
    socket.send(Message::text(r#"{"key":"aw=="}"#)).await?;
    assert_eq!(next_message(&mut socket).await?["header"]["revision"], "2");
    assert!(is_ended(&mut socket).await?);
    let (mut socket, _) = connect(&member, "/v3beta/kv/range", None).await?;
    socket.send(Message::text("{}")).await?;
    let refused = next_message(&mut socket).await?;
    assert_eq!((&refused["code"], &refused["message"]), (&json!(3), &json!("etcdserver: key is not provided")));
    assert!(is_ended(&mut socket).await?);
    let (mut socket, _) = connect(&member, "/v3/nope", None).await?;
    assert_eq!(next_message(&mut socket).await?["message"], "Not Found");
    assert!(is_ended(&mut socket).await?);
    let (mut socket, _) = connect(&member, "/v3/lease/keepalive", None).await?;
    member.lease_grant(request::lease(77, 600)).await?;
    socket.send(Message::binary(r#"{"ID":77}"#)).await?;
    assert_eq!(result(&next_message(&mut socket).await?)?, json!({"ID": "77", "TTL": "600"}));
    Ok(())
}

/// Closing the connection is hanging up.
async fn a_closed_web_socket_stops_waiting(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    http::post(member.address(), "/v3/lock/lock", &[], br#"{"name":"bA=="}"#).await?;
    member.lease_grant(request::lease(5, 600)).await?;
    let in_line = async || anyhow::Ok(member.range(request::get("l/5")).await?.count);
    let (mut socket, _) = connect(&member, "/v3/lock/lock", None).await?;
    socket.send(Message::text(r#"{"name":"bA==","lease":5}"#)).await?;
    holds_within(SOON, async || Ok(in_line().await? == 1)).await?;
    socket.close(None).await?;
    if !Difference::ClosedWebSocketsCancel.shows(target) {
        tokio::time::sleep(QUIET).await;
        assert_eq!(in_line().await?, 1);
        return Ok(());
    }
    holds_within(SOON, async || Ok(in_line().await? == 0)).await
}

async fn a_wrong_handshake_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let shake = async |method: &str, version: &str, key: &str| -> Result<String> {
        let request = format!(
            "{method} /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: {version}\r\n{key}\r\n"
        );
        let answer = http::exchange(member.address(), request.as_bytes()).await?;
        Ok(String::from_utf8(answer)?.lines().next().unwrap_or_default().to_owned())
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(shake("GET", "8", key).await?, "HTTP/1.1 400 Bad Request");
    assert_eq!(shake("GET", "13", "").await?, "HTTP/1.1 400 Bad Request");
    assert_eq!(shake("POST", "13", key).await?, "HTTP/1.1 405 Method Not Allowed");
    Ok(())
}

/// The close frame that a connection ends with, if there is one.
async fn closed_with(socket: &mut Socket) -> Result<Option<(u16, String)>> {
    Ok(match within(SOON, socket.next()).await? {
        Some(Ok(Message::Close(Some(frame)))) => Some((frame.code.into(), frame.reason.to_string())),
        None | Some(Ok(Message::Close(None)) | Err(_)) => None,
        Some(Ok(other)) => bail!("{other:?}"),
    })
}

async fn a_message_that_is_too_large_is_refused_with_its_size(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let put =
        |len: usize| Message::text(json!({"key": "aw==", "value": BASE64_STANDARD.encode(vec![7; len])}).to_string());
    let says_why = Difference::ClosedWebSocketsSayWhy.shows(target);

    let (mut socket, _) = connect(&member, "/v3/kv/put", None).await?;
    socket.send(put(1_500_000)).await?;
    assert_eq!(next_message(&mut socket).await?["header"]["revision"], "2");
    assert_eq!(closed_with(&mut socket).await?, says_why.then(|| (1000, String::new())));

    let (mut socket, _) = connect(&member, "/v3/kv/put", None).await?;
    socket.send(put(2_097_150)).await?;
    let text = "grpc: received message larger than max (2097157 vs. 2097152)";
    let refused = next_message(&mut socket).await?;
    assert_eq!((&refused["code"], &refused["message"]), (&json!(8), &json!(text)));
    assert_eq!(closed_with(&mut socket).await?, says_why.then(|| (1009, text.to_owned())));

    // More than is looked at, and sent to its end before anything is read.
    let (mut socket, _) = connect(&member, "/v3/kv/put", None).await?;
    socket.send(put(20_000_000)).await?;
    let refused = next_message(&mut socket).await?;
    let text = refused["message"].as_str().context("a reason")?;
    assert!(text.starts_with("grpc: received message larger than max (2000"), "{text}");
    assert_eq!(closed_with(&mut socket).await?, says_why.then(|| (1009, text.to_owned())));
    Ok(())
}

async fn text_that_is_not_unicode_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let (mut socket, _) = connect(&member, "/v3/kv/range", None).await?;
    let frame = Frame::message(&b"{\"key\":\"\xff\"}"[..], OpCode::Data(Data::Text), true);
    socket.send(Message::Frame(frame)).await?;
    let refused = next_message(&mut socket).await?;
    let text = refused["message"].as_str().context("a reason")?;
    assert!(refused["code"] == 3 && text.contains("invalid UTF-8"), "{refused}");
    let reason = (1007, "proto: invalid UTF-8 in string".to_owned());
    assert_eq!(closed_with(&mut socket).await?, Difference::ClosedWebSocketsSayWhy.shows(target).then_some(reason));
    Ok(())
}

/// The start of HTTP/2 among it: bits that mean nothing, no mask, pieces of nothing. Each is as long as it says, which
/// is when Quorate looks at it.
async fn what_is_no_web_socket_is_told_so(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x3c\x04\0\0\0\0\0"[..], &[0; 60]].concat();
    let frames: [&[u8]; 6] = [
        &preface,
        b"\xc1\x82\0\0\0\0{}",
        b"\x81\x02{}",
        b"\x80\x82\0\0\0\0{}",
        b"\x83\x82\0\0\0\0{}",
        b"\x09\x80\0\0\0\0",
    ];
    for frame in frames {
        for (path, request) in [("/v3/kv/range", ""), ("/v3/watch", r#"{"create_request":{"key":"aw=="}}"#)] {
            let (mut socket, _) = connect(&member, path, None).await?;
            if !request.is_empty() {
                socket.send(Message::text(request)).await?;
                next_message(&mut socket).await?;
            }
            socket.get_mut().write_all(frame).await?;
            let (code, reason) = closed_with(&mut socket).await?.with_context(|| format!("a reason for {frame:?}"))?;
            assert!(code == 1002 && !reason.is_empty(), "{frame:?}: {code} {reason}");
        }
    }
    Ok(())
}

e2e::on_both_targets!(
    a_watch_is_a_line_a_message,
    a_stream_takes_several_requests,
    a_burst_of_events_is_a_line_a_message,
    a_stream_is_answered_while_it_is_sent,
    a_watch_of_what_is_compacted_is_cancelled,
    leases_are_kept_alive,
    an_election_is_observed,
    a_stream_that_fails_says_so_in_its_last_line,
    a_wrong_request_in_a_stream_ends_it,
    who_hangs_up_stops_waiting,
    a_watch_over_web_socket,
    one_call_over_web_socket,
    a_closed_web_socket_stops_waiting,
    a_message_that_is_too_large_is_refused_with_its_size,
    text_that_is_not_unicode_is_refused,
    what_is_no_web_socket_is_told_so,
    a_wrong_handshake_is_refused,
);
