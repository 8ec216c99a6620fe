//! Put.

use anyhow::Result;
use api::etcdserverpb::PutRequest;
use e2e::refusal::{EMPTY_KEY, KEY_NOT_FOUND, LEASE_NOT_FOUND, LEASE_PROVIDED, REQUEST_TOO_LARGE, VALUE_PROVIDED};
use e2e::request::{get, lease, put};
use e2e::{Member, Target, fails, revision};

async fn prev_kv_is_the_pair_before(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let created = member.put(PutRequest { prev_kv: true, ..put("a", "1") }).await?;
    assert_eq!(created.prev_kv, None);
    let changed = member.put(PutRequest { prev_kv: true, ..put("a", "2") }).await?;
    let previous = changed.prev_kv.unwrap();
    assert_eq!((previous.value.as_ref(), previous.mod_revision, previous.version), (&b"1"[..], 2, 1));
    assert_eq!(member.put(put("a", "3")).await?.prev_kv, None, "only when asked for");
    Ok(())
}

async fn an_empty_value_is_a_value(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "")).await?;
    let answer = member.range(get("a")).await?;
    assert_eq!((answer.count, answer.kvs[0].value.len()), (1, 0));
    Ok(())
}

async fn ignore_value_keeps_the_value_and_sets_the_lease(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(put("a", "1")).await?;
    let answer = member.put(PutRequest { ignore_value: true, lease: 5, prev_kv: true, ..put("a", "") }).await?;
    assert_eq!((revision(&answer.header), answer.prev_kv.unwrap().lease), (3, 0));
    let kv = member.range(get("a")).await?.kvs.remove(0);
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"1"[..], 5, 2));
    Ok(())
}

async fn ignore_lease_keeps_the_lease_and_sets_the_value(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(PutRequest { lease: 5, ..put("a", "1") }).await?;
    member.put(PutRequest { ignore_lease: true, ..put("a", "2") }).await?;
    let kv = member.range(get("a")).await?.kvs.remove(0);
    assert_eq!((kv.value.as_ref(), kv.lease), (&b"2"[..], 5));
    member.put(PutRequest { ignore_lease: true, ignore_value: true, ..put("a", "") }).await?;
    let kv = member.range(get("a")).await?.kvs.remove(0);
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"2"[..], 5, 3));
    Ok(())
}

async fn a_put_without_a_lease_detaches(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(PutRequest { lease: 5, ..put("a", "1") }).await?;
    member.put(put("a", "2")).await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].lease, 0);
    let revoked = member.lease_revoke(api::etcdserverpb::LeaseRevokeRequest { id: 5 }).await?;
    assert_eq!(revision(&revoked.header), 3, "nothing was attached any more");
    assert_eq!(member.range(get("a")).await?.count, 1);
    Ok(())
}

async fn refusals_come_in_order(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let all_wrong = PutRequest { ignore_value: true, ignore_lease: true, lease: 9, ..put("", "v") };
    fails(member.put(all_wrong).await, EMPTY_KEY);
    let value_and_lease = PutRequest { ignore_value: true, ignore_lease: true, lease: 9, ..put("a", "v") };
    fails(member.put(value_and_lease).await, VALUE_PROVIDED);
    fails(member.put(PutRequest { ignore_lease: true, lease: 9, ..put("a", "v") }).await, LEASE_PROVIDED);
    fails(member.put(PutRequest { ignore_value: true, lease: 9, ..put("a", "") }).await, LEASE_NOT_FOUND);
    fails(member.put(PutRequest { ignore_value: true, ..put("a", "") }).await, KEY_NOT_FOUND);
    fails(member.put(PutRequest { ignore_lease: true, ..put("a", "v") }).await, KEY_NOT_FOUND);
    fails(member.put(PutRequest { lease: 9, ..put("a", "v") }).await, LEASE_NOT_FOUND);
    fails(member.put(PutRequest { lease: -1, ..put("a", "v") }).await, LEASE_NOT_FOUND);
    let answer = member.range(get("a")).await?;
    assert_eq!((answer.count, revision(&answer.header)), (0, 1), "nothing was written");
    Ok(())
}

async fn the_size_limit_is_on_the_encoded_request(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let limit = 1_572_864;
    member.put(put("a", vec![0; limit - 100])).await?;
    fails(member.put(put("a", vec![0; limit])).await, REQUEST_TOO_LARGE);
    fails(member.put(put("a", vec![0; limit + 400_000])).await, REQUEST_TOO_LARGE);
    assert_eq!(member.range(get("a")).await?.kvs[0].value.len(), limit - 100);
    Ok(())
}

async fn the_size_limit_is_a_flag(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("max-request-bytes", "1000")]).await?;
    member.put(put("a", vec![0; 900])).await?;
    fails(member.put(put("a", vec![0; 1000])).await, REQUEST_TOO_LARGE);
    Ok(())
}

/// However short it is, the member tells the others of itself, and reads are served.
async fn the_size_limit_is_for_clients(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("max-request-bytes", "5")]).await?;
    fails(member.put(put("a", "b")).await, REQUEST_TOO_LARGE);
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

e2e::on_both_targets!(
    prev_kv_is_the_pair_before,
    an_empty_value_is_a_value,
    ignore_value_keeps_the_value_and_sets_the_lease,
    ignore_lease_keeps_the_lease_and_sets_the_value,
    a_put_without_a_lease_detaches,
    refusals_come_in_order,
    the_size_limit_is_on_the_encoded_request,
    the_size_limit_is_a_flag,
    the_size_limit_is_for_clients,
);
