//! Alarms, defragmentation, hashes and status, where there are several members.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, HashKvRequest, RangeRequest, alarm_request::AlarmAction,
};
use e2e::request::{compact, delete, get, put};
use e2e::{CALL_LIMIT, Cluster, Target, Wiring, fails, holds_within, http, refusal, revision, within};
use tokio::time::sleep;

fn alarm(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id, alarm: alarm.into() }
}

async fn an_alarm_of_one_member_holds_for_all(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let (follower, id) = (cluster.follower().await?, cluster.id(cluster.follower().await?).await?);
    let client = cluster.client(follower).await?;
    client.put(put("key", "1")).await?;
    client.alarm(alarm(AlarmAction::Activate, id, AlarmType::Nospace)).await?;
    for seat in 0..3 {
        let asked = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || {
            let listed = asked.alarm(alarm(AlarmAction::Get, 0, AlarmType::None)).await?.alarms;
            Ok(listed.len() == 1 && listed[0].member_id == id && listed[0].alarm() == AlarmType::Nospace)
        })
        .await?;
        fails(asked.put(put("key", "2")).await, refusal::NO_SPACE);
        assert_eq!(asked.range(get("key")).await?.count, 1);
        assert_eq!(cluster.status(seat).await?.errors, [format!("memberID:{id} alarm:NOSPACE ")]);
        assert_eq!(http::get(cluster.seats()[seat].address(), "/health").await?.status, 503);
    }
    let other = cluster.client((follower + 1) % 3).await?;
    other.alarm(alarm(AlarmAction::Deactivate, id, AlarmType::Nospace)).await?;
    for seat in 0..3 {
        let asked = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || Ok(asked.put(put("key", "3")).await.is_ok())).await?;
        assert_eq!(http::get(cluster.seats()[seat].address(), "/health").await?.status, 200);
    }
    cluster.equal().await?;
    Ok(())
}

/// A quota that is reached raises the alarm through the log, for all; freed space and a disarmed alarm end it.
async fn a_quota_that_is_reached_stops_writes_everywhere(target: Target) -> Result<()> {
    let flags = [("quota-backend-bytes", "4194304")];
    let cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let client = cluster.client(cluster.follower().await?).await?;
    let value = vec![b'v'; 200_000];
    let mut refused = None;
    for _ in 0..200 {
        refused = refused.or(client.put(put("key", &value)).await.err());
        // etcd counts what it has committed, ten times a second.
        sleep(Duration::from_millis(5)).await;
    }
    fails::<()>(Err(refused.context("no quota holds")?), refusal::NO_SPACE);
    for seat in 0..3 {
        let asked = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || {
            let written = asked.put(put("key", "2")).await;
            Ok(written.is_err_and(|status| (status.code, status.message.as_str()) == refusal::NO_SPACE))
        })
        .await?;
    }
    client.delete_range(delete("key")).await?;
    let now = revision(&client.range(get("key")).await?.header);
    client.compact(compact(now)).await?;
    for seat in 0..3 {
        let asked = cluster.client(seat).await?;
        // Compaction removes in the background; what it freed counts once the file is made anew.
        within(CALL_LIMIT, asked.defragment(DefragmentRequest {})).await??;
    }
    for listed in client.alarm(alarm(AlarmAction::Get, 0, AlarmType::None)).await?.alarms {
        client.alarm(alarm(AlarmAction::Deactivate, listed.member_id, AlarmType::Nospace)).await?;
    }
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "3")).await.is_ok())).await?;
    cluster.equal().await?;
    Ok(())
}

/// The leader compacts for all, and whoever leads next goes on.
async fn the_leader_compacts_for_all(target: Target) -> Result<()> {
    let flags = [("auto-compaction-mode", "periodic"), ("auto-compaction-retention", "1s")];
    let cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    for leader in [cluster.leader().await?, cluster.follower().await?] {
        cluster.lead(leader).await?;
        let asked_before = compactions_asked_for(&cluster);
        let client = cluster.client(leader).await?;
        let written = revision(&client.put(put("key", "1")).await?.header);
        client.put(put("key", "2")).await?;
        for seat in 0..3 {
            let asked = cluster.client(seat).await?;
            holds_within(CALL_LIMIT, async || {
                let old = RangeRequest { revision: written, serializable: true, ..get("key") };
                Ok(asked.range(old).await.is_err())
            })
            .await?;
        }
        for (seat, (before, after)) in asked_before.into_iter().zip(compactions_asked_for(&cluster)).enumerate() {
            assert_eq!(after > before, seat == leader, "seat {seat}, where {leader} leads");
        }
    }
    cluster.equal().await?;
    Ok(())
}

/// How many compactions each member says it has asked for.
fn compactions_asked_for(cluster: &Cluster) -> Vec<usize> {
    cluster.seats().iter().map(|seat| seat.output().matches("starting auto periodic compaction").count()).collect()
}

async fn one_member_is_defragmented_while_the_others_serve(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let follower = cluster.follower().await?;
    let client = cluster.client(follower).await?;
    for number in 0..200 {
        client.put(put(format!("key{}", number % 10), vec![b'v'; 1000])).await?;
    }
    client.compact(compact(150)).await?;
    let other = cluster.client((follower + 1) % 3).await?;
    let (done, written) = tokio::join!(client.defragment(DefragmentRequest {}), other.put(put("meanwhile", "1")));
    assert_eq!((done?.header, written.is_ok()), (None, true));
    assert_eq!(client.range(get("meanwhile")).await?.count, 1);
    cluster.equal().await?;
    Ok(())
}

/// F2, F7: members hash alike at every revision there is, compacted ones and right after compaction too.
async fn hashes_are_alike_at_every_revision(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    for number in 0..40 {
        let key = format!("key{}", number % 4);
        match number % 5 {
            4 => drop(client.delete_range(delete(&key)).await?),
            _ => drop(client.put(put(&key, number.to_string())).await?),
        }
    }
    let last = cluster.equal().await?;
    for compacted in [0, last / 2, last - 1, last] {
        if compacted > 0 {
            client.compact(compact(compacted)).await?;
        }
        cluster.equal().await?;
        for at in compacted.max(1)..=last {
            let hashes = cluster.hashes(at).await?;
            let told: Vec<_> = hashes.iter().map(|hash| (hash.hash, hash.compact_revision)).collect();
            assert!(told.iter().all(|hash| *hash == told[0]), "at {at}, compacted {compacted}: {told:?}");
        }
        if compacted > 1 {
            for seat in 0..3 {
                let early = HashKvRequest { revision: 1 };
                fails(cluster.client(seat).await?.hash_kv(early).await, refusal::COMPACTED);
            }
        }
    }
    Ok(())
}

/// A8: a lease with a negative id is one on every member, after restarts too.
async fn a_negative_lease_id_divides_nobody(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    let granted = client.lease_grant(e2e::request::lease(-1, 600)).await?;
    assert_eq!(granted.id, -1);
    client.put(api::etcdserverpb::PutRequest { lease: -1, ..put("key", "1") }).await?;
    cluster.restart(1).await?;
    cluster.settled().await?;
    client.lease_revoke(api::etcdserverpb::LeaseRevokeRequest { id: -1 }).await?;
    for seat in 0..3 {
        assert_eq!(cluster.client(seat).await?.range(get("key")).await?.count, 0);
    }
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    an_alarm_of_one_member_holds_for_all,
    a_quota_that_is_reached_stops_writes_everywhere,
    the_leader_compacts_for_all,
    one_member_is_defragmented_while_the_others_serve,
    hashes_are_alike_at_every_revision,
    a_negative_lease_id_divides_nobody,
);
