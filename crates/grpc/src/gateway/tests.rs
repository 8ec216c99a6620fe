//! The gateway over connections in memory, with little memory for calls.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::service::tests::{Fixture, run_with};
use crate::{Settings, Surface};

const MEGABYTE: usize = 1 << 20;

/// What the calls of the worker may hold.
fn little_memory() -> Settings {
    Settings { call_memory_bytes: MEGABYTE, ..Settings::default() }
}

async fn connect(fixture: &Fixture) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::task::spawn_local(fixture.worker.clone().serve(near, "test", Surface::Everything));
    far
}

/// A connection that speaks WebSocket from here on.
async fn upgrade(fixture: &Fixture, path: &str) -> DuplexStream {
    let mut connection = connect(fixture).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    connection
}

async fn web_socket(connection: DuplexStream) -> WebSocketStream<DuplexStream> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await
}

/// The next message, and what the connection ends with after it.
async fn last_message(socket: &mut WebSocketStream<DuplexStream>) -> (Value, CloseCode, String) {
    let message = socket.next().await.unwrap().unwrap();
    let message = serde_json::from_str(message.to_text().unwrap()).unwrap();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no reason") };
    (message, close.code, close.reason.to_string())
}

/// Puts keys of 100 kB.
async fn fill(fixture: &Fixture, keys: usize) {
    let client = fixture.client().await;
    for number in 0..keys {
        client.put(&format!("key{number}"), vec![b'v'; 100_000]).await;
    }
}

const EVERYTHING: &str = r#"{"key":"AA==","range_end":"AA=="}"#;

#[test]
fn a_long_answer_over_web_socket_needs_little_memory() {
    run_with(little_memory(), async |fixture| {
        fill(&fixture, 50).await;
        let mut socket = web_socket(upgrade(&fixture, "/v3/kv/range").await).await;
        socket.send(Message::text(EVERYTHING)).await.unwrap();
        let (answer, code, reason) = last_message(&mut socket).await;
        assert_eq!(answer["kvs"].as_array().map(Vec::len), Some(50), "{:?}", answer["message"]);
        assert_eq!((code, reason.as_str()), (CloseCode::Normal, ""));
    });
}

#[test]
fn so_does_an_event_over_web_socket() {
    run_with(little_memory(), async |fixture| {
        let mut socket = web_socket(upgrade(&fixture, "/v3/watch").await).await;
        socket.send(Message::text(r#"{"create_request":{"key":"aw=="}}"#)).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let client = fixture.client().await;
        for value in [b'1', b'2'] {
            client.put("k", vec![value; 600_000]).await;
            let event = socket.next().await.unwrap().unwrap();
            let event: Value = serde_json::from_str(event.to_text().unwrap()).unwrap();
            let value = event["result"]["events"][0]["kv"]["value"].as_str().unwrap();
            assert_eq!(value.len(), 600_000_usize.div_ceil(3) * 4);
        }
    });
}

/// A line that is sent whole, as HTTP clients want it, is as much as it takes.
#[test]
fn an_event_without_room_ends_its_stream_with_the_reason() {
    run_with(little_memory(), async |fixture| {
        let mut connection = connect(&fixture).await;
        let head = "POST /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = r#"{"create_request":{"key":"aw=="}}"#;
        connection.write_all(format!("{head}{:x}\r\n{body}\r\n", body.len()).as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let len = connection.read(&mut answer).await.unwrap();
        answer.truncate(len);
        fixture.client().await.put("k", vec![b'v'; 600_000]).await;
        connection.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(r#""message":"etcdserver: too many requests""#), "{answer}");
    });
}

#[test]
fn a_message_over_web_socket_is_charged_while_it_comes() {
    run_with(little_memory(), async |fixture| {
        let mut connection = upgrade(&fixture, "/v3/kv/put").await;
        // A frame of 4 MB without a mask, of which half comes.
        connection.write_all(b"\x81\xff\0\0\0\0\0\x40\0\0\0\0\0\0").await.unwrap();
        connection.write_all(&vec![b' '; 2 * MEGABYTE]).await.unwrap();
        let (answer, code, reason) = last_message(&mut web_socket(connection).await).await;
        let text = "etcdserver: too many requests";
        assert_eq!((&answer["message"], code, reason.as_str()), (&text.into(), CloseCode::Again, text));
        fixture.client().await.put("k", "what was given up is free again").await;
    });
}

#[test]
fn pings_are_not_charged_for_ever() {
    run_with(little_memory(), async |fixture| {
        let mut socket = web_socket(upgrade(&fixture, "/v3/watch").await).await;
        for _ in 0..20_000 {
            socket.send(Message::Ping(vec![7; 125].into())).await.unwrap();
            socket.next().await.unwrap().unwrap();
        }
        socket.send(Message::text(r#"{"create_request":{"key":"aw=="}}"#)).await.unwrap();
        let created = socket.next().await.unwrap().unwrap();
        assert!(created.to_text().unwrap().contains("created"), "{created}");
    });
}

#[test]
fn a_message_that_is_too_large_is_refused_with_its_size() {
    run_with(Settings::default(), async |fixture| {
        let mut connection = upgrade(&fixture, "/v3/watch").await;
        connection.write_all(b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0").await.unwrap();
        let (answer, code, reason) = last_message(&mut web_socket(connection).await).await;
        let text = "grpc: received message larger than max (805306368 vs. 2097152)";
        assert_eq!((&answer["error"]["message"], code, reason.as_str()), (&text.into(), CloseCode::Size, text));
    });
}
