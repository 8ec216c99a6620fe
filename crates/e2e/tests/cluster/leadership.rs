//! Who leads: found out, moved on request, lost and found again.

use std::time::Duration;

use anyhow::{Result, ensure};
use api::etcdserverpb::{MemberListRequest, MoveLeaderRequest, MoveLeaderResponse, RangeRequest};
use e2e::request::{get, put};
use e2e::{CALL_LIMIT, Cluster, Target, Wiring, fails, holds_within, refusal, revision, within};
use testkit::grpc::Code;
use tokio::time::Instant;

async fn the_leader_moves_on_request(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let first = cluster.leader().await?;
    let next = cluster.follower().await?;
    let term = cluster.status(first).await?.raft_term;
    let request = MoveLeaderRequest { target_id: cluster.id(next).await? };
    let answer = cluster.client(first).await?.move_leader(request).await?;
    assert_eq!(answer.header, None);
    assert_eq!(cluster.leader().await?, next);
    ensure!(cluster.status(next).await?.raft_term > term, "a new leader has a new term");
    cluster.client(first).await?.put(put("key", "1")).await?;
    cluster.equal().await?;
    Ok(())
}

async fn moves_that_are_refused(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let follower = cluster.follower().await?;
    let own = cluster.id(leader).await?;
    let others = cluster.client(follower).await?;
    fails(others.move_leader(MoveLeaderRequest { target_id: own }).await, refusal::NOT_LEADER);
    fails(others.move_leader(MoveLeaderRequest { target_id: 1 }).await, refusal::NOT_LEADER);
    let leads = cluster.client(leader).await?;
    fails(leads.move_leader(MoveLeaderRequest { target_id: 1 }).await, refusal::BAD_LEADER_TRANSFEREE);
    fails(leads.move_leader(MoveLeaderRequest { target_id: 0 }).await, refusal::BAD_LEADER_TRANSFEREE);
    // To itself: nothing to do.
    leads.move_leader(MoveLeaderRequest { target_id: own }).await?;
    assert_eq!(cluster.leader().await?, leader);
    Ok(())
}

/// To a member that does not run: the leader stays, and serves again at once or after a while.
async fn a_move_to_a_dead_member_fails_and_harms_nothing(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let dead = cluster.follower().await?;
    let target_id = cluster.id(dead).await?;
    cluster.seat(dead).kill()?;
    let client = cluster.client(leader).await?;
    // etcd waits for as long as the client does.
    let (path, request) = ("/etcdserverpb.Maintenance/MoveLeader", MoveLeaderRequest { target_id });
    let moved = client.unary_with::<MoveLeaderResponse>(path, &[("grpc-timeout", b"2S")], &request);
    let moved = within(Duration::from_secs(10), moved).await?;
    ensure!(moved.is_err(), "a dead member cannot lead: {moved:?}");
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "1")).await.is_ok())).await?;
    cluster.leader().await?;
    Ok(())
}

async fn a_leader_that_dies_is_replaced(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    for _ in 0..2 {
        let leader = cluster.leader().await?;
        let term = cluster.status(leader).await?.raft_term;
        let written = revision(&cluster.client(leader).await?.put(put("key", "old")).await?.header);
        cluster.seat(leader).kill()?;
        let next = cluster.leader().await?;
        assert_ne!(next, leader);
        let client = cluster.client(next).await?;
        let read = client.range(get("key")).await?;
        assert_eq!((read.kvs[0].mod_revision, revision(&read.header)), (written, written));
        ensure!(read.header.unwrap().raft_term > term, "a new leader has a new term");
        cluster.restart(leader).await?;
        cluster.settled().await?;
    }
    cluster.equal().await?;
    Ok(())
}

/// On SIGTERM a leader hands over first: nobody waits for an election.
async fn a_leader_that_is_told_to_stop_hands_over(target: Target) -> Result<()> {
    // Long, so that a handover is told from an election.
    let flags = [("heartbeat-interval", "100"), ("election-timeout", "5000")];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let leader = cluster.leader().await?;
    let others: Vec<usize> = (0..3).filter(|&seat| seat != leader).collect();
    let client = cluster.client(others[0]).await?;
    client.put(put("key", "1")).await?;
    cluster.seat(leader).stop().await?;
    let start = Instant::now();
    cluster.leader_among(&others).await?;
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "2")).await.is_ok())).await?;
    ensure!(start.elapsed() < Duration::from_secs(3), "it took {:?}, as an election does", start.elapsed());
    Ok(())
}

/// B4 of etcd's past bugs: a leader without its followers stops leading within about an election timeout, and never
/// answers a linearizable read with what it has.
async fn a_leader_that_is_cut_off_serves_no_linearizable_reads(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &[]).await?;
    let old = cluster.leader().await?;
    let client = cluster.client(old).await?;
    client.put(put("key", "old")).await?;
    cluster.isolate(old)?;
    let others: Vec<usize> = (0..3).filter(|&seat| seat != old).collect();
    let (read, write, list) = tokio::join!(
        within(Duration::from_secs(20), client.range(get("key"))),
        within(Duration::from_secs(20), client.put(put("key", "lost?"))),
        within(Duration::from_secs(20), client.member_list(MemberListRequest { linearizable: true })),
    );
    // A put, and a read that came before the others had another leader, may not be told from timely ones; an error is
    // what they get when nobody confirms them.
    assert_eq!(read?.unwrap_err().code, Code::Unavailable);
    assert_eq!(write?.unwrap_err().code, Code::Unavailable);
    assert_eq!(list?.unwrap_err().code, Code::Unavailable);
    let local = client.range(RangeRequest { serializable: true, ..get("key") }).await?;
    assert_eq!(local.kvs[0].value, "old");
    assert_eq!(client.member_list(MemberListRequest { linearizable: false }).await?.members.len(), 3);
    assert_eq!(cluster.status(old).await?.leader, 0);

    let new = cluster.leader_among(&others).await?;
    let written = revision(&cluster.client(new).await?.put(put("key", "new")).await?.header);
    cluster.heal()?;
    holds_within(CALL_LIMIT, async || match within(CALL_LIMIT, client.range(get("key"))).await? {
        Ok(read) => {
            ensure!(read.kvs[0].value == "new" || read.kvs[0].mod_revision > written, "a stale read: {read:?}");
            Ok(true)
        }
        Err(_) => Ok(false),
    })
    .await?;
    cluster.equal().await?;
    Ok(())
}

/// With votes asked for beforehand, a member that was cut off does not depose the leader when it comes back.
async fn a_member_that_comes_back_does_not_depose_the_leader(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &[]).await?;
    let leader = cluster.leader().await?;
    let away = cluster.follower().await?;
    let term = cluster.status(leader).await?.raft_term;
    cluster.isolate(away)?;
    holds_within(CALL_LIMIT, async || Ok(cluster.status(away).await?.leader == 0)).await?;
    let client = cluster.client(leader).await?;
    client.put(put("key", "1")).await?;
    cluster.heal()?;
    let back = cluster.client(away).await?;
    holds_within(CALL_LIMIT, async || Ok(within(CALL_LIMIT, back.range(get("key"))).await?.is_ok())).await?;
    assert_eq!((cluster.leader().await?, cluster.status(leader).await?.raft_term), (leader, term));
    cluster.equal().await?;
    Ok(())
}

/// Each way alone: what a follower hears but cannot answer, and the other way round, stops nobody but that follower.
async fn one_wire_cut_one_way_leaves_a_cluster_that_serves(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &[]).await?;
    for direction in [true, false] {
        let leader = cluster.leader().await?;
        let follower = cluster.follower().await?;
        let (from, to) = if direction { (leader, follower) } else { (follower, leader) };
        cluster.cut(from, to)?;
        let third = (0..3).find(|&seat| seat != leader && seat != follower).unwrap();
        let client = cluster.client(third).await?;
        let start = Instant::now();
        let mut written = 0;
        while start.elapsed() < Duration::from_secs(2) {
            written += u32::from(within(CALL_LIMIT, client.put(put("key", "1"))).await?.is_ok());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ensure!(written > 20, "only {written} writes were taken in two seconds, with {from} to {to} cut");
        cluster.heal()?;
        cluster.equal().await?;
    }
    Ok(())
}

e2e::on_both_targets!(clusters:
    the_leader_moves_on_request,
    moves_that_are_refused,
    a_move_to_a_dead_member_fails_and_harms_nothing,
    a_leader_that_dies_is_replaced,
    a_leader_that_is_told_to_stop_hands_over,
    a_leader_that_is_cut_off_serves_no_linearizable_reads,
    a_member_that_comes_back_does_not_depose_the_leader,
    one_wire_cut_one_way_leaves_a_cluster_that_serves,
);
