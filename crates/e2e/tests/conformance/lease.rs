//! Lease: grant, revoke, renewal, lookup.

use anyhow::{Context, Result};
use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest,
};
use e2e::refusal::{LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE};
use e2e::request::{everything, get, lease, op_delete, put, txn, watch_range};
use e2e::{Member, Target, Watch, fails, revision, shown};

fn revoke(id: i64) -> LeaseRevokeRequest {
    LeaseRevokeRequest { id }
}

fn attached(key: &str, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "v") }
}

fn time_to_live(id: i64) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys: true }
}

async fn the_server_picks_a_positive_id_when_asked(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let first = member.lease_grant(lease(0, 100)).await?;
    let second = member.lease_grant(lease(0, 100)).await?;
    assert!(first.id > 0 && second.id > 0 && first.id != second.id);
    assert_eq!((first.ttl, first.error.as_str(), revision(&first.header)), (100, "", 1));
    Ok(())
}

async fn ids_of_the_clients_choice_are_kept(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [1, -1, i64::MIN, i64::MAX] {
        assert_eq!(member.lease_grant(lease(id, 100)).await?.id, id);
        fails(member.lease_grant(lease(id, 50)).await, LEASE_EXISTS);
    }
    assert_eq!(member.lease_time_to_live(time_to_live(1)).await?.granted_ttl, 100);
    Ok(())
}

/// The least TTL is one and a half election timeouts, rounded up.
async fn ttl_is_kept_between_its_bounds(target: Target) -> Result<()> {
    for (election_timeout, least) in [("100", 1), ("1000", 2), ("3000", 5)] {
        let flags = [("election-timeout", election_timeout), ("heartbeat-interval", "20")];
        let member = Member::start_with(target, &flags).await?;
        for ttl in [1, 0, -1, i64::MIN] {
            let granted = member.lease_grant(lease(0, ttl)).await?;
            assert_eq!(granted.ttl, least, "TTL {ttl}");
            assert_eq!(member.lease_time_to_live(time_to_live(granted.id)).await?.granted_ttl, least);
        }
        assert_eq!(member.lease_grant(lease(0, 9_000_000_000)).await?.ttl, 9_000_000_000);
        fails(member.lease_grant(lease(0, 9_000_000_001)).await, LEASE_TTL_TOO_LARGE);
        fails(member.lease_grant(lease(0, i64::MAX)).await, LEASE_TTL_TOO_LARGE);
    }
    Ok(())
}

async fn revoking_deletes_the_attached_keys_in_one_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    for key in ["c", "a", "b"] {
        member.put(attached(key, 5)).await?;
    }
    member.put(put("other", "")).await?;
    let mut stream = Watch::start(&member, watch_range("a", "z")).await?;
    let answer = member.lease_revoke(revoke(5)).await?;
    assert_eq!(revision(&answer.header), 6);
    let response = stream.next().await?;
    let events: Vec<_> = response.events.iter().map(shown).collect();
    assert_eq!(events, ["DELETE a@6", "DELETE b@6", "DELETE c@6"]);
    assert_eq!(member.range(everything()).await?.count, 1);
    fails(member.lease_revoke(revoke(5)).await, LEASE_NOT_FOUND);
    Ok(())
}

async fn revoking_an_empty_lease_does_not_bump(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    assert_eq!(revision(&member.lease_revoke(revoke(5)).await?.header), 1);
    fails(member.lease_revoke(revoke(0)).await, LEASE_NOT_FOUND);
    fails(member.lease_revoke(revoke(-9)).await, LEASE_NOT_FOUND);
    Ok(())
}

async fn a_key_hangs_from_its_last_lease_alone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.lease_grant(lease(6, 100)).await?;
    member.put(attached("a", 5)).await?;
    member.put(attached("a", 6)).await?;
    member.lease_revoke(revoke(5)).await?;
    assert_eq!(member.range(get("a")).await?.count, 1);
    member.lease_revoke(revoke(6)).await?;
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

async fn a_deleted_key_hangs_from_nothing(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(attached("a", 5)).await?;
    member.txn(txn([op_delete("a")])).await?;
    assert!(member.lease_time_to_live(time_to_live(5)).await?.keys.is_empty());
    member.put(put("a", "again")).await?;
    member.lease_revoke(revoke(5)).await?;
    assert_eq!(member.range(get("a")).await?.count, 1);
    Ok(())
}

async fn time_to_live_tells_ttl_and_keys(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(attached("a", 5)).await?;
    member.put(attached("b", 5)).await?;
    let answer = member.lease_time_to_live(time_to_live(5)).await?;
    assert!((98..=100).contains(&answer.ttl), "{answer:?}");
    assert_eq!((answer.id, answer.granted_ttl, revision(&answer.header)), (5, 100, 3));
    let mut keys = answer.keys;
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    let without = member.lease_time_to_live(LeaseTimeToLiveRequest { id: 5, keys: false }).await?;
    assert!(without.keys.is_empty());
    Ok(())
}

async fn time_to_live_of_an_unknown_lease_is_minus_one(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [99, 0, -4] {
        let answer = member.lease_time_to_live(time_to_live(id)).await?;
        assert_eq!((answer.id, answer.ttl, answer.granted_ttl, answer.keys.len()), (id, -1, 0, 0));
        assert_eq!(revision(&answer.header), 1);
    }
    Ok(())
}

async fn leases_are_listed_soonest_to_expire_first(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (id, ttl) in [(1, 500), (2, 100), (3, 300)] {
        member.lease_grant(lease(id, ttl)).await?;
    }
    let answer = member.lease_leases(LeaseLeasesRequest {}).await?;
    let ids: Vec<_> = answer.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [2, 3, 1]);
    assert_eq!(revision(&answer.header), 1);
    Ok(())
}

async fn keep_alive_answers_every_request_in_order(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.lease_grant(lease(6, 200)).await?;
    member.put(put("a", "1")).await?;
    let mut stream = member.lease_keep_alive().await?;
    for id in [5, 6, 99, 5, 0] {
        stream.send(&LeaseKeepAliveRequest { id })?;
    }
    for (id, ttl) in [(5, 100), (6, 200), (99, 0), (5, 100), (0, 0)] {
        let answer = stream.next().await?.context("the stream goes on")?;
        assert_eq!((answer.id, answer.ttl, revision(&answer.header)), (id, ttl, 2));
    }
    stream.outgoing.close()?;
    assert_eq!(stream.next().await?, None);
    Ok(())
}

async fn put_with_an_unknown_lease_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    fails(member.put(attached("a", 5)).await, LEASE_NOT_FOUND);
    member.lease_grant(lease(5, 100)).await?;
    member.lease_revoke(revoke(5)).await?;
    fails(member.put(attached("a", 5)).await, LEASE_NOT_FOUND);
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

async fn leases_and_attachments_survive_a_restart(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.lease_grant(lease(-6, 300)).await?;
    member.put(attached("a", 5)).await?;
    member.put(attached("b", -6)).await?;
    member.restart().await?;
    let answer = member.lease_time_to_live(time_to_live(5)).await?;
    assert_eq!((answer.granted_ttl, answer.keys.clone()), (100, vec!["a".into()]));
    member.lease_revoke(revoke(-6)).await?;
    assert_eq!(member.range(everything()).await?.kvs.len(), 1);
    Ok(())
}

async fn renewing_moves_a_lease_back_in_the_list(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for id in [1, 2, 3] {
        member.lease_grant(lease(id, 500)).await?;
    }
    let mut stream = member.lease_keep_alive().await?;
    for (renewed, expected) in [(1, [2, 3, 1]), (3, [2, 1, 3])] {
        stream.send(&LeaseKeepAliveRequest { id: renewed })?;
        stream.next().await?.context("the stream goes on")?;
        let listed = member.lease_leases(LeaseLeasesRequest {}).await?.leases;
        assert_eq!(listed.iter().map(|lease| lease.id).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

/// PR 13932, PR 20615: what was granted is there for everybody at once, what was revoked for nobody.
async fn grants_and_revocations_hold_on_every_connection(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut running = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (granting, other) = (member.connect().await?, member.connect().await?);
        running.spawn(async move {
            let mut stream = other.lease_keep_alive().await?;
            for number in 0..50 {
                let id = 1 + worker * 1000 + number;
                granting.lease_grant(lease(id, 100)).await?;
                stream.send(&LeaseKeepAliveRequest { id })?;
                let renewed = stream.next().await?.context("the stream goes on")?;
                anyhow::ensure!(renewed.ttl == 100, "lease {id} is granted but not there: {renewed:?}");
                other.put(attached(&format!("k{id}"), id)).await?;
                // One renewal is under way while the lease is revoked, and may go either way; the next may not.
                stream.send(&LeaseKeepAliveRequest { id })?;
                granting.lease_revoke(revoke(id)).await?;
                stream.send(&LeaseKeepAliveRequest { id })?;
                stream.next().await?.context("the stream goes on")?;
                let late = stream.next().await?.context("the stream goes on")?;
                anyhow::ensure!(late.ttl == 0, "lease {id} is revoked and was renewed: {late:?}");
            }
            Ok(())
        });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    assert_eq!(member.range(everything()).await?.count, 0);
    assert!(member.lease_leases(LeaseLeasesRequest {}).await?.leases.is_empty());
    Ok(())
}

e2e::on_both_targets!(
    the_server_picks_a_positive_id_when_asked,
    ids_of_the_clients_choice_are_kept,
    ttl_is_kept_between_its_bounds,
    revoking_deletes_the_attached_keys_in_one_revision,
    revoking_an_empty_lease_does_not_bump,
    a_key_hangs_from_its_last_lease_alone,
    a_deleted_key_hangs_from_nothing,
    time_to_live_tells_ttl_and_keys,
    time_to_live_of_an_unknown_lease_is_minus_one,
    leases_are_listed_soonest_to_expire_first,
    keep_alive_answers_every_request_in_order,
    put_with_an_unknown_lease_is_refused,
    leases_and_attachments_survive_a_restart,
    renewing_moves_a_lease_back_in_the_list,
    grants_and_revocations_hold_on_every_connection,
);
