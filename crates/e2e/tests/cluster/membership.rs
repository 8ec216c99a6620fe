//! Members added, removed, changed and listed, and every refusal of that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};
use e2e::request::{get, put, range};
use e2e::{
    Cluster, Difference, SETTLE_LIMIT, Target, Wiring, fails, found_within, holds_within, refusal, revision, within,
};
use testkit::grpc::{Client, Status};

/// A peer URL that nobody has.
const NOBODY: &str = "http://127.255.255.254:2380";

fn add(url: impl Into<String>, is_learner: bool) -> MemberAddRequest {
    MemberAddRequest { peer_ur_ls: vec![url.into()], is_learner }
}

/// Repeats a reconfiguration that etcd refuses while connections are young, until the answer is another one.
async fn once_healthy<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<Result<T, Status>> {
    found_within(SETTLE_LIMIT, async || match within(SETTLE_LIMIT, call()).await? {
        Err(status) if status.message == refusal::UNHEALTHY_CLUSTER.1 => Ok(None),
        answer => Ok(Some(answer)),
    })
    .await
}

async fn ids(client: &Client) -> Result<Vec<u64>> {
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    Ok(list.members.into_iter().map(|member| member.id).collect())
}

async fn a_member_is_added_catches_up_and_is_removed(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    for number in 0..50 {
        client.put(put(format!("key{number}"), "1")).await?;
    }
    let seat = cluster.add(1, false).await?;
    // Listed at once, by its URL only.
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    assert_eq!(list.header.as_ref().unwrap().revision, 0);
    let added = list.members.iter().find(|member| member.name.is_empty()).context("it is not listed")?.clone();
    assert_eq!(added.peer_ur_ls, [cluster.seats()[seat].peer_url()]);
    assert_eq!((added.client_ur_ls.len(), added.is_learner), (0, false));

    let new = cluster.restart(seat).await?;
    cluster.settled().await?;
    assert_eq!(new.range(range("key", "kez")).await?.count, 50);
    assert_eq!(cluster.id(seat).await?, added.id);
    let cluster_id = new.put(put("through the new one", "1")).await?.header.unwrap().cluster_id;
    assert_eq!(cluster_id, list.header.unwrap().cluster_id);
    cluster.equal().await?;

    // Four members, one removed: it stops by itself, and stays out.
    cluster.remove(2, added.id).await?;
    let (status, output) = cluster.seat(seat).ended(SETTLE_LIMIT).await?;
    ensure!(output.contains("removed"), "it ended with {status} and did not say why");
    assert_eq!(ids(&client).await?.len(), 3);
    fails(client.member_remove(MemberRemoveRequest { id: added.id }).await, refusal::MEMBER_NOT_FOUND);
    cluster.spawn(seat)?;
    let (_, output) = cluster.seat(seat).ended(SETTLE_LIMIT).await?;
    ensure!(output.contains("removed"), "it does not say that it was removed");
    client.put(put("key", "without it")).await?;
    cluster.equal().await?;
    Ok(())
}

async fn refusals_that_need_no_other_member(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(cluster.follower().await?).await?;
    let url = cluster.seats()[0].peer_url();
    for bad in ["", "localhost", "ftp://127.0.0.1:2380", "http://127.0.0.1", "http://127.0.0.1:2380/path"] {
        fails(client.member_add(add(bad, false)).await, refusal::BAD_MEMBER_URLS);
        if !Difference::UpdatesAreChecked.shows(target) {
            continue;
        }
        let id = cluster.id(1).await?;
        let update = MemberUpdateRequest { id, peer_ur_ls: vec![bad.to_owned()] };
        fails(client.member_update(update).await, refusal::BAD_MEMBER_URLS);
    }
    fails(client.member_add(MemberAddRequest::default()).await, refusal::BAD_MEMBER_URLS);
    let taken = once_healthy(async || client.member_add(add(&url, false)).await).await?;
    fails(taken, refusal::PEER_URL_EXISTS);
    let taken = once_healthy(async || client.member_add(add(&url, true)).await).await?;
    fails(taken, refusal::PEER_URL_EXISTS);
    let taken = MemberUpdateRequest { id: cluster.id(1).await?, peer_ur_ls: vec![url] };
    fails(client.member_update(taken).await, refusal::PEER_URL_EXISTS);
    let unknown = MemberUpdateRequest { id: 1, peer_ur_ls: vec![NOBODY.to_owned()] };
    fails(client.member_update(unknown).await, refusal::MEMBER_NOT_FOUND);
    let unknown = once_healthy(async || client.member_remove(MemberRemoveRequest { id: 1 }).await).await?;
    fails(unknown, refusal::MEMBER_NOT_FOUND);
    fails(client.member_promote(MemberPromoteRequest { id: 1 }).await, refusal::MEMBER_NOT_FOUND);
    let voter = MemberPromoteRequest { id: cluster.id(2).await? };
    fails(client.member_promote(voter).await, refusal::NOT_A_LEARNER);
    assert_eq!(ids(&client).await?.len(), 3);
    Ok(())
}

/// G5: reconfigurations that could take the quorum away are refused.
async fn reconfigurations_that_endanger_the_quorum_are_refused(target: Target) -> Result<()> {
    // With three of five there nobody may be late: who changes leaders loses what is proposed.
    let flags = [("heartbeat-interval", "100"), ("election-timeout", "5000")];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let client = cluster.client(0).await?;
    // One voter that never started is taken; with it four, of which three started. A second one is not: five would
    // need three started, which there are, so it takes two more to be refused.
    let first = once_healthy(async || client.member_add(add(NOBODY, false)).await).await??;
    let second = once_healthy(async || client.member_add(add("http://127.255.255.253:2380", false)).await).await?;
    let second = second.context("three of five started")?;
    let third = once_healthy(async || client.member_add(add("http://127.255.255.252:2380", false)).await).await?;
    fails(third.map(drop), refusal::NOT_ENOUGH_STARTED);
    // Removing one of the started ones would leave two of four.
    let started = cluster.id(1).await?;
    let removed = once_healthy(async || client.member_remove(MemberRemoveRequest { id: started }).await).await?;
    fails(removed.map(drop), refusal::NOT_ENOUGH_STARTED);
    for added in [first, second] {
        cluster.remove(0, added.member.unwrap().id).await?;
    }
    assert_eq!(ids(&client).await?.len(), 3);

    // One dead: adding a voter would make four, with two that are connected.
    cluster.seat(2).kill()?;
    holds_within(SETTLE_LIMIT, async || {
        let added = within(SETTLE_LIMIT, client.member_add(add(NOBODY, false))).await?;
        let Err(status) = added else { anyhow::bail!("a voter was added beside a dead one: {added:?}") };
        Ok((status.code, status.message.as_str()) == refusal::UNHEALTHY_CLUSTER)
    })
    .await?;
    holds_within(SETTLE_LIMIT, async || Ok(client.put(put("key", "1")).await.is_ok())).await
}

async fn one_alone_cannot_be_removed(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 1).await?;
    let client = cluster.client(0).await?;
    let id = cluster.id(0).await?;
    fails(client.member_remove(MemberRemoveRequest { id }).await.map(drop), refusal::NOT_ENOUGH_STARTED);
    client.put(put("key", "1")).await?;
    Ok(())
}

async fn a_member_moves_to_another_address(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let moves = cluster.follower().await?;
    let id = cluster.id(moves).await?;
    let before = cluster.seats()[moves].peer_address();
    let url = format!("http://{}:2384", before.ip());
    let client = cluster.client((moves + 1) % 3).await?;
    let updated = client.member_update(MemberUpdateRequest { id, peer_ur_ls: vec![url.clone()] }).await?;
    let listed = updated.members.iter().find(|member| member.id == id).context("it is not listed")?;
    assert_eq!(listed.peer_ur_ls, std::slice::from_ref(&url));
    assert_eq!(listed.name, cluster.seats()[moves].name());
    cluster.seat(moves).stop().await?;
    cluster.seat(moves).set_flags(&[("listen-peer-urls", &url), ("initial-advertise-peer-urls", &url)]);
    let written = revision(&client.put(put("key", "1")).await?.header);
    let back = cluster.restart(moves).await?;
    assert_eq!(back.range(get("key")).await?.kvs[0].mod_revision, written);
    assert_eq!(cluster.id(moves).await?, id);
    cluster.equal().await?;
    Ok(())
}

/// The leader that is removed leaves its office to another.
async fn the_leader_can_be_removed(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % 3;
    cluster.client(other).await?.put(put("key", "1")).await?;
    let id = cluster.id(leader).await?;
    cluster.remove(other, id).await?;
    cluster.seat(leader).ended(SETTLE_LIMIT).await?;
    let client = cluster.client(other).await?;
    cluster.leader().await?;
    assert_eq!(client.range(get("key")).await?.count, 1);
    assert_eq!(ids(&client).await?.len(), 2);
    cluster.equal().await?;
    Ok(())
}

/// A member that lost its data is not let in as what it was; removed and added anew it comes back.
async fn a_wiped_member_comes_back_only_as_a_new_one(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let wiped = cluster.follower().await?;
    let other = (wiped + 1) % 3;
    let id = cluster.id(wiped).await?;
    let client = cluster.client(other).await?;
    client.put(put("key", "1")).await?;
    cluster.seat(wiped).kill()?;
    cluster.seat(wiped).wipe()?;
    // As a founder: the others know it already.
    cluster.spawn(wiped)?;
    let (status, output) = cluster.seat(wiped).ended(SETTLE_LIMIT).await?;
    ensure!(!status.success() && output.contains("has already been bootstrapped"), "{status}: {output}");

    cluster.remove(other, id).await?;
    let seat = cluster.add(other, false).await?;
    let new = cluster.restart(seat).await?;
    cluster.settled().await?;
    assert_ne!(cluster.id(seat).await?, id);
    assert_eq!(new.range(get("key")).await?.count, 1);
    cluster.equal().await?;
    Ok(())
}

/// 1, 2, 3 members and back, each step served.
async fn a_cluster_grows_from_one_and_shrinks_again(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 1).await?;
    cluster.client(0).await?.put(put("key0", "1")).await?;
    for size in [2, 3] {
        let seat = cluster.add(0, false).await?;
        cluster.restart(seat).await?;
        cluster.settled().await?;
        cluster.client(seat).await?.put(put(format!("key{seat}"), "1")).await?;
        assert_eq!(ids(&cluster.client(0).await?).await?.len(), size);
    }
    for leaves in [0, 1] {
        let id = cluster.id(leaves).await?;
        cluster.remove(2, id).await?;
        cluster.seat(leaves).ended(SETTLE_LIMIT).await?;
        cluster.leader().await?;
        cluster.client(2).await?.put(put(format!("key{}", 3 + leaves), "1")).await?;
    }
    assert_eq!(cluster.client(2).await?.range(range("key", "kez")).await?.count, 5);
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.restart(2).await?;
    assert_eq!(cluster.client(2).await?.range(range("key", "kez")).await?.count, 5);
    Ok(())
}

e2e::on_both_targets!(clusters:
    a_member_is_added_catches_up_and_is_removed,
    refusals_that_need_no_other_member,
    reconfigurations_that_endanger_the_quorum_are_refused,
    one_alone_cannot_be_removed,
    a_member_moves_to_another_address,
    the_leader_can_be_removed,
    a_wiped_member_comes_back_only_as_a_new_one,
    a_cluster_grows_from_one_and_shrinks_again,
);
