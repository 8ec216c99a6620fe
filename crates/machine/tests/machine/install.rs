//! A member takes over another's state, log and all, and the power goes at any moment: it starts with the one state or the
//! other, and goes on like the others.

use std::path::Path;
use std::sync::Arc;

use backend::{Backend, Import, Options};
use env::{SimDisk, Survival};
use machine::Applied;
use types::{ClusterId, EntryKind, HardState, Index, LogEntry, MemberId, Term};
use wal::{Wal, WalMeta, WalOptions};

use crate::harness::{Member, at, encode, options, put};

const META: WalMeta = WalMeta { cluster: ClusterId(1), member: MemberId(2) };
const OPTIONS: WalOptions = WalOptions { segment_size_bytes: 16 << 10 };

/// Where the leader stands.
const LEADER_AT: u64 = 60;
/// How far the follower's state reaches on disk, and its log: the rest of it contradicts the leader's.
const STATE_AT: u64 = 8;
const COMMITTED_AT: u64 = 12;
const LOG_AT: u64 = 15;

fn log_dir() -> &'static Path {
    Path::new("wal")
}

fn entry(index: u64, term: u64) -> LogEntry {
    let data = encode(index, put(&format!("key{}", index % 7), &format!("{index} of {term}")));
    LogEntry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data }
}

/// The log everybody ends up with.
fn common(indexes: std::ops::RangeInclusive<u64>) -> Vec<LogEntry> {
    indexes.map(|index| entry(index, if index <= COMMITTED_AT { 1 } else { 3 })).collect()
}

fn apply(member: &mut Member, entries: &[LogEntry]) {
    member.machine.apply(entries, at(0), &mut Applied::default()).unwrap();
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: MemberId(vote), commit: Index(commit) }
}

/// What a start makes of the disk: the member and its log.
fn start(disk: &SimDisk) -> (Member, Wal) {
    let arc = || Arc::new(disk.clone());
    let backend = Backend::open(arc(), Path::new("db"), Options::default()).unwrap();
    let (wal, recovered) = Wal::open(arc(), log_dir(), OPTIONS, backend.applied().0, Index(0)).unwrap();
    backend.settle_received(recovered.first).unwrap();
    let applied = backend.applied().0;
    drop(backend);
    let mut member = Member::on(disk.clone(), options());
    assert!(recovered.first <= applied.next(), "entries {} to {} are missing", applied.next(), recovered.first);
    let commit = recovered.hard_state.commit;
    let committed = recovered.entries.into_iter().filter(|entry| entry.index <= commit);
    apply(&mut member, &committed.collect::<Vec<_>>());
    (member, wal)
}

#[test]
fn every_cut_of_an_installation_leaves_a_member_that_goes_on() {
    let mut leader = Member::new();
    apply(&mut leader, &common(1..=LEADER_AT));
    leader.backend.commit().unwrap();
    let mut export = leader.backend.export();
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    let more = common(LEADER_AT + 1..=LEADER_AT + 3);
    apply(&mut leader, &more);
    leader.backend.commit().unwrap();

    let disk = SimDisk::new();
    let arc = || Arc::new(disk.clone());
    let mut wal = Wal::create(arc(), log_dir(), META, OPTIONS).unwrap();
    let own = [common(1..=COMMITTED_AT), (COMMITTED_AT + 1..=LOG_AT).map(|index| entry(index, 2)).collect()].concat();
    wal.append(&own, Some(hard_state(4, 9, COMMITTED_AT))).unwrap();
    wal.sync().unwrap();
    let mut member = Member::on(disk.clone(), options());
    apply(&mut member, &own[..STATE_AT as usize]);
    member.backend.commit().unwrap();
    apply(&mut member, &own[..COMMITTED_AT as usize]);
    disk.settle();
    disk.record();

    let mut import = Import::create(arc(), Path::new("db"), Options::default()).unwrap();
    chunks.iter().for_each(|chunk| import.write(chunk).unwrap());
    let snapshot = import.finish().unwrap();
    let received = disk.operation_count();
    wal.restart_at(snapshot.0, snapshot.1).unwrap();
    let restarted = disk.operation_count();
    member.machine.adopt_received(snapshot).unwrap();
    let adopted = disk.operation_count();
    wal.append(&more, Some(hard_state(4, 9, LEADER_AT + 3))).unwrap();
    wal.sync().unwrap();
    apply(&mut member, &more);
    member.backend.commit().unwrap();
    let committed = disk.operation_count();
    assert_eq!((member.hash(), member.tables()), (leader.hash(), leader.tables()));

    for cut in 0..=committed {
        for survival in [Survival::None, Survival::All, Survival::Random(cut as u64), Survival::Random(!cut as u64)] {
            let survivor = disk.crash_at(cut, survival);
            let at = format!("cut {cut} of {received}, {restarted}, {adopted}, {committed} ({survival:?})");
            let (mut member, mut wal) = start(&survivor);
            let applied = member.machine.applied();
            let is_old = applied == Index(COMMITTED_AT);
            assert!(is_old || applied >= Index(LEADER_AT), "{at}: {applied}");
            assert!(!is_old || cut < restarted, "{at}: what was installed is gone");
            assert!(cut >= received || is_old, "{at}: there was nothing to install yet");
            assert_eq!(Backend::received(&survivor, Path::new("db")).unwrap(), None, "{at}");
            // It goes on with what it lacks: appended after the snapshot, or in place of its own tail.
            let rest = common(applied.0 + 1..=LEADER_AT + 3);
            wal.append(&rest, Some(hard_state(5, 1, LEADER_AT + 3))).unwrap();
            wal.sync().unwrap();
            apply(&mut member, &rest);
            assert_eq!(member.hash(), leader.hash(), "{at}");
            // And finds all of it again, the vote among it.
            drop((member, wal));
            let (member, _) = start(&survivor.crash(Survival::None));
            assert_eq!((member.hash(), member.machine.applied()), (leader.hash(), leader.machine.applied()), "{at}");
            member.backend.commit().unwrap();
            assert_eq!((member.tables(), member.backend.digest()), (leader.tables(), leader.backend.digest()), "{at}");
        }
    }
}
