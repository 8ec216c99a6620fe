//! Compact.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::{CompactionRequest, RangeRequest};
use e2e::refusal::{COMPACTED, FUTURE_REVISION};
use e2e::request::{compact, delete, everything, get, put};
use e2e::{Member, Target, fails, holds_within, revision};

/// How long what was written may wait for its commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// `a` put at revisions 2..=5 with its revision as value.
async fn four_versions(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    for value in ["2", "3", "4", "5"] {
        member.put(put("a", value)).await?;
    }
    Ok(member)
}

async fn bounds_are_the_compacted_and_the_current_revision(target: Target) -> Result<()> {
    let member = four_versions(target).await?;
    fails(member.compact(compact(6)).await, FUTURE_REVISION);
    fails(member.compact(compact(-1)).await, COMPACTED);
    assert_eq!(revision(&member.compact(compact(0)).await?.header), 5);
    fails(member.compact(compact(0)).await, COMPACTED);
    member.compact(compact(3)).await?;
    fails(member.compact(compact(3)).await, COMPACTED);
    fails(member.compact(compact(2)).await, COMPACTED);
    assert_eq!(revision(&member.compact(compact(5)).await?.header), 5, "the current revision may be compacted");
    fails(member.compact(compact(5)).await, COMPACTED);
    Ok(())
}

async fn reads_below_fail_at_once_and_others_go_on(target: Target) -> Result<()> {
    let member = four_versions(target).await?;
    for physical in [false, true] {
        let at = if physical { 4 } else { 3 };
        member.compact(CompactionRequest { revision: at, physical }).await?;
        fails(member.range(RangeRequest { revision: at - 1, ..get("a") }).await, COMPACTED);
        let old = member.range(RangeRequest { revision: at, ..get("a") }).await?;
        assert_eq!(old.kvs[0].value, at.to_string());
        assert_eq!((old.kvs[0].version, old.kvs[0].create_revision), (at - 1, 2));
    }
    assert_eq!(member.range(get("a")).await?.kvs[0].version, 4);
    Ok(())
}

async fn keys_deleted_before_are_gone_and_later_versions_stay(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("gone", "")).await?;
    member.put(put("kept", "")).await?;
    member.delete_range(delete("gone")).await?;
    member.put(put("gone", "again")).await?;
    member.compact(compact(4)).await?;
    let at_4 = member.range(RangeRequest { revision: 4, ..everything() }).await?;
    assert_eq!((at_4.count, at_4.kvs[0].key.as_ref()), (1, &b"kept"[..]));
    let now = member.range(get("gone")).await?;
    assert_eq!((now.kvs[0].create_revision, now.kvs[0].version), (5, 1));
    Ok(())
}

async fn the_store_goes_on_after_a_compaction_and_a_restart(target: Target) -> Result<()> {
    let mut member = four_versions(target).await?;
    member.compact(compact(4)).await?;
    member.restart().await?;
    fails(member.range(RangeRequest { revision: 3, ..get("a") }).await, COMPACTED);
    fails(member.compact(compact(4)).await, COMPACTED);
    let answer = member.range(RangeRequest { revision: 4, ..get("a") }).await?;
    assert_eq!(answer.kvs[0].value, "4");
    assert_eq!(revision(&member.put(put("a", "6")).await?.header), 6);
    assert_eq!(member.range(get("a")).await?.kvs[0].version, 5);
    Ok(())
}

/// A physical compaction has given its space back when it answers.
async fn a_physical_compaction_frees_space_before_it_answers(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..60u8 {
        member.put(put("a", vec![number; 100_000])).await?;
    }
    let in_use = async || anyhow::Ok(member.status(Default::default()).await?.db_size_in_use);
    // Either server counts what it has committed; etcd commits ten times a second.
    holds_within(COMMIT_LIMIT, async || Ok(in_use().await? > 5_000_000)).await.context("6 MB take less")?;
    member.compact(compact(61)).await?;
    if target == Target::Etcd {
        holds_within(COMMIT_LIMIT, async || Ok(in_use().await? < 2_000_000)).await?;
    }
    let after = in_use().await?;
    assert!(after < 2_000_000, "{after} bytes are left");
    Ok(())
}

e2e::on_both_targets!(
    bounds_are_the_compacted_and_the_current_revision,
    reads_below_fail_at_once_and_others_go_on,
    keys_deleted_before_are_gone_and_later_versions_stay,
    the_store_goes_on_after_a_compaction_and_a_restart,
    a_physical_compaction_frees_space_before_it_answers,
);
