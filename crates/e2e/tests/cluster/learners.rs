//! Members without a vote.

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberUpdateRequest, MoveLeaderRequest, RangeRequest,
    SnapshotRequest,
};
use e2e::request::{get, lease, put, txn, watch, watch_create};
use e2e::{CALL_LIMIT, Cluster, SETTLE_LIMIT, Target, fails, found_within, holds_within, http, refusal, within};
use testkit::grpc::{Client, Status};

/// A cluster of three and a learner that runs.
async fn with_learner(target: Target) -> Result<(Cluster, usize)> {
    let mut cluster = Cluster::start(target, 3).await?;
    cluster.client(0).await?.put(put("key", "1")).await?;
    let learner = cluster.add(cluster.follower().await?, true).await?;
    cluster.spawn(learner)?;
    // It serves no linearizable read, so it is ready once it has what was written.
    holds_within(SETTLE_LIMIT, async || {
        let Ok(client) = cluster.client(learner).await else { return Ok(false) };
        let local = RangeRequest { serializable: true, ..get("key") };
        Ok(within(CALL_LIMIT, client.range(local)).await?.is_ok_and(|read| read.count == 1))
    })
    .await?;
    Ok((cluster, learner))
}

async fn is_listed_as_learner(client: &Client, id: u64) -> Result<bool> {
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    Ok(list.members.iter().find(|member| member.id == id).context("it is not listed")?.is_learner)
}

async fn a_learner_serves_local_reads_and_refuses_the_rest(target: Target) -> Result<()> {
    let (cluster, learner) = with_learner(target).await?;
    let client = cluster.client(learner).await?;
    let status = cluster.status(learner).await?;
    ensure!(status.is_learner && status.leader != 0, "{status:?}");
    let local = RangeRequest { serializable: true, ..get("key") };
    assert_eq!(client.range(local).await?.kvs[0].value, "1");
    let mut backup = client.snapshot(SnapshotRequest {}).await?;
    if target == Target::Etcd {
        ensure!(within(CALL_LIMIT, backup.next()).await??.is_some(), "a learner can be backed up");
    }
    let refused = refusal::NOT_FOR_LEARNERS;
    fails(client.range(get("key")).await, refused);
    fails(client.put(put("key", "2")).await, refused);
    fails(client.txn(txn([])).await, refused);
    fails(client.lease_grant(lease(0, 60)).await, refused);
    fails(client.compact(e2e::request::compact(1)).await, refused);
    fails(client.hash_kv(api::etcdserverpb::HashKvRequest { revision: 0 }).await, refused);
    fails(client.member_list(MemberListRequest { linearizable: false }).await, refused);
    let mut watching = client.watch().await?;
    watching.send(&watch_create(watch("key")))?;
    fails(within(CALL_LIMIT, watching.next()).await?, refused);
    let mut keeping = client.lease_keep_alive().await?;
    keeping.send(&api::etcdserverpb::LeaseKeepAliveRequest { id: 1 })?;
    fails(within(CALL_LIMIT, keeping.next()).await?, refused);
    let ready = http::get(cluster.seats()[learner].address(), "/readyz").await?;
    assert_eq!((ready.status, ready.body.contains("[-]non_learner failed")), (503, true), "{ready:?}");
    // It cannot lead.
    let leader = cluster.client(cluster.leader_among(&[0, 1, 2]).await?).await?;
    let request = MoveLeaderRequest { target_id: cluster.id(learner).await? };
    fails(leader.move_leader(request).await, refusal::BAD_LEADER_TRANSFEREE);
    Ok(())
}

async fn a_learner_is_promoted_once_it_has_caught_up(target: Target) -> Result<()> {
    let (mut cluster, learner) = with_learner(target).await?;
    let follower = cluster.leader_among(&[0, 1, 2]).await?;
    let client = cluster.client((follower + 1) % 3).await?;
    let id = cluster.id(learner).await?;
    assert!(is_listed_as_learner(&client, id).await?);
    // One learner is the limit.
    let second = MemberAddRequest { peer_ur_ls: vec!["http://127.255.255.254:2380".to_owned()], is_learner: true };
    fails(client.member_add(second).await, refusal::TOO_MANY_LEARNERS);
    // Asked of a follower, which passes it on.
    let promote = async || within(CALL_LIMIT, client.member_promote(MemberPromoteRequest { id })).await;
    let lags =
        |answer: &Result<_, Status>| matches!(answer, Err(status) if status.message == refusal::LEARNER_NOT_READY.1);
    let promoted =
        found_within(SETTLE_LIMIT, async || Ok(Some(promote().await?).filter(|answer| !lags(answer)))).await??;
    assert!(promoted.members.iter().all(|member| !member.is_learner) && promoted.members.len() == 4);
    // etcd looks first at whether it has caught up, even if it is a voter already.
    let again = found_within(SETTLE_LIMIT, async || {
        let again = promote().await?;
        Ok((target == Target::Quorate || !lags(&again)).then_some(again))
    });
    fails(again.await?, refusal::NOT_A_LEARNER);
    let voter = cluster.seat(learner).ready().await?;
    voter.put(put("key", "2")).await?;
    cluster.lead(learner).await?;
    // G2: what it is survives restarts of all.
    for seat in 0..4 {
        cluster.seat(seat).kill()?;
    }
    cluster.spawn_all()?;
    cluster.settled().await?;
    for seat in 0..4 {
        assert!(!cluster.status(seat).await?.is_learner);
    }
    cluster.equal().await?;
    Ok(())
}

/// G1: what never started cannot vote.
async fn a_learner_that_never_started_is_not_promoted(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    cluster.add(0, true).await?;
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    let id = list.members.iter().find(|member| member.is_learner).context("it is not listed")?.id;
    fails(client.member_promote(MemberPromoteRequest { id }).await, refusal::LEARNER_NOT_READY);
    // It takes no part in the quorum either: two of three voters are enough.
    cluster.seat(2).kill()?;
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "1")).await.is_ok())).await?;
    cluster.remove(0, id).await?;
    Ok(())
}

/// G4: a learner whose URL changes is a learner still. etcd made it a voter before 3.5.31.
async fn a_learner_that_moves_stays_a_learner(target: Target) -> Result<()> {
    let (cluster, learner) = with_learner(target).await?;
    let client = cluster.client(0).await?;
    let id = cluster.id(learner).await?;
    let url = "http://127.255.255.254:2380".to_owned();
    client.member_update(MemberUpdateRequest { id, peer_ur_ls: vec![url.clone()] }).await?;
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    let member = list.members.iter().find(|member| member.id == id).context("it is not listed")?;
    assert_eq!(member.peer_ur_ls, [url]);
    assert_eq!(member.is_learner, target == Target::Quorate);
    Ok(())
}

e2e::on_both_targets!(clusters:
    a_learner_serves_local_reads_and_refuses_the_rest,
    a_learner_is_promoted_once_it_has_caught_up,
    a_learner_that_never_started_is_not_promoted,
    a_learner_that_moves_stays_a_learner,
);
