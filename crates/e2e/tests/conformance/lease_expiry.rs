//! Lease: what happens when time runs out.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, WatchCreateRequest,
};
use e2e::request::{everything, lease, put, watch_range};
use e2e::{Member, Target, Watch, holds_within, shown};
use testkit::grpc::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn attached(key: &str, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "v") }
}

/// #6558: in one order, whoever watches, and whether live or from history.
async fn an_expired_lease_deletes_its_keys_in_one_revision(target: Target) -> Result<()> {
    const KEYS: i64 = 50;
    let member = Member::start(target).await?;
    let granted = Instant::now();
    member.lease_grant(lease(5, 2)).await?;
    for number in 0..KEYS {
        member.put(attached(&format!("k{:02}", number * 7 % KEYS), 5)).await?;
    }
    let mut live = Watch::start(&member, watch_range("k", "l")).await?;
    let seen = live.next().await?;
    assert!(granted.elapsed() >= Duration::from_secs(2), "never early");
    let events: Vec<_> = seen.events.iter().map(shown).collect();
    let last = KEYS + 2;
    assert_eq!(events, (0..KEYS).map(|number| format!("DELETE k{number:02}@{last}")).collect::<Vec<_>>());
    let create = WatchCreateRequest { start_revision: last, ..watch_range("k", "l") };
    assert_eq!(Watch::start(&member, create).await?.next().await?.events, seen.events);
    let answer = member.lease_time_to_live(LeaseTimeToLiveRequest { id: 5, keys: true }).await?;
    assert_eq!(answer.ttl, -1);
    Ok(())
}

async fn renewal_keeps_a_lease_alive(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 1)).await?;
    member.put(attached("a", 5)).await?;
    let mut stream = member.lease_keep_alive().await?;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.send(&LeaseKeepAliveRequest { id: 5 })?;
        assert_eq!(stream.next().await?.context("the stream goes on")?.ttl, 1);
    }
    assert_eq!(member.range(everything()).await?.count, 1);
    Ok(())
}

async fn time_to_live_counts_down_in_whole_seconds(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 10)).await?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = member.lease_time_to_live(LeaseTimeToLiveRequest { id: 5, keys: false }).await?;
    assert!((7..=8).contains(&answer.ttl), "{answer:?}");
    Ok(())
}

async fn many_leases_expire_and_others_are_renewed_meanwhile(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in 1..=700 {
        member.lease_grant(lease(id, 1)).await?;
        member.put(attached(&format!("k{id}"), id)).await?;
    }
    for id in 1001..=1300 {
        member.lease_grant(lease(id, 600)).await?;
    }
    let mut stream = member.lease_keep_alive().await?;
    holds_within(Duration::from_secs(20), || async { Ok(member.range(everything()).await?.count == 0) }).await?;
    for id in 1001..=1300 {
        stream.send(&LeaseKeepAliveRequest { id })?;
        assert_eq!(stream.next().await?.context("the stream goes on")?.ttl, 600);
    }
    assert_eq!(member.lease_leases(LeaseLeasesRequest {}).await?.leases.len(), 300);
    Ok(())
}

async fn a_lease_expires_after_a_restart_too(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.lease_grant(lease(5, 1)).await?;
    member.put(attached("a", 5)).await?;
    member.restart().await?;
    holds_within(Duration::from_secs(10), || async { Ok(member.range(everything()).await?.count == 0) }).await
}

/// Restarting gives every lease its full time again.
async fn a_restart_begins_the_time_anew(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.lease_grant(lease(5, 1000)).await?;
    let left = async |member: &Member| {
        anyhow::Ok(member.lease_time_to_live(LeaseTimeToLiveRequest { id: 5, keys: false }).await?.ttl)
    };
    holds_within(Duration::from_secs(20), async || Ok(left(&member).await? <= 996)).await?;
    let before = left(&member).await?;
    member.restart().await?;
    let after = left(&member).await?;
    assert!(after > before, "{after} seconds are left, {before} were before");
    Ok(())
}

/// Discussion 22664: hundreds of leases lapse at once, and those who renew theirs meanwhile do not lose them.
async fn renewals_succeed_while_others_lapse(target: Target) -> Result<()> {
    const KEPT: i64 = 2300;
    let member = Member::start(target).await?;
    grant_and_attach(&member, 10_001..=10_000 + KEPT, 20).await?;
    grant_and_attach(&member, 1..=700, 1).await?;
    let mut stream = member.lease_keep_alive().await?;
    loop {
        for id in 10_001..=10_000 + KEPT {
            stream.send(&LeaseKeepAliveRequest { id })?;
        }
        for id in 10_001..=10_000 + KEPT {
            let answer = stream.next().await?.context("the stream goes on")?;
            assert_eq!((answer.id, answer.ttl), (id, 20));
        }
        if member.range(RangeRequest { count_only: true, ..everything() }).await?.count == KEPT {
            return Ok(());
        }
    }
}

/// Grants leases with a key each, many at once.
async fn grant_and_attach(member: &Member, mut ids: impl Iterator<Item = i64>, ttl: i64) -> Result<()> {
    let mut granting = JoinSet::new();
    loop {
        for id in ids.by_ref().take(50) {
            let client = Client::clone(member);
            granting.spawn(async move {
                client.lease_grant(lease(id, ttl)).await?;
                client.put(attached(&format!("k{id}"), id)).await
            });
        }
        if granting.is_empty() {
            return Ok(());
        }
        while let Some(granted) = granting.join_next().await {
            granted??;
        }
    }
}

/// #11456: a lease that lapses while its owner waits for a lock.
async fn a_waiter_whose_lease_lapses_does_not_get_the_lock(target: Target) -> Result<()> {
    use api::v3lockpb::{LockRequest, UnlockRequest};
    let lock = |lease| LockRequest { name: "l".into(), lease };
    let member = Member::start(target).await?;
    member.lease_grant(lease(1, 600)).await?;
    member.lease_grant(lease(2, 1)).await?;
    let held = member.lock(lock(1)).await?;
    let client = member.connect().await?;
    let waiting = tokio::spawn(async move { client.lock(lock(2)).await });
    let mut queued = Watch::start(&member, watch_range("l/2", "l/3")).await?;
    if member.range(e2e::request::get("l/2")).await?.count == 0 {
        queued.events(1).await?;
    }
    holds_within(Duration::from_secs(15), async || Ok(member.range(e2e::request::get("l/2")).await?.count == 0))
        .await?;
    member.unlock(UnlockRequest { key: held.key }).await?;
    let refusal = (testkit::grpc::Code::Unknown, "mutex: session is expired");
    e2e::fails(tokio::time::timeout(Duration::from_secs(15), waiting).await??, refusal);
    Ok(())
}

e2e::on_both_targets!(
    an_expired_lease_deletes_its_keys_in_one_revision,
    renewal_keeps_a_lease_alive,
    time_to_live_counts_down_in_whole_seconds,
    many_leases_expire_and_others_are_renewed_meanwhile,
    a_lease_expires_after_a_restart_too,
    a_restart_begins_the_time_anew,
    renewals_succeed_while_others_lapse,
    a_waiter_whose_lease_lapses_does_not_get_the_lock,
);
