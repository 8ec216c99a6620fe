//! Revisions and key metadata.

use anyhow::Result;
use e2e::request::{delete, get, op_put, put, txn};
use e2e::{Member, Target, revision};

async fn a_fresh_store_is_at_revision_1(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let empty = member.range(get("a")).await?;
    assert_eq!(revision(&empty.header), 1);
    assert_eq!((empty.count, empty.kvs.len(), empty.more), (0, 0, false));
    assert_eq!(revision(&member.put(put("a", "1")).await?.header), 2);
    Ok(())
}

async fn every_put_bumps_even_with_the_same_value(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for expected in 2..5 {
        assert_eq!(revision(&member.put(put("a", "1")).await?.header), expected);
    }
    let kv = member.range(get("a")).await?.kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 4, 3, 0));
    assert_eq!(kv.value, "1");
    Ok(())
}

async fn version_and_create_revision_start_over_after_a_deletion(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    member.put(put("a", "2")).await?;
    assert_eq!(revision(&member.delete_range(delete("a")).await?.header), 4);
    member.put(put("a", "3")).await?;
    let kv = member.range(get("a")).await?.kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    Ok(())
}

async fn what_changes_nothing_does_not_bump(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    assert_eq!(revision(&member.delete_range(delete("nothing")).await?.header), 2);
    assert_eq!(revision(&member.txn(txn([])).await?.header), 2);
    assert_eq!(revision(&member.lease_grant(e2e::request::lease(7, 100)).await?.header), 2);
    assert_eq!(revision(&member.compact(e2e::request::compact(2)).await?.header), 2);
    member.lease_revoke(api::etcdserverpb::LeaseRevokeRequest { id: 7 }).await?;
    member.alarm(api::etcdserverpb::AlarmRequest { action: 1, member_id: 7, alarm: 1 }).await?;
    assert!(member.put(put("a", "2")).await.is_err());
    member.alarm(api::etcdserverpb::AlarmRequest { action: 2, member_id: 7, alarm: 1 }).await?;
    member.defragment(api::etcdserverpb::DefragmentRequest {}).await?;
    assert!(member.put(put("", "2")).await.is_err());
    assert_eq!(revision(&member.range(get("a")).await?.header), 2);
    Ok(())
}

async fn a_txn_makes_one_revision_of_all_its_changes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = member.txn(txn([op_put("a", "1"), op_put("b", "2")])).await?;
    assert_eq!(revision(&answer.header), 2);
    for key in ["a", "b"] {
        assert_eq!(member.range(get(key)).await?.kvs[0].mod_revision, 2);
    }
    Ok(())
}

async fn headers_name_the_same_cluster_member_and_term(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let first = member.put(put("a", "1")).await?.header.unwrap();
    assert!(first.cluster_id != 0 && first.member_id != 0 && first.raft_term >= 2);
    let second = member.range(get("a")).await?.header.unwrap();
    assert_eq!(second, first);
    Ok(())
}

e2e::on_both_targets!(
    a_fresh_store_is_at_revision_1,
    every_put_bumps_even_with_the_same_value,
    version_and_create_revision_start_over_after_a_deletion,
    what_changes_nothing_does_not_bump,
    a_txn_makes_one_revision_of_all_its_changes,
    headers_name_the_same_cluster_member_and_term,
);
