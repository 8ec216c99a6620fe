//! The Lock service.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::{LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use bytes::Bytes;
use e2e::request::{bytes, get, lease, range};
use e2e::{Member, Target, fails, holds_within, revision};
use testkit::grpc::{Client, Code, Status};
use tokio::task::JoinHandle;
use tokio::time::timeout;

fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest { name: bytes(name), lease }
}

fn unlock(key: &Bytes) -> UnlockRequest {
    UnlockRequest { key: key.clone() }
}

/// Starts waiting for a lock, on a connection of its own; returns once the waiting key is there.
async fn queue(member: &Member, name: &'static str, lease: i64) -> Result<JoinHandle<Result<LockResponse, Status>>> {
    let client: Client = member.connect().await?;
    let waiting = tokio::spawn(async move { client.lock(lock(name, lease)).await });
    let key = format!("{name}/{lease:x}");
    holds_within(Duration::from_secs(5), || async { Ok(member.range(get(&key)).await?.count == 1) }).await?;
    Ok(waiting)
}

async fn answer<T>(waiting: JoinHandle<Result<T, Status>>) -> Result<Result<T, Status>> {
    Ok(timeout(Duration::from_secs(10), waiting).await.context("the waiter goes on waiting")??)
}

async fn the_key_is_the_name_and_the_lease_in_hex(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(0xabc, 100)).await?;
    let held = member.lock(lock("l", 0xabc)).await?;
    assert_eq!(held.key, "l/abc");
    let kv = member.range(get("l/abc")).await?.kvs.remove(0);
    assert_eq!((kv.lease, kv.value.len(), kv.mod_revision), (0xabc, 0, 2));
    assert_eq!(revision(&held.header), 2);
    Ok(())
}

async fn the_lock_is_re_entrant_for_its_lease(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(1, 100)).await?;
    let first = member.lock(lock("l", 1)).await?;
    let second = member.lock(lock("l", 1)).await?;
    assert_eq!(first.key, second.key);
    assert_eq!(member.range(get("l/1")).await?.kvs[0].version, 1);
    Ok(())
}

async fn without_a_lease_the_server_makes_one_of_a_minute(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let held = member.lock(lock("l", 0)).await?;
    let kv = member.range(get(&held.key)).await?.kvs.remove(0);
    assert_eq!(held.key, format!("l/{:x}", kv.lease));
    let lease = member.lease_time_to_live(LeaseTimeToLiveRequest { id: kv.lease, keys: false }).await?;
    assert_eq!(lease.granted_ttl, 60);
    Ok(())
}

async fn waiters_get_the_lock_in_the_order_they_came(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [1, 2, 3] {
        member.lease_grant(lease(id, 100)).await?;
    }
    let first = member.lock(lock("l", 1)).await?;
    let second = queue(&member, "l", 2).await?;
    let third = queue(&member, "l", 3).await?;
    assert!(!second.is_finished() && !third.is_finished());
    member.unlock(unlock(&first.key)).await?;
    let second = answer(second).await??;
    assert_eq!(second.key, "l/2");
    assert!(!third.is_finished());
    member.lease_revoke(LeaseRevokeRequest { id: 2 }).await?;
    assert_eq!(answer(third).await??.key, "l/3");
    Ok(())
}

async fn a_waiter_whose_lease_ends_is_told(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [1, 2] {
        member.lease_grant(lease(id, 100)).await?;
    }
    let first = member.lock(lock("l", 1)).await?;
    let second = queue(&member, "l", 2).await?;
    member.lease_revoke(LeaseRevokeRequest { id: 2 }).await?;
    member.unlock(unlock(&first.key)).await?;
    let outcome = answer(second).await?;
    fails(outcome, (Code::Unknown, "mutex: session is expired"));
    Ok(())
}

async fn a_waiter_that_gives_up_leaves_the_queue(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [1, 2] {
        member.lease_grant(lease(id, 100)).await?;
    }
    member.lock(lock("l", 1)).await?;
    let second = queue(&member, "l", 2).await?;
    second.abort();
    holds_within(Duration::from_secs(10), || async { Ok(member.range(get("l/2")).await?.count == 0) }).await
}

async fn unlocking_deletes_whatever_key_is_named(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(1, 100)).await?;
    let held = member.lock(lock("l", 1)).await?;
    assert_eq!(revision(&member.unlock(unlock(&held.key)).await?.header), 3);
    assert_eq!(revision(&member.unlock(unlock(&held.key)).await?.header), 3, "a missing key is fine");
    fails(member.unlock(unlock(&Bytes::new())).await, (Code::Unknown, "etcdserver: key is not provided"));
    Ok(())
}

async fn an_unknown_lease_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    fails(member.lock(lock("l", 99)).await, (Code::Unknown, "etcdserver: requested lease not found"));
    let left = member.range(RangeRequest { count_only: true, ..range("l", "m") }).await?;
    assert_eq!(left.count, 0);
    Ok(())
}

/// Everything under the lock's prefix stands in its line, whatever made it.
async fn keys_of_others_under_the_prefix_stand_in_line(target: Target) -> Result<()> {
    use e2e::request::{delete, put};
    let member = Member::start(target).await?;
    member.lease_grant(lease(1, 100)).await?;
    member.lease_grant(lease(2, 100)).await?;
    let inner = member.lock(lock("l/x", 1)).await?;
    member.put(put("l/plain", "")).await?;
    let waiting = queue(&member, "l", 2).await?;
    member.unlock(unlock(&inner.key)).await?;
    assert!(!waiting.is_finished());
    member.delete_range(delete("l/plain")).await?;
    assert_eq!(answer(waiting).await??.key, "l/2");
    Ok(())
}

/// The line of those who wait is in the store, so a crash ends the calls and nothing else.
async fn a_lock_and_its_line_survive_a_crash(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for id in [1, 2, 3] {
        member.lease_grant(lease(id, 100)).await?;
    }
    let held = member.lock(lock("l", 1)).await?;
    let broken = queue(&member, "l", 2).await?;
    member.kill()?;
    assert!(answer(broken).await?.is_err_and(|status| status.is_transport()), "the call outlives its server");
    member.restart().await?;
    assert_eq!(member.lock(lock("l", 1)).await?.key, held.key, "it is still held");
    let late = queue(&member, "l", 3).await?;
    let again = queue(&member, "l", 2).await?;
    member.unlock(unlock(&held.key)).await?;
    assert_eq!(answer(again).await??.key, "l/2", "who asks again has kept the place");
    assert!(!late.is_finished());
    // The holder is gone for good.
    member.lease_revoke(LeaseRevokeRequest { id: 2 }).await?;
    assert_eq!(answer(late).await??.key, "l/3");
    Ok(())
}

async fn a_name_may_be_empty_and_a_lease_negative(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(-26, 100)).await?;
    assert_eq!(member.lock(lock("", -26)).await?.key, "/-1a");
    Ok(())
}

e2e::on_both_targets!(
    the_key_is_the_name_and_the_lease_in_hex,
    the_lock_is_re_entrant_for_its_lease,
    without_a_lease_the_server_makes_one_of_a_minute,
    waiters_get_the_lock_in_the_order_they_came,
    a_waiter_whose_lease_ends_is_told,
    a_waiter_that_gives_up_leaves_the_queue,
    unlocking_deletes_whatever_key_is_named,
    an_unknown_lease_is_refused,
    keys_of_others_under_the_prefix_stand_in_line,
    a_name_may_be_empty_and_a_lease_negative,
    a_lock_and_its_line_survive_a_crash,
);
