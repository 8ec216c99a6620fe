//! Watches in trouble.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::WatchCreateRequest;
use e2e::request::{compact, delete, everything, get, put, range, watch, watch_range};
use e2e::{Difference, Member, Target, Watch, revision, shown};
use testkit::grpc::{Client, ConnectOptions};
use tokio::time::Instant;

/// #18089, PR 18474: the deletion at the compacted revision is an event of it.
async fn a_watch_from_a_compacted_deletion_sees_it(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    member.delete_range(delete("a")).await?;
    member.put(put("a", "4")).await?;
    member.compact(compact(5)).await?;
    let create = WatchCreateRequest { start_revision: 5, ..watch("a") };
    let events: Vec<_> = Watch::start(&member, create).await?.events(2).await?.iter().map(shown).collect();
    assert_eq!(events, ["DELETE a@5", "PUT a=4@6"]);
    Ok(())
}

/// #17529, #16839: a reader that stops reading gets everything later, or is told that it cannot.
async fn a_reader_that_stops_misses_nothing_unsaid(target: Target) -> Result<()> {
    const EVENTS: i64 = 10_000;
    let member = Member::start(target).await?;
    let small =
        ConnectOptions { stream_window_bytes: 65_535, connection_window_bytes: 65_535, ..ConnectOptions::default() };
    let slow = Client::connect_with(member.address(), small).await?;
    let mut stream = Watch::start(&slow, watch("a")).await?;
    let mut writing = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = Client::clone(&member);
        writing.spawn(async move {
            for _ in 0..EVENTS / 20 {
                client.put(put("a", vec![b'v'; 1000])).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = writing.join_next().await {
        outcome??;
    }
    member.compact(compact(EVENTS)).await?;
    let mut next = 2;
    while next < EVENTS + 2 {
        let response = stream.next().await?;
        if response.canceled {
            ensure!(response.compact_revision == EVENTS, "cancelled without the compacted revision: {response:?}");
            return Ok(());
        }
        for event in &response.events {
            ensure!(event.kv.as_ref().is_some_and(|kv| kv.mod_revision == next), "not {next}: {}", shown(event));
            next += 1;
        }
    }
    Ok(())
}

/// #15402: large reads on the same connection do not keep events back.
async fn large_reads_do_not_keep_events_back(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..10 {
        member.put(put(format!("big{number}"), vec![b'v'; 100_000])).await?;
    }
    let mut stream = Watch::start(&member, watch("a")).await?;
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = Client::clone(&member);
        reading.spawn(async move { while client.range(range("big", "bih")).await.is_ok() {} });
    }
    let writer = member.connect().await?;
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let begun = Instant::now();
        writer.put(put("a", number.to_string())).await?;
        stream.events(1).await?;
        slowest = slowest.max(begun.elapsed());
    }
    reading.abort_all();
    ensure!(slowest < Duration::from_secs(2), "an event took {slowest:?}");
    Ok(())
}

/// #13122, #18704: what clients leave behind when they vanish is cleared away.
async fn watches_of_vanished_clients_are_cleared_away(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let before = member.process().open_files()?;
    for _ in 0..100 {
        let client = member.connect().await?;
        let mut stream = Watch::open(&client).await?;
        for _ in 0..10 {
            stream.create(watch_range("a", "z")).await?;
        }
    }
    member.put(put("a", "1")).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while member.process().open_files()? > before + 5 {
        ensure!(Instant::now() < deadline, "{} files are open, {before} before", member.process().open_files()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// #11496: what was written before the watch was created is not seen by it, what was written after is.
async fn a_watch_from_now_divides_writes_cleanly(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let client = member.connect().await?;
    let writing = tokio::spawn(async move {
        for number in 0..2000 {
            client.put(put("a", number.to_string())).await?;
        }
        anyhow::Ok(())
    });
    let mut watches = Vec::new();
    for _ in 0..50 {
        let mut stream = Watch::open(&member).await?;
        let created = stream.create(watch("a")).await?;
        watches.push((revision(&created.header), stream));
        member.range(get("a")).await?;
    }
    writing.await??;
    let divided = Difference::CreationDividesEvents.shows(target);
    for (created_at, mut stream) in watches {
        let mut next = created_at + 1;
        while next <= 2001 {
            for event in stream.next().await?.events {
                let kv = event.kv.context("an event has a pair")?;
                if kv.mod_revision == created_at && next > created_at && !divided {
                    next = created_at;
                }
                ensure!(kv.mod_revision == next, "created at {created_at}: {} instead of {next}", kv.mod_revision);
                next += 1;
            }
        }
    }
    assert_eq!(revision(&member.range(everything()).await?.header), 2001);
    Ok(())
}

e2e::on_both_targets!(
    a_watch_from_a_compacted_deletion_sees_it,
    a_reader_that_stops_misses_nothing_unsaid,
    large_reads_do_not_keep_events_back,
    watches_of_vanished_clients_are_cleared_away,
    a_watch_from_now_divides_writes_cleanly,
);
