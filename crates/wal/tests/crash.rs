//! A recorded run of the log, cut after every operation on the disk.
//!
//! The oracle is the list of states the log went through, one after each record appended. Whatever a cut leaves must
//! be one of them, not older than the last one that was durable at the cut, and not newer than the last one appended.
#![allow(clippy::unwrap_used, reason = "in a test every failure is a panic")]

mod support;

use std::sync::Arc;

use env::{Disk, DiskOperation, Fault, Rng, SimDisk, Survival, SystemRng};
use support::*;
use types::{HardState, Index, LogEntry, MemberId, Term};
use wal::{Recovered, Wal, WalError};

/// The log as it ought to be after one more record.
#[derive(Clone, Debug)]
struct State {
    /// The disk operations done before this state could come to be.
    operations: usize,
    /// Where the log was last started anew.
    first: u64,
    last: u64,
    /// All since then, released or not.
    entries: Vec<LogEntry>,
    hard_state: HardState,
}

impl State {
    /// Whether this is what was found, given that entries before `released` may be gone.
    fn matches(&self, recovered: &Recovered, released: u64) -> bool {
        let kept = self.entries.iter().filter(|entry| entry.index >= recovered.first);
        recovered.last.0 == self.last
            && recovered.hard_state == self.hard_state
            && recovered.first.0 <= self.first.max(released.min(self.last + 1))
            && kept.eq(&recovered.entries)
    }
}

/// Drives a log on a recording disk and writes the oracle.
struct Run {
    options: wal::WalOptions,
    disk: SimDisk,
    wal: Wal,
    states: Vec<State>,
    /// (operations done, index into `states`): from then on nothing older may be found.
    durable: Vec<(usize, usize)>,
    /// (operations done, index): from then on entries before it may be gone.
    released: Vec<(usize, u64)>,
    rng: SystemRng,
    term: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = disk();
        disk.record();
        let options = if seed % 3 == 1 { mixed() } else { small() };
        let wal = create(&disk, options);
        let operations = disk.operation_count();
        let empty = State { operations: 0, first: 1, last: 0, entries: vec![], hard_state: HardState::default() };
        Run {
            options,
            disk,
            wal,
            states: vec![empty],
            durable: vec![(operations, 0)],
            released: vec![(0, 0)],
            rng: SystemRng::with_seed(seed),
            term: 1,
        }
    }

    fn state(&self) -> &State {
        self.states.last().expect("there is a state from the start")
    }

    fn push(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = State { operations: self.disk.operation_count(), ..self.state().clone() };
        change(&mut state);
        self.states.push(state);
    }

    fn push_hard_state(&mut self, hard_state: HardState) {
        if hard_state != self.state().hard_state {
            self.push(|state| state.hard_state = hard_state);
        }
    }

    fn mark_durable(&mut self) {
        self.durable.push((self.disk.operation_count(), self.states.len() - 1));
    }

    fn append(&mut self, from: u64, count: u64, len: usize, state: Option<HardState>) {
        let new = entries(from, count, self.term, len);
        self.wal.append(&new, state).unwrap();
        if let Some(state) = state {
            let known = self.state().hard_state;
            if (state.term, state.vote) != (known.term, known.vote) {
                let commit = if new.is_empty() { state.commit } else { known.commit };
                self.push_hard_state(HardState { commit, ..state });
            }
        }
        for entry in new {
            self.push(|state| {
                state.entries.retain(|held| held.index < entry.index);
                state.last = entry.index.0;
                state.entries.push(entry);
            });
        }
        if let Some(state) = state {
            self.push_hard_state(state);
        }
    }

    fn sync(&mut self) {
        self.wal.sync().unwrap();
        self.mark_durable();
    }

    /// One random thing a member does to its log.
    fn step(&mut self) {
        let (last, commit) = (self.state().last, self.state().hard_state.commit.0);
        match self.rng.below(40) {
            0..24 => {
                let count = 1 + self.rng.below(4);
                let len = [0, 10, 330, 330, 700, 5000][self.rng.below(6) as usize];
                let commit = commit + self.rng.below(last + count - commit + 1);
                let state = (self.rng.below(2) == 0).then_some(hard_state(self.term, 7, commit));
                self.append(last + 1, count, len, state);
            }
            24..28 if last > commit => {
                self.term += 1;
                let from = commit + 1 + self.rng.below(last - commit);
                let state = hard_state(self.term, self.rng.below(3), commit);
                let count = 1 + self.rng.below(5);
                self.append(from, count, 300, Some(state));
            }
            28..30 => {
                self.append(last + 1, 0, 0, Some(hard_state(self.term, 9, last)));
            }
            30..33 => {
                let bound = commit.saturating_sub(self.rng.below(8));
                self.released.push((self.disk.operation_count(), bound));
                self.wal.release_before(Index(bound)).unwrap();
            }
            33 => self.wal.prepare_spare().unwrap(),
            34 => self.wal.mark_durable().unwrap(),
            35 if self.rng.below(2) == 0 => {
                // Beyond the log's end, or within its tail, which the snapshot may contradict.
                let (index, term) = (commit + self.rng.below(last - commit + 50), self.term + self.rng.below(2));
                self.restart(index, term);
            }
            36 => self.be_killed_in_sync(),
            _ => self.sync(),
        }
        if self.rng.below(3) == 0 {
            self.sync();
        }
    }

    fn restart(&mut self, index: u64, term: u64) {
        self.push(|state| {
            state.hard_state.commit = Index(index);
            if state.hard_state.term < Term(term) {
                state.hard_state.term = Term(term);
                state.hard_state.vote = MemberId(0);
            }
            state.first = index + 1;
            state.last = index;
            state.entries.clear();
        });
        self.wal.restart_at(Index(index), Term(term)).unwrap();
        self.mark_durable();
    }

    /// A sync fails, the process dies, the machine runs on: the next process sees what was written, but need not
    /// find it after a power cut unless it sees to it.
    fn be_killed_in_sync(&mut self) {
        self.disk.inject(Fault {
            operation: Some(DiskOperation::SyncData),
            path_contains: ".wal".to_owned(),
            skip: 0,
            times: 1,
            error: std::io::ErrorKind::Other,
        });
        let failed = self.wal.sync().is_err();
        self.disk.heal();
        let (wal, recovered) = open(&self.disk, self.options).unwrap();
        self.wal = wal;
        assert!(failed || recovered.last.0 == self.state().last);
        let oldest = self.durable.last().expect("durable from the start").1;
        let found = self.states[oldest..].iter().rfind(|state| state.matches(&recovered, u64::MAX));
        let found = found.expect("what the next process sees was appended").clone();
        self.push(|state| {
            let operations = state.operations;
            *state = State { operations, ..found };
        });
        self.mark_durable();
    }

    /// Checks what a crash after `cut` operations leaves.
    fn check(&self, cut: usize, survival: Survival) {
        let disk = self.disk.crash_at(cut, survival);
        let at = || format!("cut {cut} ({survival:?}) after {}", self.disk.describe(cut.wrapping_sub(1)));
        if !Wal::exists(&disk, dir()).unwrap() {
            assert!(cut < self.durable[0].0, "{}: the log is gone", at());
            create(&disk, self.options);
            return;
        }
        let (mut wal, recovered) = open(&disk, self.options).unwrap_or_else(|error| panic!("{}: {error}", at()));
        let oldest = self.durable.iter().rev().find(|(operations, _)| *operations <= cut).map_or(0, |(_, at)| *at);
        let possible = self.states[oldest..].iter().take_while(|state| state.operations <= cut);
        // Restarting clears what was appended before it, and a kill takes unsynced records back: neither can be
        // found, but each is a state of its own, so the list need not know.
        let released = self.released.iter().filter(|(operations, _)| *operations <= cut).map(|(_, bound)| *bound);
        let released = released.max().unwrap_or(0);
        let found = possible.filter(|state| state.matches(&recovered, released)).count();
        let (first, last, state) = (recovered.first, recovered.last, recovered.hard_state);
        assert!(found > 0, "{}: found {first}..={last} {state:?}: the log never was so, or is no more", at());
        self.check_going_on(&disk, &mut wal, &recovered, &at());
    }

    /// The log can be written after a crash, and what is written is found after the next.
    fn check_going_on(&self, disk: &SimDisk, wal: &mut Wal, recovered: &Recovered, at: &str) {
        let held = wal.read(recovered.first, recovered.last.next(), usize::MAX).unwrap();
        assert_eq!(held, recovered.entries, "{at}: reading back");
        let new = entries(recovered.last.0 + 1, 3, 99, 200);
        let state = hard_state(99, 1, recovered.last.0 + 1);
        write(wal, &new, Some(state));
        let (_, again) =
            open(&disk.crash(Survival::None), self.options).unwrap_or_else(|error| panic!("{at}: {error}"));
        let all: Vec<LogEntry> = recovered.entries.iter().chain(&new).cloned().collect();
        assert_eq!((again.entries, again.hard_state), (all, state), "{at}: after going on");
        assert_eq!(again.torn_tail, None, "{at}: nothing was torn the second time");
    }
}

fn cut_everywhere(seed: u64, steps: usize, random_cuts: u64) {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.sync();
    for cut in 0..=run.disk.operation_count() {
        run.check(cut, Survival::None);
        run.check(cut, Survival::All);
        for random in 0..random_cuts {
            run.check(cut, Survival::Random(random * 1000 + seed));
        }
    }
}

#[test]
fn every_cut_of_a_run_leaves_what_was_synced_1() {
    cut_everywhere(1, 110, 3);
}

#[test]
fn every_cut_of_a_run_leaves_what_was_synced_2() {
    cut_everywhere(2, 110, 3);
}

#[test]
fn every_cut_of_short_runs_leaves_what_was_synced() {
    for seed in 10..24 {
        cut_everywhere(seed, 25, 3);
    }
}

/// The mark of a reopened log was once written in the same sync as the frames it vouches for: torn apart by the next
/// crash, it made damage of them.
#[test]
fn every_cut_of_a_run_with_a_torn_reopening_leaves_what_was_synced() {
    cut_everywhere(101, 45, 2);
}

/// Not run by default: more of the same.
#[test]
#[ignore = "runs for minutes; for hunting"]
fn every_cut_of_many_runs_leaves_what_was_synced() {
    for seed in 100..300 {
        cut_everywhere(seed, 80, 6);
    }
}

/// A process dies after its write and before its sync, or after a sync that failed; the machine runs on, the next
/// process finds the entries and may count on them.
#[test]
fn what_a_killed_process_left_unsynced_is_made_durable_by_the_next() {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 1, 1, 100), None);
    disk.inject(Fault {
        operation: Some(DiskOperation::SyncData),
        path_contains: String::new(),
        skip: 0,
        times: 1,
        error: std::io::ErrorKind::Other,
    });
    wal.append(&entries(2, 1, 1, 9000), None).unwrap();
    wal.sync().unwrap_err();
    let (_, seen) = open(&disk, small()).unwrap();
    assert_eq!(seen.last, Index(2));
    let (_, found) = open(&disk.crash(Survival::None), small()).unwrap();
    assert_eq!(found.entries, seen.entries);
}

/// Of two frames in one sync the first is lost. What is then written ends exactly where the second one lies.
#[test]
fn a_frame_that_outlived_the_one_before_it_never_joins_another_log() {
    let disk = disk();
    let mut wal = create(&disk, small());
    wal.append(&entries(1, 1, 1, 4000), None).unwrap();
    wal.mark_durable().unwrap();
    wal.append(&entries(2, 1, 1, 300), None).unwrap();
    wal.sync().unwrap();
    let disk = disk.crash(Survival::None);
    disk.damage(&segment(1), 4096, &[0; 512]).unwrap();
    let (mut wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.last, Index(0));
    // The mark of the reopening takes one sector of the page, this the other seven.
    write(&mut wal, &entries(1, 1, 2, 3500), None);
    let (_, found) = open(&disk.crash(Survival::None), small()).unwrap();
    assert_eq!(found.entries, entries(1, 1, 2, 3500));
}

#[test]
fn a_crash_in_create_leaves_no_log_or_an_empty_one() {
    let disk = disk();
    disk.record();
    create(&disk, small());
    for cut in 0..=disk.operation_count() {
        for survival in [Survival::None, Survival::All, Survival::Random(1), Survival::Random(2), Survival::Random(3)] {
            let crashed = disk.crash_at(cut, survival);
            let mut wal = if Wal::exists(&crashed, dir()).unwrap() {
                let (wal, recovered) = open(&crashed, small()).unwrap();
                assert_eq!((recovered.first, recovered.last, recovered.meta), (Index(1), Index(0), META));
                wal
            } else {
                create(&crashed, small())
            };
            write(&mut wal, &entries(1, 1, 1, 10), None);
            let (_, recovered) = open(&crashed.crash(Survival::None), small()).unwrap();
            assert_eq!(recovered.entries, entries(1, 1, 1, 10));
        }
    }
}

#[test]
fn a_sync_is_one_durable_write() {
    let disk = disk();
    disk.record();
    let mut wal = create(&disk, wal::WalOptions { segment_size_bytes: 1 << 20 });
    for round in 0..5 {
        let before = disk.operation_count();
        wal.append(&entries(round * 500 + 1, 250, 1, 330), None).unwrap();
        wal.append(&entries(round * 500 + 251, 250, 1, 330), Some(hard_state(1, 1, round * 500 + 1))).unwrap();
        wal.sync().unwrap();
        let done: Vec<String> = (before..disk.operation_count()).map(|at| disk.describe(at)).collect();
        assert!(
            matches!(&done[..], [write, sync] if write.starts_with("Write") && sync.starts_with("SyncWrite")),
            "{done:?}"
        );
    }
    let before = disk.operation_count();
    wal.sync().unwrap();
    assert_eq!(disk.operation_count(), before, "nothing to write");
    write(&mut wal, &entries(2501, 1, 1, 330), None);
    assert!(disk.describe(before).contains("4096 bytes"), "{}", disk.describe(before));
}

#[test]
fn a_failed_sync_stops_the_log_for_good() {
    for operation in [DiskOperation::SyncData, DiskOperation::Write] {
        let disk = disk();
        let mut wal = create(&disk, small());
        write(&mut wal, &entries(1, 3, 1, 100), None);
        disk.inject(Fault {
            operation: Some(operation),
            path_contains: String::new(),
            skip: 0,
            times: 1,
            error: std::io::ErrorKind::Other,
        });
        wal.append(&entries(4, 1, 1, 100), None).unwrap();
        let error = wal.sync().unwrap_err();
        assert!(matches!(&error, WalError::Io { path, .. } if path == &segment(1)), "{error}");
        assert!(matches!(wal.sync(), Err(WalError::Stopped)));
        assert!(matches!(wal.append(&[], None), Err(WalError::Stopped)));
        assert!(matches!(wal.read(Index(1), Index(2), 100), Err(WalError::Stopped)));
        assert!(matches!(wal.release_before(Index(1)), Err(WalError::Stopped)));
        assert!(matches!(wal.restart_at(Index(9), Term(1)), Err(WalError::Stopped)));
        assert!(matches!(wal.prepare_spare(), Err(WalError::Stopped)));
        assert!(matches!(wal.mark_durable(), Err(WalError::Stopped)));
        let (_, recovered) = open(&disk.crash(Survival::None), small()).unwrap();
        assert_eq!(recovered.entries, entries(1, 3, 1, 100));
    }
}

#[test]
fn a_disk_that_is_full_keeps_the_batch_for_another_try() {
    let disk = disk();
    let mut wal = create(&disk, small());
    disk.set_capacity(Some(disk.used_bytes()));
    let mut last = 0;
    let written = loop {
        // Several frames at a time: some still fit into the old segment.
        wal.append(&entries(last + 1, 9, 1, 2500), None).unwrap();
        match wal.sync() {
            Ok(()) => last += 9,
            Err(error) => break error,
        }
    };
    assert!(matches!(written, WalError::NoSpace { .. }), "{written}");
    assert!(matches!(wal.sync(), Err(WalError::NoSpace { .. })), "still full");
    assert!(matches!(wal.prepare_spare(), Err(WalError::NoSpace { .. })));
    wal.append(&entries(last + 10, 1, 1, 20), Some(hard_state(1, 1, last + 10))).unwrap();
    assert!(matches!(wal.sync(), Err(WalError::NoSpace { .. })));
    let (_, recovered) = open(&disk.crash(Survival::None), small()).unwrap();
    assert!(recovered.last.0 >= last);
    assert_eq!(disk.list(dir()).unwrap().len(), 1, "no half made file stays");

    disk.set_capacity(None);
    wal.sync().unwrap();
    let all: Vec<LogEntry> = entries(1, last + 9, 1, 2500).into_iter().chain(entries(last + 10, 1, 1, 20)).collect();
    assert_eq!(wal.read(Index(1), Index(u64::MAX), usize::MAX).unwrap(), all);
    let (_, recovered) = open(&disk.crash(Survival::None), small()).unwrap();
    assert_eq!((recovered.entries, recovered.hard_state), (all, hard_state(1, 1, last + 10)));
}

#[test]
fn a_spare_that_was_prepared_lets_a_full_disk_roll() {
    let disk = disk();
    let mut wal = create(&disk, small());
    assert!(!wal.space().spare_ready);
    wal.prepare_spare().unwrap();
    let maker = wal.spare_maker();
    wal.add_spare(std::thread::spawn(move || maker.make()).join().unwrap().unwrap());
    assert!(wal.space().spare_ready);
    disk.set_capacity(Some(disk.used_bytes()));
    write(&mut wal, &entries(1, 9, 1, 1200), Some(hard_state(1, 1, 9)));
    // Released files are the next spares: a log that is released keeps running on a full disk for ever.
    for round in 0..20 {
        write(&mut wal, &entries(round * 9 + 10, 9, 1, 1200), Some(hard_state(1, 1, round * 9 + 18)));
        wal.release_before(Index(round * 9 + 18)).unwrap();
    }
    let (_, recovered) = open(&disk.crash(Survival::None), small()).unwrap();
    assert_eq!(recovered.last, Index(189));
}

#[test]
fn errors_while_making_or_taking_files_stop_the_log_without_loss() {
    for skip in 0..12 {
        let disk = disk();
        let mut wal = create(&disk, small());
        write(&mut wal, &entries(1, 4, 1, 2000), Some(hard_state(1, 1, 4)));
        disk.inject(Fault {
            operation: None,
            path_contains: String::new(),
            skip,
            times: 1,
            error: std::io::ErrorKind::Other,
        });
        let mut synced = 4;
        let failed = loop {
            wal.append(&entries(synced + 1, 2, 1, 2000), None).unwrap();
            match wal.sync() {
                Ok(()) => synced += 2,
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, WalError::Io { .. }), "{failed}");
        drop(wal);
        let disk = Arc::new(disk.crash(Survival::None));
        let (_, recovered) = Wal::open(disk, dir(), small(), Index(synced), Index(0)).unwrap();
        assert_eq!(recovered.entries, entries(1, synced, 1, 2000));
    }
}

/// A directory whose sync failed counts as clean from then on, so the names that were to be synced may be lost for good.
#[test]
fn a_log_that_goes_on_after_a_failed_sync_of_its_directory_survives_the_next_crash() {
    for (options, skip) in [small(), mixed()].into_iter().flat_map(|options| (0..8).map(move |skip| (options, skip))) {
        let disk = disk();
        let mut wal = create(&disk, options);
        write(&mut wal, &entries(1, 4, 1, 2000), Some(hard_state(1, 1, 4)));
        disk.inject(Fault {
            operation: Some(DiskOperation::SyncDir),
            path_contains: String::new(),
            skip,
            times: 1,
            error: std::io::ErrorKind::Other,
        });
        let mut last = 4;
        while wal.append(&entries(last + 1, 2, 1, 2000), Some(hard_state(1, 1, last))).is_ok() && wal.sync().is_ok() {
            last += 2;
            if wal.release_before(Index(last)).is_err() {
                break;
            }
        }
        drop(wal);
        disk.heal();
        let (mut wal, recovered) = open(&disk, options).unwrap();
        let last = recovered.last.0;
        wal.release_before(Index(last)).unwrap();
        write(&mut wal, &entries(last + 1, 1, 1, 20), Some(hard_state(1, 1, last + 1)));
        for survival in [Survival::None, Survival::Random(skip), Survival::All] {
            let (_, found) = open(&disk.crash(survival), options).unwrap();
            assert_eq!(found.last.0, last + 1, "{skip}, {survival:?}");
        }
    }
}
