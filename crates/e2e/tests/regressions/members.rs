//! Past bugs of etcd that take several members. Those that chaos histories, and the tests of clusters, meet anyway are
//! not repeated here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{
    AlarmRequest, DefragmentRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, MemberListRequest,
    MemberPromoteRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};
use e2e::request::{compact, delete, get, lease, op, op_put, put, range, txn, value_is, watch};
use e2e::{
    CALL_LIMIT, Cluster, Difference, SETTLE_LIMIT, Target, Watch, Wiring, early_snapshots, found_within, holds_within,
    missed_bytes, refusal, revision, shown, within,
};
use futures_util::future::try_join_all;
use tokio::time::sleep;

/// A3: SIGKILL while a member is defragmented, under writes.
async fn a_member_killed_while_defragmented_comes_back_equal(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let seat = cluster.follower().await?;
    let writer = cluster.client((seat + 1) % 3).await?;
    for number in 0..300 {
        writer.put(put(format!("key{number}"), vec![b'v'; 2000])).await?;
    }
    for round in 0..3 {
        let client = cluster.client(seat).await?;
        let defragment = tokio::spawn(async move {
            // It is killed in one of them.
            while client.defragment(DefragmentRequest {}).await.is_ok() {}
        });
        for number in 0..20 + round * 10 {
            writer.put(put(format!("during{number}"), round.to_string())).await?;
        }
        cluster.seat(seat).kill()?;
        within(CALL_LIMIT, defragment).await??;
        cluster.restart(seat).await?;
        cluster.equal().await?;
    }
    Ok(())
}

/// A4, C5, F1: SIGKILL in the middle of a slow compaction: no revision goes back, hashes agree, no alarm is raised, and
/// what the compacted revision itself did can still be watched.
async fn a_kill_in_the_middle_of_compaction_divides_nobody(target: Target) -> Result<()> {
    let flags = [
        ("experimental-compaction-batch-limit", "10"),
        ("experimental-compaction-sleep-interval", "20ms"),
        ("experimental-compact-hash-check-enabled", "true"),
        ("experimental-compact-hash-check-time", "1s"),
    ];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let client = cluster.client(0).await?;
    for number in 0..600 {
        client.put(put(format!("key{}", number % 150), number.to_string())).await?;
        if number % 4 == 3 {
            client.delete_range(delete(format!("key{}", number % 150))).await?;
        }
    }
    let deleted = revision(&client.delete_range(delete("key0")).await?.header);
    for seat in [1, 2] {
        let at = deleted - if seat == 1 { 100 } else { 0 };
        client.compact(api::etcdserverpb::CompactionRequest { revision: at, physical: false }).await?;
        sleep(Duration::from_millis(50)).await;
        cluster.seat(seat).kill()?;
        let back = cluster.restart(seat).await?;
        let now = revision(&back.range(get("key1")).await?.header);
        ensure!(now >= deleted, "revision {deleted} went back to {now}");
        cluster.equal().await?;
    }
    for seat in 0..3 {
        let from = WatchCreateRequest { start_revision: deleted, ..watch("key0") };
        let mut watch = Watch::start(&cluster.client(seat).await?, from).await?;
        assert_eq!(shown(&watch.events(1).await?[0]), format!("DELETE key0@{deleted}"));
    }
    // Long enough for hashes to be compared.
    sleep(Duration::from_millis(2500)).await;
    let client = cluster.client(cluster.leader().await?).await?;
    assert_eq!(client.alarm(AlarmRequest::default()).await?.alarms, []);
    Ok(())
}

/// A7: what changes nothing, as the last thing before SIGKILL.
async fn entries_without_effect_are_no_trap_at_restart(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    for last in 0..3 {
        let client = cluster.client(0).await?;
        client.put(put("key", last.to_string())).await?;
        match last {
            0 => drop(client.alarm(AlarmRequest::default()).await?),
            1 => {
                let fails = TxnRequest { compare: vec![value_is("key", "no")], ..txn([op_put("key", "never")]) };
                ensure!(!client.txn(fails).await?.succeeded, "the compare fails");
            }
            _ => {
                let dead = PutRequest { lease: 4711, ..put("key", "never") };
                let refused = client.put(dead).await.unwrap_err();
                assert_eq!(refused.message, refusal::LEASE_NOT_FOUND.1);
            }
        }
        for seat in 0..3 {
            cluster.seat(seat).kill()?;
        }
        cluster.spawn_all()?;
        cluster.settled().await?;
        assert_eq!(cluster.client(1).await?.range(get("key")).await?.kvs[0].value, last.to_string());
        cluster.equal().await?;
    }
    Ok(())
}

/// A9, A10: a transaction that writes and then reads what is compacted fails whole on every member. etcd up to 3.6 leaves
/// out the read where it was not proposed, and diverges for good.
async fn a_transaction_that_reads_the_compacted_past_divides_nobody(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    for number in 0..10 {
        client.put(put("key", number.to_string())).await?;
    }
    client.compact(compact(8)).await?;
    for seat in 0..3 {
        let past = RangeRequest { revision: 3, ..get("key") };
        let reads = op(api::etcdserverpb::request_op::Request::RequestRange(past));
        let dead = op(api::etcdserverpb::request_op::Request::RequestPut(PutRequest { lease: 4711, ..put("b", "1") }));
        let client = cluster.client(seat).await?;
        let refused = client.txn(txn([op_put("a", "never"), reads.clone()])).await.unwrap_err();
        assert_eq!(refused.message, refusal::COMPACTED.1);
        ensure!(client.txn(txn([op_put("a", "never"), dead, reads])).await.is_err(), "its lease is dead");
        cluster.seat(seat).kill()?;
        cluster.restart(seat).await?;
        cluster.settled().await?;
    }
    let mut written = 0;
    for seat in 0..3 {
        let local = RangeRequest { serializable: true, ..get("a") };
        written += cluster.client(seat).await?.range(local).await?.count;
    }
    if !Difference::FailedTransactionsAreWhole.shows(target) {
        ensure!(written > 0, "this etcd does not have the bug");
        return Ok(());
    }
    assert_eq!(written, 0);
    cluster.equal().await?;
    Ok(())
}

/// A12, H1: SIGKILL, and a defragmentation, within moments of a received snapshot.
async fn a_snapshot_that_arrives_is_whole_or_not_there(target: Target) -> Result<()> {
    let mut cluster = Cluster::start_with(target, 3, Wiring::Proxied, &early_snapshots(target)).await?;
    let value = vec![b'v'; missed_bytes(target) / 350];
    let mut installed = 0;
    for round in 0..4_u64 {
        let away = cluster.follower().await?;
        let client = cluster.client(cluster.leader().await?).await?;
        cluster.isolate(away)?;
        for number in 0..400 {
            client.put(put(format!("key{}", number % 50), &value)).await?;
        }
        cluster.break_connections()?;
        cluster.heal()?;
        if round == 3 {
            let behind = cluster.client(away).await?;
            for _ in 0..10 {
                within(CALL_LIMIT, behind.defragment(DefragmentRequest {})).await??;
            }
        } else {
            sleep(Duration::from_millis(round * 70)).await;
            cluster.seat(away).kill()?;
            cluster.spawn(away)?;
        }
        cluster.settled().await?;
        cluster.equal().await?;
        installed += cluster.seats()[away].snapshots_installed();
    }
    ensure!(installed > 0, "no snapshot was sent");
    Ok(())
}

/// A18: values as large as they may be, over more than one segment of the log, then SIGKILL.
async fn the_largest_values_survive_over_segments(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(cluster.follower().await?).await?;
    let value = vec![b'v'; 1_500_000];
    for number in 0..50 {
        within(CALL_LIMIT, client.put(put(format!("key{}", number % 3), &value))).await??;
    }
    for seat in 0..3 {
        cluster.seat(seat).kill()?;
    }
    cluster.spawn_all()?;
    cluster.settled().await?;
    assert_eq!(cluster.client(0).await?.range(range("key", "kez")).await?.kvs.len(), 3);
    cluster.equal().await?;
    Ok(())
}

/// B6: one key put, deleted and put within one commit of the backend; every member tells every revision.
async fn every_revision_of_a_busy_key_is_told_by_every_member(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let clients = [cluster.client(0).await?, cluster.client(1).await?, cluster.client(2).await?];
    let mut states = vec![None, None];
    for number in 0..120 {
        let client = &clients[number % 3];
        let at = if number % 3 == 2 {
            let answer = client.delete_range(delete("key")).await?;
            states.push(None);
            revision(&answer.header)
        } else {
            let answer = client.put(put("key", number.to_string())).await?;
            states.push(Some(number.to_string()));
            revision(&answer.header)
        };
        assert_eq!(at as usize, states.len() - 1);
    }
    for client in &clients {
        for (at, state) in states.iter().enumerate().skip(1) {
            let read = client.range(RangeRequest { revision: at as i64, ..get("key") }).await?;
            let value = read.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
            assert_eq!(value, *state, "at {at}");
        }
    }
    Ok(())
}

/// C4: compaction at the revision of a deletion, watched from there, on every member.
async fn a_deletion_at_the_compacted_revision_is_shown(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    for number in 0..3 {
        client.put(put("key", number.to_string())).await?;
    }
    let deleted = revision(&client.delete_range(delete("key")).await?.header);
    let last = revision(&client.put(put("key", "again")).await?.header);
    client.compact(compact(deleted)).await?;
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        client.range(get("key")).await?;
        let mut watch = Watch::start(&client, WatchCreateRequest { start_revision: deleted, ..watch("key") }).await?;
        let events: Vec<String> = watch.events(2).await?.iter().map(shown).collect();
        assert_eq!(events, [format!("DELETE key@{deleted}"), format!("PUT key=again@{last}")]);
    }
    cluster.equal().await?;
    Ok(())
}

/// D4: a renewal that races with a revocation does not succeed after it was answered.
async fn a_revoked_lease_is_not_renewed(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let (revokes, renews) = (cluster.client(0).await?, cluster.client(1).await?);
    for _ in 0..20 {
        let id = revokes.lease_grant(lease(0, 60)).await?.id;
        let mut stream = renews.lease_keep_alive().await?;
        stream.send(&LeaseKeepAliveRequest { id })?;
        let revoked = revokes.lease_revoke(LeaseRevokeRequest { id });
        let (revoked, renewed) = tokio::join!(revoked, within(CALL_LIMIT, stream.next()));
        revoked?;
        let renewed = renewed??.context("the stream ended")?;
        ensure!(renewed.ttl == 60 || renewed.ttl == 0, "{renewed:?}");
        stream.send(&LeaseKeepAliveRequest { id })?;
        let after = within(CALL_LIMIT, stream.next()).await??.context("the stream ended")?;
        assert_eq!(after.ttl, 0);
    }
    Ok(())
}

/// D12: many leases lapse at once; those that are kept alive, through every member, do not.
async fn renewals_go_on_while_many_leases_lapse(target: Target) -> Result<()> {
    const LAPSE: usize = 700;
    const KEPT: usize = 60;
    let cluster = Cluster::start(target, 3).await?;
    let clients = [cluster.client(0).await?, cluster.client(1).await?, cluster.client(2).await?];
    for number in 0..LAPSE {
        let id = clients[number % 3].lease_grant(lease(0, 4)).await?.id;
        clients[number % 3].put(PutRequest { lease: id, ..put(format!("lapse{number}"), "1") }).await?;
    }
    // At once: a slow disk must not outlast the first of them.
    let grants = (0..KEPT).map(async |number| {
        let client = &clients[number % 3];
        let id = client.lease_grant(lease(0, 6)).await?.id;
        anyhow::Ok((client.lease_keep_alive().await?, id))
    });
    let mut kept = try_join_all(grants).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while tokio::time::Instant::now() < end {
        for (stream, id) in &mut kept {
            stream.send(&LeaseKeepAliveRequest { id: *id })?;
            let renewed = within(CALL_LIMIT, stream.next()).await??.context("the stream ended")?;
            assert_eq!(renewed.ttl, 6);
        }
        sleep(Duration::from_millis(500)).await;
    }
    for client in &clients {
        holds_within(SETTLE_LIMIT, async || Ok(client.range(range("lapse", "lapsf")).await?.count == 0)).await?;
    }
    cluster.equal().await?;
    Ok(())
}

/// F4, G8: a member that calls an address which now belongs to another cluster is not heard there, and harms neither.
async fn a_stale_address_of_another_cluster_harms_nobody(target: Target) -> Result<()> {
    let flags = [("experimental-corrupt-check-time", "1s")];
    let mut first = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let follower = first.follower().await?;
    first.seat(follower).kill()?;
    // The other cluster's only member takes over its address.
    let mut second = Cluster::prepare(target, 1, Wiring::Direct, &[("initial-cluster-token", "another")])?;
    let url = first.seats()[follower].peer_url();
    let alone = format!("m0={url}");
    second.seat(0).set_flags(&[
        ("listen-peer-urls", &url),
        ("initial-advertise-peer-urls", &url),
        ("initial-cluster", &alone),
    ]);
    second.restart(0).await?;
    second.client(0).await?.put(put("other", "1")).await?;
    let client = first.client((follower + 1) % 3).await?;
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "1")).await.is_ok())).await?;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(client.alarm(AlarmRequest::default()).await?.alarms, []);
    assert_eq!(second.client(0).await?.alarm(AlarmRequest::default()).await?.alarms, []);
    assert_eq!(second.client(0).await?.member_list(MemberListRequest::default()).await?.members.len(), 1);
    assert_eq!(client.range(get("other")).await?.count, 0);
    second.seat(0).kill()?;
    first.restart(follower).await?;
    first.settled().await?;
    first.equal().await?;
    Ok(())
}

/// G3, G6, G7: one member's data becomes a cluster of one, a learner and removed members notwithstanding, and grows again.
async fn one_member_goes_on_alone_when_it_is_told_to(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    client.put(put("key", "1")).await?;
    let gone = cluster.id(2).await?;
    cluster.remove(0, gone).await?;
    cluster.seat(2).ended(SETTLE_LIMIT).await?;
    let learner = cluster.add(0, true).await?;
    cluster.spawn(learner)?;
    holds_within(SETTLE_LIMIT, async || Ok(cluster.status(learner).await.is_ok_and(|status| status.leader != 0)))
        .await?;
    let id = cluster.id(0).await?;
    for seat in [0, 1, learner] {
        cluster.seat(seat).kill()?;
    }
    cluster.seat(0).set_flags(&[("force-new-cluster", "true")]);
    let alone = cluster.restart(0).await?;
    let list = alone.member_list(MemberListRequest { linearizable: true }).await?;
    assert_eq!(list.members.iter().map(|member| (member.id, member.is_learner)).collect::<Vec<_>>(), [(id, false)]);
    assert_eq!(alone.range(get("key")).await?.kvs[0].value, "1");
    alone.put(put("key", "2")).await?;
    cluster.seat(0).kill()?;
    cluster.seat(0).set_flags(&[("force-new-cluster", "false")]);
    cluster.restart(0).await?;
    let seat = cluster.add(0, false).await?;
    let new = cluster.restart(seat).await?;
    assert_eq!(new.range(get("key")).await?.kvs[0].value, "2");
    cluster.equal().await?;
    Ok(())
}

/// G9: members that all came as learners; one is removed, and the rest start again.
async fn a_cluster_of_promoted_members_starts_again(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 1).await?;
    for _ in 1..3 {
        let seat = cluster.add(0, true).await?;
        cluster.spawn(seat)?;
        let client = cluster.client(0).await?;
        let list = client.member_list(MemberListRequest::default()).await?.members;
        let id = list.iter().find(|member| member.is_learner).context("it is not listed")?.id;
        found_within(SETTLE_LIMIT, async || {
            Ok(within(CALL_LIMIT, client.member_promote(MemberPromoteRequest { id })).await?.ok())
        })
        .await?;
        cluster.settled().await?;
    }
    cluster.client(2).await?.put(put("key", "1")).await?;
    let first = cluster.id(0).await?;
    cluster.remove(1, first).await?;
    cluster.seat(0).ended(SETTLE_LIMIT).await?;
    for seat in [1, 2] {
        cluster.seat(seat).kill()?;
    }
    for seat in [1, 2] {
        cluster.spawn(seat)?;
    }
    cluster.settled().await?;
    assert_eq!(cluster.client(1).await?.range(get("key")).await?.count, 1);
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    a_member_killed_while_defragmented_comes_back_equal,
    a_kill_in_the_middle_of_compaction_divides_nobody,
    entries_without_effect_are_no_trap_at_restart,
    a_transaction_that_reads_the_compacted_past_divides_nobody,
    a_snapshot_that_arrives_is_whole_or_not_there,
    the_largest_values_survive_over_segments,
    every_revision_of_a_busy_key_is_told_by_every_member,
    a_deletion_at_the_compacted_revision_is_shown,
    a_revoked_lease_is_not_renewed,
    renewals_go_on_while_many_leases_lapse,
    a_stale_address_of_another_cluster_harms_nobody,
    one_member_goes_on_alone_when_it_is_told_to,
    a_cluster_of_promoted_members_starts_again,
);
