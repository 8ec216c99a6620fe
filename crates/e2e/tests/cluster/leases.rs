//! Leases, whichever member is asked, and when the leader changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest, WatchCreateRequest,
};
use e2e::request::{get, lease, op, put, txn, watch_range};
use e2e::{CALL_LIMIT, Cluster, SETTLE_LIMIT, Target, Watch, fails, holds_within, refusal, revision, shown, within};
use testkit::grpc::{Client, Code};
use tokio::time::Instant;

fn attached(key: impl AsRef<[u8]>, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "leased") }
}

async fn keep_alive(client: &Client, id: i64) -> Result<LeaseKeepAliveResponse> {
    let mut stream = client.lease_keep_alive().await?;
    stream.send(&LeaseKeepAliveRequest { id })?;
    within(CALL_LIMIT, stream.next()).await??.context("the stream ended")
}

async fn time_to_live(client: &Client, id: i64) -> Result<LeaseTimeToLiveResponse> {
    Ok(within(CALL_LIMIT, client.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true })).await??)
}

async fn every_member_grants_renews_tells_and_revokes(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    for seat in 0..3 {
        let id = 100 + seat as i64;
        let (client, other) = (cluster.client(seat).await?, cluster.client((seat + 1) % 3).await?);
        let granted = client.lease_grant(lease(id, 60)).await?;
        assert_eq!((granted.id, granted.ttl), (id, 60));
        let key = format!("key{seat}");
        other.put(attached(&key, id)).await?;
        fails(other.lease_grant(lease(id, 60)).await, refusal::LEASE_EXISTS);
        for asked in 0..3 {
            let asked = cluster.client(asked).await?;
            let told = time_to_live(&asked, id).await?;
            assert_eq!((told.granted_ttl, told.keys), (60, vec![e2e::request::bytes(&key)]));
            ensure!((55..=60).contains(&told.ttl), "{} of 60 seconds are left", told.ttl);
            let renewed = keep_alive(&asked, id).await?;
            assert_eq!((renewed.id, renewed.ttl), (id, 60));
        }
        other.lease_revoke(LeaseRevokeRequest { id }).await?;
        assert_eq!(client.range(get(&key)).await?.count, 0);
        fails(client.lease_revoke(LeaseRevokeRequest { id }).await, refusal::LEASE_NOT_FOUND);
        for asked in 0..3 {
            let asked = cluster.client(asked).await?;
            let told = time_to_live(&asked, id).await?;
            assert_eq!((told.ttl, told.granted_ttl), (-1, 0));
            assert_eq!(keep_alive(&asked, id).await?.ttl, 0);
        }
    }
    let generated = cluster.client(0).await?.lease_grant(lease(0, 60)).await?.id;
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || {
            let leases = client.lease_leases(LeaseLeasesRequest {}).await?.leases;
            Ok(leases.iter().map(|lease| lease.id).eq([generated]))
        })
        .await?;
    }
    cluster.equal().await?;
    Ok(())
}

/// A keepalive on one member finds what another has just granted.
async fn a_lease_is_renewed_elsewhere_right_after_it_was_granted(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let clients = [cluster.client(0).await?, cluster.client(1).await?, cluster.client(2).await?];
    for round in 0..30 {
        let id = clients[round % 3].lease_grant(lease(0, 60)).await?.id;
        let other = &clients[(round + 1) % 3];
        assert_eq!(keep_alive(other, id).await?.ttl, 60, "round {round}");
        other.put(attached("key", id)).await?;
    }
    Ok(())
}

/// The keys of a lease go together and in order, for watchers of every member.
async fn expiry_deletes_in_one_revision_and_one_order_everywhere(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(cluster.follower().await?).await?;
    let id = client.lease_grant(lease(0, 3)).await?.id;
    // At once, and watched from there: a slow disk must not outlast the lease.
    let attach = (0..50).rev().map(|number| op(Request::RequestPut(attached(format!("key{number:02}"), id))));
    let start_revision = revision(&client.txn(txn(attach.collect::<Vec<_>>())).await?.header) + 1;
    let mut watches = Vec::new();
    for seat in 0..3 {
        let create = WatchCreateRequest { start_revision, ..watch_range("key", "kez") };
        watches.push(Watch::start(&cluster.client(seat).await?, create).await?);
    }
    let mut seen = Vec::new();
    for watch in &mut watches {
        let events = watch.events(50).await?;
        seen.push(events.iter().map(shown).collect::<Vec<_>>());
    }
    assert!(seen.iter().all(|events| *events == seen[0]), "{seen:?}");
    assert!(seen[0].is_sorted() && seen[0][0].starts_with("DELETE key00@"));
    cluster.equal().await?;
    Ok(())
}

/// A lease that is kept alive through a follower outlives the leader's death; one that is not lapses in the end.
async fn leases_live_on_under_a_new_leader_and_then_lapse(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let survivor = (leader + 1) % 3;
    let client = cluster.client(survivor).await?;
    let kept = client.lease_grant(lease(0, 3)).await?.id;
    let left = client.lease_grant(lease(0, 3)).await?.id;
    client.put(attached("kept", kept)).await?;
    client.put(attached("left", left)).await?;
    let granted = Instant::now();
    cluster.seat(leader).kill()?;
    let mut stream = client.lease_keep_alive().await.ok();
    // Longer than two lives of a lease, and than what a new leader adds to each.
    while granted.elapsed() < Duration::from_secs(9) {
        // A stream may end while there is no leader; a client opens another.
        if let Some(open) = &mut stream {
            let renewed = match open.send(&LeaseKeepAliveRequest { id: kept }) {
                Ok(()) => within(CALL_LIMIT, open.next()).await?,
                Err(status) => Err(status),
            };
            match renewed {
                Ok(Some(renewed)) => assert_eq!(renewed.ttl, 3, "the lease was lost after {:?}", granted.elapsed()),
                Ok(None) | Err(_) => stream = None,
            }
        } else {
            stream = client.lease_keep_alive().await.ok();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cluster.leader().await?;
    assert_eq!(client.range(get("kept")).await?.count, 1);
    assert_eq!(client.range(get("left")).await?.count, 0);
    assert_eq!(time_to_live(&client, left).await?.ttl, -1);
    cluster.restart(leader).await?;
    cluster.equal().await?;
    Ok(())
}

/// D5: asked while the leader moves, the answer may take longer but is no error and no wrong number.
async fn time_to_live_is_told_across_a_move(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    let id = client.lease_grant(lease(0, 300)).await?.id;
    for round in 0..6 {
        cluster.lead(round % 3).await?;
        for seat in 0..3 {
            let told = time_to_live(&cluster.client(seat).await?, id).await?;
            ensure!(told.granted_ttl == 300 && (280..=300).contains(&told.ttl), "{told:?}");
        }
    }
    Ok(())
}

/// D7: many leases lapse while the leader moves; nothing of them is left on any member.
async fn many_leases_lapse_while_the_leader_moves(target: Target) -> Result<()> {
    const LEASES: usize = 300;
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    for number in 0..LEASES {
        let id = client.lease_grant(lease(0, 4)).await?.id;
        client.put(attached(format!("key{number}"), id)).await?;
    }
    for round in 0..10 {
        cluster.lead(round % 3).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        holds_within(SETTLE_LIMIT, async || Ok(client.lease_leases(LeaseLeasesRequest {}).await?.leases.is_empty()))
            .await?;
        assert_eq!(client.range(e2e::request::everything()).await?.count, 0);
    }
    cluster.equal().await?;
    Ok(())
}

/// D1: a leader that was frozen while others led does not revoke what was renewed meanwhile.
async fn a_thawed_leader_revokes_nothing_that_was_renewed_elsewhere(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let old = cluster.leader().await?;
    let client = cluster.client((old + 1) % 3).await?;
    let id = client.lease_grant(lease(0, 4)).await?.id;
    client.put(attached("key", id)).await?;
    cluster.seat(old).freeze()?;
    let others: Vec<usize> = (0..3).filter(|&seat| seat != old).collect();
    cluster.leader_among(&others).await?;
    let start = Instant::now();
    let mut thawed = false;
    while start.elapsed() < Duration::from_secs(9) {
        let renewed = keep_alive(&client, id).await?;
        ensure!(renewed.ttl == 4, "the lease was lost after {:?}", start.elapsed());
        if !thawed && start.elapsed() > Duration::from_secs(6) {
            cluster.seat(old).thaw()?;
            thawed = true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(client.range(get("key")).await?.count, 1);
    cluster.equal().await?;
    Ok(())
}

/// Without a leader nobody knows how long leases live: renewals end, questions and grants fail, and none lapses.
async fn without_a_quorum_leases_are_neither_renewed_nor_lost(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let last = cluster.follower().await?;
    let client = cluster.client(last).await?;
    let id = client.lease_grant(lease(0, 4)).await?.id;
    let long = client.lease_grant(lease(0, 60)).await?.id;
    client.put(attached("key", id)).await?;
    client.put(attached("long", long)).await?;
    for other in (0..3).filter(|&seat| seat != last) {
        cluster.seat(other).kill()?;
    }
    holds_within(CALL_LIMIT, async || Ok(cluster.status(last).await?.leader == 0)).await?;
    let patience = Duration::from_secs(20);
    let mut stream = client.lease_keep_alive().await?;
    stream.send(&LeaseKeepAliveRequest { id: long })?;
    let (renewed, told, granted) = tokio::join!(
        within(patience, stream.next()),
        within(patience, client.lease_time_to_live(LeaseTimeToLiveRequest { id: long, keys: false })),
        within(patience, client.lease_grant(lease(0, 60))),
    );
    fails(renewed?, refusal::NO_LEADER);
    fails(told?, refusal::NO_LEADER);
    // etcd says this one with the words of the clock that ran out.
    let refused = granted?.unwrap_err().code;
    ensure!([Code::Unavailable, Code::DeadlineExceeded].contains(&refused), "{refused:?}");
    let local = client.range(RangeRequest { serializable: true, ..get("key") }).await?;
    assert_eq!(local.count, 1, "a lease lapsed without a leader");
    cluster.spawn_all()?;
    cluster.settled().await?;
    assert_eq!(keep_alive(&client, long).await?.ttl, 60);
    holds_within(SETTLE_LIMIT, async || Ok(client.range(get("key")).await?.count == 0)).await?;
    assert_eq!(client.range(get("long")).await?.count, 1);
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    without_a_quorum_leases_are_neither_renewed_nor_lost,
    every_member_grants_renews_tells_and_revokes,
    a_lease_is_renewed_elsewhere_right_after_it_was_granted,
    expiry_deletes_in_one_revision_and_one_order_everywhere,
    leases_live_on_under_a_new_leader_and_then_lapse,
    time_to_live_is_told_across_a_move,
    many_leases_lapse_while_the_leader_moves,
    a_thawed_leader_revokes_nothing_that_was_renewed_elsewhere,
);
