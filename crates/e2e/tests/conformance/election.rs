//! The Election service.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::LeaseRevokeRequest;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use e2e::request::{bytes, get, lease};
use e2e::{Member, Target, fails, holds_within, revision};
use testkit::grpc::{Client, Code, Incoming, Status};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

fn campaign(name: &str, lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest { name: bytes(name), lease, value: bytes(value) }
}

fn election(name: &str) -> LeaderRequest {
    LeaderRequest { name: bytes(name) }
}

fn proclaim(leader: Option<LeaderKey>, value: &str) -> ProclaimRequest {
    ProclaimRequest { leader, value: bytes(value) }
}

/// A member with leases 1, 2 and 3.
async fn with_leases(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    for id in [1, 2, 3] {
        member.lease_grant(lease(id, 100)).await?;
    }
    Ok(member)
}

/// Starts a campaign on a connection of its own; returns once its key is there.
async fn queue(
    member: &Member,
    lease: i64,
    value: &'static str,
) -> Result<JoinHandle<Result<CampaignResponse, Status>>> {
    let client: Client = member.connect().await?;
    let waiting = tokio::spawn(async move { client.campaign(campaign("e", lease, value)).await });
    holds_within(LIMIT, || async { Ok(member.range(get(format!("e/{lease:x}"))).await?.count == 1) }).await?;
    Ok(waiting)
}

async fn value_of(observed: &mut Incoming<LeaderResponse>) -> Result<String> {
    let answer = timeout(LIMIT, observed.next()).await.context("no leader was observed")??;
    let kv = answer.and_then(|answer| answer.kv).context("the answer has the leader's pair")?;
    Ok(String::from_utf8(kv.value.to_vec())?)
}

async fn the_first_candidate_leads(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let won = member.campaign(campaign("e", 0x1, "one")).await?;
    let key = won.leader.unwrap();
    assert_eq!((key.name.as_ref(), key.key.as_ref(), key.rev, key.lease), (&b"e"[..], &b"e/1"[..], 2, 1));
    assert_eq!(revision(&won.header), 2);
    let leader = member.leader(election("e")).await?.kv.unwrap();
    assert_eq!((leader.key.as_ref(), leader.value.as_ref(), leader.lease), (&b"e/1"[..], &b"one"[..], 1));
    Ok(())
}

async fn nobody_leads_an_election_without_candidates(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    fails(member.leader(election("e")).await, (Code::Unknown, "election: no leader"));
    Ok(())
}

async fn the_next_candidate_leads_when_the_leader_resigns(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let first = member.campaign(campaign("e", 1, "one")).await?.leader;
    let second = queue(&member, 2, "two").await?;
    let third = queue(&member, 3, "three").await?;
    member.resign(ResignRequest { leader: first.clone() }).await?;
    assert_eq!(timeout(LIMIT, second).await???.leader.unwrap().key, "e/2");
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "two");
    assert!(!third.is_finished());
    member.resign(ResignRequest { leader: first }).await?;
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "two", "an old key resigns nobody");
    member.lease_revoke(LeaseRevokeRequest { id: 2 }).await?;
    assert_eq!(timeout(LIMIT, third).await???.leader.unwrap().key, "e/3");
    Ok(())
}

async fn the_leader_may_proclaim_another_value(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let key = member.campaign(campaign("e", 1, "one")).await?.leader;
    assert_eq!(revision(&member.proclaim(proclaim(key.clone(), "changed")).await?.header), 3);
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "changed");
    member.resign(ResignRequest { leader: key.clone() }).await?;
    fails(member.proclaim(proclaim(key, "again")).await, (Code::Unknown, "election: not leader"));
    Ok(())
}

async fn campaigning_again_with_another_value_proclaims_it(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let first = member.campaign(campaign("e", 1, "one")).await?.leader.unwrap();
    let again = member.campaign(campaign("e", 1, "one")).await?.leader.unwrap();
    assert_eq!(first, again);
    let changed = member.campaign(campaign("e", 1, "changed")).await?.leader.unwrap();
    assert_eq!(changed.rev, first.rev);
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "changed");
    Ok(())
}

async fn observers_see_every_leader(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let mut early = member.observe(election("e")).await?;
    let key = member.campaign(campaign("e", 1, "one")).await?.leader;
    assert_eq!(value_of(&mut early).await?, "one");
    let mut late = member.observe(election("e")).await?;
    assert_eq!(value_of(&mut late).await?, "one");
    member.proclaim(proclaim(key.clone(), "changed")).await?;
    for observed in [&mut early, &mut late] {
        assert_eq!(value_of(observed).await?, "changed");
    }
    let second = queue(&member, 2, "two").await?;
    member.resign(ResignRequest { leader: key }).await?;
    timeout(LIMIT, second).await???;
    for observed in [&mut early, &mut late] {
        assert_eq!(value_of(observed).await?, "two");
    }
    Ok(())
}

async fn the_leader_field_must_be_there(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let missing = (Code::Unknown, "\"leader\" field must be provided");
    fails(member.proclaim(proclaim(None, "v")).await, missing);
    fails(member.resign(ResignRequest { leader: None }).await, missing);
    Ok(())
}

async fn a_candidate_needs_a_living_lease(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let outcome = member.campaign(campaign("e", 99, "v")).await;
    fails(outcome, (Code::Unknown, "etcdserver: requested lease not found"));
    let won = member.campaign(campaign("e", 0, "v")).await?;
    assert!(won.leader.unwrap().lease > 0, "without a lease the server makes one");
    Ok(())
}

async fn a_candidate_that_gives_up_leaves_the_queue(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    member.campaign(campaign("e", 1, "one")).await?;
    queue(&member, 2, "two").await?.abort();
    holds_within(LIMIT, || async { Ok(member.range(get("e/2")).await?.count == 0) }).await
}

/// Who leads, with what value and by which proof, is in the store; a crash ends the calls and nothing else.
async fn leader_and_candidates_survive_a_crash(target: Target) -> Result<()> {
    let mut member = with_leases(target).await?;
    let key = member.campaign(campaign("e", 1, "one")).await?.leader;
    let broken = queue(&member, 2, "two").await?;
    let mut observed = member.observe(election("e")).await?;
    assert_eq!(value_of(&mut observed).await?, "one");
    member.kill()?;
    assert!(timeout(LIMIT, broken).await??.is_err_and(|status| status.is_transport()));
    assert!(timeout(LIMIT, observed.next()).await?.is_err());
    member.restart().await?;
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "one");
    let mut observed = member.observe(election("e")).await?;
    assert_eq!(value_of(&mut observed).await?, "one");
    let second = queue(&member, 2, "two").await?;
    member.proclaim(proclaim(key.clone(), "changed")).await?;
    assert_eq!(value_of(&mut observed).await?, "changed");
    member.resign(ResignRequest { leader: key }).await?;
    assert_eq!(timeout(LIMIT, second).await???.leader.unwrap().key, "e/2");
    assert_eq!(value_of(&mut observed).await?, "two");
    Ok(())
}

/// The key's creation is what tells a leader, not what else its proof says.
async fn a_proof_of_another_creation_is_none(target: Target) -> Result<()> {
    let member = with_leases(target).await?;
    let key = member.campaign(campaign("e", 1, "one")).await?.leader.unwrap();
    let other = LeaderKey { rev: key.rev + 1, ..key.clone() };
    let not_leader = (Code::Unknown, "election: not leader");
    fails(member.proclaim(proclaim(Some(other.clone()), "stolen")).await, not_leader);
    member.resign(ResignRequest { leader: Some(other) }).await?;
    assert_eq!(member.leader(election("e")).await?.kv.unwrap().value, "one");
    let elsewhere = LeaderKey { name: bytes("another"), lease: 2, ..key };
    member.proclaim(proclaim(Some(elsewhere), "changed")).await?;
    let leader = member.leader(election("e")).await?.kv.unwrap();
    assert_eq!((leader.value.as_ref(), leader.lease), (&b"changed"[..], 2), "and the lease is the proof's");
    Ok(())
}

e2e::on_both_targets!(
    the_first_candidate_leads,
    nobody_leads_an_election_without_candidates,
    the_next_candidate_leads_when_the_leader_resigns,
    the_leader_may_proclaim_another_value,
    campaigning_again_with_another_value_proclaims_it,
    observers_see_every_leader,
    the_leader_field_must_be_there,
    a_candidate_needs_a_living_lease,
    a_candidate_that_gives_up_leaves_the_queue,
    a_proof_of_another_creation_is_none,
    leader_and_candidates_survive_a_crash,
);
