//! Too much of something: others must be served.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::request::{everything, put, watch};
use e2e::{Member, Target, Watch};
use testkit::grpc::{Client, Stream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// #12342, #12678: many reads of everything at once; writes go on.
async fn writes_are_served_under_many_full_reads(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..200 {
        member.put(put(format!("k{number}"), vec![b'v'; 50_000])).await?;
    }
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = member.connect().await?;
        reading.spawn(async move { client.range(everything()).await.map(|answer| answer.kvs.len()) });
    }
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_millis(500) {
        let write = Instant::now();
        member.put(put("w", "v")).await?;
        slowest = slowest.max(write.elapsed());
    }
    ensure!(slowest < Duration::from_secs(3), "a write took {slowest:?}");
    while let Some(outcome) = reading.join_next().await {
        ensure!(outcome?? >= 200, "a read was cut short");
    }
    Ok(())
}

/// CVE-2023-44487: streams that are opened and reset at once.
async fn rapid_resets_hurt_only_their_connection(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut other = Watch::start(&member, watch("a")).await?;
    let storm = member.connect().await?;
    for _ in 0..5000 {
        let opened: Result<Stream<(), ()>, _> = storm.stream("/etcdserverpb.Watch/Watch", &[]).await;
        // The server may well have had enough of this connection.
        let Ok(mut stream) = opened else { break };
        stream.outgoing.cancel();
    }
    drop(storm);
    member.put(put("a", "1")).await?;
    assert_eq!(other.events(1).await?.len(), 1);
    Ok(())
}

/// More connections than the server may have open: those it has are served, and later new ones again.
async fn a_storm_of_connections_passes(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let held = member.connect().await?;
    held.put(put("a", "1")).await?;
    let open = member.process().open_files()?;
    member.process().limit_open_files(open as u64 + 30)?;
    let mut storm = Vec::new();
    for _ in 0..200 {
        let connecting = timeout(Duration::from_millis(50), TcpStream::connect(member.address())).await;
        storm.extend(connecting.into_iter().flatten());
        if storm.len() % 20 == 0 {
            timeout(Duration::from_secs(5), held.put(put("a", "2"))).await??;
        }
    }
    drop(storm);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let attempt = timeout(Duration::from_secs(1), async {
            let client = Client::connect(member.address()).await?;
            client.put(put("a", "3")).await
        });
        if let Ok(Ok(_)) = attempt.await {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no new connection is served after the storm");
    }
}

/// A connection that sends nothing, or half of something, costs others nothing.
async fn silent_connections_do_not_matter(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(member.address()).await?);
    }
    let begun = Instant::now();
    for _ in 0..50 {
        member.put(put("a", "1")).await?;
        member.connect().await?.put(put("a", "2")).await?;
    }
    ensure!(begun.elapsed() < Duration::from_secs(10), "100 writes took {:?}", begun.elapsed());
    Ok(())
}

e2e::on_both_targets!(
    writes_are_served_under_many_full_reads,
    rapid_resets_hurt_only_their_connection,
    a_storm_of_connections_passes,
    silent_connections_do_not_matter,
);
