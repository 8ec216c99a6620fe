//! Members that hold different data: how it is found, what clients see, and how an operator gets out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{AlarmRequest, AlarmType, RangeRequest, TxnRequest, alarm_request::AlarmAction};
use e2e::request::{compact, get, put};
use e2e::{CALL_LIMIT, CLUSTER_LIMIT, Cluster, Difference, SETTLE_LIMIT, Target, Wiring, fails, found_within};
use e2e::{holds_within, http, refusal, revision};
use testkit::grpc::Client;

const TRUE_VALUE: &[u8] = b"the value that was written";
const OTHER_VALUE: &[u8] = b"a value that nobody wrote.";

fn alarm(action: AlarmAction, member_id: u64) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id, alarm: AlarmType::Corrupt.into() }
}

/// Three members, one of which, a follower, holds another value than was written. Returns which.
async fn altered(target: Target, flags: &[(&str, &str)]) -> Result<(Cluster, usize)> {
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, flags).await?;
    let wrong = cluster.follower().await?;
    cluster.client(wrong).await?.put(put("key", TRUE_VALUE)).await?;
    cluster.equal().await?;
    cluster.seat(wrong).stop().await?;
    cluster.seat(wrong).alter_value(TRUE_VALUE, OTHER_VALUE)?;
    Ok((cluster, wrong))
}

/// Waits for the alarm; returns for which member it was raised.
async fn raised(client: &Client) -> Result<u64> {
    found_within(SETTLE_LIMIT, async || {
        let listed = client.alarm(alarm(AlarmAction::Get, 0)).await?.alarms;
        ensure!(listed.len() <= 1, "{listed:?}");
        Ok(listed.first().map(|raised| raised.member_id))
    })
    .await
    .context("no alarm was raised")
}

/// The member without its data comes again as another one.
async fn replace(cluster: &mut Cluster, wrong: usize, id: u64, via: usize) -> Result<()> {
    cluster.seat(wrong).kill()?;
    cluster.remove(via, id).await?;
    let added = cluster.add(via, false).await?;
    cluster.spawn(added)?;
    cluster.settled().await?;
    cluster.equal().await?;
    let value = cluster.client(added).await?.range(get("key")).await?.kvs[0].value.clone();
    assert_eq!(value, TRUE_VALUE);
    Ok(())
}

/// For Quorate only: the etcd that this runs against started with the altered file all the same.
async fn a_member_that_holds_other_data_does_not_start(target: Target) -> Result<()> {
    let (mut cluster, wrong) = altered(target, &[("experimental-initial-corrupt-check", "true")]).await?;
    let others: Vec<_> = (0..3).filter(|&seat| seat != wrong).collect();
    let client = cluster.client(others[0]).await?;
    let id = other_id(&cluster, &others).await?;
    cluster.spawn(wrong)?;
    let (status, output) = cluster.seat(wrong).ended(SETTLE_LIMIT).await?;
    ensure!(!status.success(), "it ends as if nothing were wrong");
    ensure!(output.contains(&format!("{id:x} found data inconsistency with peers")), "it does not say why: {output}");
    client.put(put("meanwhile", "1")).await?;
    ensure!(client.alarm(alarm(AlarmAction::Get, 0)).await?.alarms.is_empty(), "nobody has raised an alarm");
    // Nor does it help anybody to lead before it was compared.
    cluster.seat(others[1]).stop().await?;
    holds_within(SETTLE_LIMIT, async || Ok(cluster.status(others[0]).await?.leader == 0)).await?;
    let term = cluster.status(others[0]).await?.raft_term;
    cluster.spawn(wrong)?;
    let (status, _) = cluster.seat(wrong).ended(SETTLE_LIMIT).await?;
    let seen = cluster.status(others[0]).await?;
    ensure!(!status.success() && (seen.raft_term, seen.leader) == (term, 0), "{seen:?}");
    cluster.spawn(others[1])?;
    cluster.settled().await?;
    // One that holds what was written starts.
    cluster.restart(others[1]).await?;
    cluster.settled().await?;
    replace(&mut cluster, wrong, id, others[0]).await
}

/// The id of the member that is none of `others`.
async fn other_id(cluster: &Cluster, others: &[usize]) -> Result<u64> {
    let list = api::etcdserverpb::MemberListRequest { linearizable: true };
    let members = cluster.client(others[0]).await?.member_list(list).await?.members;
    let mut ids = Vec::new();
    for &seat in others {
        ids.push(cluster.id(seat).await?);
    }
    members.iter().map(|member| member.id).find(|id| !ids.contains(id)).context("all are there")
}

async fn what_is_stored_is_compared_from_time_to_time(target: Target) -> Result<()> {
    let (mut cluster, wrong) = altered(target, &[("experimental-corrupt-check-time", "1s")]).await?;
    cluster.restart(wrong).await?;
    let id = cluster.id(wrong).await?;
    let right = (wrong + 1) % 3;
    let client = cluster.client(right).await?;
    let accused = raised(&client).await?;
    let named = Difference::CorruptMembersAreNamed.shows(target);
    assert_eq!(accused, if named { id } else { 0 });
    clients_are_refused(&cluster, accused).await?;
    // As long as nothing changed, it comes again.
    client.alarm(alarm(AlarmAction::Deactivate, accused)).await?;
    assert_eq!(raised(&client).await?, accused);
    cluster.seat(wrong).kill()?;
    client.alarm(alarm(AlarmAction::Deactivate, accused)).await?;
    replace(&mut cluster, wrong, id, right).await?;
    client.put(put("key", "2")).await?;
    cluster.equal().await?;
    Ok(())
}

async fn clients_are_refused(cluster: &Cluster, accused: u64) -> Result<()> {
    for seat in cluster.running() {
        let client = cluster.client(seat).await?;
        holds_within(CALL_LIMIT, async || Ok(!cluster.status(seat).await?.errors.is_empty())).await?;
        let member = if accused == 0 { String::new() } else { format!("memberID:{accused} ") };
        assert_eq!(cluster.status(seat).await?.errors, [format!("{member}alarm:CORRUPT ")]);
        fails(client.put(put("key", "2")).await, refusal::CORRUPT);
        fails(client.delete_range(e2e::request::delete("key")).await, refusal::CORRUPT);
        fails(client.lease_grant(e2e::request::lease(0, 60)).await, refusal::CORRUPT);
        fails(client.compact(compact(1)).await, refusal::CORRUPT);
        let txn = TxnRequest { success: vec![e2e::request::op_put("key", "2")], ..TxnRequest::default() };
        fails(client.txn(txn).await, refusal::CORRUPT);
        // Reads go on.
        assert_eq!(client.range(get("key")).await?.count, 1);
        assert_eq!(client.range(RangeRequest { serializable: true, ..get("key") }).await?.count, 1);
        let address = cluster.seats()[seat].address();
        let health = http::get(address, "/health").await?;
        assert_eq!((health.status, health.body.trim_end()), (503, r#"{"health":"false","reason":"ALARM CORRUPT"}"#));
        let ready = http::get(address, "/readyz").await?;
        let line = "[-]data_corruption failed: alarm activated: CORRUPT";
        ensure!(ready.status == 503 && ready.body.contains(line), "{} {}", ready.status, ready.body);
        assert_eq!(http::get(address, "/livez").await?.status, 200);
    }
    Ok(())
}

async fn hashes_of_compactions_are_compared(target: Target) -> Result<()> {
    compaction_hashes_name(target, false).await
}

/// F3: the leader compares, and is wrong itself.
async fn a_leader_that_holds_other_data_is_named(target: Target) -> Result<()> {
    compaction_hashes_name(target, true).await
}

async fn compaction_hashes_name(target: Target, leads: bool) -> Result<()> {
    let flags = [("experimental-compact-hash-check-enabled", "true"), ("experimental-compact-hash-check-time", "1s")];
    let (mut cluster, wrong) = altered(target, &flags).await?;
    cluster.restart(wrong).await?;
    if leads {
        cluster.lead(wrong).await?;
    }
    let id = cluster.id(wrong).await?;
    let client = cluster.client((wrong + 1) % 3).await?;
    // There is nothing to compare yet.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(client.alarm(alarm(AlarmAction::Get, 0)).await?.alarms.is_empty(), "there was no compaction");
    let at = revision(&client.put(put("other", "1")).await?.header);
    client.compact(compact(at)).await?;
    let named = Difference::CorruptMembersAreNamed.shows(target);
    assert_eq!(raised(&client).await?, if named { id } else { 0 });
    ensure!(!leads || cluster.leader().await? == wrong, "another leader has found it");
    Ok(())
}

/// Members that hold the same are never accused, whatever is compacted and deleted meanwhile. For Quorate only: on etcd
/// 3.5.30 this raises the alarm now and then.
async fn members_that_hold_the_same_are_left_alone(target: Target) -> Result<()> {
    let flags = [
        ("experimental-initial-corrupt-check", "true"),
        ("experimental-corrupt-check-time", "200ms"),
        ("experimental-compact-hash-check-enabled", "true"),
        ("experimental-compact-hash-check-time", "200ms"),
    ];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let client = cluster.client(0).await?;
    for round in 0..20 {
        for number in 0..30 {
            client.put(put(format!("key{}", number % 7), number.to_string())).await?;
        }
        let deleted = client.delete_range(e2e::request::delete_range(b"\0", b"\0")).await?;
        if round % 2 == 0 {
            client.compact(compact(revision(&deleted.header))).await?;
        }
        if round % 5 == 4 {
            cluster.restart(1 + round % 2).await?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(client.alarm(alarm(AlarmAction::Get, 0)).await?.alarms.is_empty(), "an alarm for nothing");
    cluster.equal().await?;
    Ok(())
}

/// F6, without any setting: as soon as what differs makes an entry do something else, the digests do, too.
async fn what_entries_do_is_compared_within_a_thousand(target: Target) -> Result<()> {
    entries_tell(target, false).await
}

/// The same where the leader is the one that differs.
async fn what_the_leaders_entries_do_is_compared_too(target: Target) -> Result<()> {
    entries_tell(target, true).await
}

async fn entries_tell(target: Target, leads: bool) -> Result<()> {
    const ENTRIES: u64 = 1000;
    let (mut cluster, wrong) = altered(target, &[]).await?;
    cluster.restart(wrong).await?;
    if leads {
        cluster.lead(wrong).await?;
    }
    let id = cluster.id(wrong).await?;
    let client = cluster.client((wrong + 1) % 3).await?;
    let is_true = e2e::request::value_is("key", TRUE_VALUE);
    let txn = TxnRequest {
        compare: vec![is_true],
        success: vec![e2e::request::op_put("seen", "true")],
        failure: vec![e2e::request::op_put("seen", "other")],
    };
    client.txn(txn).await?;
    let from = cluster.status(wrong).await?.raft_index;
    let mut written = 0;
    let refused = loop {
        match client.put(put("busy", written.to_string())).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
        ensure!(written <= 3 * ENTRIES, "{written} entries after {from}, and nobody has noticed");
    };
    fails::<()>(Err(refused), refusal::CORRUPT);
    // The alarm is an entry itself; some more may go before it.
    ensure!(written <= ENTRIES + 100, "noticed only after {written} entries");
    assert_eq!(raised(&client).await?, id);
    clients_are_refused(&cluster, id).await?;
    if leads {
        return Ok(());
    }
    cluster.seat(wrong).kill()?;
    client.alarm(alarm(AlarmAction::Deactivate, id)).await?;
    replace(&mut cluster, wrong, id, (wrong + 1) % 3).await?;
    for number in 0..2 * ENTRIES {
        client.put(put("busy", number.to_string())).await?;
    }
    ensure!(client.alarm(alarm(AlarmAction::Get, 0)).await?.alarms.is_empty(), "the new member has the right digest");
    cluster.equal().await?;
    Ok(())
}

#[test]
fn quorate_leaves_members_alone_that_hold_the_same() {
    e2e::run_within(Some(CLUSTER_LIMIT), Target::Quorate, members_that_hold_the_same_are_left_alone);
}

#[test]
fn quorate_does_not_start_with_other_data() {
    e2e::run_within(Some(CLUSTER_LIMIT), Target::Quorate, a_member_that_holds_other_data_does_not_start);
}

#[test]
fn quorate_compares_what_entries_do_within_a_thousand() {
    e2e::run_within(Some(CLUSTER_LIMIT), Target::Quorate, what_entries_do_is_compared_within_a_thousand);
}

#[test]
fn quorate_compares_what_the_leaders_entries_do() {
    e2e::run_within(Some(CLUSTER_LIMIT), Target::Quorate, what_the_leaders_entries_do_is_compared_too);
}

e2e::on_both_targets!(clusters:
    what_is_stored_is_compared_from_time_to_time,
    hashes_of_compactions_are_compared,
    a_leader_that_holds_other_data_is_named,
);
