//! Members that agree, and one that is handed the state of another.

use std::path::Path;
use std::sync::Arc;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{self as pb, AlarmType};
use backend::{Import, Options, Table};
use lease::LessorOptions;
use machine::{Alarm, Applied, MachineError, MachineOptions, encode_conf_change, snapshot_meta};
use membership::{Change, Member as Peer};
use proptest::prelude::*;
use types::{EntryKind, Index, LeaseId, LogEntry, MemberId, SnapshotMeta, Term};

use crate::harness::{Member, at, compact, delete, encode, grant, options, put, put_leased, revoke};
use crate::model::any_request;

/// Requests, and entries about members, leases and alarms among them.
fn any_entry() -> impl Strategy<Value = (EntryKind, bytes::Bytes)> {
    let normal = |request| (EntryKind::Normal, encode(1, request));
    let checkpoint = |(id, remaining_ttl)| {
        let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl }];
        Request::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints })
    };
    let alarm = |(action, member_id): (AlarmAction, u64)| {
        let alarm = AlarmType::Nospace.into();
        Request::Alarm(pb::AlarmRequest { action: action.into(), member_id, alarm })
    };
    let action = prop_oneof![1 => Just(AlarmAction::Activate), 4 => Just(AlarmAction::Deactivate)];
    prop_oneof![
        20 => any_request().prop_map(normal),
        2 => (1..4_i64, 0..12_i64).prop_map(checkpoint).prop_map(normal),
        1 => (action, 1..3_u64).prop_map(alarm).prop_map(normal),
        1 => (1..5_u64, any::<bool>()).prop_map(|(id, removes)| (EntryKind::ConfChange, change(id, removes))),
        1 => Just((EntryKind::Normal, bytes::Bytes::new())),
        1 => Just((EntryKind::Normal, bytes::Bytes::from_static(b"\xff"))),
    ]
}

fn change(id: u64, removes: bool) -> bytes::Bytes {
    let member = Peer {
        id: MemberId(id),
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        is_learner: false,
        attributes: membership::Attributes::default(),
    };
    encode_conf_change(9, &if removes { Change::Remove(MemberId(id)) } else { Change::Add(member) })
}

fn log(entries: Vec<(EntryKind, bytes::Bytes)>) -> Vec<LogEntry> {
    let entry = |((kind, data), index)| LogEntry { term: Term(1 + index / 10), index: Index(index), kind, data };
    entries.into_iter().zip(1..).map(entry).collect()
}

fn apply(member: &mut Member, entries: &[LogEntry]) {
    member.machine.apply(entries, at(0), &mut Applied::default()).unwrap();
}

/// Hands the committed state of `from` to `to`, without adopting it.
fn send(from: &Member, to: &Member) -> (Index, Term) {
    from.backend.commit().unwrap();
    let mut export = from.backend.export();
    let mut import = Import::create(Arc::new(to.disk.clone()), Path::new("db"), Options::default()).unwrap();
    while let Some(chunk) = export.next_chunk().unwrap() {
        import.write(&chunk).unwrap();
    }
    import.finish().unwrap()
}

fn hand_over(from: &Member, to: &mut Member) {
    let applied = send(from, to);
    to.machine.adopt_received(applied).unwrap();
}

/// The state but for what members do at a time of their own.
fn tables(member: &Member) -> Vec<(Table, Vec<backend::KeyValue>)> {
    let mut tables = member.tables();
    tables.iter_mut().for_each(|(_, rows)| rows.retain(|(key, _)| key != b"finishedCompactRev"));
    tables
}

type Leases = Vec<Option<(Vec<Vec<u8>>, Option<lease::TimeToLive>)>>;

fn leases(member: &Member) -> Leases {
    let lessor = member.machine.shared().lessor().lock();
    let lease = |id| {
        let keys = lessor.keys(LeaseId(id))?.map(<[u8]>::to_vec).collect();
        Some((keys, lessor.time_to_live(LeaseId(id), at(0))))
    };
    (1..4).map(lease).collect()
}

fn assert_equal(one: &Member, other: &Member) {
    assert_eq!(one.backend.commit().unwrap().applied, other.backend.commit().unwrap().applied);
    assert_eq!(one.backend.digest(), other.backend.digest());
    assert_eq!(one.hash(), other.hash());
    assert_eq!(tables(one), tables(other));
    assert_eq!(leases(one), leases(other));
    let (one, other) = (one.machine.shared(), other.machine.shared());
    assert_eq!(one.applied(), other.applied());
    assert_eq!(one.alarms(), other.alarms());
    let members = |shared: &machine::Shared| shared.membership().members().cloned().collect::<Vec<_>>();
    assert_eq!(members(one), members(other));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_member_that_was_handed_the_state_goes_on_like_the_others(
        entries in prop::collection::vec(any_entry(), 2..80),
        fell_behind_at in 0..80usize,
        handed_at in 0..80usize,
        restarts in any::<bool>(),
    ) {
        let entries = log(entries);
        let handed_at = handed_at.clamp(1, entries.len());
        let fell_behind_at = fell_behind_at.min(handed_at - 1);
        let (mut leader, mut follower) = (Member::new(), Member::new());
        apply(&mut follower, &entries[..fell_behind_at]);
        if fell_behind_at % 2 == 0 {
            follower.backend.commit().unwrap();
        }
        apply(&mut leader, &entries[..handed_at]);
        let shared = follower.machine.shared().clone();
        hand_over(&leader, &mut follower);
        prop_assert_eq!(shared.applied(), Index(handed_at as u64));
        assert_equal(&leader, &follower);
        if restarts {
            follower = follower.restart();
        }
        apply(&mut leader, &entries[handed_at..]);
        apply(&mut follower, &entries[handed_at..]);
        assert_equal(&leader, &follower);
        assert_equal(&leader, &follower.restart());
    }

    #[test]
    fn digests_depend_on_the_entries_alone(
        entries in prop::collection::vec(any_entry(), 1..60),
        pieces in prop::collection::vec(1..20usize, 1..6),
    ) {
        let entries = log(entries);
        let (mut whole, mut pieced) = (Member::new(), Member::with(MachineOptions {
            lessor: LessorOptions { ttl_min: 11, checkpoint_interval: None },
            persist_checkpoints: true,
            ..options()
        }));
        apply(&mut whole, &entries);
        let (mut left, mut pieces) = (&entries[..], pieces.iter().cycle());
        while !left.is_empty() {
            let (now, later) = left.split_at((*pieces.next().unwrap()).min(left.len()));
            apply(&mut pieced, now);
            while let mvcc::PruneStep::Removed(staged) = pieced.machine.shared().view().prune_step(3).unwrap() {
                pieced.backend.stage(staged);
            }
            if left.len() % 2 == 0 {
                pieced.backend.commit().unwrap();
            }
            left = later;
        }
        whole.backend.commit().unwrap();
        pieced.backend.commit().unwrap();
        prop_assert_eq!(whole.backend.digest(), pieced.backend.digest());
    }

    #[test]
    fn a_byte_that_differs_once_makes_the_digests_differ_for_good(
        entries in prop::collection::vec(any_entry(), 1..40),
        differs_at in 0..40usize,
    ) {
        let differs_at = differs_at.min(entries.len());
        let with = |value| {
            let mut entries = entries.clone();
            entries.insert(differs_at, (EntryKind::ConfChange, change(7, false)));
            entries.insert(differs_at, (EntryKind::Normal, encode(1, put("k", value))));
            log(entries)
        };
        let (mut one, mut other) = (Member::new(), Member::new());
        apply(&mut one, &with("value"));
        apply(&mut other, &with("valuf"));
        one.backend.commit().unwrap();
        other.backend.commit().unwrap();
        // While NOSPACE is raised the put is refused on both.
        let is_refused = one.machine.shared().view().get_at(b"k", one.machine.shared().view().revision()).unwrap().is_none()
            && one.hash() == other.hash();
        prop_assert!(is_refused || one.backend.digest() != other.backend.digest());
    }
}

#[test]
fn digests_are_remembered_at_every_thousandth_index() {
    // Mostly entries that only open a term: those are folded too.
    let data =
        |at: usize| if at.is_multiple_of(100) { encode(1, put(&at.to_string(), "")) } else { bytes::Bytes::new() };
    let puts = |count: usize| log((0..count).map(|at| (EntryKind::Normal, data(at))).collect());
    let entries = puts(66_500);
    let (mut one, mut other) = (Member::new(), Member::new());
    let shared = one.machine.shared().clone();
    apply(&mut one, &entries[..2500]);
    apply(&mut other, &entries[..2000]);
    let (first, second) = (shared.digest_at(Index(1000)).unwrap(), shared.digest_at(Index(2000)).unwrap());
    assert_ne!(first, second);
    assert_eq!(
        (shared.digest_at(Index(0)), shared.digest_at(Index(1500)), shared.digest_at(Index(3000))),
        (Some(0), None, None)
    );
    assert_eq!(other.machine.shared().digest_at(Index(1000)), Some(first));
    // A restart remembers that of the state it begins with.
    let mut other = other.restart();
    let (again, before) =
        (other.machine.shared().digest_at(Index(2000)), other.machine.shared().digest_at(Index(1000)));
    assert_eq!((again, before), (Some(second), None));
    apply(&mut one, &entries[2500..]);
    assert_eq!(shared.digest_at(Index(2000)), None, "only the latest 64 are remembered");
    assert!((3..=66).all(|thousand| shared.digest_at(Index(thousand * 1000)).is_some()));
    assert_eq!(shared.newest_digest(), shared.digest_at(Index(66_000)).map(|digest| (Index(66_000), digest)));
    // What a member has not applied itself it does not vouch for.
    hand_over(&one, &mut other);
    assert_eq!(other.machine.shared().digest_at(Index(66_000)), None);
    assert_eq!(other.machine.shared().newest_digest(), None);
    let more = puts(67_000);
    apply(&mut other, &more[66_500..]);
    apply(&mut one, &more[66_500..]);
    assert_eq!(other.machine.shared().digest_at(Index(67_000)), shared.digest_at(Index(67_000)));
}

#[test]
fn a_handed_state_replaces_leases_alarms_and_members_under_the_same_handles() {
    let (mut leader, mut follower) = (Member::new(), Member::new());
    let shared = follower.machine.shared().clone();
    for member in [&mut leader, &mut follower] {
        member.apply(grant(1, 10)).unwrap();
        member.apply(put_leased("a", "", 1)).unwrap();
    }
    leader.apply(revoke(1)).unwrap();
    leader.apply(grant(2, 20)).unwrap();
    leader.apply(put_leased("b", "", 2)).unwrap();
    leader.apply(delete("b", "")).unwrap();
    leader.apply(put_leased("c", "", 2)).unwrap();
    leader.apply(compact(4)).unwrap();
    let raise =
        pb::AlarmRequest { action: AlarmAction::Activate.into(), member_id: 3, alarm: AlarmType::Nospace.into() };
    leader.apply(Request::Alarm(raise)).unwrap();
    for (id, is_learner) in [(9, true), (5, false), (3, false)] {
        let peer_urls = vec![format!("http://10.0.0.{id}:2380")];
        let member = Peer { id: MemberId(id), peer_urls, is_learner, ..Peer::default() };
        leader.entry(EntryKind::ConfChange, encode_conf_change(9, &Change::Add(member)));
    }
    let applied = send(&leader, &follower);
    let expected = SnapshotMeta {
        index: applied.0,
        term: Term(1),
        voters: vec![MemberId(3), MemberId(5)],
        learners: vec![MemberId(9)],
    };
    assert_eq!(snapshot_meta(&leader.backend.view()).unwrap(), expected);
    assert_eq!(snapshot_meta(follower.backend.open_received().unwrap().view()).unwrap(), expected);
    follower.machine.adopt_received(applied).unwrap();
    {
        let lessor = shared.lessor().lock();
        assert!(!lessor.is_primary());
        assert_eq!(lessor.leases(), [LeaseId(2)]);
        assert_eq!(lessor.keys(LeaseId(2)).unwrap().collect::<Vec<_>>(), [b"c"]);
    }
    assert!(shared.has_alarm(Alarm::NoSpace));
    assert!(shared.membership().member(MemberId(5)).is_some());
    assert_eq!((shared.view().revision(), shared.view().compacted()), (6, 4));
    assert_eq!(follower.show(put("d", "")), "error: database space exceeded");
}

#[test]
fn only_the_expected_and_newer_state_is_adopted() {
    let (mut leader, mut follower) = (Member::new(), Member::new());
    leader.apply(put("a", "")).unwrap();
    let applied = send(&leader, &follower);
    let other = follower.machine.adopt_received((Index(2), Term(1)));
    assert!(matches!(other, Err(MachineError::OtherState { expected: Index(2), found: Index(1), applied: Index(0) })));
    follower.apply(put("a", "")).unwrap();
    let not_newer = follower.machine.adopt_received(applied);
    assert!(matches!(not_newer, Err(MachineError::OtherState { found: Index(1), applied: Index(1), .. })));
    assert_eq!(follower.show(put("a", "")), "@3");
    follower.backend.commit().unwrap();
}
