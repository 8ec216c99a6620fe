//! A member's data made that of a cluster of one, whatever crash it went through before and while that was done.

mod engine;

use std::path::Path;

use api::etcdserverpb::PutRequest;
use api::etcdserverpb::internal_raft_request::Request;
use engine::Engine;
use env::{SimDisk, Survival};
use membership::{Change, Member};
use types::MemberId;

const SEGMENT_SIZE_BYTES: u64 = 64 << 10;
const LOST: MemberId = MemberId(22);
const NEVER_CAME: MemberId = MemberId(33);
const SURVIVALS: [Survival; 3] = [Survival::None, Survival::All, Survival::Random(7)];

fn add(id: MemberId) -> Change {
    Change::Add(Member { id, peer_urls: vec![format!("http://m{id}:2380")], ..Member::default() })
}

/// A member that wrote, got company, and lost it: from then on nothing of what it appends is ever committed, neither
/// puts nor one more member. Returns after how many disk operations which put was acknowledged.
fn left_behind(disk: &SimDisk) -> Vec<(usize, String)> {
    let mut engine = Engine::start(disk, SEGMENT_SIZE_BYTES).expect("a new member starts");
    let mut acknowledged = Vec::new();
    for number in 0..12 {
        let key = format!("key{number}");
        assert!(engine.put(&key, "value"));
        acknowledged.push((disk.operation_count(), key));
        if number == 5 {
            engine.commit_backend();
        }
    }
    engine.change(&add(LOST));
    assert_eq!(engine.members().len(), 2);
    let put = PutRequest { key: "lost".into(), value: "value".into(), ..Default::default() };
    assert!(!engine.request(Request::Put(put)));
    engine.change(&add(NEVER_CAME));
    assert!(!engine.put("lost too", "value"));
    acknowledged
}

fn forced(disk: &SimDisk) -> Engine {
    Engine::start_with(disk, SEGMENT_SIZE_BYTES, |settings| settings.force_new_cluster = true)
        .unwrap_or_else(|error| panic!("not forced: {error}"))
}

/// The member is alone, has what was acknowledged, and serves.
fn check(engine: &mut Engine, acknowledged: &[&str], context: &str) {
    let own = engine.core.identity.member_id;
    assert_eq!(engine.members(), [own], "{context}");
    for key in acknowledged {
        assert_eq!(engine.get(key).as_deref(), Some("value"), "{context}: {key}");
    }
    assert!(engine.put("after", "value"), "{context}");
    let membership = engine.core.machine.shared().membership();
    assert_eq!(membership.conf_state().voters, [own], "{context}");
}

#[test]
fn a_crashed_member_becomes_a_cluster_of_one() {
    let disk = SimDisk::recording();
    let acknowledged = left_behind(&disk);
    let first = acknowledged[0].0;
    for cut in first..=disk.operation_count() {
        for survival in SURVIVALS {
            let context = format!("cut after operation {cut}, {survival:?}");
            let durable: Vec<&str> =
                acknowledged.iter().take_while(|(at, _)| *at <= cut).map(|(_, key)| key.as_str()).collect();
            let crashed = disk.crash_at(cut, survival);
            let mut engine = forced(&crashed);
            check(&mut engine, &durable, &context);
            assert!(engine.core.machine.shared().membership().member(LOST).is_none());

            // It stays alone without being told again, and being told again changes nothing.
            drop(engine);
            let again = Engine::start(&crashed, SEGMENT_SIZE_BYTES).expect("it starts");
            assert_eq!(again.members().len(), 1, "{context}");
            drop(again);
            check(&mut forced(&crashed), &durable, &context);
        }
    }
}

#[test]
fn a_crash_while_it_is_forced_is_no_harm() {
    let disk = SimDisk::recording();
    let acknowledged = left_behind(&disk);
    let keys: Vec<&str> = acknowledged.iter().map(|(_, key)| key.as_str()).collect();
    let before = disk.operation_count();
    let mut engine = forced(&disk);
    engine.commit_backend();
    drop(engine);
    for cut in before..=disk.operation_count() {
        for survival in SURVIVALS {
            let crashed = disk.crash_at(cut, survival);
            check(&mut forced(&crashed), &keys, &format!("cut after operation {cut}, {survival:?}"));
        }
    }
}

/// The log of a while ago beside the state of now, as a restored copy or a disk that lied has it: what the state has counts.
#[test]
fn a_log_that_ends_before_the_state_begins_anew_after_it() {
    let disk = SimDisk::new();
    let mut engine = Engine::start(&disk, SEGMENT_SIZE_BYTES).expect("a new member starts");
    for number in 0..5 {
        assert!(engine.put(&format!("key{number}"), "value"));
    }
    let log = Path::new("/data/wal/0000000000000001.wal");
    let behind = disk.contents(log).expect("it is there");
    for number in 5..10 {
        assert!(engine.put(&format!("key{number}"), "value"));
    }
    engine.change(&add(LOST));
    assert_eq!(engine.members().len(), 2);
    engine.commit_backend();
    let (revision, applied) = (engine.revision(), engine.core.backend.applied());
    drop(engine);
    disk.damage(log, 0, &behind).expect("it is there");

    let refused = Engine::start(&disk, SEGMENT_SIZE_BYTES).map(drop).expect_err("the log has lost entries");
    assert!(refused.to_string().contains("damaged"), "{refused}");
    let keys: Vec<String> = (0..10).map(|number| format!("key{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut engine = forced(&disk);
    assert_eq!(engine.revision(), revision);
    check(&mut engine, &keys, "forced");
    assert!(engine.core.wal.first() == applied.0.next() && engine.core.wal.last() > applied.0);
    drop(engine);
    let mut again = Engine::start(&disk, SEGMENT_SIZE_BYTES).expect("it starts, without being told again");
    check(&mut again, &keys, "started again");
    drop(again);
    check(&mut forced(&disk), &keys, "forced again");
}

/// What it had not been told to be committed may have been: nobody is left who could say that it was not.
#[test]
fn what_was_not_known_to_be_committed_is_kept() {
    let disk = SimDisk::recording();
    left_behind(&disk);
    let engine = forced(&disk);
    assert_eq!(engine.get("lost").as_deref(), Some("value"));
    assert_eq!(engine.get("lost too").as_deref(), Some("value"));
    // One that was never a member when it counted is gone as well, for good.
    assert!(engine.core.machine.shared().membership().is_removed(LOST));
    assert!(engine.core.machine.shared().membership().member(NEVER_CAME).is_none());
}
