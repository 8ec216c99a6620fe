//! Maintenance: status, hashes, defragmentation, alarms, leadership.

use anyhow::Result;
use api::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, HashKvRequest, HashRequest, MoveLeaderRequest, StatusRequest,
};
use e2e::refusal::{BAD_LEADER_TRANSFEREE, COMPACTED, FUTURE_REVISION};
use e2e::request::{compact, delete, everything, put};
use e2e::{Difference, Member, Target, fails, revision};

async fn status_describes_the_member(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let status = member.status(StatusRequest {}).await?;
    let header = status.header.unwrap();
    assert_eq!(status.leader, header.member_id);
    assert_eq!((status.raft_term, header.revision), (header.raft_term, 2));
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0);
    assert!(status.errors.is_empty() && !status.is_learner);
    Ok(())
}

async fn newer_fields_are_set(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("quota-backend-bytes", "123456789")]).await?;
    member.put(put("a", "1")).await?;
    let status = member.status(StatusRequest {}).await?;
    let hash = member.hash_kv(HashKvRequest { revision: 0 }).await?;
    let newer = Difference::NewerFields.shows(target);
    assert_eq!(status.db_size_quota, if newer { 123_456_789 } else { 0 });
    assert_eq!(status.downgrade_info.map(|info| (info.enabled, info.target_version)), newer.then(Default::default));
    assert_eq!(hash.hash_revision, if newer { 2 } else { 0 });
    Ok(())
}

async fn every_write_moves_the_raft_index(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let before = member.status(StatusRequest {}).await?.raft_index;
    for count in 1..=200 {
        member.put(put("a", "1")).await?;
        let status = member.status(StatusRequest {}).await?;
        assert_eq!(status.raft_index, before + count);
        assert!(status.raft_applied_index <= status.raft_index);
    }
    assert_eq!(member.status(StatusRequest {}).await?.raft_applied_index, before + 200);
    Ok(())
}

/// The hash is a function of the history: both targets must give the very same numbers.
async fn hash_kv_is_that_of_the_history(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let hash_at = async |revision| member.hash_kv(HashKvRequest { revision }).await;
    assert_eq!(hash_at(0).await?.hash, 1_084_519_789, "of nothing");
    member.put(put("a", "1")).await?;
    member.put(put("b", "2")).await?;
    let two = hash_at(0).await?;
    member.put(put("a", "3")).await?;
    member.delete_range(delete("b")).await?;
    let all = hash_at(0).await?;
    assert_eq!((all.compact_revision, revision(&all.header)), (-1, 5));
    assert_eq!(hash_at(3).await?.hash, two.hash);
    assert_eq!(hash_at(5).await?.hash, all.hash);
    let seen = [two.hash, all.hash];
    assert_eq!(seen, HASHES, "of a=1 b=2, and of a=3 and b deleted after them");
    fails(hash_at(6).await, FUTURE_REVISION);
    member.compact(compact(4)).await?;
    fails(hash_at(3).await, COMPACTED);
    let compacted = hash_at(5).await?;
    assert_eq!((compacted.compact_revision, compacted.hash), (4, HASH_COMPACTED));
    Ok(())
}

/// As etcd 3.5.30 computed them.
const HASHES: [u32; 2] = [1_827_592_406, 1_125_682_900];
const HASH_COMPACTED: u32 = 1_468_967_122;

async fn hash_is_stable_while_nothing_changes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let first = member.hash(HashRequest {}).await?;
    assert_eq!(member.hash(HashRequest {}).await?.hash, first.hash);
    assert_eq!(revision(&first.header), 2);
    member.put(put("a", "2")).await?;
    assert_ne!(member.hash(HashRequest {}).await?.hash, first.hash);
    Ok(())
}

async fn defragmenting_keeps_the_data_and_gives_space_back(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..200 {
        member.put(put(format!("k{}", number % 20), vec![number as u8; 50_000])).await?;
    }
    let hash = member.hash_kv(HashKvRequest { revision: 0 }).await?.hash;
    member.compact(compact(195)).await?;
    let before = member.status(StatusRequest {}).await?;
    assert_eq!(member.defragment(DefragmentRequest {}).await?.header, None);
    let after = member.status(StatusRequest {}).await?;
    assert!(after.db_size < before.db_size, "{} < {}", after.db_size, before.db_size);
    let all = member.range(everything()).await?;
    assert_eq!((all.count, revision(&all.header)), (20, 201));
    assert_ne!(member.hash_kv(HashKvRequest { revision: 0 }).await?.hash, hash, "older revisions are gone");
    Ok(())
}

async fn alarms_are_listed_raised_and_cleared(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let member_id = member.status(StatusRequest {}).await?.header.unwrap().member_id;
    let alarm = |action, alarm: AlarmType| AlarmRequest { action, member_id, alarm: alarm.into() };
    let (get, activate, deactivate) = (0, 1, 2);
    assert!(member.alarm(alarm(get, AlarmType::None)).await?.alarms.is_empty());
    assert!(member.alarm(alarm(activate, AlarmType::None)).await?.alarms.is_empty());
    let raised = member.alarm(alarm(activate, AlarmType::Nospace)).await?;
    assert_eq!((raised.alarms.len(), raised.alarms[0].member_id, raised.alarms[0].alarm), (1, member_id, 1));
    let everyone = AlarmRequest::default();
    assert_eq!(member.alarm(everyone).await?.alarms, raised.alarms);
    let unknown = |action| AlarmRequest { action, member_id, alarm: 7 };
    assert!(member.alarm(unknown(get)).await?.alarms.is_empty());
    assert!(member.alarm(unknown(deactivate)).await?.alarms.is_empty());
    let status = member.status(StatusRequest {}).await?;
    assert_eq!(status.errors, [format!("memberID:{member_id} alarm:NOSPACE ")]);
    let cleared = member.alarm(alarm(deactivate, AlarmType::Nospace)).await?;
    assert_eq!(cleared.alarms, raised.alarms);
    assert!(member.alarm(alarm(deactivate, AlarmType::Nospace)).await?.alarms.is_empty());
    assert!(member.alarm(everyone).await?.alarms.is_empty());
    // Of a member that is none, the text has no number.
    member.alarm(AlarmRequest { action: activate, member_id: 0, alarm: AlarmType::Nospace.into() }).await?;
    assert_eq!(member.status(StatusRequest {}).await?.errors, ["alarm:NOSPACE "]);
    Ok(())
}

async fn alarms_survive_a_restart(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.alarm(AlarmRequest { action: 1, member_id: 7, alarm: AlarmType::Nospace.into() }).await?;
    member.restart().await?;
    let alarms = member.alarm(AlarmRequest::default()).await?.alarms;
    assert_eq!((alarms.len(), alarms[0].member_id), (1, 7));
    Ok(())
}

async fn leadership_can_move_to_oneself_alone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let own = member.status(StatusRequest {}).await?.leader;
    assert_eq!(member.move_leader(MoveLeaderRequest { target_id: own }).await?.header, None);
    fails(member.move_leader(MoveLeaderRequest { target_id: own ^ 1 }).await, BAD_LEADER_TRANSFEREE);
    Ok(())
}

e2e::on_both_targets!(
    status_describes_the_member,
    every_write_moves_the_raft_index,
    hash_kv_is_that_of_the_history,
    hash_is_stable_while_nothing_changes,
    defragmenting_keeps_the_data_and_gives_space_back,
    alarms_are_listed_raised_and_cleared,
    alarms_survive_a_restart,
    leadership_can_move_to_oneself_alone,
    newer_fields_are_set,
);
