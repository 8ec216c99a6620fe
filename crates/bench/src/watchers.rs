//! Workloads on streams: many watchers of one key, and leases kept alive.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest};
use bytes::Bytes;
use hdrhistogram::Histogram;
use testkit::grpc::Client;
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;

use crate::load::histogram;
use crate::measure::Usage;
use crate::workload::{PUT, encode};

const CONNECTIONS: usize = 100;

/// What the watchers, or the keepalives, saw.
pub(crate) struct Streamed {
    /// Events delivered, or leases renewed.
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from a put's sending to the last watcher's event; from a renewal's sending to its answer.
    pub(crate) latencies: Histogram<u64>,
}

/// Opens `watchers` watches of one key, each on a stream of its own, then puts the key for `duration`, waiting after
/// each put until every watcher has seen it. Also returns what process `pid` used meanwhile.
///
/// # Errors
/// If the server refuses, or a watcher's stream ends.
pub(crate) async fn fan_out(
    endpoint: SocketAddr,
    pid: u32,
    watchers: usize,
    duration: Duration,
) -> anyhow::Result<(Streamed, Usage)> {
    let key = Bytes::from_static(b"watched");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(watchers) {
        clients.push(Client::connect(endpoint).await?);
    }
    let seen = Rc::new(Cell::new(0u64));
    let mut tasks = JoinSet::new();
    for number in 0..watchers {
        let mut stream = clients[number % clients.len()].watch().await?;
        let create = WatchCreateRequest { key: key.clone(), ..Default::default() };
        stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
        let created = stream.next().await?.context("the stream ended")?;
        ensure!(created.created && !created.canceled, "the watch was refused: {created:?}");
        let seen = seen.clone();
        tasks.spawn_local(async move {
            while let Ok(Some(response)) = stream.next().await {
                seen.set(seen.get() + response.events.len() as u64);
            }
        });
    }
    let before = Usage::of(pid)?;
    let writer = Client::connect(endpoint).await?;
    let value = Bytes::from(vec![b'v'; 256]);
    let put = encode(&PutRequest { key, value, ..Default::default() });
    let (start, mut puts) = (Instant::now(), 0);
    let mut latencies = histogram();
    while start.elapsed() < duration {
        let sent = Instant::now();
        writer.call(PUT, &[], put.clone()).await?;
        puts += 1;
        while seen.get() < puts * watchers as u64 {
            ensure!(!tasks.is_empty() && sent.elapsed() < Duration::from_secs(10), "a watcher missed an event");
            yield_now().await;
        }
        latencies.saturating_record(sent.elapsed().as_nanos() as u64);
    }
    Ok((Streamed { count: seen.get(), elapsed: start.elapsed(), latencies }, Usage::of(pid)?.since(&before)))
}

/// Keeps `leases` leases alive as fast as answers come, each on a stream of its own, for `duration`. Also returns what
/// `processes` used together meanwhile.
///
/// # Errors
/// If the server refuses, or a lease is lost.
pub(crate) async fn keep_alive(
    endpoint: SocketAddr,
    processes: &[u32],
    leases: usize,
    duration: Duration,
) -> anyhow::Result<(Streamed, Usage)> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(leases) {
        clients.push(Client::connect(endpoint).await?);
    }
    let mut streams = Vec::new();
    for number in 0..leases {
        let client = &clients[number % clients.len()];
        let lease = client.lease_grant(LeaseGrantRequest { ttl: 600, id: 0 }).await?;
        streams.push((client.lease_keep_alive().await?, lease.id));
    }
    let before = Usage::of_all(processes)?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut stream, id) in streams {
        tasks.spawn_local(async move {
            let mut latencies = histogram();
            while start.elapsed() < duration {
                let sent = Instant::now();
                stream.send(&LeaseKeepAliveRequest { id })?;
                let renewed = stream.next().await?.context("the stream ended")?;
                ensure!(renewed.ttl == 600, "lease {id} was lost");
                latencies.saturating_record(sent.elapsed().as_nanos() as u64);
            }
            Ok(latencies)
        });
    }
    let mut latencies = histogram();
    while let Some(task) = tasks.join_next().await {
        latencies.add(task??)?;
    }
    Ok((
        Streamed { count: latencies.len(), elapsed: start.elapsed(), latencies },
        Usage::of_all(processes)?.since(&before),
    ))
}
