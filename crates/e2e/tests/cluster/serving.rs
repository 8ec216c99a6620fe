//! Reads and writes, whichever member they come to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{MemberListRequest, RangeRequest};
use e2e::request::{created_at, get, op_get, op_put, put, range, txn};
use e2e::{CALL_LIMIT, Cluster, Target, Wiring, fails, holds_within, http, refusal, revision, within};
use rustix::process::Signal;
use testkit::grpc::Code;

async fn every_member_takes_writes_and_reads_its_and_others(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let mut last = 1;
    for round in 0..3 {
        for writer in 0..3 {
            let value = format!("{round}.{writer}");
            let written = revision(&cluster.client(writer).await?.put(put("key", &value)).await?.header);
            assert_eq!(written, last + 1, "no other member gave this revision");
            last = written;
            for reader in 0..3 {
                let read = cluster.client(reader).await?.range(get("key")).await?;
                assert_eq!((read.kvs[0].value.as_ref(), revision(&read.header)), (value.as_bytes(), last));
            }
        }
    }
    assert_eq!(cluster.equal().await?, last);
    Ok(())
}

async fn headers_name_the_member_and_one_cluster(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let mut seen = Vec::new();
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        let put = client.put(put("key", "1")).await?.header.unwrap();
        let read = client.range(get("key")).await?.header.unwrap();
        let list = client.member_list(MemberListRequest { linearizable: true }).await?;
        let listed = list.header.unwrap();
        assert_eq!((put.member_id, put.cluster_id), (read.member_id, read.cluster_id));
        assert_eq!((put.member_id, put.cluster_id), (listed.member_id, listed.cluster_id));
        assert_eq!(put.raft_term, read.raft_term);
        let status = cluster.status(seat).await?;
        assert_eq!(status.header.as_ref().unwrap().member_id, put.member_id);
        assert_eq!(status.leader, cluster.id(leader).await?);
        assert_eq!((status.raft_term, status.is_learner), (put.raft_term, false));
        assert_eq!(status.errors, Vec::<String>::new());
        ensure!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0, "{status:?}");
        let mut members: Vec<_> =
            list.members.into_iter().map(|m| (m.name, m.id, m.peer_ur_ls, m.client_ur_ls)).collect();
        members.sort();
        seen.push((put.cluster_id, put.raft_term, members));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
    for (number, (name, id, peers, clients)) in seen[0].2.iter().enumerate() {
        let seat = &cluster.seats()[number];
        assert_eq!((name.as_str(), *id), (seat.name(), cluster.id(number).await?));
        assert_eq!(peers, &[seat.peer_url()]);
        assert_eq!(clients, &[format!("http://{}", seat.address())]);
    }
    Ok(())
}

async fn only_one_of_racing_creations_succeeds(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let clients = [cluster.client(0).await?, cluster.client(1).await?, cluster.client(2).await?];
    for round in 0..20 {
        let key = format!("key{round}");
        let create = |who: &str| api::etcdserverpb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            failure: vec![op_get(&key)],
            ..txn([op_put(&key, who)])
        };
        let (a, b, c) =
            tokio::join!(clients[0].txn(create("0")), clients[1].txn(create("1")), clients[2].txn(create("2")));
        let answers = [a?, b?, c?];
        let winners: Vec<usize> = (0..3).filter(|&seat| answers[seat].succeeded).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        for client in &clients {
            let read = client.range(get(&key)).await?;
            assert_eq!(read.kvs[0].value, winners[0].to_string());
        }
    }
    Ok(())
}

/// A large listing and a large value come whole from a follower.
async fn large_values_and_listings_pass_through_followers(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let follower = cluster.client(cluster.follower().await?).await?;
    let large = vec![b'v'; 1 << 20];
    for number in 0..5 {
        follower.put(put(format!("large{number}"), &large)).await?;
    }
    let read = follower.range(range("large", "largf")).await?;
    assert_eq!(read.kvs.len(), 5);
    assert!(read.kvs.iter().all(|pair| pair.value == large));
    fails(follower.put(put("larger", vec![b'v'; 1_700_000])).await.map(drop), refusal::REQUEST_TOO_LARGE);
    cluster.equal().await?;
    Ok(())
}

async fn compaction_reaches_every_member(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let follower = cluster.client(cluster.follower().await?).await?;
    for number in 0..10 {
        follower.put(put("key", number.to_string())).await?;
    }
    follower.compact(e2e::request::compact(8)).await?;
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || {
            let old = RangeRequest { revision: 7, serializable: true, ..get("key") };
            Ok(client.range(old).await.is_err_and(|status| status.message == refusal::COMPACTED.1))
        })
        .await?;
        let kept = RangeRequest { revision: 8, ..get("key") };
        assert_eq!(client.range(kept).await?.kvs[0].value, "6");
        fails(client.compact(e2e::request::compact(8)).await, refusal::COMPACTED);
    }
    cluster.equal().await?;
    Ok(())
}

async fn two_of_three_go_on_and_the_third_catches_up(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let away = cluster.follower().await?;
    cluster.seat(away).kill()?;
    let other = cluster.running()[0];
    let client = cluster.client(other).await?;
    for number in 0..100 {
        client.put(put(format!("key{number}"), "while away")).await?;
    }
    let back = cluster.restart(away).await?;
    assert_eq!(back.range(range("key", "kez")).await?.count, 100);
    cluster.equal().await?;
    Ok(())
}

/// Without a quorum nothing is written and nothing read that might be old; a serializable read answers.
async fn one_of_three_serves_nothing_but_serializable_reads(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let last = cluster.leader().await?;
    let client = cluster.client(last).await?;
    client.put(put("key", "1")).await?;
    for other in (0..3).filter(|&seat| seat != last) {
        cluster.seat(other).kill()?;
    }
    let write = within(Duration::from_secs(20), client.put(put("key", "2"))).await?;
    assert_eq!(write.unwrap_err().code, Code::Unavailable);
    let read = within(Duration::from_secs(20), client.range(get("key"))).await?;
    assert_eq!(read.unwrap_err().code, Code::Unavailable);
    let local = client.range(RangeRequest { serializable: true, ..get("key") }).await?;
    assert_eq!(local.kvs[0].value, "1");
    holds_within(CALL_LIMIT, async || {
        let status = cluster.status(last).await?;
        Ok(status.leader == 0 && status.errors == ["etcdserver: no leader"])
    })
    .await?;
    let list = within(Duration::from_secs(20), client.member_list(MemberListRequest { linearizable: true })).await?;
    assert_eq!(list.unwrap_err().code, Code::Unavailable);
    assert_eq!(client.member_list(MemberListRequest { linearizable: false }).await?.members.len(), 3);

    let address = cluster.seats()[last].address();
    let health = http::get(address, "/health").await?;
    assert_eq!((health.status, health.body.contains("RAFT NO LEADER")), (503, true), "{health:?}");
    assert_eq!(http::get(address, "/health?serializable=true").await?.status, 200);
    assert_eq!(http::get(address, "/livez").await?.status, 200);

    cluster.spawn_all()?;
    cluster.settled().await?;
    client.put(put("key", "3")).await?;
    for seat in 0..3 {
        let address = cluster.seats()[seat].address();
        holds_within(CALL_LIMIT, async || Ok(http::get(address, "/readyz").await?.status == 200)).await?;
        assert_eq!(http::get(address, "/health").await?.status, 200);
        // The leader has asked all for theirs.
        holds_within(CALL_LIMIT, async || {
            Ok(http::get(address, "/version").await?.body.contains(r#""etcdcluster":"3.5.0""#))
        })
        .await?;
    }
    cluster.equal().await?;
    Ok(())
}

async fn all_restarted_serve_what_they_had(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let written = revision(&cluster.client(0).await?.put(put("key", "1")).await?.header);
    let ids = [cluster.id(0).await?, cluster.id(1).await?, cluster.id(2).await?];
    for signal in [Signal::TERM, Signal::KILL] {
        for seat in 0..3 {
            cluster.seat(seat).process().context("it runs")?.signal(signal)?;
        }
        for seat in 0..3 {
            cluster.seat(seat).ended(CALL_LIMIT).await?;
        }
        cluster.spawn_all()?;
        cluster.settled().await?;
        for (seat, id) in ids.into_iter().enumerate() {
            assert_eq!(cluster.id(seat).await?, id);
            let read = cluster.client(seat).await?.range(get("key")).await?;
            assert_eq!((read.kvs[0].mod_revision, revision(&read.header)), (written, written));
        }
    }
    Ok(())
}

/// A client that moves on to another member when one goes is served throughout.
async fn a_rolling_restart_is_served_through(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    for seat in 0..3 {
        cluster.seat(seat).stop().await?;
        let other = cluster.running()[0];
        let client = cluster.client(other).await?;
        holds_within(CALL_LIMIT, async || Ok(client.put(put(format!("while{seat}"), "1")).await.is_ok())).await?;
        cluster.restart(seat).await?;
        cluster.settled().await?;
    }
    assert_eq!(cluster.client(0).await?.range(range("while", "whilf")).await?.count, 3);
    cluster.equal().await?;
    Ok(())
}

/// Every wire delays: what clients see takes longer, and stays right.
async fn slow_wires_change_nothing_but_time(target: Target) -> Result<()> {
    let cluster = Cluster::start_with(target, 3, Wiring::Proxied, &[]).await?;
    cluster.delay(Duration::from_millis(20), Duration::from_millis(40))?;
    let follower = cluster.client(cluster.follower().await?).await?;
    let before = tokio::time::Instant::now();
    for number in 0..10 {
        let written = revision(&follower.put(put("key", number.to_string())).await?.header);
        let read = cluster.client(cluster.leader().await?).await?.range(get("key")).await?;
        ensure!(read.kvs[0].mod_revision == written, "{read:?} after {written}");
    }
    ensure!(before.elapsed() > Duration::from_millis(10 * 40), "the wires are not slow");
    cluster.heal()?;
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    every_member_takes_writes_and_reads_its_and_others,
    headers_name_the_member_and_one_cluster,
    only_one_of_racing_creations_succeeds,
    large_values_and_listings_pass_through_followers,
    compaction_reaches_every_member,
    two_of_three_go_on_and_the_third_catches_up,
    one_of_three_serves_nothing_but_serializable_reads,
    all_restarted_serve_what_they_had,
    a_rolling_restart_is_served_through,
    slow_wires_change_nothing_but_time,
);
