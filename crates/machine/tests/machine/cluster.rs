//! Alarms, members, versions.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{AlarmRequest, AlarmType, LeaseCheckpointRequest, MemberAddResponse, MemberListResponse};
use api::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};
use backend::Table;
use bytes::Bytes;
use machine::{Alarm, ApplyError, VoterChange, encode_conf_change};
use membership::{Change, MembershipError};
use types::{EntryKind, MemberId};

use crate::harness::{Member, compact, decode, delete, grant, put, range, revoke, txn};

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;

fn alarm(action: i32, member_id: u64, alarm: AlarmType) -> Request {
    Request::Alarm(AlarmRequest { action, member_id, alarm: alarm.into() })
}

/// Of a kind that nobody knows.
fn unknown_alarm(action: i32) -> Request {
    Request::Alarm(AlarmRequest { action, member_id: 5, alarm: 9 })
}

#[test]
fn alarms_are_raised_listed_and_cleared() {
    use AlarmType::{Corrupt, None, Nospace};
    let mut member = Member::new();
    member.expect([
        (alarm(GET, 0, None), "@1"),
        (alarm(ACTIVATE, 5, None), "@1"),
        (alarm(ACTIVATE, 5, Nospace), "@1 5:NOSPACE"),
        (alarm(ACTIVATE, 5, Nospace), "@1 5:NOSPACE"),
        (alarm(ACTIVATE, 4, Corrupt), "@1 4:CORRUPT"),
        (alarm(GET, 9, None), "@1 4:CORRUPT 5:NOSPACE"),
        (alarm(GET, 0, Nospace), "@1 5:NOSPACE"),
        (alarm(DEACTIVATE, 6, Nospace), "@1"),
        (unknown_alarm(GET), "@1"),
        (unknown_alarm(DEACTIVATE), "@1"),
        (unknown_alarm(ACTIVATE), "error: alarm type is not supported"),
    ]);
    let mut member = member.restart();
    assert!(member.machine.shared().has_alarm(Alarm::Corrupt));
    member.expect([
        (alarm(DEACTIVATE, 5, Nospace), "@1 5:NOSPACE"),
        (alarm(DEACTIVATE, 5, Nospace), "@1"),
        (alarm(DEACTIVATE, 4, Corrupt), "@1 4:CORRUPT"),
        (alarm(GET, 0, None), "@1"),
    ]);
    assert!(member.machine.shared().alarms().is_empty() && member.backend.values(Table::Alarm).unwrap().is_empty());
}

#[test]
fn without_space_what_adds_is_refused_and_all_else_works() {
    let full = "error: database space exceeded";
    Member::new().expect([
        (grant(1, 9), "@1 id 1 ttl 9"),
        (put("a", ""), "@2"),
        (alarm(ACTIVATE, 5, AlarmType::Nospace), "@2 5:NOSPACE"),
        (put("a", ""), full),
        (grant(2, 9), full),
        (txn([], [put("a", "")], []), full),
        (txn([], [], [put("a", "")]), full),
        (txn([], [txn([], [put("a", "")], [])], []), full),
        (txn([], [], []), "@2 then"),
        (txn([], [delete("x", ""), Request::Range(range("a", ""))], []), "@2 then [@2 deleted 0] [@2 a= 2/2/1 of 1]"),
        (delete("a", ""), "@3 deleted 1"),
        (compact(3), "@3"),
        (revoke(1), "@3"),
        (alarm(DEACTIVATE, 5, AlarmType::Nospace), "@3 5:NOSPACE"),
        (put("a", ""), "@4"),
    ]);
}

#[test]
fn a_corrupt_cluster_takes_nothing_through_the_log_until_it_is_cleared() {
    let corrupt = "error: corrupt cluster";
    let mut member = Member::new();
    member.expect([
        (put("a", ""), "@2"),
        (grant(1, 9), "@2 id 1 ttl 9"),
        (alarm(ACTIVATE, 5, AlarmType::Nospace), "@2 5:NOSPACE"),
        (alarm(ACTIVATE, 5, AlarmType::Corrupt), "@2 5:CORRUPT"),
        (put("a", ""), corrupt),
        (delete("a", ""), corrupt),
        (txn([], [], []), corrupt),
        (Request::Range(range("a", "")), corrupt),
        (compact(2), corrupt),
        (grant(2, 9), corrupt),
        (revoke(1), corrupt),
        // These pass, as in etcd.
        (Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: vec![] }), "@2"),
        (Request::ClusterVersionSet(ClusterVersionSetRequest { ver: "3.5.0".to_owned() }), "@2"),
    ]);
    assert_eq!(change(&mut member, &Change::Add(cluster_member(1, false))).0, Ok(vec![1]));
    assert_eq!(member.machine.shared().range(&range("a", "")).unwrap().revision, 2);
    member.expect([
        (alarm(DEACTIVATE, 5, AlarmType::Corrupt), "@2 5:CORRUPT"),
        // Clearing one alarm leaves the other (etcd 3.5 lifts both).
        (put("a", ""), "error: database space exceeded"),
    ]);
}

fn cluster_member(id: u64, is_learner: bool) -> membership::Member {
    let peer_urls = vec![format!("http://m{id}:2380")];
    membership::Member { id: MemberId(id), peer_urls, is_learner, ..membership::Member::default() }
}

fn change(member: &mut Member, change: &Change) -> (Result<Vec<u64>, ApplyError>, VoterChange) {
    let mut applied = member.entry(EntryKind::ConfChange, encode_conf_change(9, change));
    let (id, _, result) = applied.results.pop().unwrap();
    assert_eq!((id, applied.voter_changes.len()), (9, 1));
    let members = result.map(|reply| {
        assert_eq!(reply.revision, 0);
        let body = reply.body.into_bytes().unwrap();
        let members = match change {
            Change::Add(added) => {
                let response: MemberAddResponse = decode(&body);
                assert_eq!(response.member.unwrap().id, added.id.0);
                response.members
            }
            _ => decode::<MemberListResponse>(&body).members,
        };
        members.into_iter().map(|member| member.id).collect()
    });
    (members, applied.voter_changes[0])
}

#[test]
fn membership_entries_change_members_rows_and_voters() {
    let mut member = Member::new();
    let (id1, id2, id3) = (MemberId(1), MemberId(2), MemberId(3));
    let urls = vec!["http://new:1".to_owned()];
    let refused = |error| (Err(ApplyError::Membership(error)), VoterChange::Unchanged);
    for (asked, expected) in [
        (Change::Add(cluster_member(1, false)), (Ok(vec![1]), VoterChange::AddVoter(id1))),
        (Change::Add(cluster_member(2, true)), (Ok(vec![1, 2]), VoterChange::AddLearner(id2))),
        (Change::Add(cluster_member(3, true)), refused(MembershipError::TooManyLearners)),
        (Change::Promote(id2), (Ok(vec![1, 2]), VoterChange::AddVoter(id2))),
        (Change::Add(cluster_member(3, false)), (Ok(vec![1, 2, 3]), VoterChange::AddVoter(id3))),
        (Change::Update { id: id3, peer_urls: urls }, (Ok(vec![1, 2, 3]), VoterChange::Unchanged)),
        (Change::Remove(id1), (Ok(vec![2, 3]), VoterChange::Remove(id1))),
        (Change::Add(cluster_member(1, false)), refused(MembershipError::IdRemoved)),
    ] {
        assert_eq!(change(&mut member, &asked), expected, "{asked:?}");
    }
    let row = br#"{"id":3,"peerURLs":["http://new:1"]}"#.to_vec();
    assert_eq!(member.backend.value(Table::Members, b"3").unwrap(), Some(row));
    assert_eq!(member.backend.value(Table::Members, b"1").unwrap(), None);
    assert_eq!(member.backend.value(Table::MembersRemoved, b"1").unwrap(), Some(b"removed".to_vec()));
    let state = br#"{"voters":[2,3],"auto_leave":false}"#.to_vec();
    assert_eq!(member.backend.value(Table::Meta, b"confState").unwrap(), Some(state));
    let before = member.machine.shared().membership();
    assert_eq!(member.restart().machine.shared().membership(), before);
}

/// An entry as etcd writes it: a `raftpb.ConfChange` in proto2, zeros written.
fn etcd_entry(id: u64, kind: u8, node: u64, context: &str) -> Bytes {
    let mut data = vec![0x08];
    types::put_varint(&mut data, id);
    data.extend([0x10, kind, 0x18]);
    types::put_varint(&mut data, node);
    if !context.is_empty() {
        data.push(0x22);
        types::put_varint(&mut data, context.len() as u64);
        data.extend_from_slice(context.as_bytes());
    }
    data.into()
}

/// Every kind that etcd's members write into a log, from the first entry of a cluster of three on.
#[test]
fn membership_entries_of_etcd_are_read() {
    let mut member = Member::new();
    let three = [(0x1f, "m1"), (0x2f, "m2"), (0x9372_538d_e8c7_1a3c, "m3")];
    let voter = |id, name: &str| {
        let context = format!(r#"{{"id":{id},"peerURLs":["http://{name}:2380"],"name":"{name}"}}"#);
        etcd_entry(0, 0, id, &context)
    };
    for (id, name) in three {
        let applied = member.entry(EntryKind::ConfChange, voter(id, name));
        assert_eq!(applied.voter_changes, [VoterChange::AddVoter(MemberId(id))]);
        assert!(matches!(applied.results[..], [(0, _, Ok(_))]), "nobody waits for it");
    }
    let added = |url: &str, learner: &str| format!(r#"{{"id":5,"peerURLs":["{url}"]{learner}}}"#);
    let learner = r#","isLearner":true"#;
    let promoted = r#"{"id":5,"peerURLs":null,"isPromote":true}"#;
    let id5 = MemberId(5);
    use VoterChange::{AddLearner, AddVoter, Remove, Unchanged};
    for (id, kind, node, context, expected, error) in [
        (71, 3, 5, &added("http://m1:2380", learner)[..], Unchanged, "membership: peerURL exists"),
        (72, 3, 5, &added("http://m5:2380", learner), AddLearner(id5), ""),
        (
            73,
            3,
            6,
            r#"{"id":6,"peerURLs":["http://m6:2380"],"isLearner":true}"#,
            Unchanged,
            "membership: too many learner members in cluster",
        ),
        (74, 3, 5, &added("http://m5:2380", learner), Unchanged, "membership: ID exists"),
        (75, 2, 5, &added("http://new:2380", ""), Unchanged, ""),
        (76, 0, 5, promoted, AddVoter(id5), ""),
        (77, 0, 5, promoted, Unchanged, "membership: can only promote a learner member"),
        (78, 0, 9, r#"{"id":9,"peerURLs":null,"isPromote":true}"#, Unchanged, "membership: ID not found"),
        (79, 2, 5, &added("http://m2:2380", ""), Unchanged, "membership: peerURL exists"),
        (80, 1, 5, "", Remove(id5), ""),
        (81, 1, 5, "", Unchanged, "membership: ID removed"),
        (82, 0, 5, promoted, Unchanged, "membership: ID removed"),
        (83, 1, 9, "", Unchanged, "membership: ID not found"),
    ] {
        let applied = member.entry(EntryKind::ConfChange, etcd_entry(id, kind, node, context));
        let (found, _, result) = &applied.results[0];
        assert_eq!((*found, &applied.voter_changes[..]), (id, &[expected][..]), "{context}");
        let text = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(text, error, "{id}: {context}");
        if id == 75 {
            let updated = member.machine.shared().membership().member(id5).cloned().unwrap();
            assert!(updated.is_learner && updated.peer_urls == ["http://new:2380"]);
        }
    }
    let state = br#"{"voters":[31,47,10624646339881278012],"auto_leave":false}"#.to_vec();
    assert_eq!(member.backend.value(Table::Meta, b"confState").unwrap(), Some(state));
    let membership = member.machine.shared().membership();
    let names: Vec<_> = membership.members().map(|member| (member.id.0, &member.attributes.name[..])).collect();
    assert_eq!(names, three);
    assert!(membership.is_removed(id5));
}

#[test]
fn membership_entries_that_cannot_be_read_still_tell_raft() {
    let mut member = Member::new();
    for (kind, data) in [
        (EntryKind::ConfChange, &b"\xff"[..]),
        (EntryKind::ConfChange, b"\x08\x09\x10\x07"),
        (EntryKind::ConfChange, b""),
        // A kind that is none, no JSON, and JSON about another member.
        (EntryKind::ConfChange, b"\x08\x09\x10\x07\x18\x05"),
        (EntryKind::ConfChange, b"\x08\x09\x10\x00\x18\x05\x22\x01{"),
        (EntryKind::ConfChange, b"\x08\x09\x10\x00\x18\x05\x22\x08{\"id\":4}"),
        (EntryKind::ConfChangeV2, b""),
    ] {
        let applied = member.entry(kind, data.into());
        assert_eq!(applied.voter_changes, [VoterChange::Unchanged]);
        assert!(applied.results[0].2.is_err());
    }
}

#[test]
fn members_publish_themselves_and_versions_are_agreed() {
    let mut member = Member::new();
    change(&mut member, &Change::Add(cluster_member(1, false))).0.unwrap();
    let publish = |member_id, name: &str| {
        let attributes = Attributes { name: name.to_owned(), client_urls: vec!["http://c:1".to_owned()] };
        let request = ClusterMemberAttrSetRequest { member_id, member_attributes: Some(attributes) };
        Request::ClusterMemberAttrSet(request)
    };
    let version = |ver: &str| Request::ClusterVersionSet(ClusterVersionSetRequest { ver: ver.to_owned() });
    let downgrade = Request::DowngradeInfoSet(DowngradeInfoSetRequest { enabled: true, ver: "3.4.0".to_owned() });
    member.expect([
        (publish(1, "one"), "@1"),
        (publish(2, "two"), "error: membership: ID not found"),
        (version("three"), "error: not a version: \"three\""),
        (version("3.5.30"), "@1"),
        (downgrade, "@1"),
    ]);
    let cluster = |key: &[u8]| member.backend.value(Table::Cluster, key).unwrap().unwrap();
    assert_eq!(cluster(b"clusterVersion"), b"3.5.0");
    assert_eq!(cluster(b"downgrade"), br#"{"target-version":"3.4.0","enabled":true}"#);
    let member = member.restart();
    let membership = member.machine.shared().membership();
    assert_eq!(membership.version().unwrap().to_string(), "3.5.0");
    assert_eq!(membership.member(MemberId(1)).unwrap().attributes.name, "one");
    let reply = member.machine.shared().list_members();
    let list: MemberListResponse = decode(&reply.body.into_bytes().unwrap());
    assert_eq!((reply.revision, &list.members[0].name[..]), (0, "one"));
}
