//! The space quota and the NOSPACE alarm.

use std::time::Duration;

use anyhow::{Result, bail};
use api::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, LeaseRevokeRequest, PutRequest, StatusRequest, TxnRequest,
};
use e2e::refusal::NO_SPACE;
use e2e::request::{compact, delete, everything, get, lease, op_delete, op_get, op_put, op_txn, put, txn, value_is};
use e2e::{Difference, Member, Target, fails, http, revision};

/// A member over its quota, with a raised alarm.
async fn full(target: Target) -> Result<Member> {
    let member = Member::start_with(target, &[("quota-backend-bytes", "4194304")]).await?;
    for _ in 0..200 {
        if let Err(status) = member.put(put("filler", vec![7; 100_000])).await {
            fails::<()>(Err(status), NO_SPACE);
            return Ok(member);
        }
        // etcd counts what it has committed, ten times a second.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("20 MB went into a quota of 4 MiB")
}

async fn what_grows_is_refused_and_the_rest_works(target: Target) -> Result<()> {
    let member = full(target).await?;
    fails(member.put(put("a", "1")).await, NO_SPACE);
    // The quota is looked at before the key is.
    fails(member.put(put("", vec![7; 1_000_000])).await, NO_SPACE);
    fails(member.txn(txn([op_put("a", "1")])).await, NO_SPACE);
    fails(member.txn(TxnRequest { failure: vec![op_put("a", "1")], ..txn([]) }).await, NO_SPACE);
    fails(member.lease_grant(lease(5, 100)).await, NO_SPACE);
    assert_eq!(member.range(get("filler")).await?.count, 1);
    assert!(member.txn(txn([])).await?.succeeded);
    assert!(member.txn(TxnRequest { compare: vec![value_is("x", "")], ..txn([op_get("a")]) }).await.is_ok());
    assert!(member.txn(txn([op_delete("nothing")])).await?.succeeded);
    assert_eq!(member.delete_range(delete("filler")).await?.deleted, 1);
    let now = revision(&member.range(everything()).await?.header);
    member.compact(compact(now)).await?;
    member.defragment(DefragmentRequest {}).await?;
    Ok(())
}

async fn the_alarm_is_raised_and_health_says_so(target: Target) -> Result<()> {
    let member = full(target).await?;
    let alarms = member.alarm(AlarmRequest::default()).await?;
    let own = alarms.header.unwrap().member_id;
    assert_eq!((alarms.alarms.len(), alarms.alarms[0].member_id, alarms.alarms[0].alarm), (1, own, 1));
    let health = http::get(member.address(), "/health").await?;
    assert_eq!((health.status, health.body.trim_end()), (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#));
    let health = http::get(member.address(), "/health?exclude=NOSPACE").await?;
    assert_eq!(health.status, 200);
    Ok(())
}

async fn compact_defragment_disarm_is_the_way_out(target: Target) -> Result<()> {
    let member = full(target).await?;
    let now = revision(&member.range(everything()).await?.header);
    member.compact(compact(now)).await?;
    member.defragment(DefragmentRequest {}).await?;
    fails(member.put(put("a", "1")).await, NO_SPACE);
    let member_id = member.status(StatusRequest {}).await?.leader;
    let disarm = AlarmRequest { action: 2, member_id, alarm: AlarmType::Nospace.into() };
    assert_eq!(member.alarm(disarm).await?.alarms.len(), 1);
    member.put(put("a", "1")).await?;
    Ok(())
}

async fn still_over_quota_the_alarm_comes_back(target: Target) -> Result<()> {
    let member = full(target).await?;
    let member_id = member.status(StatusRequest {}).await?.leader;
    let disarm = AlarmRequest { action: 2, member_id, alarm: AlarmType::Nospace.into() };
    member.alarm(disarm).await?;
    fails(member.put(put("a", vec![0; 1_000_000])).await, NO_SPACE);
    assert_eq!(member.alarm(AlarmRequest::default()).await?.alarms.len(), 1);
    Ok(())
}

async fn an_alarm_of_any_member_stops_writes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(PutRequest { lease: 5, ..put("a", "1") }).await?;
    member.alarm(AlarmRequest { action: 1, member_id: 77, alarm: AlarmType::Nospace.into() }).await?;
    fails(member.put(put("a", "1")).await, NO_SPACE);
    member.lease_revoke(LeaseRevokeRequest { id: 5 }).await?;
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

async fn a_corrupt_alarm_stops_all_but_plain_reads(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let alarm = AlarmRequest { action: 1, member_id: 77, alarm: AlarmType::Corrupt.into() };
    member.alarm(alarm).await?;
    let corrupt = (testkit::grpc::Code::DataLoss, "etcdserver: corrupt cluster");
    fails(member.put(put("a", "1")).await, corrupt);
    fails(member.txn(txn([op_put("a", "1")])).await, corrupt);
    assert_eq!(member.range(get("a")).await?.count, 0);
    assert!(member.txn(txn([op_get("a")])).await?.succeeded);
    fails(member.delete_range(delete("a")).await, corrupt);
    fails(member.compact(compact(1)).await, corrupt);
    fails(member.lease_grant(lease(5, 100)).await, corrupt);
    fails(member.lease_revoke(LeaseRevokeRequest { id: 5 }).await, corrupt);
    let health = http::get(member.address(), "/health").await?;
    assert_eq!((health.status, health.body.trim_end()), (503, r#"{"health":"false","reason":"ALARM CORRUPT"}"#));
    member.alarm(AlarmRequest { action: 2, ..alarm }).await?;
    member.put(put("a", "1")).await?;
    Ok(())
}

/// PR 22140. Not so in etcd 3.5.30, which lets what is nested pass.
async fn nested_puts_count_too(target: Target) -> Result<()> {
    let member = full(target).await?;
    let nested = txn([op_txn(txn([op_put("a", "1")]))]);
    match Difference::NestedPutsCost.shows(target) {
        true => fails(member.txn(nested).await, NO_SPACE),
        false => drop(member.txn(nested).await?),
    }
    member.txn(txn([op_txn(txn([op_delete("a")]))])).await?;
    Ok(())
}

e2e::on_both_targets!(
    what_grows_is_refused_and_the_rest_works,
    the_alarm_is_raised_and_health_says_so,
    compact_defragment_disarm_is_the_way_out,
    still_over_quota_the_alarm_comes_back,
    an_alarm_of_any_member_stops_writes,
    a_corrupt_alarm_stops_all_but_plain_reads,
    nested_puts_count_too,
);
