//! Leases through the log, and what is told about them.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use api::membershippb::ClusterVersionSetRequest;
use backend::Table;
use machine::NotPrimary;
use std::time::Duration;
use types::{EntryKind, LeaseId};

use crate::harness::{Member, at, compact, decode, delete, encode, grant, put, put_leased, range, revoke, txn};

#[test]
fn grants_are_checked_and_stored() {
    let mut member = Member::new();
    member.expect([
        (grant(7, 10), "@1 id 7 ttl 10"),
        (grant(-1, 0), "@1 id -1 ttl 2"),
        (grant(7, 10), "error: lease already exists"),
        (grant(8, 9_000_000_001), "error: too large lease TTL"),
        (grant(0, 10), "error: requested lease not found"),
    ]);
    let rows = [(7i64.to_be_bytes().to_vec(), b"\x08\x07\x10\x0a".to_vec())];
    assert_eq!(member.backend.values(Table::Lease).unwrap()[..1], rows);
    member.expect([(revoke(7), "@1"), (revoke(7), "error: requested lease not found")]);
    assert_eq!(member.backend.values(Table::Lease).unwrap().len(), 1);
}

#[test]
fn revoking_deletes_the_keys_in_order_in_one_revision() {
    let mut member = Member::new();
    member.expect([
        (grant(1, 10), "@1 id 1 ttl 10"),
        (grant(2, 10), "@1 id 2 ttl 10"),
        (put_leased("c", "", 1), "@2"),
        (put_leased("a", "", 1), "@3"),
        (txn([], [put_leased("b", "", 1), put_leased("d", "", 1)], []), "@4 then [@4] [@4]"),
        // These no longer hang from it: moved, detached, deleted.
        (put_leased("moved", "", 1), "@5"),
        (put_leased("moved", "", 2), "@6"),
        (put_leased("detached", "", 1), "@7"),
        (put("detached", ""), "@8"),
        (delete("d", ""), "@9 deleted 1"),
        (put("d", ""), "@10"),
    ]);
    let applied = member.entry(EntryKind::Normal, encode(1, revoke(1)));
    assert_eq!(applied.events.len(), 1);
    let deleted = applied.events[0].events.iter().map(|event| {
        assert!(event.row.tombstone);
        (event.row.revision.sub, event.record.key().to_vec())
    });
    assert_eq!(deleted.collect::<Vec<_>>(), [(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())]);
    member.expect([
        (Request::Range(range("a", "\0")), "@11 d= 10/10/1 detached= 7/8/2 moved= 5/6/2/lease2 of 3"),
        (revoke(2), "@12"),
        (put_leased("x", "", 2), "error: requested lease not found"),
    ]);
}

#[test]
fn attachments_survive_a_restart() {
    let mut member = Member::new();
    member.expect([
        (grant(-8, 10), "@1 id -8 ttl 10"),
        (put_leased("a", "", -8), "@2"),
        (put_leased("b", "", -8), "@3"),
        (delete("b", ""), "@4 deleted 1"),
        (compact(4), "@4"),
    ]);
    let mut member = member.restart();
    let keys = |member: &Member| {
        let lessor = member.machine.shared().lessor().lock();
        lessor.keys(LeaseId(-8)).map(|keys| keys.map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    assert_eq!(keys(&member), Some(vec![b"a".to_vec()]));
    member.expect([(revoke(-8), "@5"), (Request::Range(range("a", "\0")), "@5 of 0")]);
}

#[test]
fn checkpoints_are_stored_once_the_cluster_is_at_3_6() {
    let checkpoint = |id, remaining_ttl| {
        let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }, LeaseCheckpoint { id: 99, remaining_ttl }];
        Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
    };
    let version = |ver: &str| Request::ClusterVersionSet(ClusterVersionSetRequest { ver: ver.to_owned() });
    let stored = |member: &Member| member.backend.values(Table::Lease).unwrap()[0].1.clone();
    let mut member = Member::new();
    member.expect([(grant(1, 100), "@1 id 1 ttl 100"), (version("3.5.0"), "@1"), (checkpoint(1, 40), "@1")]);
    assert_eq!(stored(&member), b"\x08\x01\x10\x64");
    member.expect([(version("3.6.0"), "@1"), (checkpoint(1, 40), "@1")]);
    assert_eq!(stored(&member), b"\x08\x01\x10\x64\x18\x28");
    let member = member.restart();
    let mut lessor = member.machine.shared().lessor().lock();
    lessor.promote(at(0), Duration::ZERO);
    assert_eq!(lessor.time_to_live(LeaseId(1), at(0)).unwrap().remaining_ttl, Some(40));
}

#[test]
fn only_the_leader_tells_how_long_leases_have_left() {
    let mut member = Member::new();
    member.expect([
        (grant(1, 100), "@1 id 1 ttl 100"),
        (grant(2, 50), "@1 id 2 ttl 50"),
        (put_leased("k", "", 1), "@2"),
    ]);
    let shared = member.machine.shared().clone();
    let request = |id, keys| LeaseTimeToLiveRequest { id, keys };
    assert_eq!(shared.time_to_live(&request(1, true), at(0)).unwrap_err(), NotPrimary);
    shared.lessor().lock().promote(at(10), Duration::ZERO);
    let told = |id, keys| {
        let reply = shared.time_to_live(&request(id, keys), at(15)).unwrap();
        assert_eq!(reply.revision, 2);
        let told: LeaseTimeToLiveResponse = decode(&reply.body.into_bytes().unwrap());
        (told.id, told.ttl, told.granted_ttl, told.keys.len())
    };
    assert_eq!(told(1, true), (1, 95, 100, 1));
    assert_eq!(told(1, false), (1, 95, 100, 0));
    assert_eq!(told(3, true), (3, -1, 0, 0));
    let leases: LeaseLeasesResponse = decode(&shared.leases().body.into_bytes().unwrap());
    assert_eq!(leases.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [2, 1]);
}
