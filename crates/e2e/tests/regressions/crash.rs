//! Crashes at awkward moments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DefragmentRequest, HashKvRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    StatusRequest,
};
use e2e::refusal::LEASE_NOT_FOUND;
use e2e::request::{compact, delete, everything, get, lease, op, op_delete, op_put, put, txn, watch_range};
use e2e::{Difference, Member, Target, Watch, fails, holds_within, revision, shown};

async fn hash(member: &Member) -> Result<(u32, i64)> {
    let answer = member.hash_kv(HashKvRequest { revision: 0 }).await?;
    Ok((answer.hash, answer.compact_revision))
}

/// #17780, #16693, #15919: a compaction cut short by a crash is finished after it, and no hash changes by it.
async fn a_compaction_cut_short_goes_on(target: Target) -> Result<()> {
    let flags = [("experimental-compaction-batch-limit", "10")];
    let mut member = Member::start_with(target, &flags).await?;
    for number in 0..1000 {
        let key = format!("k{}", number % 100);
        if number % 3 == 0 {
            member.delete_range(delete(&key)).await?;
        }
        member.put(put(&key, format!("{number:05000}"))).await?;
    }
    let before = member.range(everything()).await?;
    let last = revision(&before.header);
    member.compact(CompactionRequest { revision: last - 1, physical: false }).await?;
    let hash_before = hash(&member).await?;
    for wait in [0, 20, 100] {
        member.kill()?;
        member.restart().await?;
        let after = member.range(everything()).await?;
        assert_eq!((revision(&after.header), &after.kvs), (last, &before.kvs));
        assert_eq!(hash(&member).await?, hash_before);
        assert!(member.range(RangeRequest { revision: last - 2, ..get("k1") }).await.is_err());
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    // Of 5 MB a tenth is left to keep.
    let in_use = async || anyhow::Ok(member.status(StatusRequest {}).await?.db_size_in_use);
    holds_within(Duration::from_secs(20), async || Ok(in_use().await? < 2_000_000)).await
}

/// #19179, PR 19249: the tombstone at the compacted revision is still there for a watch after the crash.
async fn a_tombstone_at_the_compacted_revision_survives(target: Target) -> Result<()> {
    let flags = [("experimental-compaction-batch-limit", "5")];
    let mut member = Member::start_with(target, &flags).await?;
    for number in 0..100 {
        member.put(put(format!("k{number:02}"), "v")).await?;
        member.delete_range(delete(format!("k{number:02}"))).await?;
    }
    // Even revisions are puts, odd ones deletions.
    member.compact(CompactionRequest { revision: 101, physical: false }).await?;
    member.kill()?;
    member.restart().await?;
    let create = api::etcdserverpb::WatchCreateRequest { start_revision: 101, ..watch_range("k", "l") };
    let events = Watch::start(&member, create).await?.events(101).await?;
    assert_eq!(shown(&events[0]), "DELETE k49@101");
    assert_eq!(shown(&events[1]), "PUT k50=v@102");
    Ok(())
}

/// #14429, #13937: the last thing before the crash changed nothing.
async fn a_last_entry_without_effect_is_no_obstacle(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for round in 0..3 {
        member.put(put("a", round.to_string())).await?;
        let dead_lease = op(Request::RequestPut(PutRequest { lease: 99, ..put("b", "1") }));
        assert!(member.txn(txn([op_put("c", "1"), dead_lease])).await.is_err());
        member.alarm(AlarmRequest { action: 2, member_id: 9, alarm: 1 }).await?;
        member.kill()?;
        member.restart().await?;
        let all = member.range(everything()).await?;
        assert_eq!((all.count, revision(&all.header)), (1, round + 2));
    }
    Ok(())
}

/// #12535: a lease with a negative id.
async fn a_negative_lease_id_survives_and_can_be_revoked(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.lease_grant(lease(-1, 100)).await?;
    member.put(PutRequest { lease: -1, ..put("a", "1") }).await?;
    member.kill()?;
    member.restart().await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].lease, -1);
    member.lease_revoke(LeaseRevokeRequest { id: -1 }).await?;
    assert_eq!(member.range(everything()).await?.count, 0);
    Ok(())
}

/// PR 14127: large values past the end of a log segment.
async fn large_values_across_log_segments_are_read_back(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let value = |number: u8| vec![number; 1_500_000];
    for number in 0..60 {
        member.put(put(format!("k{:02}", number % 20), value(number))).await?;
    }
    member.kill()?;
    member.restart().await?;
    for number in 40..60 {
        let pair = member.range(get(format!("k{:02}", number % 20))).await?.kvs.remove(0);
        ensure!(pair.value == value(number), "key {number} has another value");
    }
    Ok(())
}

/// #14685: defragmenting again and again under writes, and a crash in the middle.
async fn a_crash_while_defragmenting_loses_nothing(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for number in 0..200 {
        member.put(put(format!("k{}", number % 50), vec![b'v'; 20_000])).await?;
    }
    for round in 0..5u64 {
        let (before, _) = hash(&member).await?;
        let at = revision(&member.range(get("k1")).await?.header);
        let (defragmenting, writing) = (member.connect().await?, member.connect().await?);
        // Until the crash; the writer tells the last revision that was acknowledged.
        let defragmenting =
            tokio::spawn(async move { while defragmenting.defragment(DefragmentRequest {}).await.is_ok() {} });
        let writing = tokio::spawn(async move {
            let mut acknowledged = at;
            while let Ok(answer) = writing.put(put("w", (acknowledged + 1).to_string())).await {
                acknowledged = revision(&answer.header);
            }
            acknowledged
        });
        tokio::time::sleep(Duration::from_millis(round * 17)).await;
        member.kill()?;
        defragmenting.await?;
        let acknowledged = writing.await?;
        member.restart().await?;
        assert_eq!(member.hash_kv(HashKvRequest { revision: at }).await?.hash, before);
        let now = revision(&member.range(get("w")).await?.header);
        ensure!((acknowledged..=acknowledged + 1).contains(&now), "revision {now} after {acknowledged}");
        for written in at + 1..=now {
            let pair = member.range(RangeRequest { revision: written, ..get("w") }).await?.kvs.remove(0);
            assert_eq!((pair.mod_revision, pair.value), (written, written.to_string().into()));
        }
    }
    Ok(())
}

/// TestVerifyHashKVAfterTwoCompactionsOnTombstone: hashes after compacting at a tombstone, defragmenting, restarting.
async fn hashes_stay_through_compaction_at_a_tombstone(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for key in ["a", "b", "a", "b"] {
        member.put(put(key, "v")).await?;
    }
    member.delete_range(delete("a")).await?;
    member.delete_range(delete("b")).await?;
    member.put(put("c", "v")).await?;
    for at in [6, 7] {
        member.compact(compact(at)).await?;
        let before = hash(&member).await?;
        assert_eq!(before.1, at);
        member.defragment(DefragmentRequest {}).await?;
        assert_eq!(hash(&member).await?, before);
        member.kill()?;
        member.restart().await?;
        assert_eq!(hash(&member).await?, before);
    }
    Ok(())
}

/// #14325: the hash at the compacted revision itself.
async fn the_hash_at_the_compacted_revision_can_be_had(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3", "4"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(4)).await?;
    let at = member.hash_kv(HashKvRequest { revision: 4 }).await?;
    assert_eq!((at.hash, at.compact_revision), HASH_AT_COMPACTION);
    Ok(())
}

/// As etcd 3.5.30 computed it.
const HASH_AT_COMPACTION: (u32, i64) = (3_593_804_405, -1);

/// GHSA-pm3m: a retention that makes no sense must not start a server that compacts everything.
async fn a_senseless_retention_is_refused_at_start(target: Target) -> Result<()> {
    let start = async |mode: &str, retention: &str| {
        Member::start_with(target, &[("auto-compaction-mode", mode), ("auto-compaction-retention", retention)]).await
    };
    for retention in ["abc", "1x", "99999999999999999999", "-1", "1.5"] {
        for mode in ["revision", "periodic"] {
            let refusal = start(mode, retention).await.err().context(retention)?;
            let text = format!("{refusal:?}");
            ensure!(text.contains("error parsing CompactionRetention: time: "), "{retention}: {text}");
        }
    }
    let refusal = format!("{:?}", start("sometimes", "1").await.err().context("the mode was accepted")?);
    ensure!(refusal.contains(r#"unknown auto-compaction-mode \"sometimes\""#), "{refusal}");
    for (mode, retention) in [("periodic", "-5m"), ("revision", "-5m"), ("periodic", "9999999999")] {
        if Difference::RetentionMakesSense.shows(target) {
            let refusal = format!("{:?}", start(mode, retention).await.err().context(retention)?);
            ensure!(refusal.contains("failed to verify flags"), "{mode} {retention}: {refusal}");
        }
    }
    Ok(())
}

/// #13766 in small, and PR 18799: a transaction is there wholly or not at all, among others that fail.
async fn transactions_are_whole_after_a_crash(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for round in 0..8 {
        let client = member.connect().await?;
        let writing = tokio::spawn(async move {
            for number in 0..100_000 {
                let value = format!("{round}-{number}");
                let ops = [op_put("a", &value), op_delete(format!("gone{}", number % 3)), op_put("b", &value)];
                if client.txn(txn(ops)).await.is_err() {
                    return Ok(());
                }
                let dead_lease = op(Request::RequestPut(PutRequest { lease: 99, ..put("b", "half") }));
                let future = op(Request::RequestRange(RangeRequest { revision: i64::MAX, ..get("a") }));
                match client.txn(txn([op_put("a", "half"), dead_lease, future])).await {
                    Err(status) if status.is_transport() => return Ok(()),
                    refused => fails(refused, LEASE_NOT_FOUND),
                }
            }
            anyhow::Ok(())
        });
        tokio::time::sleep(Duration::from_millis(40 + round * 13)).await;
        member.kill()?;
        writing.await??;
        member.restart().await?;
        let all = member.range(everything()).await?;
        ensure!(all.count == 2 && all.kvs[0].value == all.kvs[1].value, "half a transaction: {:?}", all.kvs);
        ensure!(all.kvs[0].mod_revision == all.kvs[1].mod_revision, "half a transaction: {:?}", all.kvs);
    }
    Ok(())
}

e2e::on_both_targets!(
    a_compaction_cut_short_goes_on,
    a_tombstone_at_the_compacted_revision_survives,
    a_last_entry_without_effect_is_no_obstacle,
    a_negative_lease_id_survives_and_can_be_revoked,
    large_values_across_log_segments_are_read_back,
    a_crash_while_defragmenting_loses_nothing,
    hashes_stay_through_compaction_at_a_tombstone,
    the_hash_at_the_compacted_revision_can_be_had,
    a_senseless_retention_is_refused_at_start,
    transactions_are_whole_after_a_crash,
);
