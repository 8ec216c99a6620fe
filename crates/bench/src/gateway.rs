//! The JSON gateway: puts and gets over HTTP/1.1 connections that stay open.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load::histogram;
use crate::measure::Usage;
use crate::watchers::Streamed;
use crate::workload::key;

/// Keys of 8 bytes, values of 256.
const KEYS: u64 = 10_000;

/// One after the other on each of `connections`, a put of a random key and a linearizable get of another, for `duration`.
/// Also returns what process `pid` used meanwhile.
///
/// # Errors
/// If a connection breaks, or anything is answered but 200.
pub(crate) async fn round_trips(
    endpoint: SocketAddr,
    pid: u32,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<(Streamed, Usage)> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let (client, connection) = http1::handshake(TokioIo::new(TcpStream::connect(endpoint).await?)).await?;
        tokio::task::spawn_local(connection);
        clients.push(client);
    }
    let value = STANDARD.encode(vec![b'v'; 256]);
    let before = Usage::of(pid)?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let (value, mut random) = (value.clone(), fastrand::Rng::with_seed(number as u64));
        tasks.spawn_local(async move {
            let mut latencies = histogram();
            let mut any_key = move || STANDARD.encode(key(random.u64(0..KEYS), 8));
            while start.elapsed() < duration {
                let put = format!(r#"{{"key":"{}","value":"{value}"}}"#, any_key());
                let get = format!(r#"{{"key":"{}"}}"#, any_key());
                for (path, body) in [("/v3/kv/put", put), ("/v3/kv/range", get)] {
                    let sent = Instant::now();
                    post(&mut client, endpoint, path, body).await.with_context(|| path)?;
                    latencies.saturating_record(sent.elapsed().as_nanos() as u64);
                }
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = histogram();
    while let Some(task) = tasks.join_next().await {
        latencies.add(task??)?;
    }
    let seen = Streamed { count: latencies.len(), elapsed: start.elapsed(), latencies };
    Ok((seen, Usage::of(pid)?.since(&before)))
}

async fn post(client: &mut SendRequest<Full<Bytes>>, host: SocketAddr, path: &str, body: String) -> anyhow::Result<()> {
    client.ready().await?;
    let request = Request::post(path).header(HOST, host.to_string()).body(Full::new(body.into()))?;
    let response = client.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200 && answer.starts_with(br#"{"header":"#), "{status} {}", answer.escape_ascii());
    Ok(())
}
