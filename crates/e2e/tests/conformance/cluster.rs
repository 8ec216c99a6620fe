//! Cluster, as far as one member has one.

use anyhow::Result;
use api::etcdserverpb::MemberListRequest;
use e2e::{Member, Target};

async fn the_member_is_listed_with_its_urls(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for linearizable in [false, true] {
        let list = member.member_list(MemberListRequest { linearizable }).await?;
        let header = list.header.unwrap();
        assert_eq!((header.revision, header.raft_term >= 2), (0, true));
        assert_eq!(list.members.len(), 1);
        let listed = &list.members[0];
        assert_eq!((listed.id, listed.name.as_str(), listed.is_learner), (header.member_id, "m1", false));
        let host = member.address().ip();
        assert_eq!(listed.client_ur_ls, [format!("http://{host}:2379")]);
        assert_eq!(listed.peer_ur_ls, [format!("http://{host}:2380")]);
    }
    Ok(())
}

async fn ids_follow_from_urls_and_token(target: Target) -> Result<()> {
    let mut member = Member::start_with(target, &[("initial-cluster-token", "some-token")]).await?;
    let header = member.member_list(MemberListRequest::default()).await?.header.unwrap();
    let other = Member::start_with(target, &[("initial-cluster-token", "other-token")]).await?;
    let other = other.member_list(MemberListRequest::default()).await?.header.unwrap();
    assert_ne!((header.cluster_id, header.member_id), (other.cluster_id, other.member_id));
    member.restart().await?;
    let again = member.member_list(MemberListRequest::default()).await?.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (again.cluster_id, again.member_id));
    Ok(())
}

/// SHA-1 over the peer URL and the token, then over that id: the same numbers for both targets.
async fn ids_are_the_ones_etcd_computes(target: Target) -> Result<()> {
    let peer = "http://127.250.250.250:23800";
    // What is advertised counts; nobody listens there, so runs side by side do not meet.
    let flags = [("initial-advertise-peer-urls", peer), ("initial-cluster", &format!("m1={peer}"))];
    let member = Member::start_with(target, &flags).await?;
    let header = member.member_list(MemberListRequest::default()).await?.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), IDS);
    Ok(())
}

/// As etcd 3.5.30 computed them.
const IDS: (u64, u64) = (2_559_315_663_888_133_364, 17_542_238_586_759_452_596);

e2e::on_both_targets!(
    the_member_is_listed_with_its_urls,
    ids_follow_from_urls_and_token,
    ids_are_the_ones_etcd_computes
);
