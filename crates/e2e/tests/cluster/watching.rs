//! Watches on any member, and what becomes of them when the quorum goes.

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use e2e::request::{compact, delete, put, watch, watch_create, watch_progress, watch_range};
use e2e::{
    CALL_LIMIT, Cluster, Target, Watch, Wiring, early_snapshots, fails, holds_within, missed_bytes, refusal, revision,
    shown, within,
};
use testkit::grpc::{Client, Metadata, Status, Stream};

/// What clients send that would rather be told than wait.
const HAS_LEADER: Metadata = &[("hasleader", b"true")];

async fn open_with_leader(client: &Client) -> Result<Stream<WatchRequest, WatchResponse>, Status> {
    client.stream("/etcdserverpb.Watch/Watch", HAS_LEADER).await
}

async fn every_member_shows_what_is_written_elsewhere(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let mut watches = Vec::new();
    for seat in 0..3 {
        watches.push(Watch::start(&cluster.client(seat).await?, watch_range("k", "l")).await?);
    }
    let mut expected = Vec::new();
    for round in 0..30 {
        let client = cluster.client(round % 3).await?;
        let key = format!("key{}", round % 4);
        if round % 5 == 4 {
            let at = revision(&client.delete_range(delete(&key)).await?.header);
            expected.push(format!("DELETE {key}@{at}"));
        } else {
            let at = revision(&client.put(put(&key, round.to_string())).await?.header);
            expected.push(format!("PUT {key}={round}@{at}"));
        }
    }
    for watch in &mut watches {
        let events = watch.events(expected.len()).await?;
        assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), expected);
    }
    // History too.
    for seat in 0..3 {
        let from = WatchCreateRequest { start_revision: 2, ..watch_range("k", "l") };
        let mut watch = Watch::start(&cluster.client(seat).await?, from).await?;
        let events = watch.events(expected.len()).await?;
        assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

async fn progress_is_told_by_followers(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let mut watch = Watch::start(&cluster.client(follower).await?, watch("watched")).await?;
    let written = revision(&cluster.client(leader).await?.put(put("other", "1")).await?.header);
    holds_within(CALL_LIMIT, async || {
        watch.send(&watch_progress())?;
        let told = watch.next().await?;
        ensure!(told.watch_id == -1 && told.events.is_empty(), "{told:?}");
        Ok(revision(&told.header) >= written)
    })
    .await
}

/// C9: told without being asked, on an idle key, while others are written elsewhere.
async fn progress_comes_by_itself_on_followers(target: Target) -> Result<()> {
    let flags = [("experimental-watch-progress-notify-interval", "300ms")];
    let cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let create = WatchCreateRequest { progress_notify: true, ..watch("idle") };
    let mut watch = Watch::start(&cluster.client(follower).await?, create).await?;
    let written = revision(&cluster.client(leader).await?.put(put("other", "1")).await?.header);
    holds_within(CALL_LIMIT, async || {
        let told = watch.next().await?;
        ensure!(told.watch_id == 0 && told.events.is_empty(), "{told:?}");
        Ok(revision(&told.header) >= written)
    })
    .await
}

/// Streams that ask for a leader end once there has been none for a while, and are not taken up then; others wait.
async fn without_a_quorum_streams_that_want_a_leader_end(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let last = cluster.follower().await?;
    let client = cluster.client(last).await?;
    let mut patient = Watch::start(&client, watch("key")).await?;
    let mut wants = open_with_leader(&client).await?;
    wants.send(&watch_create(watch("key")))?;
    ensure!(within(CALL_LIMIT, wants.next()).await??.context("the stream ended")?.created, "it is not created");
    for other in (0..3).filter(|&seat| seat != last) {
        cluster.seat(other).kill()?;
    }
    fails(within(CALL_LIMIT, wants.next()).await?, refusal::NO_LEADER);
    // New ones, and calls, are refused at once.
    let mut late = open_with_leader(&client).await?;
    late.send(&watch_create(watch("key")))?;
    fails(within(CALL_LIMIT, late.next()).await?, refusal::NO_LEADER);
    let read = e2e::request::get("key");
    let call = client.unary_with::<api::etcdserverpb::RangeResponse>("/etcdserverpb.KV/Range", HAS_LEADER, &read);
    fails(within(CALL_LIMIT, call).await?, refusal::NO_LEADER);
    patient.stays_silent().await?;

    cluster.spawn_all()?;
    cluster.settled().await?;
    let written = revision(&client.put(put("key", "1")).await?.header);
    assert_eq!(shown(&patient.events(1).await?[0]), format!("PUT key=1@{written}"));
    Ok(())
}

/// The stream of a watcher on a member that lives goes on when the leader dies, without loss or repetition.
async fn watches_go_on_when_the_leader_dies(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let others: Vec<usize> = (0..3).filter(|&seat| seat != leader).collect();
    let mut watches = Vec::new();
    for &seat in &others {
        watches.push(Watch::start(&cluster.client(seat).await?, watch("key")).await?);
    }
    let client = cluster.client(others[0]).await?;
    let before = revision(&client.put(put("key", "before")).await?.header);
    cluster.seat(leader).kill()?;
    let mut after = 0;
    holds_within(CALL_LIMIT, async || {
        let written = within(CALL_LIMIT, client.put(put("other", "1"))).await?;
        Ok(written.is_ok())
    })
    .await?;
    after += revision(&client.put(put("key", "after")).await?.header);
    for watch in &mut watches {
        let events = watch.events(2).await?;
        let events: Vec<_> = events.iter().map(shown).collect();
        assert_eq!(events, [format!("PUT key=before@{before}"), format!("PUT key=after@{after}")]);
    }
    Ok(())
}

/// C2, C6, C12: a member falls so far behind that it gets a snapshot. Its watchers see every revision that is not
/// compacted once, or are told what was compacted; those from the future see nothing of the past.
async fn watchers_of_a_member_that_gets_a_snapshot_see_each_revision_once(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &early_snapshots(target)).await?;
    let away = cluster.follower().await?;
    let behind = cluster.client(away).await?;
    let client = cluster.client(cluster.leader().await?).await?;
    let first = revision(&client.put(put("key", "first")).await?.header);
    behind.range(e2e::request::get("key")).await?;
    let mut live = Watch::start(&behind, watch("key")).await?;
    let future = WatchCreateRequest { start_revision: first + 600, ..watch("key") };
    let mut from_future = Watch::start(&behind, future).await?;
    cluster.isolate(away)?;
    let value = vec![b'v'; missed_bytes(target) / 600];
    for _ in 0..700 {
        client.put(put("key", &value)).await?;
    }
    let last = first + 700;
    cluster.break_connections()?;
    cluster.heal()?;
    let mut next = first + 1;
    while next <= last {
        for event in live.next().await?.events {
            ensure!(
                event.kv.as_ref().unwrap().mod_revision == next,
                "{} instead of {next}",
                event.kv.unwrap().mod_revision
            );
            next += 1;
        }
    }
    let mut next = first + 600;
    while next <= last {
        for event in from_future.next().await?.events {
            ensure!(
                event.kv.as_ref().unwrap().mod_revision == next,
                "{} instead of {next}",
                event.kv.unwrap().mod_revision
            );
            next += 1;
        }
    }
    cluster.equal().await?;
    ensure!(cluster.seats()[away].snapshots_installed() > 0, "no snapshot was sent");
    Ok(())
}

/// As before, but what the watcher missed is compacted away: it is cancelled and told the revision.
async fn a_watcher_that_missed_compacted_revisions_is_told(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &early_snapshots(target)).await?;
    let away = cluster.follower().await?;
    let mut live = Watch::start(&cluster.client(away).await?, watch("key")).await?;
    cluster.isolate(away)?;
    let client = cluster.client((0..3).find(|&seat| seat != away).unwrap()).await?;
    let mut written = 0;
    let value = vec![b'v'; missed_bytes(target) / 400];
    for _ in 0..500 {
        written = revision(&client.put(put("key", &value)).await?.header);
    }
    client.compact(compact(written - 10)).await?;
    cluster.break_connections()?;
    cluster.heal()?;
    // A server may have had time to send what was already there; then nothing is missing up to the end.
    let mut next = 2;
    loop {
        let told = live.next().await?;
        if told.canceled {
            assert_eq!(told.compact_revision, written - 10);
            break;
        }
        for event in told.events {
            ensure!(
                event.kv.as_ref().unwrap().mod_revision == next,
                "{} instead of {next}",
                event.kv.unwrap().mod_revision
            );
            next += 1;
        }
        if next > written {
            break;
        }
    }
    cluster.equal().await?;
    ensure!(cluster.seats()[away].snapshots_installed() > 0, "no snapshot was sent");
    Ok(())
}

e2e::on_both_targets!(clusters:
    every_member_shows_what_is_written_elsewhere,
    progress_is_told_by_followers,
    progress_comes_by_itself_on_followers,
    without_a_quorum_streams_that_want_a_leader_end,
    watches_go_on_when_the_leader_dies,
    watchers_of_a_member_that_gets_a_snapshot_see_each_revision_once,
    a_watcher_that_missed_compacted_revisions_is_told,
);
