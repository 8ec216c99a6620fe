//! Power cuts: a recorded run of one member on a simulated disk, cut after every change of the disk.
//!
//! Whatever the disk kept of what was not synced, a start from the cut must find every acknowledged write, must not go
//! back in revisions, and must be able to go on and be cut again.

mod engine;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest};
use bytes::Bytes;
use engine::Engine;
use env::{SimDisk, Survival};
use mvcc::RangeQuery;
use types::KeyRange;

/// Small enough for the log to begin new ones.
const SEGMENT_SIZE_BYTES: u64 = 64 << 10;

/// What was acknowledged after how many disk operations.
struct Acknowledged {
    operations: usize,
    revision: i64,
    /// Key and value; `None` for deleted.
    state: (String, Option<String>),
}

/// Puts, deletes, leases and a compaction, with backend commits, log rolls and releases in between.
fn recorded_run(disk: &SimDisk) -> Vec<Acknowledged> {
    let mut engine = Engine::start(disk, SEGMENT_SIZE_BYTES).expect("a new member starts");
    let mut acknowledged = vec![];
    for round in 0..120u32 {
        let key = format!("key{}", round % 10);
        let value = format!("{round}-{}", "x".repeat(round as usize * 17 % 900));
        let state = match round % 15 {
            7 => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                assert!(engine.request(Request::DeleteRange(DeleteRangeRequest { key, ..Default::default() })));
                None
            }
            11 => {
                let id = i64::from(round);
                assert!(engine.request(Request::LeaseGrant(LeaseGrantRequest { ttl: 60, id })));
                assert!(engine.put(&key, &value));
                assert!(engine.request(Request::LeaseRevoke(LeaseRevokeRequest { id })));
                Some(value)
            }
            _ => {
                assert!(engine.put(&key, &value));
                Some(value)
            }
        };
        let operations = disk.operation_count();
        acknowledged.push(Acknowledged { operations, revision: engine.revision(), state: (key, state) });
        if round % 9 == 8 {
            engine.commit_backend();
        }
        if round == 60 {
            let revision = engine.revision() - 20;
            assert!(engine.request(Request::Compaction(CompactionRequest { revision, physical: false })));
            engine.prune();
        }
    }
    engine.commit_backend();
    acknowledged
}

fn check_cut(disk: &SimDisk, cut: usize, survival: Survival, acknowledged: &[Acknowledged]) {
    let context = || format!("cut after operation {cut} ({}), {survival:?}", disk.describe(cut.saturating_sub(1)));
    let after = disk.crash_at(cut, survival);
    let mut engine = Engine::start(&after, SEGMENT_SIZE_BYTES).unwrap_or_else(|error| panic!("{}: {error}", context()));
    let durable = acknowledged.iter().take_while(|write| write.operations <= cut).collect::<Vec<_>>();
    let revision = durable.last().map_or(1, |write| write.revision);
    assert!(engine.revision() >= revision, "{}: revision {} < {revision}", context(), engine.revision());
    // Writes in flight may or may not have made it: one more than was acknowledged.
    let in_flight = &acknowledged[durable.len()..(durable.len() + 1).min(acknowledged.len())];
    for number in 0..10 {
        let key = format!("key{number}");
        let last = durable.iter().rev().find(|write| write.state.0 == key).and_then(|write| write.state.1.clone());
        let found = engine.get(&key);
        let could_be = in_flight.iter().any(|write| write.state == (key.clone(), found.clone()));
        assert!(found == last || could_be, "{}: {key} is {found:?}, acknowledged was {last:?}", context());
    }
    let query = RangeQuery { count_only: true, ..RangeQuery::current(KeyRange::all()) };
    let view = engine.core.machine.shared().view().clone();
    let count = view.range(&query).expect("the state reads").count;
    assert_eq!(count, (0..10).filter(|number| engine.get(&format!("key{number}")).is_some()).count() as i64);
    assert!(engine.put("after", "the cut"), "{}: the member goes on", context());
    let before = (engine.revision(), engine.get("key3"));
    drop(engine);
    let engine = Engine::start(&after.crash(Survival::None), SEGMENT_SIZE_BYTES)
        .unwrap_or_else(|error| panic!("{}: {error}", context()));
    assert_eq!((engine.revision(), engine.get("key3")), before, "{}: a second cut", context());
    assert_eq!(engine.get("after").as_deref(), Some("the cut"), "{}: a second cut", context());
}

#[test]
fn every_cut_of_a_run_recovers_what_was_acknowledged() {
    let disk = SimDisk::recording();
    let acknowledged = recorded_run(&disk);
    let operations = disk.operation_count();
    assert!(operations > 300, "the run changes the disk often enough to be worth cutting: {operations}");
    let stride = std::env::var("CRASH_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for cut in (0..=operations).step_by(stride) {
        for survival in [Survival::None, Survival::All, Survival::Random(cut as u64)] {
            check_cut(&disk, cut, survival, &acknowledged);
        }
    }
}

#[test]
fn a_failed_sync_stops_the_log_for_good() {
    use env::{DiskOperation, Fault};
    let disk = SimDisk::new();
    let mut engine = Engine::start(&disk, SEGMENT_SIZE_BYTES).expect("a new member starts");
    assert!(engine.put("key", "before"));
    disk.inject(Fault {
        operation: Some(DiskOperation::SyncData),
        path_contains: "wal".into(),
        skip: 0,
        times: u64::MAX,
        error: std::io::ErrorKind::Other,
    });
    let append = |engine: &mut Engine| {
        engine.core.wal.append(&[], Some(types::HardState::default())).and_then(|()| engine.core.wal.sync())
    };
    let first = append(&mut engine).expect_err("the disk failed").to_string();
    assert!(first.contains("/data/wal/"), "the file is named: {first}");
    disk.heal();
    assert!(append(&mut engine).is_err(), "a failed sync is never retried");
}
