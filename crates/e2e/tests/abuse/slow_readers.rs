//! Clients that ask for much and read nothing of it, or slowly: what waits for them is bounded, others do not wait for
//! them, and when they read at last it is all there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseKeepAliveRequest, RangeResponse, WatchCreateRequest};
use bytes::Bytes;
use e2e::request::{everything, get, lease, op_put, put, txn, watch, watch_cancel, watch_create};
use e2e::{
    Ground, Member, Process, Target, Watch, chosen, holds_within, on_both_targets, revision, run, run_unlimited,
};
use testkit::grpc::{Client, ConnectOptions, Incoming, frame as message};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::raw_http2::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, WINDOW_UPDATE, call, frame,
};
use crate::usage::{MEGABYTE, Peak, descriptors, threads};

/// A client that takes 64 KiB before it reads, as most do that set nothing.
pub(crate) const SMALL_WINDOWS: ConnectOptions = ConnectOptions {
    stream_window_bytes: 65_535,
    connection_window_bytes: 65_535,
    message_bytes_max: u32::MAX as usize,
    keep_alive: None,
    api_version: None,
};

async fn a_watcher_that_does_not_read_gets_it_all_later(target: Target) -> Result<()> {
    const EVENTS: i64 = 1000;
    const GROWTH_MAX: usize = 32 * MEGABYTE;
    let mut member = Member::start(target).await?;
    let id = member.process().id();
    let value = vec![b'v'; 100_000];
    for _ in 0..400 {
        // What every member has in flight, whoever watches, is there before it is measured.
        member.put(put("hot", &value)).await?;
    }
    let first = revision(&member.put(put("hot", &value)).await?.header) + 1;
    let slow_client = Client::connect_with(member.address(), SMALL_WINDOWS).await?;
    let mut slow = Watch::start(&slow_client, watch("hot")).await?;
    let mut quick = Watch::start(&member.connect().await?, watch("hot")).await?;
    let mut peak = Peak::of(id)?;
    for number in 0..EVENTS {
        member.put(put("hot", &value)).await?;
        let seen = quick.events(1).await?;
        ensure!(seen[0].kv.as_ref().is_some_and(|kv| kv.mod_revision == first + number), "{number}");
        peak.growth()?;
    }
    let growth = peak.growth()?;
    // etcd grows by 200 MB here: it keeps all unread events.
    ensure!(target == Target::Etcd || growth < GROWTH_MAX, "it has grown by {growth} bytes");
    let mut expected = first;
    while expected < first + EVENTS {
        for event in slow.next().await?.events {
            let kv = event.kv.context("an event has a key")?;
            ensure!(kv.mod_revision == expected && kv.value == value, "{} for {expected}", kv.mod_revision);
            expected += 1;
        }
    }
    member.put(put("hot", "last")).await?;
    ensure!(slow.events(1).await?[0].kv.as_ref().is_some_and(|kv| kv.value == "last"));
    Ok(())
}

/// Those that come back after an interruption want the same history at the same time.
async fn watchers_of_the_past_come_all_at_once(target: Target) -> Result<()> {
    const STREAMS: usize = 200;
    let mut member = Member::start(target).await?;
    let keys: Vec<_> = (0..1000).map(|number| Bytes::from(format!("key{number:04}"))).collect();
    for some in keys.chunks(100) {
        member.txn(txn(some.iter().map(|key| op_put(key.clone(), "1")).collect::<Vec<_>>())).await?;
    }
    let id = member.process().id();
    let threads_before = threads(id)?;
    let client = member.connect().await?;
    let past = WatchCreateRequest { range_end: "l".into(), start_revision: 2, ..watch("key") };
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Watch::open(&client).await?);
    }
    for stream in &mut streams {
        stream.send(&watch_create(past.clone()))?;
    }
    for stream in &mut streams {
        ensure!(stream.next().await?.created);
        let seen = stream.events(keys.len()).await?;
        let changed = seen.into_iter().filter_map(|event| Some(event.kv?.key));
        ensure!(changed.eq(keys.iter().cloned()));
    }
    // Four read at a time, and their threads are still there. Now and then the log makes a file ready on one of its own.
    let more = threads(id)?.saturating_sub(threads_before);
    ensure!(target == Target::Etcd || more <= 5, "{more} threads more");
    Ok(())
}

on_both_targets!(a_watcher_that_does_not_read_gets_it_all_later, watchers_of_the_past_come_all_at_once);

/// A member with `keys` keys of `value_len` bytes.
pub(crate) async fn filled(keys: usize, value_len: usize) -> Result<(Ground, Process, Client)> {
    let ground = Ground::new()?;
    let (process, client) = ground.serve(&[], &[]).await?;
    let value = vec![b'v'; value_len];
    let per_txn = (1_000_000 / (value_len + 50)).clamp(1, 128);
    let numbers: Vec<usize> = (0..keys).collect();
    let mut writing = JoinSet::new();
    for chunk in numbers.chunks(per_txn) {
        let puts: Vec<_> = chunk.iter().map(|number| op_put(format!("key{number:07}"), &value)).collect();
        let client = client.clone();
        writing.spawn(async move { client.txn(txn(puts)).await.map(drop) });
        if writing.len() > 16
            && let Some(written) = writing.join_next().await
        {
            written??;
        }
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    Ok((ground, process, client))
}

async fn slow_ranges(keys: usize, value_len: usize, readers: usize, growth_max: usize) -> Result<()> {
    let (ground, process, client) = filled(keys, value_len).await?;
    let mut peak = Peak::of(process.id())?;
    let mut answers: Vec<Incoming<RangeResponse>> = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..readers {
        let reader = Client::connect_with(ground.address(), SMALL_WINDOWS).await?;
        answers.push(reader.server_stream("/etcdserverpb.KV/Range", &everything()).await?);
        clients.push(reader);
    }
    // The answers have begun, and others are served.
    for number in 0..200 {
        client.put(put("key0000000", number.to_string())).await?;
        client.range(get("key0000001")).await?;
        peak.growth()?;
    }
    let growth = peak.growth()?;
    ensure!(growth < growth_max, "it has grown by {growth} bytes");
    let answer = answers.swap_remove(readers / 2).next().await?.context("an answer")?;
    ensure!(answer.kvs.len() == keys && answer.count == keys as i64, "{} keys", answer.kvs.len());
    Ok(())
}

#[test]
fn many_slow_readers_of_large_values() {
    run(Target::Quorate, |_| slow_ranges(2000, 100_000, 100, 24 * MEGABYTE));
}

/// An answer under way costs what is being sent of it, however many keys it has.
#[test]
fn many_slow_readers_of_many_keys() {
    const READERS: usize = 100;
    run(Target::Quorate, |_| slow_ranges(200_000, 100, READERS, READERS * MEGABYTE / 4 + 8 * MEGABYTE));
}

/// Short answers are made whole; a client that takes none of them gets only so many made.
#[test]
fn answers_that_are_not_taken() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", vec![b'v'; 60_000])).await?;
        let mut peak = Peak::of(process.id())?;
        let (headers, body) = (call("/etcdserverpb.KV/Range"), message(&get("a")));
        let calls: Vec<u8> = (0..8000)
            .flat_map(|number| {
                let stream = 2 * number + 1;
                let headers = frame(HEADERS, END_HEADERS, stream, &headers);
                [headers, frame(DATA, END_STREAM, stream, &body)].concat()
            })
            .collect();
        // One client opens no window, the other opens them wide and does not read its socket.
        let mut connections = Vec::new();
        for (per_stream, more) in [(0, 1), (i32::MAX as u32, i32::MAX as u32 - 65_535)] {
            let mut connection = Connection::open(ground.address(), &[(INITIAL_WINDOW_SIZE, per_stream)]).await?;
            connection.send(&frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes())).await?;
            // The server need not take all of it.
            timeout(Duration::from_secs(1), connection.send(&calls)).await.ok();
            connections.push(connection);
        }
        for _ in 0..200 {
            client.range(get("a")).await?;
            peak.growth()?;
        }
        let growth = peak.growth()?;
        ensure!(growth < 64 * MEGABYTE, "it has grown by {growth} bytes");
        Ok(())
    });
}

#[test]
fn answers_that_are_taken_late() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (_process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", vec![b'v'; 60_000])).await?;
        let reader = Client::connect_with(ground.address(), SMALL_WINDOWS).await?;
        let mut answers: Vec<Incoming<RangeResponse>> = Vec::new();
        for _ in 0..500 {
            answers.push(reader.server_stream("/etcdserverpb.KV/Range", &get("a")).await?);
        }
        for _ in 0..100 {
            client.range(get("a")).await?;
        }
        let mut reading = JoinSet::new();
        for mut answer in answers {
            reading.spawn(async move { answer.next().await });
        }
        while let Some(answer) = reading.join_next().await {
            ensure!(answer??.is_some_and(|answer| answer.kvs[0].value.len() == 60_000));
        }
        Ok(())
    });
}

/// The same on one stream, whose answers are small.
#[test]
fn keepalives_whose_answers_are_not_read() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        client.lease_grant(lease(7, 100)).await?;
        let mut peak = Peak::of(process.id())?;
        let mut connection = Connection::open(ground.address(), &[(INITIAL_WINDOW_SIZE, 100)]).await?;
        connection.send(&frame(HEADERS, END_HEADERS, 1, &call("/etcdserverpb.Lease/LeaseKeepAlive"))).await?;
        let body = message(&LeaseKeepAliveRequest { id: 7 }).repeat(1000);
        let send = async {
            // The server's own window ends this.
            for _ in 0..3000 {
                if connection.send(&frame(DATA, 0, 1, &body)).await.is_err() {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(2), send).await.ok();
        client.put(put("a", "1")).await?;
        let growth = peak.growth()?;
        ensure!(growth < 16 * MEGABYTE, "it has grown by {growth} bytes");
        Ok(())
    });
}

/// `E2E_WATCHES` chooses how many of them there are in a round.
#[test]
fn watches_that_come_and_go_leave_nothing() {
    run_unlimited(async {
        let count = chosen("E2E_WATCHES", 5000)?;
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        let id = process.id();
        client.put(put("a", "1")).await?;
        let mut peak = None;
        let mut before = (0, 0);
        for round in 0..3 {
            // On one stream.
            let mut stream = Watch::open(&client).await?;
            for number in 0..count {
                stream.send(&watch_create(watch(format!("key{number}"))))?;
            }
            for number in 0..count {
                ensure!(stream.next().await?.created, "{number}");
            }
            for number in 0..count {
                stream.send(&watch_cancel(number))?;
            }
            for number in 0..count {
                ensure!(stream.next().await?.canceled, "{number}");
            }
            // On streams, and on connections that break off.
            for _ in 0..50 {
                let one = ground_client(&ground).await?;
                let mut watches = Vec::new();
                for _ in 0..20 {
                    watches.push(Watch::start(&one, watch("a")).await?);
                }
                client.put(put("a", "2")).await?;
            }
            if round == 0 {
                // By now all that is kept for use again is there.
                peak = Some(Peak::of(id)?);
                before = (descriptors(id)?, threads(id)?);
            }
        }
        holds_within(Duration::from_secs(5), async || Ok(descriptors(id)? <= before.0)).await.context("descriptors")?;
        ensure!(threads(id)? <= before.1 + 2, "{} threads", threads(id)?);
        let left = peak.context("there were rounds")?.left()?;
        ensure!(left < 8 * MEGABYTE, "{left} bytes are left");
        Ok(())
    });
}

async fn ground_client(ground: &Ground) -> Result<Client> {
    Ok(Client::connect(ground.address()).await?)
}
